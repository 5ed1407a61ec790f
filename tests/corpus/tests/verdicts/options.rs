//! Options of the attribute.

use std::fs::File;
use std::mem::forget;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

//~ passes | ignored: file fd | : it is here for the example
#[echown::test(ignore_path = "/etc/passwd", because = "it is here for the example")]
fn a_path_ignored() {
    forget(File::open("/etc/passwd"));
}

//~ fails | left 1 descriptor open | /etc/hostname
#[echown::test(ignore_path = "/etc/passwd", because = "it is here for the example")]
fn a_path_ignored_and_another_one_not() {
    forget(File::open("/etc/passwd"));
    forget(File::open("/etc/hostname"));
}

//~ passes | ignored: udp socket fd | : sockets are not its business
#[echown::test(ignore_kind = "socket", because = "sockets are not its business")]
fn a_kind_ignored() {
    forget(UdpSocket::bind("127.0.0.1:0"));
}

//~ fails | left 1 descriptor open | tcp listener fd
#[echown::test(ignore_kind = "udp socket", because = "it is here for the example", settle_ms = 10)]
fn a_kind_ignored_and_another_one_not() {
    forget(TcpListener::bind("127.0.0.1:0"));
}

//~ passes | 2 leaks, as expected: issue 12
#[echown::test(expect_leaks = 2, because = "issue 12")]
fn leaks_that_are_expected() {
    forget(File::open("/etc/passwd"));
    forget(File::open("/etc/hostname"));
}

//~ fails | leak-count: test | left 1 descriptor open, expected 2 (issue 12) | /etc/passwd
#[echown::test(expect_leaks = 2, because = "issue 12")]
fn fewer_leaks_than_expected() {
    forget(File::open("/etc/passwd"));
}

//~ fails | leak-count: test | left 0 descriptors open, expected 1 (issue 12)
#[echown::test(expect_leaks = 1, because = "issue 12")]
fn no_leak_although_one_is_expected() {}

//~ fails | leak-count: test | left 1 descriptor open and still owned 1 resource, expected 1 (issue 12) | file fd | still owned tcp listener fd
#[echown::test(expect_leaks = 1, because = "issue 12")]
fn a_leak_closed_by_a_registry_is_counted() {
    forget(File::open("/etc/passwd"));
    forget(echown::net::Listener::bind("127.0.0.1:0"));
}

//~ passes | 1 leak, as expected: issue 12
#[echown::test(expect_leaks = 1, because = "issue 12")]
fn a_leak_closed_by_a_registry_is_expected() {
    forget(echown::net::Listener::bind("127.0.0.1:0"));
}

//~ passes | ignored: tcp listener fd | : it is here for the example
#[echown::test(ignore_kind = "tcp listener", because = "it is here for the example")]
fn a_leak_closed_by_a_registry_is_ignored_by_kind() {
    forget(echown::net::Listener::bind("127.0.0.1:0"));
}

//~ passes | ignored: tcp listener fd | : it is here for the example
#[echown::test(ignore_path = "127.0.0.1:", because = "it is here for the example")]
fn a_leak_closed_by_a_registry_is_ignored_by_address() {
    forget(echown::net::Listener::bind("127.0.0.1:0"));
}

//~ passes | ignored: fd 2 was closed, and now is file fd 2, | : it writes a log there
#[echown::test(allow_close_inherited, because = "it writes a log there")]
fn a_redirection_to_a_new_file_ignored() {
    let path = std::env::temp_dir().join(format!("downstream-{}.err", std::process::id()));
    let file = File::create(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    unsafe { libc::dup2(file.as_raw_fd(), 2) };
}

//~ passes | ignored: fd 0 was closed: it makes itself a daemon
#[echown::test(allow_close_inherited, because = "it makes itself a daemon")]
fn a_close_ignored() {
    unsafe { libc::close(0) };
}

fn closes_after(seconds: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closes = move || {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        drop(listener);
    };
    std::thread::Builder::new().name("closes late".to_owned()).spawn(closes).unwrap();
}

//~ fails | left 1 descriptor open | tcp listener fd
#[echown::test(settle_ms = 20)]
fn a_thread_that_never_closes_in_time() {
    closes_after(60);
}

//~ passes | tcp listener fd | after the settle time | @by thread `closes late`; join the thread, or set `settle_ms`
#[echown::test(settle_ms = 20)]
fn a_thread_that_exceeds_the_settle_time() {
    closes_after(6);
}

//~ passes | @opened under
#[echown::test(no_rerun)]
fn a_lazy_static_with_no_rerun() {
    downstream::clean::lazy_static();
}

//~ fails | hang: test | did not return within 2s | tcp listener fd | 127.0.0.1: | @note: thread `options::a_test` is in accept4(fd  | it had started a program, which was killed too: `sleep`
#[echown::test(timeout_ms = 2000)]
fn a_test_that_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std::process::Command::new("sleep").arg("300").spawn().unwrap();
    let _ = listener.accept();
}

//~ passes
#[echown::test(timeout_ms = 18_446_744_073_709_551_615, settle_ms = 18_446_744_073_709_551_615)]
fn timeouts_of_maximum_length() {}

// A test that leaves known descriptors open runs these two.
//~ ignored
#[echown::test(report_inherited)]
#[ignore]
fn inherited() {}

//~ ignored
#[echown::test(report_inherited, ignore_path = "/etc/passwd", because = "for the example")]
#[ignore]
fn inherited_except_for_a_path() {}
