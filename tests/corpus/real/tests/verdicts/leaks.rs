//! Descriptors that a crate never closes.

use std::fs;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;

/// A path that is longer than the address of a Unix socket.
fn long_path() -> PathBuf {
    PathBuf::from("/tmp/".to_owned() + &"x".repeat(200))
}

/// ureq 2.6.1, algesten/ureq#582: the pool and the agent own each other.
//~ fails | leak: test `leaks::ureq_keeps_the_connection` left 1 descriptor open | tcp stream | @ureq 2.6.1 src/
#[echown_test::test]
fn ureq_keeps_the_connection() {
    let (address, server) = real::http_server();
    let body = ureq::get(&format!("http://{address}/")).call().unwrap().into_string().unwrap();
    assert_eq!(body, "ok");
    server.join().unwrap();
}

/// inotify 0.8.1, hannobraun/inotify-rs#140: the flag that closes at drop is never set.
//~ fails | leak: test `leaks::inotify_is_not_closed_at_drop` left 1 descriptor open | inotify | @inotify 0.8.1 src/inotify.rs
#[echown_test::test]
fn inotify_is_not_closed_at_drop() {
    drop(inotify::Inotify::init().unwrap());
}

/// mio 0.8.5, tokio-rs/mio#1636: the socket exists before the path is checked.
//~ fails | leak: test `leaks::mio_listener_with_a_bad_path` left 1 descriptor open | unix stream | @mio 0.8.5 src/
#[echown_test::test]
fn mio_listener_with_a_bad_path() {
    assert!(mio::net::UnixListener::bind(long_path()).is_err());
}

/// The same bug of mio on the side of the client.
//~ fails | leak: test `leaks::mio_stream_with_a_bad_path` left 1 descriptor open | unix stream | @mio 0.8.5 src/
#[echown_test::test]
fn mio_stream_with_a_bad_path() {
    assert!(mio::net::UnixStream::connect(long_path()).is_err());
}

/// nix 0.19.1, nix-rust/nix c33fa749: `TimerFd` has no drop.
//~ fails | leak: test `leaks::nix_timerfd_has_no_drop` left 1 descriptor open | timerfd | @nix 0.19.1
#[echown_test::test]
fn nix_timerfd_has_no_drop() {
    use nix_timerfd::sys::timerfd::{ClockId, TimerFd, TimerFlags};

    let _timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty()).unwrap();
}

/// unix-ipc 0.2.0, mitsuhiko/unix-ipc#3: what a message carries is duplicated and forgotten.
//~ fails | leak: test `leaks::unix_ipc_forgets_what_it_sent` left 1 descriptor open | unix stream | @unix-ipc 0.2.0 src/
#[echown_test::test]
fn unix_ipc_forgets_what_it_sent() {
    let (sender, receiver) = unix_ipc::channel::<unix_ipc::Receiver<u8>>().unwrap();
    let (_inner_sender, inner_receiver) = unix_ipc::channel::<u8>().unwrap();
    sender.send(inner_receiver).unwrap();
    drop(receiver.recv().unwrap());
}

/// vsock 0.1.0, rust-vsock/vsock-rs#1: no type has a drop.
//~ fails | leak: test `leaks::vsock_listener_has_no_drop` left 1 descriptor open | vsock | @vsock 0.1.0 src/lib.rs
#[echown_test::test]
fn vsock_listener_has_no_drop() {
    use nix_vsock::sys::socket::SockAddr;

    // Any address and any free port.
    let address = SockAddr::new_vsock(libc::VMADDR_CID_ANY, libc::VMADDR_PORT_ANY);
    drop(vsock::VsockListener::bind(&address).unwrap());
}

/// actix-server 2.9.1, actix/actix-web#3765: a running server that is dropped leaves its thread, which
/// holds the listener.
//~ fails | leak: test `leaks::actix_server_dropped_while_it_runs` left | tcp listener | @actix-server 2.9.1 src/socket.rs
#[echown_test::test]
fn actix_server_dropped_while_it_runs() {
    use actix_service::fn_service;

    actix_rt::System::new().block_on(async {
        let server = actix_server::Server::build().workers(1).disable_signals();
        let service = || fn_service(|_: actix_rt::net::TcpStream| async { Ok::<_, ()>(()) });
        let mut server = pin!(server.bind("none", "127.0.0.1:0", service).unwrap().run());
        // One poll starts it.
        poll_fn(|context| {
            assert!(server.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    });
}

/// Nothing of the test itself counts as a leak.
//~ passes
#[echown_test::test]
fn a_file_that_is_closed() {
    drop(fs::File::open("/etc/passwd").unwrap());
}
