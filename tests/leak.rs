//! The contract of the checker: the main guarantees in this file, then one file per rule.
//!
//! The tests use only the public interface. They track every descriptor by its identity and not by
//! its number (see [`common::FdTracker`]), and every test has a registry of its own.
//!
//! The parity table with Miou's `Ownership`, with the test for each row. "Forget" means that the
//! handle outlives the task's closure.
//!
//! | scenario | guarantee | test |
//! |---|---|---|
//! | own, forget, fail | the finalizer runs once, the task keeps its error | `resources_forgotten_by_a_failing_task_are_finalized_once_and_its_error_is_kept` |
//! | own, forget, exit normally | finalizer, report, `Leaked` for that task only | `resources_owned_at_task_exit_are_finalized_and_reported_as_that_tasks_leak` |
//! | own, disown, exit | the finalizer does not run | `disown_returns_the_open_value_and_runs_no_finalizer` |
//! | own and forget r1 r2 r3, fail | r3, r2, r1 | `forgotten_resources_are_finalized_in_reverse_order_of_acquisition` |
//! | one finalizer of three panics | the panic is reported, the others run, the task keeps its error | `a_finalizer_panic_is_reported_others_still_run_and_the_task_error_is_kept` |
//! | own twice in one task | `AlreadyOwned`, naming the first site | `owning_twice_fails_names_the_owner_and_returns_the_value_open` |
//! | own by two tasks | rejected | `two_tasks_cannot_own_one_descriptor_and_its_finalizer_runs_once` |
//! | disown or check by a non-owner | `NotOwner` as an ordinary error, with owner and site | `a_non_owner_gets_an_error_with_owner_site_and_custody` |
//! | parent checks or disowns after give | `NotOwner` | `after_give_only_the_child_may_use_the_resource` |
//! | give an unowned resource | rejected before the child exists | `giving_an_unowned_resource_fails_before_the_child_exists` |
//! | give a resource twice | rejected before the child exists | `giving_a_resource_twice_fails_before_the_child_exists` |
//! | transfer to the parent, child then fails | the parent owns, not finalized | `a_resource_transferred_to_the_parent_survives_the_childs_failure` |
//! | transfer climbing two levels | the root owns | `a_resource_is_transferred_up_two_levels_to_the_root` |
//! | give down two levels, leak at the bottom | leak, custody lists every owner | `a_resource_given_down_two_levels_and_leaked_lists_every_owner` |
//! | transfer from the root | an error that says so | `a_root_task_cannot_transfer` |
//! | cancel a task blocked in accept | closed, `Cancelled`, no descriptor left | `cancelling::cancel_wakes_a_task_blocked_in_accept_and_leaves_no_descriptor_open` |
//! | cancel a task blocked in read | closed, `Cancelled`, no descriptor left | `cancelling::cancel_wakes_a_task_blocked_in_read_with_an_error_not_end_of_stream` |
//! | cancel a task that never started | its resources are finalized | `cancelling::a_child_cancelled_before_it_starts_is_finalized_on_the_cancelling_thread` |
//! | cancel a task that has exited | its outcome stays | `cancelling::cancelling_an_exited_task_keeps_its_outcome` |
//! | a task ignores its cancellation and continues | every further operation is `Cancelled` | `cancelling::a_task_that_ignores_its_cancellation_gets_cancelled_from_every_operation` |
//! | release whose finalizer fails | it runs once; `release` returns the failure | `release_returns_the_error_of_a_failed_finalizer_that_never_runs_again` |
//! | release or close twice | `DoubleRelease`, naming the first | `a_second_release_fails_and_names_the_first` |
//! | leak in A while B runs | B is not affected | `ending::a_leak_in_one_task_does_not_affect_another_task` |
//! | unjoined child that owns a resource | cancelled, finalized, reported | `ending::an_unjoined_child_is_cancelled_finalized_and_reported_by_its_parent` |
//! | raw close, number reused, task fails | the replaced fd is reported, the new file untouched | `closing::an_fd_reused_outside_the_registry_is_reported_and_the_new_file_stays_open` |
//! | raw accessor bypasses the check | none: consuming or `unsafe` | `handles::no_safe_accessor_bypasses_the_check` |
//! | leak report | kind, owner, site, age, custody | `reporting::a_leak_report_has_kind_owner_site_age_and_custody` |
//! | one client resets its connection | its task exits, the server continues | `ending::a_connection_reset_ends_only_that_clients_task_and_the_server_continues` |

mod common;

#[path = "leak/accounts.rs"]
mod accounts;

#[path = "leak/reference.rs"]
mod reference;

#[path = "leak/owning.rs"]
mod owning;

#[path = "leak/giving.rs"]
mod giving;

#[path = "leak/moving.rs"]
mod moving;

#[path = "leak/parking.rs"]
mod parking;

#[path = "leak/ending.rs"]
mod ending;

#[path = "leak/families.rs"]
mod families;

#[path = "leak/reapers.rs"]
mod reapers;

#[path = "leak/waiting_jobs.rs"]
mod waiting_jobs;

#[path = "leak/cancelling.rs"]
mod cancelling;

#[path = "leak/closing.rs"]
mod closing;

#[path = "leak/handles.rs"]
mod handles;

#[path = "leak/halves.rs"]
mod halves;

#[path = "leak/process.rs"]
mod process;

#[path = "leak/sinks.rs"]
mod sinks;

#[path = "leak/replacing.rs"]
mod replacing;

#[path = "leak/reporting.rs"]
mod reporting;

#[path = "leak/untrusted.rs"]
mod untrusted;

use std::io;
use std::mem;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::channel;

use common::{Fixture, SharedFd, leaked, panic_message, refusal, target};
use echown::ownership::{ErrorKind, Event, ResourceData};
use echown::test;

#[test]
fn every_row_of_the_table_has_a_test() {
    let sources = [
        include_str!("leak.rs"),
        include_str!("leak/cancelling.rs"),
        include_str!("leak/closing.rs"),
        include_str!("leak/ending.rs"),
        include_str!("leak/handles.rs"),
        include_str!("leak/reporting.rs"),
    ];
    let rows = sources[0].lines().filter_map(|line| line.strip_prefix("//! | ")?.split('|').nth(2));
    let tests: Vec<&str> = rows.map(|cell| cell.trim().trim_matches('`')).skip(1).collect();
    assert_eq!(tests.len(), 28);
    for test in tests {
        let name = test.rsplit("::").next().expect("there is a last part");
        let head = format!("#[test]\nfn {name}() {{");
        assert!(sources.iter().any(|source| source.contains(&head)), "no test `{test}`");
    }
}

/// The events of a custody, oldest first.
fn events(resource: &ResourceData) -> Vec<Event> {
    resource.custody.iter().map(|step| step.event).collect()
}

// Own, forget, and exit.

#[test]
fn resources_forgotten_by_a_failing_task_are_finalized_once_and_its_error_is_kept() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn::<()>("failing", [], || {
            mem::forget(fixture.own("forgotten"));
            mem::forget(fixture.listener());
            panic!("its own error");
        });
        assert_eq!(panic_message(child.join()), "its own error");
    });
    assert_eq!(fixture.finalized(), ["forgotten"]);
    fixture.assert_clean();
}

#[test]
fn resources_owned_at_task_exit_are_finalized_and_reported_as_that_tasks_leak() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let neighbour = fixture.spawn("neighbour", [], || fixture.own("released").release());
        let child = fixture.spawn("forgetful", [], || {
            mem::forget(fixture.own("forgotten"));
            let (socket, acquired) = (fixture.listener(), line!());
            mem::forget(socket);
            (acquired, "its value")
        });
        let label = child.task();
        let ((acquired, value), report) = leaked(child.join());
        assert_eq!(value, "its value");
        assert_eq!(report.task, label);
        let [socket, string] = report.resources.as_slice() else {
            panic!("expected two resources, got {report}");
        };
        assert_eq!((socket.kind, string.kind), ("tcp listener", "&str"));
        assert_eq!(socket.acquired.file(), file!());
        assert_eq!(socket.acquired.line(), acquired);
        assert_eq!(events(socket), [Event::Acquired]);
        assert_eq!(socket.custody[0].to, Some(label));
        neighbour
            .join()
            .expect("the leak of another task does not affect it")
            .expect("the owner called it");
    });
    assert_eq!(fixture.finalized().len(), 2);
    assert_eq!(fixture.codes(), ["leak"]);
    fixture.assert_all_closed();
}

#[test]
fn disown_returns_the_open_value_and_runs_no_finalizer() {
    let fixture = Fixture::new();
    let (string, socket) = fixture.root(|| {
        let child = fixture.spawn("generous", [], || {
            (fixture.own("disowned").disown(), fixture.listener().disown())
        });
        child.join().expect("it owns nothing at its end")
    });
    assert_eq!(string.expect("the owner called it"), "disowned");
    assert!(fixture.finalized().is_empty());
    let socket = socket.expect("the owner called it");
    assert!(target(socket.as_raw_fd()).is_some(), "it was not closed");
    drop(socket);
    fixture.assert_clean();
}

#[test]
fn forgotten_resources_are_finalized_in_reverse_order_of_acquisition() {
    let fixture = Fixture::new();
    let outcome = fixture.registry.run("failing", || -> () {
        for name in ["r1", "r2", "r3"] {
            mem::forget(fixture.own(name));
        }
        panic!("its own error");
    });
    assert_eq!(panic_message(outcome), "its own error");
    assert_eq!(fixture.finalized(), ["r3", "r2", "r1"]);
    fixture.assert_clean();
}

#[test]
fn a_finalizer_panic_is_reported_others_still_run_and_the_task_error_is_kept() {
    let fixture = Fixture::new();
    let outcome = fixture.registry.run("failing", || -> () {
        mem::forget(fixture.own("r1"));
        let broken = fixture.registry.own_with("r2", |name| {
            fixture.log(name);
            panic!("the finalizer's error")
        });
        mem::forget(broken);
        mem::forget(fixture.own("r3"));
        panic!("its own error");
    });
    assert_eq!(panic_message(outcome), "its own error");
    assert_eq!(fixture.finalized(), ["r3", "r2", "r1"]);
    assert_eq!(fixture.codes(), ["finalizer-panicked"]);
    let message = fixture.the_message("finalizer-panicked");
    assert!(
        message.ends_with("failed to finalize: its finalizer panicked: the finalizer's error"),
        "{message}"
    );
    assert_eq!(fixture.registry.summary().failed_finalizers, 1);
}

// Own twice.

#[test]
fn owning_twice_fails_names_the_owner_and_returns_the_value_open() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = SharedFd::new(fixture.track(common::listener()));
        let line = line!() + 1;
        let first = fixture.registry.own_fd(socket.clone());
        let first = first.expect("it has no owner yet");
        let rejected = fixture.registry.own_fd(socket).expect_err("it is already owned");
        assert_eq!(rejected.error().kind(), ErrorKind::AlreadyOwned);
        assert_eq!(rejected.error().earlier_site().map(|site| site.line()), Some(line));
        let me = fixture.registry.current_task();
        assert_eq!(
            rejected.error().to_string(),
            format!(
                "fd {} (tcp listener) owned again by {me}, owner is {me} (first owned at {})",
                first.describe().number.expect("it is a descriptor"),
                first.describe().acquired,
            )
        );
        let value = rejected.into_value().expect("it is returned");
        first.check().expect("the first stays the owner");
        first.release().expect("the first stays the owner");
        drop(value);
    });
    assert_eq!(fixture.codes(), ["already-owned"]);
    fixture.assert_all_closed();
}

#[test]
fn two_tasks_cannot_own_one_descriptor_and_its_finalizer_runs_once() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = SharedFd::new(fixture.track(common::listener()));
        let close = |_| {
            fixture.log("closed");
            Ok(())
        };
        let first =
            fixture.registry.own_fd_with(socket.clone(), close).expect("it has no owner yet");
        let root = fixture.registry.current_task();
        let second = fixture.spawn("second", [], move || {
            let rejected =
                fixture.registry.own_fd_with(socket, close).expect_err("it is already owned");
            rejected.error().clone()
        });
        let error = second.join().expect("the second succeeds");
        assert_eq!(error.kind(), ErrorKind::AlreadyOwned);
        assert_eq!(error.owner(), Some(&root));
        assert!(fixture.finalized().is_empty(), "a rejected value is not finalized");
        first.release().expect("the first stays the owner");
    });
    assert_eq!(fixture.finalized(), ["closed"]);
    fixture.assert_all_closed();
}

// Use by a non-owner.

#[test]
fn a_non_owner_gets_an_error_with_owner_site_and_custody() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = fixture.listener();
        let owner = fixture.registry.current_task();
        let other = fixture.spawn("other", [], move || {
            let me = fixture.registry.current_task();
            let check = refusal(socket.check());
            assert_eq!(check.kind(), ErrorKind::NotOwner);
            assert_eq!(refusal(socket.release()).kind(), ErrorKind::NotOwner);
            let (disown, socket) =
                socket.disown().expect_err("the task does not own it").into_parts();
            assert_eq!(disown.kind(), ErrorKind::NotOwner);
            (check, me, socket.expect("the handle is returned"))
        });
        let (error, other, socket) = other.join().expect("a rejected call does not fail the task");
        assert_eq!(error.owner(), Some(&owner));
        let described = socket.describe();
        assert_eq!(
            error.to_string(),
            format!(
                "fd {} (tcp listener) used by {other}, expected owner {owner} (owned at {})",
                described.number.expect("it is a descriptor"),
                described.acquired
            )
        );
        assert_eq!(error.site().file(), file!());
        // The descriptor is untouched.
        TcpStream::connect(
            socket.local_addr().expect("this task owns it").inet().expect("it is a TCP address"),
        )
        .expect("it still listens");
        drop(socket.accept().expect("it still accepts"));
    });
    assert_eq!(fixture.codes(), ["not-owner"; 3]);
    fixture.assert_all_closed();
}

// Give.

#[test]
fn after_give_only_the_child_may_use_the_resource() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = Arc::new(fixture.listener());
        let (go, gone) = channel::<()>();
        let its = Arc::clone(&socket);
        let child = fixture.spawn("child", [socket.resource()], move || {
            let _ = gone.recv();
            its.check()?;
            its.release()
        });
        let rejected = refusal(socket.check());
        assert_eq!(rejected.kind(), ErrorKind::NotOwner);
        assert_eq!(rejected.owner(), Some(&child.task()));
        assert_eq!(refusal(socket.accept()).kind(), ErrorKind::NotOwner);
        assert_eq!(refusal(socket.release()).kind(), ErrorKind::NotOwner);
        drop(go);
        child.join().expect("it owns nothing at its end").expect("the owner calls it");
    });
    fixture.assert_all_closed();
}

#[test]
fn giving_an_unowned_resource_fails_before_the_child_exists() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (mine, gone) = (fixture.listener(), fixture.own("gone"));
        gone.release().expect("this task owns it");
        let give = [mine.resource(), gone.resource()];
        let rejected = fixture.pool().spawn(give, || "the job").expect_err("one of them is gone");
        let error = rejected.refusal().expect("the registry rejected it");
        assert_eq!(error.kind(), ErrorKind::UseAfterRelease);
        assert_eq!(fixture.pool().size(), 0, "there is no child");
        mine.check().expect("no resource has moved");
        assert_eq!(events(&mine.describe()), [Event::Acquired]);
        assert_eq!(rejected.into_job().expect("the job is returned")(), "the job");
        let other_task = fixture.spawn("other", [], {
            let mine = mine.resource();
            move || refusal(fixture.pool().spawn([mine], || ())).kind()
        });
        assert_eq!(other_task.join().expect("no child is unjoined"), ErrorKind::NotOwner);
    });
    fixture.assert_all_closed();
}

#[test]
fn giving_a_resource_twice_fails_before_the_child_exists() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (first, socket) = (fixture.own("first"), fixture.listener());
        let give = [first.resource(), socket.resource(), socket.resource()];
        let rejected = fixture.pool().spawn(give, || ()).expect_err("one resource occurs twice");
        let error = rejected.refusal().expect("the registry rejected it");
        assert_eq!(error.kind(), ErrorKind::DuplicateGive);
        let (number, me) = (socket.describe().number, fixture.registry.current_task());
        assert_eq!(
            error.to_string(),
            format!(
                "fd {} (tcp listener) occurs twice in the give list of {me}",
                number.expect("it is a descriptor")
            )
        );
        first.check().expect("no resource has moved");
        socket.check().expect("no resource has moved");
    });
    assert_eq!(fixture.finalized(), ["first"]);
    fixture.assert_all_closed();
}

// Transfer.

#[test]
fn a_resource_transferred_to_the_parent_survives_the_childs_failure() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_parent, from_child) = channel();
        let child = fixture.spawn::<()>("child", [], move || {
            let (string, socket) = (fixture.own("transferred"), fixture.listener());
            string.transfer().expect("the parent is running");
            socket.transfer().expect("the parent is running");
            assert_eq!(refusal(socket.check()).kind(), ErrorKind::NotOwner);
            to_parent.send((string, socket)).expect("the parent receives it");
            panic!("its own error");
        });
        assert_eq!(panic_message(child.join()), "its own error");
        let (string, socket) = from_child.recv().expect("they were sent");
        assert!(fixture.finalized().is_empty());
        string.check().expect("the parent owns it now");
        socket.local_addr().expect("the parent owns it now");
    });
    assert_eq!(fixture.finalized(), ["transferred"]);
    fixture.assert_all_closed();
}

#[test]
fn a_resource_is_transferred_up_two_levels_to_the_root() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let middle = fixture.spawn("middle", [], || {
            let bottom = fixture.spawn("bottom", [], || {
                let socket = fixture.listener();
                socket.transfer().map(|()| socket)
            });
            let socket = bottom.join().expect("it owns nothing").expect("its parent runs");
            socket.transfer().map(|()| socket)
        });
        let socket = middle.join().expect("it owns nothing").expect("its parent runs");
        let custody = socket.describe().custody;
        let hands: Vec<_> = custody.iter().filter_map(|step| step.to.clone()).collect();
        let names: Vec<&str> = hands.iter().map(|task| &*task.name).collect();
        assert_eq!(names, ["bottom", "middle", "root"]);
        socket.release().expect("the root owns it now");
    });
    fixture.assert_clean();
}

#[test]
fn a_resource_given_down_two_levels_and_leaked_lists_every_owner() {
    let fixture = Fixture::new();
    let hands = fixture.root(|| {
        let socket = fixture.listener();
        let middle = fixture.spawn("middle", [socket.resource()], move || {
            let bottom = fixture.spawn("bottom", [socket.resource()], move || mem::forget(socket));
            leaked(bottom.join()).1
        });
        let report = middle.join().expect("the middle task does not leak");
        let custody = report.resources[0].custody.clone();
        custody
            .into_iter()
            .map(|step| {
                let name = |task: Option<echown::ownership::TaskLabel>| task.map(|task| task.name);
                (step.event, name(step.from), name(step.to))
            })
            .collect::<Vec<_>>()
    });
    let name = |name: &str| Some(name.into());
    assert_eq!(
        hands,
        [
            (Event::Acquired, None, name("root")),
            (Event::Given, name("root"), name("middle")),
            (Event::Given, name("middle"), name("bottom")),
        ]
    );
    assert_eq!(&*fixture.the_leak().task.name, "bottom");
    fixture.assert_all_closed();
}

#[test]
fn a_root_task_cannot_transfer() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = fixture.listener();
        let error = refusal(socket.transfer());
        assert_eq!(error.kind(), ErrorKind::NoParent);
        let (number, me) = (socket.describe().number, fixture.registry.current_task());
        assert_eq!(
            error.to_string(),
            format!(
                "fd {} (tcp listener) transferred by {me}, a root task, which has no parent",
                number.expect("it is a descriptor")
            )
        );
        socket.check().expect("the root still owns it");
    });
    assert_eq!(fixture.codes(), ["no-parent"]);
    fixture.assert_all_closed();
}

// Release.

#[test]
fn release_returns_the_error_of_a_failed_finalizer_that_never_runs_again() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let broken = fixture.registry.own_with("broken", |name| {
            fixture.log(name);
            Err(io::Error::other("the disk is full"))
        });
        let broken = broken.expect("the task is running");
        let error = refusal(broken.release());
        assert_eq!(error.kind(), ErrorKind::FinalizerFailed);
        assert_eq!(
            error.to_string(),
            format!("resource {} (&str) failed to finalize: the disk is full", broken.id())
        );
        assert_eq!(refusal(broken.release()).kind(), ErrorKind::DoubleRelease);
        mem::forget(broken);
    });
    assert_eq!(fixture.finalized(), ["broken"]);
    assert_eq!(
        fixture.codes(),
        ["double-release"],
        "the failure was returned, so there is no report"
    );
}

#[test]
fn a_second_release_fails_and_names_the_first() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = fixture.listener();
        let (first, line) = (socket.release(), line!());
        first.expect("this task owns it");
        fixture.assert_all_closed();
        let second = refusal(socket.close());
        assert_eq!(second.kind(), ErrorKind::DoubleRelease);
        assert_eq!(second.earlier_site().map(|site| site.line()), Some(line));
        let (number, me) = (socket.describe().number, fixture.registry.current_task());
        assert_eq!(
            second.to_string(),
            format!(
                "fd {} (tcp listener) released again by {me} after its release by {me} (first released at {})",
                number.expect("it was a descriptor"),
                second.earlier_site().expect("the check is registered")
            )
        );
        assert_eq!(refusal(socket.accept()).kind(), ErrorKind::UseAfterRelease, "not EBADF");
    });
    assert_eq!(fixture.codes(), ["double-release", "use-after-release"]);
}
