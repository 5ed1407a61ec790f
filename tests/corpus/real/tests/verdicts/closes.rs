//! Descriptors that are closed twice, or used after their end.

use std::os::unix::net::UnixStream;

/// signal-hook 0.4.1, vorner/signal-hook#200: `Drop` closes what a field closes, too.
//~ fails | double-close: test `closes::signal_hook_closes_its_pipe_twice` closed | twice | @closed first by close at signal-hook 0.4.1 src/low_level/pipe.rs | @in the drop of signal_hook::low_level::pipe::WakeFd
#[echown_test::test]
fn signal_hook_closes_its_pipe_twice() {
    let (reader, writer) = UnixStream::pair().unwrap();
    let id = signal_hook::low_level::pipe::register(libc::SIGUSR1, writer).unwrap();
    assert!(signal_hook::low_level::unregister(id));
    drop(reader);
}

/// nix 0.27.1, nix-rust/nix#2141: `set_mask` closes the descriptor that the value goes on to use.
//~ fails | double-close: test `closes::nix_signalfd_closes_at_set_mask` closed | twice | @nix::sys::signalfd::SignalFd::set_mask (nix 0.27.1 src/sys/signalfd.rs | @in the drop of nix::sys::signalfd::SignalFd
#[echown_test::test]
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
//~ fails | double-close: test `closes::x11rb_second_owner_by_safe_code` closed | twice | @closed first by close at x11rb-protocol 0.12.0 src/utils.rs
#[cfg(not(feature = "fixed"))]
#[echown_test::test]
fn x11rb_second_owner_by_safe_code() {
    use std::os::fd::AsRawFd;

    let file = std::fs::File::open("/etc/passwd").unwrap();
    drop(x11rb_protocol::RawFdContainer::new(file.as_raw_fd()));
    drop(file);
}

/// async-std 1.13.1, async-rs/async-std#730: `into_raw_fd` closes what it returns. No fixed version.
//~ fails | double-close: test `closes::async_std_closes_at_into_raw_fd` closed | twice | @IntoRawFd>::into_raw_fd (async-std 1.13.1 src/net/tcp/stream.rs
#[cfg(not(feature = "fixed"))]
#[echown_test::test]
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
//~ fails | double-close: test `closes::lang_tester_closes_stdin_twice` closed | twice | @opened by pipe2 at lang_tester 0.6.1 src/tester.rs:841 | @closed first by close at lang_tester 0.6.1 src/tester.rs:914 | @closed again by close at lang_tester 0.6.1 src/tester.rs:1018
#[echown_test::test]
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
//~ fails | closed-inherited: test `closes::nix_close_of_a_number` closed 1 descriptor | fd 1 | @nix::unistd::close (nix 0.30.1 src/unistd.rs
#[cfg(not(feature = "fixed"))]
#[echown_test::test]
fn nix_close_of_a_number() {
    nix_close::unistd::close(1).unwrap();
}

/// fork 0.3.1, immortal/fork#2: `close_fd` frees the numbers 0 to 2, and the next file gets one.
/// The fix is a second function.
//~ fails | closed-inherited: test `closes::fork_frees_the_standard_streams` closed 3 descriptors | @closed by close at fork 0.3.1 src/lib.rs
#[cfg(not(feature = "fixed"))]
#[echown_test::test]
fn fork_frees_the_standard_streams() {
    use std::os::fd::AsRawFd;

    fork::close_fd().unwrap();
    assert_eq!(std::fs::File::open("/etc/passwd").unwrap().as_raw_fd(), 0);
}
