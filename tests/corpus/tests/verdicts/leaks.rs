//! Tests that leave a descriptor open.

use std::fs::File;
use std::mem::forget;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use downstream::{acceptor, cycle, pass, paths, sessions, worker};

//~ fails | leak: test `leaks::a_forgotten_listener` left 1 descriptor open | tcp listener fd | 127.0.0.1: | @opened by socket at tests/verdicts/leaks.rs:
#[echown::test]
fn a_forgotten_listener() {
    forget(TcpListener::bind("127.0.0.1:0").unwrap());
}

//~ fails | left 1 descriptor open | tcp stream fd |  <-> 127.0.0.1: | close-wait | @src/worker.rs: | thread `worker` still runs: | @in futex, waits in futex_ | @, spawned at src/worker.rs:
#[echown::test]
fn a_socket_kept_by_an_arc_in_a_worker_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = worker::connect(listener.local_addr().unwrap()).unwrap();
    drop(listener.accept().unwrap());
    client.share();
}

//~ fails | left 2 descriptors open | pipe fd | reading end | writing end | @opened by pipe2 at src/paths.rs:
#[echown::test]
fn a_pipe_never_wrapped() {
    assert_eq!(paths::pipe_never_wrapped().unwrap(), 7);
}

//~ fails | left 1 descriptor open | reading end | @src/paths.rs:
#[echown::test]
fn a_pipe_half_wrapped() {
    paths::pipe_half_wrapped().unwrap();
}

//~ fails | left 1 descriptor open | epoll fd | watching nothing | @opened by epoll_create1 at src/paths.rs:
#[echown::test]
fn an_epoll_descriptor_forgotten_on_an_error_path() {
    let file = File::open("/etc/passwd").unwrap();
    paths::poller(&file).unwrap_err();
}

//~ fails | left 1 descriptor open | file fd | /etc/passwd | @opened by openat at src/paths.rs:
#[echown::test]
fn a_lock_file_forgotten() {
    paths::forgotten_lock("/etc/passwd").unwrap();
}

//~ fails | left 1 descriptor open | unix stream fd | @opened by socketpair at src/cycle.rs:
#[echown::test]
fn a_socket_in_a_cycle_of_rcs() {
    cycle::family().unwrap();
}

//~ fails | left 1 descriptor open | file fd | /etc/passwd | @src/paths.rs:
#[echown::test]
fn a_raw_fd_lost_on_an_error_path() {
    paths::raw_on_an_error_path("/etc/passwd").unwrap_err();
}

//~ fails | left 1 descriptor open | /etc/hostname | still runs | @, spawned at src/acceptor.rs:
#[echown::test]
fn a_detached_thread_with_a_file() {
    acceptor::watch("/etc/hostname");
}

//~ fails | left 3 descriptors open | unix stream fd | @src/sessions.rs:
#[echown::test]
fn a_static_registry_that_only_grows() {
    for _ in 0..3 {
        sessions::log_in().unwrap();
    }
}

//~ fails | left 1 descriptor open | tcp listener fd | @src/acceptor.rs: | thread `acceptor` still runs | @: in accept4(fd | @, spawned at src/acceptor.rs:
#[echown::test]
fn an_accept_loop_that_never_ends() {
    let address = acceptor::start().unwrap();
    for _ in 0..20 {
        TcpStream::connect(address).unwrap();
    }
}

//~ fails | left 2 descriptors open | unix stream fd | @tests/verdicts/leaks.rs:
#[echown::test]
fn a_socket_pair() {
    forget(UnixStream::pair().unwrap());
}

//~ fails | left 1 descriptor open | /etc/hostname | @opened by recvmsg at src/pass.rs:
#[echown::test]
fn a_descriptor_that_came_through_a_socket() {
    let (here, there) = UnixStream::pair().unwrap();
    let file = File::open("/etc/hostname").unwrap();
    pass::send(&here, file.as_raw_fd()).unwrap();
    pass::receive(&there).unwrap();
}

//~ fails | left 2 descriptors open | timerfd fd | eventfd fd | count 0 | @timerfd_create at src/paths.rs | @eventfd2 at src/paths.rs
#[echown::test]
fn half_an_event_loop() {
    paths::half_an_event_loop().unwrap_err();
}

//~ fails | left 7 descriptors open | a duplicate of fd 0 | and fd  | @opened by fcntl at src/paths.rs:
#[echown::test]
fn seven_duplicates() {
    paths::duplicates(7).unwrap();
}

//~ fails | left 1 descriptor open | udp socket fd | 127.0.0.1: | @tests/verdicts/leaks.rs:
#[echown::test]
fn a_udp_socket() {
    let _ = UdpSocket::bind("127.0.0.1:0").unwrap().into_raw_fd();
}

//~ fails | left 1 descriptor open | udp socket fd | @tests/verdicts/leaks.rs: | hello from sh
#[echown::test]
fn while_it_starts_programs() {
    for _ in 0..3 {
        let output = Command::new("sh").args(["-c", "exec 9</etc/passwd; echo hello from sh"]).output();
        print!("{}", String::from_utf8(output.unwrap().stdout).unwrap());
    }
    forget(UdpSocket::bind("127.0.0.1:0"));
}

//~ fails | left 1 descriptor open | file fd | @tests/verdicts/leaks.rs:
#[echown::test]
fn in_a_thread_that_blocks_all_signals() {
    let thread = std::thread::spawn(|| unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        forget(File::open("/etc/passwd"));
    });
    thread.join().unwrap();
}

//~ fails | left 1 descriptor open | memfd fd | /memfd:scratch
#[echown::test]
fn a_memfd() {
    unsafe { libc::memfd_create(c"scratch".as_ptr(), libc::MFD_CLOEXEC) };
}

//~ fails | left 1 descriptor open | inotify fd | 1 watches
#[echown::test]
fn an_inotify_descriptor() {
    unsafe {
        let watch = libc::inotify_init1(libc::IN_CLOEXEC);
        libc::inotify_add_watch(watch, c"/etc".as_ptr(), libc::IN_MODIFY);
    }
}

//~ fails | left 1 descriptor open | tcp listener fd | acquired by task | tests/verdicts/leaks.rs:
#[echown::test]
fn a_resource_in_the_checkers_own_registry() {
    let (begun, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let listener = echown::net::Listener::bind("127.0.0.1:0").unwrap();
        begun.send(()).unwrap();
        let _ = listener.accept();
    });
    wait.recv().unwrap();
}

//~ fails | and still owned tcp listener fd | acquired by task | tests/verdicts/leaks.rs:
#[echown::test]
fn a_resource_owned_by_its_own_task() {
    forget(echown::net::Listener::bind("127.0.0.1:0"));
}

//~ fails | unjoined-task: test | left task | `thread` unjoined
#[echown::test]
fn a_task_that_was_not_joined() {
    drop(echown::thread::spawn([], || ()));
}

fn limit(number: u64, hard: bool) {
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = number;
        limit.rlim_max = if hard { number } else { limit.rlim_max };
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

//~ fails | leak: test `leaks::all_descriptors_up_to_the_soft_limit` left | file fd | /etc/passwd | @opened by openat at tests/verdicts/leaks.rs:
#[echown::test]
fn all_descriptors_up_to_the_soft_limit() {
    limit(64, false);
    while let Ok(file) = File::open("/etc/passwd") {
        forget(file);
    }
}

//~ fails | leak: test `leaks::all_descriptors_up_to_the_hard_limit` left | file fd | /etc/passwd | the place of the opening is unknown: no descriptor was free
#[echown::test]
fn all_descriptors_up_to_the_hard_limit() {
    limit(64, true);
    while let Ok(file) = File::open("/etc/passwd") {
        forget(file);
    }
}

//~ fails | left 2500 descriptors open | file fd | /etc/passwd | @opened by openat at tests/verdicts/leaks.rs:
#[echown::test]
fn more_descriptors_than_the_trace_records() {
    limit(6000, false);
    for _ in 0..2500 {
        forget(File::open("/etc/passwd").unwrap());
    }
}

//~ fails | left 1 descriptor open | file fd | /etc/passwd | @opened by openat at tests/verdicts/leaks.rs:
#[echown::test]
fn a_different_file_in_each_run() {
    use std::sync::atomic::{AtomicBool, Ordering};

    static TURN: AtomicBool = AtomicBool::new(false);
    if TURN.swap(true, Ordering::Relaxed) {
        forget(File::open("/etc/hostname"));
    } else {
        forget(File::open("/etc/passwd"));
    }
}

//~ fails | left 3 descriptors open | @opened by openat at tests/verdicts/leaks.rs: | @threads `reader`, `reader`, `reader` still run: in read(fd 3), waits in | @, spawned at tests/verdicts/leaks.rs:
#[echown::test]
fn a_pipe_that_three_threads_read() {
    let (reader, writer) = std::io::pipe().unwrap();
    let reader = std::sync::Arc::new(reader);
    for _ in 0..3 {
        let reader = reader.clone();
        let read = move || std::io::Read::read(&mut &*reader, &mut [0]);
        std::thread::Builder::new().name("reader".into()).spawn(read).unwrap();
    }
    forget((File::open("/etc/passwd"), writer));
}

//~ fails | @also open in `sleep` (process | pipe fd | writing end
#[echown::test]
fn a_pipe_that_a_program_has_too() {
    let (_reader, writer) = std::io::pipe().unwrap();
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFD, 0) };
    forget(writer);
    Command::new("sleep").arg("5").spawn().unwrap();
}

//~ fails | left 1 descriptor open | file fd | @opened by openat at tests/verdicts/leaks.rs: | @last sent by sendmsg at src/pass.rs: | @, on thread `sender`
#[echown::test]
fn a_file_that_was_sent_and_not_closed() {
    let (here, _there) = UnixStream::pair().unwrap();
    let file = File::open("/etc/hostname").unwrap();
    let number = file.into_raw_fd();
    let send = move || pass::send(&here, number).unwrap();
    std::thread::Builder::new().name("sender".into()).spawn(send).unwrap().join().unwrap();
}

//~ fails | left 1 descriptor open | @left in 1 of 2 executions
#[echown::test]
fn on_every_other_call() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static CALLS: AtomicUsize = AtomicUsize::new(0);
    if CALLS.fetch_add(1, Ordering::Relaxed) % 2 == 0 {
        forget(File::open("/etc/passwd"));
    }
}

// In a root without `/proc`, numbers are checked one by one.
//~ fails | left 1 descriptor open | file fd
#[echown::test]
fn in_another_root() {
    let file = File::open("/etc/passwd").unwrap();
    let changed = unsafe {
        // Not root: a user namespace permits it.
        libc::geteuid() == 0 || libc::unshare(libc::CLONE_NEWUSER) == 0
    };
    if !changed || unsafe { libc::chroot(c"/tmp".as_ptr()) } != 0 {
        panic!("left 1 descriptor open, file fd: this user cannot change its root");
    }
    forget(file);
}
