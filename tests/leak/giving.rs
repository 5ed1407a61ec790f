//! Rule 4 with handles as the argument of the child: what it takes is what it owns. And the calls that
//! return one error for a closure that returns a `Result`.

use std::io;
use std::sync::mpsc::channel;

use echown::ownership::{ErrorKind, JoinFlatError, RunInlineError, TaskError};
use echown::pool::Pool;
use echown::test;

use crate::common::{Fixture, refusal};

#[test]
fn a_child_owns_every_handle_that_it_takes() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let pair = (fixture.own("first"), fixture.listener());
        let list = [vec![fixture.own("third"), fixture.own("second")], vec![]];
        let handles = (pair, list, Some(fixture.own("fourth")), None::<echown::net::File>);
        let child = fixture.pool().spawn_with(handles, |((string, socket), lists, more, none)| {
            assert!(none.is_none());
            string.release().and_then(|()| socket.release()).expect("the child owns the pair");
            for one in lists.iter().flatten().rev().chain(&more) {
                one.release().expect("the child owns each");
            }
        });
        child.expect("there is a thread").join().expect("it leaks nothing");
        assert_eq!(fixture.finalized(), ["first", "second", "third", "fourth"]);
    });
    fixture.assert_clean();
}

#[test]
fn a_spawn_with_handles_but_no_thread_returns_handles_and_job() {
    let fixture = Fixture::new();
    let pool = Pool::builder().registry(&fixture.registry).limit(0).build();
    fixture.root(|| {
        let (sender, receiver) = channel();
        let job = move |string: echown::ownership::Owned<&str>| drop(sender.send(string));
        let refused = pool.spawn_with(fixture.own("given"), job).expect_err("the limit is 0");
        assert!(refused.is_exhausted(), "{refused}");
        let (string, job) = refused.into_job().expect("both are returned");
        string.check().expect("it is returned to its owner");
        job(string);
        receiver.recv().expect("the job has sent it").release().expect("this task owns it");
    });
    fixture.assert_clean();
}

#[test]
fn a_handle_that_cannot_be_given_is_returned_unchanged() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_child, from_parent) = channel();
        let (to_parent, from_child) = channel();
        let child = fixture.spawn("child", [], move || {
            let foreign: echown::ownership::Owned<&str> = from_parent.recv().expect("it is sent");
            let refused = fixture.pool().spawn_with(foreign, |_| ()).expect_err("not the owner");
            let kind = refused.refusal().expect("the registry rejected it").kind();
            assert_eq!(kind, ErrorKind::NotOwner);
            let (foreign, _) = refused.into_job().expect("both are returned");

            match fixture.registry.run_inline_with("inline", foreign, |_| ()) {
                Err(RunInlineError::Refused(refused)) => {
                    assert_eq!(refused.error().kind(), ErrorKind::NotOwner);
                    let (foreign, _) = refused.into_value().expect("both are returned");
                    to_parent.send(foreign).expect("the parent waits");
                }
                other => panic!("expected an error, got {other:?}"),
            }
        });
        to_child.send(fixture.own("the parent's")).expect("the child waits");
        let mine = from_child.recv().expect("it is sent back");
        child.join().expect("the child ends well");
        mine.release().expect("it was never given");
    });
    assert_eq!(fixture.codes(), ["not-owner", "not-owner"]);
}

#[test]
fn scopes_threads_and_inline_children_take_handles_too() {
    let fixture = Fixture::new();
    let registry = &fixture.registry;
    fixture.root(|| {
        let scope = fixture.pool().scope(|scope| {
            let started =
                scope.spawn_with(fixture.own("scoped"), |it| it.release().expect("its own"));
            started.expect("there is a thread");
        });
        scope.expect("the child ends well");

        let handles = [fixture.own("plain")];
        let child = echown::thread::spawn_named_with("plain", handles, |[it]| it.release());
        child.expect("there is a thread").join().expect("it leaks nothing").expect("its own");

        let released = registry.run_inline_with("inline", fixture.own("inline"), |it| it.release());
        released.expect("it leaks nothing").expect("its own");
        assert_eq!(fixture.finalized(), ["scoped", "plain", "inline"]);
    });
    fixture.assert_clean();
}

#[test]
fn join_flat_returns_the_jobs_error_or_the_tasks() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let run = |job: fn() -> io::Result<u8>| fixture.spawn("child", [], job);
        assert_eq!(run(|| Ok(7)).join_flat().expect("it returns"), 7);
        let own = run(|| Err(io::ErrorKind::NotFound.into()))
            .join_flat()
            .expect_err("it returned an error");
        assert_eq!(io::Error::from(own).kind(), io::ErrorKind::NotFound);
        match run(|| panic!("the job's")).join_flat() {
            Err(JoinFlatError::Task(TaskError::Panicked(panic))) => {
                assert_eq!(panic.message(), "the job's");
            }
            other => panic!("expected the panic, got {other:?}"),
        }
        let task = io::Error::from(run(|| panic!("again")).join_flat().expect_err("it panicked"));
        let inner = task.get_ref().expect("the task's error is inside");
        assert!(inner.is::<TaskError<io::Result<u8>>>(), "{inner}");
    });
    fixture.assert_clean();
}

#[test]
fn try_with_returns_the_closures_error_or_the_registrys() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let string = fixture.own("mine");
        assert_eq!(string.try_with(|text| io::Result::Ok(text.len())).expect("it is mine"), 4);
        let own = string.try_with(|_| io::Result::<()>::Err(io::ErrorKind::NotFound.into()));
        assert_eq!(own.expect_err("it returned an error").kind(), io::ErrorKind::NotFound);
        string.release().expect("it is mine");
        let rejected = string.try_with(|_| io::Result::Ok(())).expect_err("it is released");
        assert_eq!(refusal::<(), _>(Err(rejected)).kind(), ErrorKind::UseAfterRelease);
    });
    assert_eq!(fixture.codes(), ["use-after-release"]);
}
