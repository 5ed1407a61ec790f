//! Clean tests, which must not be reported.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::thread;

use downstream::clean;

//~ passes | it does not count as a leak of the test
#[echown::test]
fn a_lazy_static() {
    assert!(clean::lazy_static() > 0);
}

//~ passes | it does not count as a leak of the test
#[echown::test]
fn a_logger() {
    clean::log("one");
    clean::log("two");
}

//~ passes | it does not count as a leak of the test
#[echown::test]
fn a_pool_that_outlives_the_test() {
    let pool = clean::pool().lock().unwrap();
    pool.execute(|| drop(File::open("/etc/passwd")));
    pool.join();
}

//~ passes | it does not count as a leak of the test
#[echown::test]
fn a_background_thread_for_the_process() {
    let (done, wait) = std::sync::mpsc::channel();
    clean::background(move || done.send(()).unwrap());
    wait.recv().unwrap();
}

//~ passes | it does not count as a leak of the test
#[echown::test(timeout_ms = 2000, settle_ms = 2100)]
fn a_settle_time_longer_than_the_test_timeout() {
    let (done, wait) = std::sync::mpsc::channel();
    clean::background(move || done.send(()).unwrap());
    wait.recv().unwrap();
}

//~ passes
#[echown::test]
fn a_redirection_that_is_restored() {
    clean::redirected(|| println!("into the file")).unwrap();
}

//~ passes
#[echown::test]
fn a_thread_that_is_about_to_exit() {
    clean::ends_soon().unwrap();
}

//~ passes
#[echown::test]
fn a_thread_local() {
    thread_local!(static FILE: File = File::open("/etc/passwd").unwrap());
    FILE.with(|file| assert!(file.metadata().is_ok()));
}

//~ passes
#[echown::test]
fn sockets_that_are_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
}

//~ passes
#[echown::test]
fn a_program_that_is_still_running() {
    Command::new("sleep").arg("1").spawn().unwrap();
}

//~ passes
#[echown::test]
fn programs_under_the_trace() {
    for _ in 0..3 {
        assert!(Command::new("ls").arg("/").output().unwrap().status.success());
    }
}

//~ passes
#[echown::test]
fn files_reopened_under_other_numbers() {
    let first = File::open("/etc/passwd").unwrap();
    let second = File::open("/etc/hostname").unwrap();
    drop(first);
    drop(File::open("/etc/passwd").unwrap());
    drop(second);
}

//~ passes
#[test]
fn a_plain_test_that_leaks_in_the_runners_process() {
    for _ in 0..50 {
        std::mem::forget(File::open("/etc/passwd"));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A thread of a pool, which opens its own wake-up socket at its first job.
fn worker() -> Mutex<Sender<Sender<()>>> {
    let (sender, jobs) = channel::<Sender<()>>();
    thread::spawn(move || {
        thread_local!(static WAKER: UnixStream = UnixStream::pair().unwrap().0);
        for done in jobs {
            WAKER.with(|waker| waker.set_nonblocking(true).unwrap());
            done.send(()).unwrap();
        }
    });
    Mutex::new(sender)
}

//~ passes | it does not count as a leak of the test
#[echown::test]
fn a_file_per_thread_of_a_pool() {
    static POOL: LazyLock<[Mutex<Sender<Sender<()>>>; 2]> = LazyLock::new(|| [worker(), worker()]);
    static NEXT: AtomicUsize = AtomicUsize::new(0);

    let (done, wait) = channel();
    POOL[NEXT.fetch_add(1, Ordering::Relaxed)].lock().unwrap().send(done).unwrap();
    wait.recv().unwrap();
}

//~ passes | @so the first is kept once per process
#[echown::test]
fn a_global_that_refuses_a_second_file() {
    static LOG: OnceLock<File> = OnceLock::new();
    let _ = LOG.set(File::open("/etc/passwd").unwrap());
}
