//! What the tests share: a registry of one's own, a witness for descriptors, a log of finalizers,
//! a deadline for everything, and processes of one's own.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod pages;

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, exit};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use echown::net::{Listener, Stream};
use echown::ownership::{
    self, Error, Failure, LeakReport, Owned, Refused, Registry, Report, Resource,
};
use echown::pool::{Pool, Promise, SpawnError};

pub mod reserved;

/// Far more than any test takes, so that only a real hang meets it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// One test's own world. It lives as long as the process, so that closures need not count
/// references; its threads end with the test.
pub struct Lab {
    pub registry: Registry,
    pool: Mutex<Option<Pool>>,
    delivered: &'static Mutex<Vec<Report>>,
    finalized: Mutex<Vec<(&'static str, ThreadId)>>,
    witness: Witness,
}

/// Ends with the test's thread: lets the pool's threads and the stranger go, and stops the watchdog.
struct Running {
    lab: &'static Lab,
    _watchdog: Sender<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(lock(&self.lab.pool).take());
        drop(lock(&self.lab.witness.stranger).take());
    }
}

thread_local! {
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
}

impl Lab {
    pub fn new() -> &'static Lab {
        Lab::with(|settings| settings)
    }

    pub fn with(settings: impl FnOnce(ownership::Builder) -> ownership::Builder) -> &'static Lab {
        let delivered: &'static Mutex<Vec<Report>> = Box::leak(Box::default());
        let collect = |report: &Report| lock(delivered).push(report.clone());
        let registry = settings(Registry::builder().sink(collect)).build();
        let lab: &'static Lab = Box::leak(Box::new(Lab {
            pool: Mutex::new(Some(Pool::builder().registry(&registry).build())),
            registry,
            delivered,
            finalized: Mutex::default(),
            witness: Witness::new(),
        }));
        let running = Running { lab, _watchdog: watchdog() };
        RUNNING.with_borrow_mut(|all| all.push(running));
        lab
    }

    pub fn pool(&self) -> Pool {
        lock(&self.pool).clone().expect("the test is running")
    }

    /// Runs `f` as a root task. What fails in there fails the test.
    #[track_caller]
    pub fn root<T>(&self, f: impl FnOnce() -> T) -> T {
        match self.registry.run("root", f) {
            Ok(value) => value,
            Err(Failure::Panicked(panic)) => std::panic::resume_unwind(panic.into_payload()),
            Err(other) => panic!("the root did not end well: {other}"),
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
        spawned.expect("there is a thread, and all of it can be given")
    }

    /// Owns something whose finalizer writes its name into the log.
    #[track_caller]
    pub fn own(&'static self, name: &'static str) -> Owned<&'static str> {
        let owned = self.registry.own_with(name, |name| {
            self.log(name);
            Ok(())
        });
        owned.expect("the task is running")
    }

    /// Owns a descriptor that the witness has seen.
    #[track_caller]
    pub fn own_fd<T>(&self, fd: T) -> Owned<T>
    where
        T: AsFd + Into<OwnedFd> + Send + 'static,
    {
        let owned = self.registry.own_fd(self.sees(fd));
        owned.expect("it is open and nobody owns it")
    }

    pub fn log(&self, name: &'static str) {
        lock(&self.finalized).push((name, thread::current().id()));
    }

    /// What the log says, in order.
    pub fn finalized(&self) -> Vec<&'static str> {
        lock(&self.finalized).iter().map(|(name, _)| *name).collect()
    }

    /// On which thread this was finalized.
    #[track_caller]
    pub fn finalized_on(&self, name: &str) -> ThreadId {
        let log = lock(&self.finalized);
        let entry = log.iter().find(|(finalized, _)| *finalized == name);
        entry.expect("it was finalized").1
    }

    /// The reports that the sink got, in order.
    pub fn reports(&self) -> Vec<Report> {
        lock(self.delivered).clone()
    }

    /// The reports' codes, in order.
    pub fn codes(&self) -> Vec<&'static str> {
        self.reports().iter().map(Report::code).collect()
    }

    /// The one report there is, which is a leak.
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
        found.retain(|report| report.code() == code);
        match found.as_slice() {
            [Report::Violation(it) | Report::FdReplaced(it) | Report::Finalizer(it)] => {
                it.message.clone()
            }
            _ => panic!("expected one `{code}`, got {:#?}", self.reports()),
        }
    }

    /// The current task's own listener.
    #[track_caller]
    pub fn listener(&self) -> Listener {
        let listener = Listener::bind_in(&self.registry, (Ipv4Addr::LOCALHOST, 0));
        let listener = listener.expect("loopback has a free port");
        self.watches(&listener.resource());
        listener
    }

    /// Leaks a listener that this line, and no other, has acquired.
    pub fn leak_a_listener(&self) {
        std::mem::forget(self.registry.own_fd(self.sees(listener())));
    }

    /// The current task's own end of a TCP connection, and the peer's, which nobody owns.
    #[track_caller]
    pub fn connection(&self) -> (Stream, TcpStream) {
        let (here, there) = connection();
        let here = Stream::own_in(&self.registry, self.sees(here));
        (here.expect("the task is running"), self.sees(there))
    }

    /// Has the witness look at a descriptor.
    pub fn sees<F: AsFd>(&self, fd: F) -> F {
        self.witness.sees(fd)
    }

    /// Has the witness look at an owned descriptor.
    pub fn watches(&self, resource: &Resource) {
        let number = resource.describe().number.expect("it is a descriptor");
        self.witness.sees_number(number);
    }

    /// Attests that of all that the witness has seen nothing is open, and that a stranger's
    /// descriptors are.
    #[track_caller]
    pub fn attest_all_closed(&self) {
        self.witness.attest_all_closed_but(None);
    }

    /// [`attest_all_closed`](Lab::attest_all_closed), except for this one, which is open.
    #[track_caller]
    pub fn attest_all_closed_but(&self, open: &impl AsFd) {
        self.witness.attest_all_closed_but(Some(open.as_fd().as_raw_fd()));
    }

    /// [`attest_all_closed`](Lab::attest_all_closed), and there was no report and nothing is owned.
    #[track_caller]
    pub fn attest_clean(&self) {
        self.attest_all_closed();
        assert!(self.reports().is_empty(), "{:#?}", self.reports());
        let verdict = self.registry.verdict();
        assert!(verdict.is_clean(), "{verdict}");
    }
}

/// Ends the process when the test doesn't.
fn watchdog() -> Sender<()> {
    let (stop, stopped) = channel::<()>();
    let name = thread::current().name().unwrap_or("a test").to_owned();
    thread::spawn(move || {
        if stopped.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            // Not by `eprintln!`, which the test harness would catch and never show.
            let _ = writeln!(io::stderr(), "{name} hangs: it is not over after {DEADLINE:?}");
            exit(101);
        }
    });
    stop
}

/// Knows open files by what they are (`socket:[4711]`) and not by their numbers, which the kernel
/// hands to the next test that asks.
pub struct Witness {
    seen: Mutex<Vec<String>>,
    /// A stranger's connection, which nothing here may ever close or shut down.
    stranger: Mutex<Option<[UnixStream; 2]>>,
}

impl Witness {
    pub fn new() -> Witness {
        let (a, b) = UnixStream::pair().expect("two descriptors can be had");
        Witness { seen: Mutex::default(), stranger: Mutex::new(Some([a, b])) }
    }

    pub fn sees<F: AsFd>(&self, fd: F) -> F {
        self.sees_number(fd.as_fd().as_raw_fd());
        fd
    }

    pub fn sees_number(&self, number: RawFd) {
        let target = target(number).expect("what is seen is open");
        lock(&self.seen).push(target);
    }

    #[track_caller]
    pub fn attest_all_closed_but(&self, exception: Option<RawFd>) {
        let exception = exception.and_then(target);
        let open = targets();
        for seen in lock(&self.seen).iter().filter(|seen| Some(*seen) != exception.as_ref()) {
            assert!(!open.contains(seen), "{seen} is still open");
        }
        if let Some([a, b]) = &mut *lock(&self.stranger) {
            attest_connected(a, b);
        }
    }
}

/// What a number means in this process, such as `socket:[4711]`.
pub fn target(number: RawFd) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// What all numbers of this process mean.
pub fn targets() -> Vec<String> {
    let numbers = std::fs::read_dir("/proc/self/fd").expect("this is Linux");
    numbers
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(target)
        .collect()
}

/// Attests that bytes still go both ways.
#[track_caller]
pub fn attest_connected(a: &mut (impl io::Read + io::Write), b: &mut (impl io::Read + io::Write)) {
    let mut byte = [0];
    a.write_all(b"?").expect("one end can be written to");
    b.read_exact(&mut byte).expect("the other can be read from");
    b.write_all(b"!").expect("the other can be written to");
    a.read_exact(&mut byte).expect("and the one read from");
    assert_eq!(&byte, b"!");
}

/// A listener of the standard library on a free port of loopback.
pub fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port")
}

/// The two ends of a TCP connection.
pub fn connection() -> (TcpStream, TcpStream) {
    let listener = listener();
    let address = listener.local_addr().expect("it is bound");
    let here = TcpStream::connect(address).expect("it listens");
    let (there, _) = listener.accept().expect("somebody connects");
    (here, there)
}

/// One descriptor in several hands: what an `Arc`, a foreign function or a copied number make of it.
pub struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    pub fn new(fd: T) -> Shared<T> {
        Shared(Arc::new(fd))
    }
}

impl<T: AsFd> AsFd for Shared<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd + Into<OwnedFd>> From<Shared<T>> for OwnedFd {
    fn from(shared: Shared<T>) -> OwnedFd {
        let copy = |shared: Arc<T>| shared.as_fd().try_clone_to_owned().expect("it is open");
        Arc::try_unwrap(shared.0).map_or_else(copy, T::into)
    }
}

/// The kernel's id of the current thread.
pub fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_pid()
}

/// Returns once that thread is blocked in a system call that is not about another thread (`false`)
/// or in one that is (`true`). Where the kernel doesn't tell, at once.
pub fn until_blocked(thread: i32, by_a_thread: bool) {
    let start = Instant::now();
    loop {
        let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
        let Ok(call) = call else { return };
        let number = call.split(' ').next().and_then(|word| word.parse::<i64>().ok());
        match number {
            Some(number) if (number == libc::SYS_futex) == by_a_thread => return,
            _ => thread::yield_now(),
        }
        assert!(start.elapsed() < DEADLINE, "never blocked: {call}");
    }
}

/// The registry's refusal in whatever a call answered.
pub trait IntoRefusal {
    fn into_refusal(self) -> Error;
}

impl IntoRefusal for Error {
    fn into_refusal(self) -> Error {
        self
    }
}

impl<V> IntoRefusal for Refused<V> {
    fn into_refusal(self) -> Error {
        self.error().clone()
    }
}

impl<F> IntoRefusal for SpawnError<F> {
    fn into_refusal(self) -> Error {
        let refusal = self.refusal().cloned();
        refusal.unwrap_or_else(|| panic!("no refusal of the registry: {self}"))
    }
}

impl IntoRefusal for io::Error {
    fn into_refusal(self) -> Error {
        let refusal = Error::in_io(&self).cloned();
        refusal.unwrap_or_else(|| panic!("no refusal of the registry: {self}"))
    }
}

impl<T> IntoRefusal for Failure<T> {
    fn into_refusal(self) -> Error {
        match self {
            Failure::Refused(_, error) => error,
            other => panic!("no refusal of the registry: {other}"),
        }
    }
}

/// The refusal that a call must have met.
#[track_caller]
pub fn refusal<T, E: IntoRefusal>(outcome: Result<T, E>) -> Error {
    match outcome {
        Ok(_) => panic!("expected a refusal, but it was done"),
        Err(error) => error.into_refusal(),
    }
}

/// The failure that a task must have ended with.
#[track_caller]
pub fn failure<T>(outcome: Result<T, Failure<T>>) -> Failure<T> {
    match outcome {
        Ok(_) => panic!("expected a failure, but the task ended well"),
        Err(failure) => failure,
    }
}

/// The message that a task must have panicked with.
#[track_caller]
pub fn panic_message<T>(outcome: Result<T, Failure<T>>) -> String {
    match failure(outcome) {
        Failure::Panicked(panic) => panic.message().to_owned(),
        other => panic!("expected a panic, got: {other}"),
    }
}

/// The report that a task must have leaked with, and its value.
#[track_caller]
pub fn leaked<T>(outcome: Result<T, Failure<T>>) -> (T, LeakReport) {
    match failure(outcome) {
        Failure::Leaked(value, report) => (value, report),
        other => panic!("expected a leak, got: {other}"),
    }
}

#[track_caller]
pub fn attest_cancelled<T>(outcome: Result<T, Failure<T>>) {
    match failure(outcome) {
        Failure::Cancelled => {}
        other => panic!("expected a cancellation, got: {other}"),
    }
}

/// A report's text without what differs from run to run: ages.
pub fn without_ages(text: &str) -> String {
    let ends_in_age = |line: &str| line.ends_with(" ago") || line.contains(" ago (thread ");
    let ageless = |line: &str| match (line.rfind(", "), ends_in_age(line)) {
        (Some(comma), true) => line[..comma].to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(ageless).collect::<Vec<_>>().join("\n")
}

const ALONE: &str = "ECHOWN_TEST_ALONE";

/// The path of the test that this stands in, as the test binary knows it.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        let path = path.strip_suffix("::here").expect("it ends so");
        path.split_once("::").expect("it begins with the crate").1
    }};
}

/// Runs `body` in a process of its own, this binary again, asked for this one test: for what ends a
/// process, and for what has to know which number the kernel hands out next.
///
/// The process answers exit code 0 when `body` comes to its end.
pub fn alone(test: &str, body: impl FnOnce()) -> Output {
    if std::env::var_os(ALONE).is_some_and(|asked| asked == test) {
        body();
        exit(0);
    }
    let binary = std::env::current_exe().expect("this test runs from a file");
    Command::new(binary)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, test)
        .output()
        .expect("this binary can be run again")
}

/// Attests that a process of one's own came to its end.
#[track_caller]
pub fn attest_success(output: &Output) {
    assert!(
        output.status.success(),
        "alone, it ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The crimes in these tests, and the only unsafe code.
#[allow(unsafe_code)]
pub mod thief {
    use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

    /// Closes a number that somebody else owns, as stray C code would. Only where the process is
    /// the test's own: elsewhere the number could go to another test.
    pub fn close_behind_the_owners_back(number: RawFd) {
        // SAFETY: breaking I/O safety is what is being tested: the tests that call this run in a
        // process of their own, own what next gets the number, and prove that the registry leaves
        // it alone. No memory is reached through a descriptor's number.
        let closed = unsafe { libc::close(number) };
        assert_eq!(closed, 0, "the number was open");
    }

    /// Puts another file under a number that is in use (`dup2(2)`), behind the owner's back.
    pub fn replace(number: RawFd, by: &impl AsFd) {
        // SAFETY: as above; the number was open and means `by` afterwards, and the tests prove that
        // the registry leaves it alone.
        let answer = unsafe { libc::dup2(by.as_fd().as_raw_fd(), number) };
        assert_eq!(answer, number, "both are open");
    }

    /// Forks (`fork(2)`) without exec. True in the child.
    pub fn is_forked_child() -> bool {
        // SAFETY: the tests that call this run in a process of their own in which no other thread
        // is doing anything, so that no lock is left held in the child; glibc's allocator can be
        // used after a fork.
        match unsafe { libc::fork() } {
            0 => true,
            -1 => panic!("no process can be had: {}", std::io::Error::last_os_error()),
            _ => false,
        }
    }

    /// Ends a forked child at once (`_exit(2)`).
    pub fn end_forked_child(code: i32) -> ! {
        // SAFETY: ends the process and touches no memory.
        unsafe { libc::_exit(code) }
    }

    /// A second owner of an open number.
    pub fn second_owner(number: RawFd) -> OwnedFd {
        // SAFETY: as above; the number is open, and the tests prove that it is closed once.
        unsafe { OwnedFd::from_raw_fd(number) }
    }
}
