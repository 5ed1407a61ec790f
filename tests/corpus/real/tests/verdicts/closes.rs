//! Descriptors that are closed twice, or used after their end.

use std::os::unix::net::UnixStream;

/// signal-hook 0.4.1, vorner/signal-hook#200: `Drop` closes what a field closes, too.
//~ fails | double-close | @signal_hook
#[echown_test::test(trace_fds)]
fn signal_hook_closes_its_pipe_twice() {
    let (reader, writer) = UnixStream::pair().unwrap();
    let id = signal_hook::low_level::pipe::register(libc::SIGUSR1, writer).unwrap();
    assert!(signal_hook::low_level::unregister(id));
    drop(reader);
}

/// nix 0.27.1, nix-rust/nix#2141: `set_mask` closes the descriptor that the value goes on to use.
//~ fails | double-close | signalfd | @nix
#[echown_test::test(trace_fds)]
fn nix_signalfd_closes_at_set_mask() {
    use nix_signalfd::sys::signal::{SigSet, Signal};
    use nix_signalfd::sys::signalfd::SignalFd;

    let mut mask = SigSet::empty();
    mask.add(Signal::SIGUSR1);
    let mut signals = SignalFd::new(&mask).unwrap();
    mask.add(Signal::SIGUSR2);
    signals.set_mask(&mask).unwrap();
    drop(signals);
}

/// x11rb-protocol 0.12.0, psychon/x11rb#363: safe code makes a second owner. From 0.13 on this does
/// not compile.
//~ fails | double-close | file | @x11rb
#[cfg(not(feature = "fixed"))]
#[echown_test::test(trace_fds)]
fn x11rb_second_owner_by_safe_code() {
    use std::os::fd::AsRawFd;

    let file = std::fs::File::open("/etc/passwd").unwrap();
    drop(x11rb_protocol::RawFdContainer::new(file.as_raw_fd()));
    drop(file);
}

/// async-std 1.13.1, async-rs/async-std#730: `into_raw_fd` closes what it returns. No fixed version.
//~ fails | double-close | @async_std
#[cfg(not(feature = "fixed"))]
#[echown_test::test(trace_fds)]
fn async_std_closes_at_into_raw_fd() {
    use std::net::TcpListener;
    use std::os::fd::{FromRawFd, IntoRawFd};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stream = async_std::task::block_on(async_std::net::TcpStream::connect(address)).unwrap();
    let number = stream.into_raw_fd();
    // SAFETY: `into_raw_fd` promises an open descriptor without another owner.
    drop(unsafe { std::net::TcpStream::from_raw_fd(number) });
}

/// lang_tester 0.6.1, softdevteam/lang_tester#87: the child's stdin is closed twice.
//~ fails | double-close | pipe | @lang_tester
#[echown_test::test(trace_fds)]
fn lang_tester_closes_stdin_twice() {
    let folder = std::env::temp_dir().join(format!("lang-tester-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cat.txt"), "Run:\n  stdin:\n    hello\n  stdout:\n    hello\n")
        .unwrap();
    lang_tester::LangTester::new()
        .use_cmdline_args(false)
        .test_threads(1)
        .test_dir(folder.to_str().unwrap())
        .test_extract(|path| std::fs::read_to_string(path).unwrap())
        .test_cmds(|_| vec![("Run", std::process::Command::new("cat"))])
        .run();
    std::fs::remove_dir_all(&folder).unwrap();
}

/// nix 0.30.1, nix-rust/nix#2707: safe code closes a descriptor that it does not own. No fixed
/// version.
//~ fails | closed-inherited | fd 1 | @nix_close
#[cfg(not(feature = "fixed"))]
#[echown_test::test]
fn nix_close_of_a_number() {
    nix_close::unistd::close(1).unwrap();
}

/// fork 0.3.1, immortal/fork#2: `close_fd` frees the numbers 0 to 2, and the next file gets one.
/// The fix is a second function.
//~ fails | closed-inherited | 3 | @fork
#[cfg(not(feature = "fixed"))]
#[echown_test::test]
fn fork_frees_the_standard_streams() {
    use std::os::fd::AsRawFd;

    fork::close_fd().unwrap();
    assert_eq!(std::fs::File::open("/etc/passwd").unwrap().as_raw_fd(), 0);
}
