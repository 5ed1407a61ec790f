//! Rules 6, 7 and 8: what the end of a task does, in which order, and that it affects no other
//! task.

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

// Rule 6: the normal end.

#[test]
fn a_handle_that_its_owner_drops_is_released_there_and_then() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = lab.spawn("tidy", [], || {
            drop((lab.own("dropped"), lab.listener()));
            lab.assert_all_closed();
            lab.log("the task goes on");
        });
        child.join().expect("it left nothing behind");
    });
    assert_eq!(lab.finalized(), ["dropped", "the task goes on"]);
    lab.assert_clean();
}

#[test]
fn a_handle_that_is_dropped_while_unwinding_is_released_too() {
    let lab = Fixture::new();
    let outcome = lab.registry.run("failing", || -> () {
        let _first = lab.own("first");
        let _second = lab.own("second");
        let _socket = lab.listener();
        panic!("its own error");
    });
    assert_eq!(panic_message(outcome), "its own error");
    assert_eq!(lab.finalized(), ["second", "first"]);
    lab.assert_clean();
}

#[test]
fn what_the_closure_captured_is_gone_before_the_end_is_judged() {
    let lab = Fixture::new();
    lab.root(|| {
        let (string, socket) = (lab.own("captured"), lab.listener());
        let give = [string.resource(), socket.resource()];
        let child = lab.spawn("child", give, move || {
            let _captured = (&string, &socket);
            "its value"
        });
        assert_eq!(child.join().expect("nothing is left"), "its value");
    });
    lab.assert_clean();
}

#[test]
fn a_handle_that_a_task_answers_but_did_not_transfer_is_leaked() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = lab.spawn("child", [], || lab.listener());
        let (listener, report) = leaked(child.join());
        assert_eq!(report.resources[0].id, listener.id());
        lab.assert_all_closed();
        assert_eq!(refusal(listener.accept()).kind(), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn a_handle_in_a_reference_cycle_is_leaked() {
    struct Node {
        _socket: Listener,
        _next: Mutex<Option<Arc<Node>>>,
    }
    let lab = Fixture::new();
    lab.root(|| {
        let child = lab.spawn("cyclic", [], || {
            let (_socket, _next) = (lab.listener(), Mutex::new(None));
            let node = Arc::new(Node { _socket, _next });
            *lock(&node._next) = Some(Arc::clone(&node));
        });
        leaked(child.join());
        lab.assert_all_closed();
    });
}

#[test]
fn a_handle_in_a_global_is_leaked() {
    static KEPT: Mutex<Option<Owned<&str>>> = Mutex::new(None);
    let lab = Fixture::new();
    lab.root(|| {
        let child = lab.spawn("child", [], || *lock(&KEPT) = Some(lab.own("kept")));
        leaked(child.join());
        assert_eq!(lab.finalized(), ["kept"]);
        let kept = lock(&KEPT).take().expect("it is still there");
        assert_eq!(refusal(kept.check()).kind(), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn a_handle_in_a_pool_threads_local_is_leaked_by_the_task_that_put_it_there() {
    thread_local! {
        static KEPT: RefCell<Option<Owned<&'static str>>> = const { RefCell::new(None) };
    }
    let lab = Fixture::new();
    let pool = Pool::builder().registry(&lab.registry).limit(1).queue(1).build();
    lab.root(|| {
        let keep = || KEPT.with_borrow_mut(|kept| *kept = Some(lab.own("kept")));
        let child = pool.spawn([], keep).expect("there is a thread");
        leaked(child.join());
        assert_eq!(lab.finalized(), ["kept"]);
        let look = || KEPT.with_borrow(|kept| kept.as_ref().map(|kept| refusal(kept.check())));
        let next = pool.spawn([], look).expect("there is a thread");
        let refused = next.join().expect("it owns nothing").expect("it is the same thread");
        assert_eq!(refused.kind(), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn a_handle_in_another_threads_hands_is_leaked_and_answers_released_there() {
    let lab = Fixture::new();
    lab.root(|| {
        let (to_thread, handles) = channel::<Owned<&str>>();
        let (go, gone) = channel::<()>();
        let thread = thread::spawn(move || {
            let handle = handles.recv().expect("it was sent");
            assert!(gone.recv().is_err());
            refusal(handle.check()).kind()
        });
        let child = lab.spawn("child", [], move || {
            to_thread.send(lab.own("sent away")).expect("the thread listens");
        });
        leaked(child.join());
        assert_eq!(lab.finalized(), ["sent away"]);
        drop(go);
        assert_eq!(thread.join().expect("it is refused"), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn a_leak_into_two_registries_is_one_report_to_each_about_its_own() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let outcome = one.registry.run("forgetful", || {
        for _ in 0..2 {
            mem::forget(one.own("one's"));
            mem::forget(other.own("other's"));
        }
    });
    let (_, report) = leaked(outcome);
    assert_eq!(report.resources.len(), 4, "the outcome is about all");
    for lab in [one, other] {
        assert_eq!(lab.the_leak().resources.len(), 2);
        assert_eq!(lab.registry.summary().leaks, 2);
    }
}

// Rule 7: panic and cancellation, order, exactly once.

#[test]
fn three_levels_are_cancelled_and_finalized_from_the_top() {
    let lab = Fixture::new();
    lab.root(|| {
        let (tell, told) = channel();
        let top = lab.spawn("L1", [], move || {
            let mine = lab.own("L1");
            let listener = lab.listener();
            let middle = lab.spawn("L2", [], move || {
                let mine = lab.own("L2");
                let listener = lab.listener();
                let bottom = lab.spawn("L3", [], move || {
                    let mine = lab.own("L3");
                    let listener = lab.listener();
                    tell.send(()).expect("the test listens");
                    assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
                    mem::forget((mine, listener));
                });
                assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
                mem::forget((mine, listener, bottom));
            });
            assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
            mem::forget((mine, listener, middle));
        });
        told.recv().expect("all three are running");
        assert_cancelled(top.cancel());
        assert_eq!(lab.finalized(), ["L1", "L2", "L3"]);
        lab.assert_all_closed();
    });
}

#[test]
fn a_tasks_end_is_over_only_when_its_last_finalizer_is() {
    let lab = Fixture::new();
    lab.root(|| {
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let child = lab.spawn("slow to end", [], move || {
            mem::forget(lab.own("first"));
            let slow = lab.registry.own_with("slow", move |name| {
                begin.send(()).expect("the test listens");
                assert!(gone.recv().is_err());
                lab.log(name);
                Ok(())
            });
            mem::forget(slow);
        });
        begun.recv().expect("the finalizer begins");
        assert!(!child.has_ended());
        drop(go);
        leaked(child.join());
        assert_eq!(lab.finalized(), ["slow", "first"]);
    });
}

#[test]
fn finalizers_run_on_the_tasks_own_thread() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = lab.spawn("child", [], || {
            mem::forget(lab.own("left"));
            thread::current().id()
        });
        let (thread, _) = leaked(child.join());
        assert_ne!(thread, thread::current().id());
        assert_eq!(lab.finalized_on("left"), thread);
    });
}

#[test]
fn a_finalizer_that_fails_at_the_end_is_reported_and_the_leak_is_still_the_outcome() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = lab.spawn("child", [], || {
            let fails = |_| Err(io::Error::other("the disk is full"));
            mem::forget(lab.registry.own_with("broken", fails));
            mem::forget(lab.own("sound"));
        });
        let (_, report) = leaked(child.join());
        assert_eq!(report.resources.len(), 2);
    });
    assert_eq!(lab.finalized(), ["sound"]);
    let message = lab.the_message("finalizer-failed");
    assert!(message.ends_with("failed to finalize: the disk is full"), "{message}");
}

#[test]
fn a_finalizer_may_use_the_registry_and_owns_nothing_new() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = lab.spawn("child", [], || {
            mem::forget(lab.own("below"));
            let curious = lab.registry.own_with("curious", |_| {
                let late = lab.registry.own_with("late", |name| {
                    lab.log(name);
                    Ok(())
                });
                assert_eq!(refusal(late).kind(), ErrorKind::TaskExiting);
                assert_eq!(refusal(lab.pool().spawn([], || ())).kind(), ErrorKind::TaskExiting);
                assert_eq!(lab.registry.snapshot().resources.len(), 1);
                lab.log("curious");
                Ok(())
            });
            mem::forget(curious);
            mem::forget(lab.own("above"));
        });
        leaked(child.join());
    });
    assert_eq!(lab.finalized(), ["above", "late", "curious", "below"]);
    assert_eq!(lab.codes(), ["leak"]);
}

#[test]
fn a_task_that_panics_keeps_its_own_error_and_its_children_are_cancelled() {
    let lab = Fixture::new();
    lab.root(|| {
        let parent = lab.spawn::<()>("parent", [], || {
            let listener = lab.listener();
            let child = lab.spawn("child", [listener.resource()], move || {
                let refused = refusal(listener.accept()).kind();
                mem::forget(listener);
                refused
            });
            mem::forget(child);
            panic!("its own error");
        });
        assert_eq!(panic_message(parent.join()), "its own error");
        lab.assert_all_closed();
    });
    lab.assert_clean();
}

#[test]
fn what_was_released_is_not_finalized_again_at_the_end() {
    let lab = Fixture::new();
    let outcome = lab.registry.run("failing", || -> () {
        let (released, dropped) = (lab.own("released"), lab.own("dropped"));
        released.release().expect("it is ours");
        drop(dropped);
        mem::forget(released);
        panic!("its own error");
    });
    assert_eq!(panic_message(outcome), "its own error");
    assert_eq!(lab.finalized(), ["released", "dropped"]);
}

// Rule 8: containment.

#[test]
fn whatever_its_neighbours_do_wrong_no_task_loses_its_finalizer() {
    type Wrong = fn(&'static Fixture);
    const WRONGS: [Wrong; 7] = [
        |lab| mem::forget(lab.own("leaked")),
        |_| panic!("a panic"),
        |lab| mem::forget(lab.registry.own_with((), |()| panic!("a finalizer's panic"))),
        |lab| mem::forget(lab.registry.own_with((), |()| Err(io::Error::other("failed")))),
        |lab| drop(lab.spawn("forgotten", [], || ())),
        |lab| {
            let handle = lab.registry.own("elsewhere").expect("the task is running");
            thread::spawn(move || drop(handle)).join().expect("it doesn't panic");
        },
        |lab| {
            let handle = lab.registry.own("twice").expect("the task is running");
            handle.release().expect("it is ours");
            assert_eq!(refusal(handle.release()).kind(), ErrorKind::DoubleRelease);
        },
    ];
    let lab = Fixture::new();
    lab.root(|| {
        let children: Vec<_> = (0..4)
            .flat_map(|_| WRONGS)
            .map(|wrong| {
                let (stream, peer) = lab.connection();
                let child = lab.spawn("wrongdoer", [stream.resource()], move || {
                    mem::forget((lab.own("honest"), stream));
                    wrong(lab);
                });
                (child, peer)
            })
            .collect();
        for (child, peer) in children {
            assert!(!matches!(failure(child.join()), TaskError::Cancelled));
            drop(peer);
        }
        let honest = lab.finalized().iter().filter(|name| **name == "honest").count();
        assert_eq!(honest, 28);
        lab.assert_all_closed();
    });
}

#[test]
fn a_sink_that_panics_keeps_no_finalizer_from_running() {
    let lab = Fixture::new();
    let registry = Registry::builder().sink(|_| panic!("a bad sink")).build();
    let outcome = registry.run("child", || {
        for name in ["r1", "r2"] {
            let finalizer = |name| {
                lab.log(name);
                Err(io::Error::other("this is reported to the sink"))
            };
            mem::forget(registry.own_with(name, finalizer));
        }
        "its value"
    });
    assert_eq!(leaked(outcome).0, "its value");
    assert_eq!(lab.finalized(), ["r2", "r1"]);
    assert_eq!(registry.reports().len(), 3, "what the sink did not take is still here");
}

#[test]
fn a_client_that_resets_its_connection_ends_its_own_task_and_the_server_goes_on() {
    let lab = Fixture::new();
    lab.root(|| {
        let listener = lab.listener();
        let address = listener.local_addr().expect("it is ours").inet().expect("by TCP");
        let serve = || {
            let (client, _) = listener.accept().expect("a client connects");
            lab.track_resource(&client.resource());
            lab.spawn("echo", [client.resource()], move || {
                io::copy(&mut &client, &mut &client).map(|_| ())
            })
        };
        let rude = lab.track(TcpStream::connect(address).expect("it listens"));
        let for_rude = serve();
        let mut polite = lab.track(TcpStream::connect(address).expect("it listens"));
        let for_polite = serve();
        rustix::net::sockopt::set_socket_linger(&rude, Some(Duration::ZERO)).expect("it is open");
        drop(rude);
        let outcome = for_rude.join().expect("its task ends and owns nothing");
        assert_eq!(outcome.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
        polite.write_all(b"still there?").expect("the server goes on");
        let mut echo = [0; 12];
        polite.read_exact(&mut echo).expect("the server goes on");
        assert_eq!(&echo, b"still there?");
        drop(polite);
        for_polite.join().expect("it owns nothing").expect("the client closed");
    });
    lab.assert_clean();
}

// One task's trouble is not another's.

#[test]
fn a_leak_in_one_task_leaves_its_neighbour_untouched() {
    let lab = Fixture::new();
    lab.root(|| {
        let (stream, mut peer) = lab.connection();
        let neighbour = lab.spawn("neighbour", [stream.resource()], move || {
            mem::forget(lab.own("the neighbour's"));
            let mut byte = [0];
            (&stream).read_exact(&mut byte).expect("the leak has not closed it");
            (&stream).write_all(&byte).expect("the leak has not closed it");
            panic!("its own error");
        });
        let leaking = lab.spawn("leaking", [], || mem::forget((lab.own("leaked"), lab.listener())));
        leaked(leaking.join());
        assert_eq!(lab.finalized(), ["leaked"]);
        peer.write_all(b"x").expect("the neighbour reads");
        peer.read_exact(&mut [0]).expect("the neighbour writes");
        let neighbour: Result<(), _> = neighbour.join();
        assert_eq!(panic_message(neighbour), "its own error");
    });
    assert_eq!(lab.finalized(), ["leaked", "the neighbour's"]);
    assert_eq!(&*lab.the_leak().task.name, "leaking");
    lab.assert_all_closed();
}

#[test]
fn a_forgotten_child_is_cancelled_and_finalized_and_is_its_parents_own_outcome() {
    let lab = Fixture::new();
    lab.root(|| {
        let parent = lab.spawn("parent", [], || {
            let (string, listener) = (lab.own("the child's"), lab.listener());
            let give = [string.resource(), listener.resource()];
            let child = lab.spawn("forgotten", give, move || {
                let refused = refusal(listener.accept()).kind();
                mem::forget((string, listener));
                refused
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
        assert_eq!(lab.finalized(), ["the child's"]);
        lab.assert_all_closed();
    });
}
