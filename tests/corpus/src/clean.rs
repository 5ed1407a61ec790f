//! Descriptors that stay open on purpose: they belong to the process, not to a test.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::thread;

use threadpool::ThreadPool;

static NAMES: LazyLock<File> = LazyLock::new(|| File::open("/etc/passwd").unwrap());

pub fn lazy_static() -> u64 {
    NAMES.metadata().unwrap().len()
}

/// A logger that opens its file at the first line.
pub fn log(line: &str) {
    static LOG: OnceLock<Mutex<File>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("downstream-{}.log", std::process::id()));
        let file = File::create(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        Mutex::new(file)
    });
    writeln!(log.lock().unwrap(), "{line}").unwrap();
}

/// A pool whose threads outlive all tests and have a wake-up socket each.
pub fn pool() -> &'static Mutex<ThreadPool> {
    static POOL: LazyLock<Mutex<ThreadPool>> = LazyLock::new(|| {
        let pool = ThreadPool::new(2);
        for _ in 0..2 {
            pool.execute(|| {
                thread_local!(static WAKER: UnixStream = UnixStream::pair().unwrap().0);
                WAKER.with(|waker| waker.set_nonblocking(true).unwrap());
            });
        }
        pool.join();
        Mutex::new(pool)
    });
    &POOL
}

/// One background thread for the process, with its own epoll descriptor.
pub fn background(job: impl FnOnce() + Send + 'static) {
    type Job = Box<dyn FnOnce() + Send>;
    static JOBS: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
        let (sender, jobs) = channel::<Job>();
        thread::spawn(move || {
            let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
            let _epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
            jobs.iter().for_each(|job| job());
        });
        Mutex::new(sender)
    });
    JOBS.lock().unwrap().send(Box::new(job)).unwrap();
}

/// Redirects standard output to a file while `f` runs, and restores it.
pub fn redirected(f: impl FnOnce()) -> io::Result<()> {
    io::stdout().flush()?;
    let path = std::env::temp_dir().join(format!("downstream-{}.out", std::process::id()));
    let file = File::create(&path)?;
    std::fs::remove_file(path)?;
    let kept = unsafe { OwnedFd::from_raw_fd(libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3)) };
    unsafe { libc::dup2(file.as_raw_fd(), 1) };
    f();
    io::stdout().flush()?;
    unsafe { libc::dup2(kept.as_raw_fd(), 1) };
    Ok(())
}

/// A thread that holds its socket for a moment after the test has returned.
pub fn ends_soon() -> io::Result<()> {
    let (ours, _theirs) = UnixStream::pair()?;
    thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(50));
        drop(ours);
    });
    Ok(())
}
