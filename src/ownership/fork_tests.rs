//! Tests that a forked child waits for no lock that a thread of the parent process holds.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::graph::{self, Node};
use super::{ErrorKind, Offer, Owned, Registry, fd_table, task};
use crate::sys::fork;

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("loopback has a free port")
}

/// The resources of a task whose process is forked.
struct ForkedState {
    registry: Registry,
    value: Owned<&'static str>,
    in_use: Owned<&'static str>,
    dropped: Owned<&'static str>,
    disowned: Owned<TcpListener>,
    offered: Offer<Owned<&'static str>>,
    stream: Owned<OwnedFd>,
    node: Node,
    reference: graph::Edge,
}

impl ForkedState {
    fn new(registry: &Registry) -> ForkedState {
        let own = |name| registry.own(name).expect("the task is running");
        let listener = listener();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let node = Node::of(&own("node").resource());
        ForkedState {
            registry: registry.clone(),
            value: own("value"),
            in_use: own("in use"),
            dropped: own("dropped"),
            disowned: registry.own_fd(listener).expect("it is open"),
            offered: own("offered").offer().expect("it is ours"),
            stream: registry.own_fd(OwnedFd::from(stream)).expect("it is open"),
            reference: node.strong_edge(&node),
            node,
        }
    }

    /// Runs every operation in the child, where the registry is off and rejects none of them.
    fn use_all(self) {
        let registry = &self.registry;
        assert_eq!(self.value.with(|value| *value).unwrap(), "value");
        assert_eq!(self.in_use.with(|_| ()).unwrap_err().kind(), ErrorKind::InUse);
        assert_eq!(self.value.describe().state, "held");
        self.value.transfer().unwrap();
        self.value.release().unwrap();
        assert_eq!(self.value.release().unwrap_err().kind(), ErrorKind::DoubleRelease);
        assert_eq!(self.value.with(|_| ()).unwrap_err().kind(), ErrorKind::UseAfterRelease);
        drop(self.dropped);
        drop(self.disowned.disown().unwrap());
        assert_eq!(self.offered.claim().unwrap().with(|value| *value).unwrap(), "offered");
        let (reading, writing) = self.stream.split().unwrap();
        drop(reading.rejoin(writing).unwrap());
        let own = |value| registry.own(value).expect("the registry is off");
        own("released").release().unwrap();
        drop(own("offered").offer().unwrap().claim().unwrap());
        drop(registry.own_fd(listener()).unwrap());
        drop(Registry::new().own(()).unwrap());
        registry.run("a root", || drop(own("a root's"))).unwrap();
        let given = own("given");
        let inline = registry.run_inline("a child", [given.resource()], || given.release());
        inline.unwrap().unwrap();
        drop((self.node, self.reference, Node::new("after")));
        registry.declare_external(0, "a library", "its own");
        registry.forget_external(0);
        assert!(registry.snapshot().resources.is_empty());
        assert!(registry.reports().is_empty());
        assert!(registry.graph().nodes.is_empty());
        assert!(registry.finish().is_clean());
    }
}

/// Runs `hold`, which takes locks, on another thread until the returned sender is dropped.
fn held(hold: impl FnOnce(&dyn Fn()) + Send + 'static) -> Sender<()> {
    let (begin, begun) = channel();
    let (end, ended) = channel::<()>();
    thread::spawn(move || {
        hold(&|| {
            begin.send(()).expect("the test receives");
            assert!(ended.recv().is_err());
        });
    });
    begun.recv().expect("the locks are free");
    end
}

#[test]
fn a_forked_child_waits_for_no_lock_that_the_parent_holds() {
    let registry = Registry::builder().sink(|_| ()).build();
    let outcome = registry.run("forking", || {
        let mut before = Some(ForkedState::new(&registry));
        let all = before.as_ref().expect("it was made");
        let (cell, value) = (Arc::clone(all.in_use.handle().cell()), all.value.handle().held());
        let (me, theirs) = (task::current(&registry), registry.clone());
        let end = held(move |wait| {
            let _task = (me.hold_locks(), task::hold_table(), fd_table::hold());
            let _registry = (theirs.hold_locks(), cell.lock_value(), value.record().hold());
            wait();
        });
        let code = fork::tests::in_child(|| before.take().expect("it was made").use_all());
        drop(end);
        assert_eq!(code, Some(0), "it hangs (None) or fails");
        let claimed = before.expect("the child took its own").offered.claim();
        claimed.map(drop).expect("it was not claimed in this process");
    });
    outcome.expect("it leaves nothing");
}

#[test]
fn a_task_that_ends_in_a_forked_child_waits_for_no_lock_that_the_parent_holds() {
    let registry = Registry::builder().sink(|_| ()).build();
    let (mut child, mut code) = (None, None);
    let outcome = registry.run("parent", || {
        let inline = registry.run_inline("forking", [], || {
            let me = task::current(&registry);
            let parent = me.parent().expect("it is a child");
            let end = held(move |wait| {
                let _tasks = (parent.hold_locks(), me.hold_locks(), task::hold_table());
                wait();
            });
            child = fork::tests::fork();
            // The child goes on while the locks are held; the parent waits for it here.
            code = child.and_then(fork::tests::exit_code);
            drop(end);
        });
        inline.expect("it leaves nothing");
    });
    if child.is_none() {
        fork::tests::end(if outcome.is_ok() { 0 } else { 1 });
    }
    outcome.expect("it leaves nothing");
    assert_eq!(code, Some(0), "it hangs (None) or fails");
}
