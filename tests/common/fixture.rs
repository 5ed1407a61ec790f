//! The fixture of one test: a registry and a pool of its own, a log of finalizers, a tracker of
//! descriptors, and a watchdog that ends a test that hangs.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::exit;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, ThreadId};

use echown::net::{Listener, Stream};
use echown::ownership::{self, LeakReport, Owned, Registry, Report, Resource, TaskError};
use echown::pool::{Pool, Promise};

use super::fds::{FdTracker, connection, listener};
use super::lock;
use super::wait::DEADLINE;

/// The registry, pool and records of one test. It lives as long as the process, so that closures
/// need not count references; its threads end with the test.
pub struct Fixture {
    pub registry: Registry,
    pool: Mutex<Option<Pool>>,
    delivered: &'static Mutex<Vec<Report>>,
    finalized: Mutex<Vec<(&'static str, ThreadId)>>,
    fds: FdTracker,
}

/// Dropped at the end of the test's thread: ends the pool's threads and stops the watchdog.
struct Running {
    fixture: &'static Fixture,
    _watchdog: Sender<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(lock(&self.fixture.pool).take());
        self.fixture.fds.close_unrelated();
    }
}

thread_local! {
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
}

impl Fixture {
    pub fn new() -> &'static Fixture {
        Fixture::with(|settings| settings)
    }

    pub fn with(
        settings: impl FnOnce(ownership::RegistryBuilder) -> ownership::RegistryBuilder,
    ) -> &'static Fixture {
        let delivered: &'static Mutex<Vec<Report>> = Box::leak(Box::default());
        let collect = |report: &Report| lock(delivered).push(report.clone());
        let registry = settings(Registry::builder().sink(collect)).build();
        let fixture: &'static Fixture = Box::leak(Box::new(Fixture {
            pool: Mutex::new(Some(Pool::builder().registry(&registry).build())),
            registry,
            delivered,
            finalized: Mutex::default(),
            fds: FdTracker::new(),
        }));
        let running = Running { fixture, _watchdog: watchdog() };
        RUNNING.with_borrow_mut(|all| all.push(running));
        fixture
    }

    pub fn pool(&self) -> Pool {
        lock(&self.pool).clone().expect("the test is running")
    }

    /// Runs `f` as a root task. A failure inside fails the test.
    #[track_caller]
    pub fn root<T>(&self, f: impl FnOnce() -> T) -> T {
        match self.registry.run("root", f) {
            Ok(value) => value,
            Err(TaskError::Panicked(panic)) => std::panic::resume_unwind(panic.into_payload()),
            Err(other) => panic!("the root task failed: {other}"),
        }
    }

    /// A child of the current task, on a thread of the pool.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Promise<T> {
        let spawned = self.pool().spawn_named(name, give, job);
        spawned.expect("there is a thread, and this task owns the resources")
    }

    /// Owns a resource whose finalizer writes its name into the log.
    #[track_caller]
    pub fn own(&'static self, name: &'static str) -> Owned<&'static str> {
        let owned = self.registry.own_with(name, |name| {
            self.log(name);
            Ok(())
        });
        owned.expect("the task is running")
    }

    /// Owns a descriptor and tracks it.
    #[track_caller]
    pub fn own_fd<T>(&self, fd: T) -> Owned<T>
    where
        T: AsFd + Into<OwnedFd> + Send + 'static,
    {
        let owned = self.registry.own_fd(self.track(fd));
        owned.expect("it is open and has no owner")
    }

    pub fn log(&self, name: &'static str) {
        lock(&self.finalized).push((name, thread::current().id()));
    }

    /// The names in the log, in order.
    pub fn finalized(&self) -> Vec<&'static str> {
        lock(&self.finalized).iter().map(|(name, _)| *name).collect()
    }

    /// The thread that ran this finalizer.
    #[track_caller]
    pub fn finalized_on(&self, name: &str) -> ThreadId {
        let log = lock(&self.finalized);
        let entry = log.iter().find(|(finalized, _)| *finalized == name);
        entry.expect("it was finalized").1
    }

    /// The reports that the sink received, in order.
    pub fn reports(&self) -> Vec<Report> {
        lock(self.delivered).clone()
    }

    /// The codes of the reports, in order.
    pub fn codes(&self) -> Vec<&'static str> {
        self.reports().iter().map(|report| report.code().as_str()).collect()
    }

    /// The only report, which is a leak.
    #[track_caller]
    pub fn the_leak(&self) -> LeakReport {
        match self.reports().as_slice() {
            [Report::Leak(report)] => report.clone(),
            others => panic!("expected one leak, got {others:#?}"),
        }
    }

    /// The message of the only report with this code.
    #[track_caller]
    pub fn the_message(&self, code: &str) -> String {
        let mut found = self.reports();
        found.retain(|report| report.code().as_str() == code);
        match found.as_slice() {
            [Report::Violation(it) | Report::FdReplaced(it) | Report::Finalizer(it)] => {
                it.message.clone()
            }
            _ => panic!("expected one `{code}`, got {:#?}", self.reports()),
        }
    }

    /// A listener that the current task owns.
    #[track_caller]
    pub fn listener(&self) -> Listener {
        let _entered = self.registry.enter();
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.expect("loopback has a free port");
        self.track_resource(&listener.resource());
        listener
    }

    /// Leaks a listener that is acquired on this line.
    pub fn leak_a_listener(&self) {
        std::mem::forget(self.registry.own_fd(self.track(listener())));
    }

    /// One end of a TCP connection, owned by the current task, and the other end, which has no
    /// owner.
    #[track_caller]
    pub fn connection(&self) -> (Stream, TcpStream) {
        let (here, there) = connection();
        let _entered = self.registry.enter();
        let here = Stream::own(self.track(here));
        (here.expect("the task is running"), self.track(there))
    }

    /// Tracks a descriptor.
    pub fn track<F: AsFd>(&self, fd: F) -> F {
        self.fds.track(fd)
    }

    /// Tracks an owned descriptor.
    pub fn track_resource(&self, resource: &Resource) {
        let number = resource.describe().number.expect("it is a descriptor");
        self.fds.track_number(number);
    }

    /// Asserts that every tracked descriptor is closed, and that an unrelated connection still
    /// works.
    #[track_caller]
    pub fn assert_all_closed(&self) {
        self.fds.assert_all_closed_except(None);
    }

    /// [`assert_all_closed`](Fixture::assert_all_closed), except for this one, which stays open.
    #[track_caller]
    pub fn assert_all_closed_except(&self, open: &impl AsFd) {
        self.fds.assert_all_closed_except(Some(open.as_fd().as_raw_fd()));
    }

    /// [`assert_all_closed`](Fixture::assert_all_closed), and that there was no report and nothing
    /// is owned.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.assert_all_closed();
        assert!(self.reports().is_empty(), "{:#?}", self.reports());
        let verdict = self.registry.summary();
        assert!(verdict.is_clean(), "{verdict}");
    }
}

/// Ends the process if the test does not end in time.
fn watchdog() -> Sender<()> {
    let (stop, stopped) = channel::<()>();
    let name = thread::current().name().unwrap_or("a test").to_owned();
    thread::spawn(move || {
        if stopped.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            // Not `eprintln!`: the test harness captures it, and `exit` would lose it.
            let _ = writeln!(io::stderr(), "{name} hangs: it has not ended after {DEADLINE:?}");
            exit(101);
        }
    });
    stop
}
