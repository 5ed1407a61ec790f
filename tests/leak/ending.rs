//! Rules 6, 7 and 8: the steps of a task exit, their order, and that they affect no other task.

mod linear;
mod panicking;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use echown::net::Listener;
use echown::ownership::{ErrorKind, Owned, Registry, TaskError};
use echown::pool::Pool;
use echown::test;

use crate::common::{Fixture, assert_cancelled, failure, leaked, lock, panic_message, refusal};

// Rule 6: the normal exit.

#[test]
fn dropping_a_handle_in_its_owner_releases_it_immediately() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("tidy", [], || {
            drop((fixture.own("dropped"), fixture.listener()));
            fixture.assert_all_closed();
            fixture.log("the task goes on");
        });
        child.join().expect("it left no resource");
    });
    assert_eq!(fixture.finalized(), ["dropped", "the task goes on"]);
    fixture.assert_clean();
}

#[test]
fn a_handle_dropped_while_unwinding_is_released() {
    let fixture = Fixture::new();
    let outcome = fixture.registry.run("failing", || -> () {
        let _first = fixture.own("first");
        let _second = fixture.own("second");
        let _socket = fixture.listener();
        panic!("its own error");
    });
    assert_eq!(panic_message(outcome), "its own error");
    assert_eq!(fixture.finalized(), ["second", "first"]);
    fixture.assert_clean();
}

#[test]
fn captures_of_the_closure_are_dropped_before_leaks_are_checked() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (string, socket) = (fixture.own("captured"), fixture.listener());
        let give = [string.resource(), socket.resource()];
        let child = fixture.spawn("child", give, move || {
            let _captured = (&string, &socket);
            "its value"
        });
        assert_eq!(child.join().expect("nothing is left"), "its value");
    });
    fixture.assert_clean();
}

#[test]
fn a_handle_returned_by_a_task_without_a_transfer_is_leaked() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || fixture.listener());
        let (listener, report) = leaked(child.join());
        assert_eq!(report.resources[0].id, listener.id());
        fixture.assert_all_closed();
        assert_eq!(refusal(listener.accept()).kind(), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn a_handle_in_a_reference_cycle_is_leaked() {
    struct Node {
        _socket: Listener,
        _next: Mutex<Option<Arc<Node>>>,
    }
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("cyclic", [], || {
            let (_socket, _next) = (fixture.listener(), Mutex::new(None));
            let node = Arc::new(Node { _socket, _next });
            *lock(&node._next) = Some(Arc::clone(&node));
        });
        leaked(child.join());
        fixture.assert_all_closed();
    });
}

#[test]
fn a_handle_in_a_global_is_leaked() {
    static KEPT: Mutex<Option<Owned<&str>>> = Mutex::new(None);
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || *lock(&KEPT) = Some(fixture.own("kept")));
        leaked(child.join());
        assert_eq!(fixture.finalized(), ["kept"]);
        let kept = lock(&KEPT).take().expect("it still exists");
        assert_eq!(refusal(kept.check()).kind(), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn a_handle_in_a_pool_threads_thread_local_is_leaked_by_the_task_that_stored_it() {
    thread_local! {
        static KEPT: RefCell<Option<Owned<&'static str>>> = const { RefCell::new(None) };
    }
    let fixture = Fixture::new();
    let pool = Pool::builder().registry(&fixture.registry).limit(1).queue(1).build();
    fixture.root(|| {
        let keep = || KEPT.with_borrow_mut(|kept| *kept = Some(fixture.own("kept")));
        let child = pool.spawn([], keep).expect("there is a thread");
        leaked(child.join());
        assert_eq!(fixture.finalized(), ["kept"]);
        let look = || KEPT.with_borrow(|kept| kept.as_ref().map(|kept| refusal(kept.check())));
        let next = pool.spawn([], look).expect("there is a thread");
        let rejected = next.join().expect("it owns nothing").expect("it is the same thread");
        assert_eq!(rejected.kind(), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn a_leaked_handle_held_by_another_thread_reports_that_it_was_released() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_thread, handles) = channel::<Owned<&str>>();
        let (go, gone) = channel::<()>();
        let thread = thread::spawn(move || {
            let handle = handles.recv().expect("it was sent");
            assert!(gone.recv().is_err());
            refusal(handle.check()).kind()
        });
        let child = fixture.spawn("child", [], move || {
            to_thread.send(fixture.own("sent away")).expect("the thread receives it");
        });
        leaked(child.join());
        assert_eq!(fixture.finalized(), ["sent away"]);
        drop(go);
        assert_eq!(thread.join().expect("it is rejected"), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn a_task_that_leaks_in_two_registries_is_reported_once_in_each() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let outcome = one.registry.run("forgetful", || {
        for _ in 0..2 {
            mem::forget(one.own("one's"));
            mem::forget(other.own("other's"));
        }
    });
    let (_, report) = leaked(outcome);
    assert_eq!(report.resources.len(), 4, "the outcome is about all");
    for fixture in [one, other] {
        assert_eq!(fixture.the_leak().resources.len(), 2);
        assert_eq!(fixture.registry.summary().leaks, 2);
    }
}

// Rule 7: panic and cancellation, order, exactly once.

#[test]
fn three_levels_of_tasks_are_cancelled_and_finalized_from_the_top() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_test, from_child) = channel();
        let top = fixture.spawn("L1", [], move || {
            let mine = fixture.own("L1");
            let listener = fixture.listener();
            let middle = fixture.spawn("L2", [], move || {
                let mine = fixture.own("L2");
                let listener = fixture.listener();
                let bottom = fixture.spawn("L3", [], move || {
                    let mine = fixture.own("L3");
                    let listener = fixture.listener();
                    to_test.send(()).expect("the test receives it");
                    assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
                    mem::forget((mine, listener));
                });
                assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
                mem::forget((mine, listener, bottom));
            });
            assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
            mem::forget((mine, listener, middle));
        });
        from_child.recv().expect("all three are running");
        assert_cancelled(top.cancel());
        assert_eq!(fixture.finalized(), ["L1", "L2", "L3"]);
        fixture.assert_all_closed();
    });
}

#[test]
fn a_task_has_exited_only_after_its_last_finalizer() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("slow to end", [], move || {
            mem::forget(fixture.own("first"));
            let slow = fixture.registry.own_with("slow", move |name| {
                begin.send(()).expect("the test receives it");
                assert!(gone.recv().is_err());
                fixture.log(name);
                Ok(())
            });
            mem::forget(slow);
        });
        begun.recv().expect("the finalizer starts");
        assert!(!child.has_ended());
        drop(go);
        leaked(child.join());
        assert_eq!(fixture.finalized(), ["slow", "first"]);
    });
}

#[test]
fn finalizers_run_on_the_thread_of_the_task() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || {
            mem::forget(fixture.own("left"));
            thread::current().id()
        });
        let (thread, _) = leaked(child.join());
        assert_ne!(thread, thread::current().id());
        assert_eq!(fixture.finalized_on("left"), thread);
    });
}

#[test]
fn a_finalizer_failure_at_exit_is_reported_and_the_outcome_is_still_the_leak() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || {
            let fails = |_| Err(io::Error::other("the disk is full"));
            mem::forget(fixture.registry.own_with("broken", fails));
            mem::forget(fixture.own("sound"));
        });
        let (_, report) = leaked(child.join());
        assert_eq!(report.resources.len(), 2);
    });
    assert_eq!(fixture.finalized(), ["sound"]);
    let message = fixture.the_message("finalizer-failed");
    assert!(message.ends_with("failed to finalize: the disk is full"), "{message}");
}

#[test]
fn a_finalizer_may_use_the_registry_but_own_nothing_new() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || {
            mem::forget(fixture.own("below"));
            let curious = fixture.registry.own_with("curious", |_| {
                let late = fixture.registry.own_with("late", |name| {
                    fixture.log(name);
                    Ok(())
                });
                assert_eq!(refusal(late).kind(), ErrorKind::TaskExiting);
                assert_eq!(refusal(fixture.pool().spawn([], || ())).kind(), ErrorKind::TaskExiting);
                assert_eq!(fixture.registry.snapshot().resources.len(), 1);
                fixture.log("curious");
                Ok(())
            });
            mem::forget(curious);
            mem::forget(fixture.own("above"));
        });
        leaked(child.join());
    });
    assert_eq!(fixture.finalized(), ["above", "late", "curious", "below"]);
    assert_eq!(fixture.codes(), ["leak"]);
}

#[test]
fn a_panicking_task_keeps_its_error_and_its_children_are_cancelled() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let parent = fixture.spawn::<()>("parent", [], || {
            let listener = fixture.listener();
            let child = fixture.spawn("child", [listener.resource()], move || {
                let rejected = refusal(listener.accept()).kind();
                mem::forget(listener);
                rejected
            });
            mem::forget(child);
            panic!("its own error");
        });
        assert_eq!(panic_message(parent.join()), "its own error");
        fixture.assert_all_closed();
    });
    fixture.assert_clean();
}

#[test]
fn released_resources_are_not_finalized_again_at_exit() {
    let fixture = Fixture::new();
    let outcome = fixture.registry.run("failing", || -> () {
        let (released, dropped) = (fixture.own("released"), fixture.own("dropped"));
        released.release().expect("this task owns it");
        drop(dropped);
        mem::forget(released);
        panic!("its own error");
    });
    assert_eq!(panic_message(outcome), "its own error");
    assert_eq!(fixture.finalized(), ["released", "dropped"]);
}

// Rule 8: containment.

#[test]
fn misuse_by_other_tasks_does_not_prevent_any_finalizer() {
    type Wrong = fn(&'static Fixture);
    const WRONGS: [Wrong; 7] = [
        |fixture| mem::forget(fixture.own("leaked")),
        |_| panic!("a panic"),
        |fixture| mem::forget(fixture.registry.own_with((), |()| panic!("a finalizer's panic"))),
        |fixture| mem::forget(fixture.registry.own_with((), |()| Err(io::Error::other("failed")))),
        |fixture| drop(fixture.spawn("forgotten", [], || ())),
        |fixture| {
            let handle = fixture.registry.own("elsewhere").expect("the task is running");
            thread::spawn(move || drop(handle)).join().expect("it does not panic");
        },
        |fixture| {
            let handle = fixture.registry.own("twice").expect("the task is running");
            handle.release().expect("this task owns it");
            assert_eq!(refusal(handle.release()).kind(), ErrorKind::DoubleRelease);
        },
    ];
    let fixture = Fixture::new();
    fixture.root(|| {
        let children: Vec<_> = (0..4)
            .flat_map(|_| WRONGS)
            .map(|wrong| {
                let (stream, peer) = fixture.connection();
                let child = fixture.spawn("wrongdoer", [stream.resource()], move || {
                    mem::forget((fixture.own("honest"), stream));
                    wrong(fixture);
                });
                (child, peer)
            })
            .collect();
        for (child, peer) in children {
            assert!(!matches!(failure(child.join()), TaskError::Cancelled));
            drop(peer);
        }
        let honest = fixture.finalized().iter().filter(|name| **name == "honest").count();
        assert_eq!(honest, 28);
        fixture.assert_all_closed();
    });
}

#[test]
fn a_panicking_sink_prevents_no_finalizer() {
    let fixture = Fixture::new();
    let registry = Registry::builder().sink(|_| panic!("a bad sink")).build();
    let outcome = registry.run("child", || {
        for name in ["r1", "r2"] {
            let finalizer = |name| {
                fixture.log(name);
                Err(io::Error::other("this is reported to the sink"))
            };
            mem::forget(registry.own_with(name, finalizer));
        }
        "its value"
    });
    assert_eq!(leaked(outcome).0, "its value");
    assert_eq!(fixture.finalized(), ["r2", "r1"]);
    assert_eq!(registry.reports().len(), 3, "reports that the sink missed are kept");
}

#[test]
fn a_connection_reset_ends_only_that_clients_task_and_the_server_continues() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let listener = fixture.listener();
        let address =
            listener.local_addr().expect("this task owns it").inet().expect("it is a TCP address");
        let serve = || {
            let (client, _) = listener.accept().expect("a client connects");
            fixture.track_resource(&client.resource());
            fixture.spawn("echo", [client.resource()], move || {
                io::copy(&mut &client, &mut &client).map(|_| ())
            })
        };
        let rude = fixture.track(TcpStream::connect(address).expect("it listens"));
        let for_rude = serve();
        let mut polite = fixture.track(TcpStream::connect(address).expect("it listens"));
        let for_polite = serve();
        rustix::net::sockopt::set_socket_linger(&rude, Some(Duration::ZERO)).expect("it is open");
        drop(rude);
        let outcome = for_rude.join().expect("its task ends and owns nothing");
        assert_eq!(
            outcome.expect_err("the connection is reset").kind(),
            io::ErrorKind::ConnectionReset
        );
        polite.write_all(b"still there?").expect("the server continues");
        let mut echo = [0; 12];
        polite.read_exact(&mut echo).expect("the server continues");
        assert_eq!(&echo, b"still there?");
        drop(polite);
        for_polite.join().expect("it owns nothing").expect("the client closed");
    });
    fixture.assert_clean();
}

// A failure affects only its own task.

#[test]
fn a_leak_in_one_task_does_not_affect_another_task() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let neighbour = fixture.spawn("neighbour", [stream.resource()], move || {
            mem::forget(fixture.own("the neighbour's"));
            let mut byte = [0];
            (&stream).read_exact(&mut byte).expect("the leak has not closed it");
            (&stream).write_all(&byte).expect("the leak has not closed it");
            panic!("its own error");
        });
        let leaking = fixture
            .spawn("leaking", [], || mem::forget((fixture.own("leaked"), fixture.listener())));
        leaked(leaking.join());
        assert_eq!(fixture.finalized(), ["leaked"]);
        peer.write_all(b"x").expect("the neighbour reads");
        peer.read_exact(&mut [0]).expect("the neighbour writes");
        let neighbour: Result<(), _> = neighbour.join();
        assert_eq!(panic_message(neighbour), "its own error");
    });
    assert_eq!(fixture.finalized(), ["leaked", "the neighbour's"]);
    assert_eq!(&*fixture.the_leak().task.name, "leaking");
    fixture.assert_all_closed();
}

#[test]
fn an_unjoined_child_is_cancelled_finalized_and_reported_by_its_parent() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let parent = fixture.spawn("parent", [], || {
            let (string, listener) = (fixture.own("the child's"), fixture.listener());
            let give = [string.resource(), listener.resource()];
            let child = fixture.spawn("forgotten", give, move || {
                let rejected = refusal(listener.accept()).kind();
                mem::forget((string, listener));
                rejected
            });
            drop(child);
            "its value"
        });
        match failure(parent.join()) {
            TaskError::UnjoinedChildren(forgotten) => {
                assert_eq!(forgotten.value, "its value");
                let names: Vec<&str> = forgotten.children.iter().map(|it| &*it.name).collect();
                assert_eq!(names, ["forgotten"]);
                assert!(forgotten.leaks.is_none());
            }
            other => panic!("expected a forgotten child, got {other}"),
        }
        assert_eq!(fixture.finalized(), ["the child's"]);
        fixture.assert_all_closed();
    });
}
