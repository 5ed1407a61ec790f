//! Clients that reset, close with unread data, or half-close: no frame is lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use super::super::server::{Server, TcpEnd, pattern, summary};
use super::{
    enter, enter_all, frame, hear, is_closed_by_server, say, start, total, try_hear,
    with_a_small_receive_buffer,
};

#[test]
fn a_reset_of_one_client_disconnects_no_other_and_loses_no_frame() {
    let server = start(&[]);
    let mut innocent = enter_all(&server, 3);
    for round in 0..50_u32 {
        let victims: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
        for victim in victims {
            rustix::net::sockopt::set_socket_linger(&victim, Some(Duration::ZERO)).unwrap();
        }
        say(&mut innocent[0], &round.to_be_bytes());
        for client in &mut innocent {
            assert_eq!(hear(client), round.to_be_bytes());
        }
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert_eq!(summary(&lines, "panics"), 0, "{lines:#?}");
}

/// Frames that a client sends before it closes. Together they fit into an initial receive window,
/// and are more than the server reads at a time.
const LAST_FRAMES: u32 = 1000;

fn last_frame(n: u32) -> Vec<u8> {
    [&n.to_be_bytes()[..], &[b'.'; 40]].concat()
}

fn final_frames() -> Vec<u8> {
    (0..LAST_FRAMES).flat_map(|n| frame(&last_frame(n))).collect()
}

/// A client that sent its last frames and closed with unread data, which resets the connection,
/// while the server was stopped. When the server continues, every frame and the reset have arrived.
fn sends_and_resets(server: &Server, listener: &mut TcpStream) {
    let mut slammer = enter(server);
    while !hear(listener).starts_with(b"entering") {}
    say(listener, b"this is not read");
    assert_eq!(hear(listener), b"this is not read");
    let ends = (slammer.local_addr().unwrap(), slammer.peer_addr().unwrap());
    // The kernel's table may miss a row while other rows change.
    let end = || TcpEnd::find(ends.0, ends.1);
    server.wait_for("it to be there", |_| end().is_some_and(|end| end.unread > 0));
    server.hold();
    slammer.write_all(&final_frames()).unwrap();
    server.wait_for("all to arrive", |_| end().is_some_and(|end| end.unsent == 0));
}

#[test]
fn frames_sent_before_a_close_with_unread_data_reach_all_others() {
    let mut server = start(&[]);
    let mut listener = enter(&server);
    for round in 0..10 {
        sends_and_resets(&server, &mut listener);
        server.signal(Signal::CONT);
        for n in 0..LAST_FRAMES {
            assert_eq!(hear(&mut listener), last_frame(n), "round {round}");
        }
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(total(&server.seen, "disconnected"), 0);
    assert_eq!(summary(&server.seen, "errors"), 10, "{:#?}", server.seen);
}

#[test]
fn frames_sent_before_a_close_with_unread_data_reach_all_others_in_a_drain() {
    for round in 0..5 {
        let mut server = start(&[]);
        let mut listener = enter(&server);
        sends_and_resets(&server, &mut listener);
        server.signal(Signal::TERM);
        server.signal(Signal::CONT);
        for n in 0..LAST_FRAMES {
            let heard = try_hear(&mut listener);
            assert_eq!(heard.expect("not end of stream yet"), last_frame(n), "round {round}");
        }
        assert!(is_closed_by_server(&mut listener));
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn frames_sent_before_a_unix_socket_closes_with_unread_data_reach_all_others() {
    use std::os::unix::net::UnixStream;
    let path = std::env::temp_dir().join(format!("echown-{}-slam.sock", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let mut server = start(&["--listen", &unix]);
    server.wait_for_line("listening on unix:");
    let mut listener = enter(&server);
    for round in 0..10 {
        let mut slammer = UnixStream::connect(&path).unwrap();
        slammer.write_all(&frame(b"I am in, and do not read that")).unwrap();
        assert!(hear(&mut listener).starts_with(b"I am in"));
        server.hold();
        slammer.write_all(&final_frames()).unwrap();
        drop(slammer);
        server.signal(Signal::CONT);
        for n in 0..LAST_FRAMES {
            assert_eq!(hear(&mut listener), last_frame(n), "round {round}");
        }
    }
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_half_closed_client_gets_what_was_sent_to_it_before_and_then_the_end() {
    let server = start(&["--max-send-queue", "64MiB"]);
    let mut listener = with_a_small_receive_buffer(&server);
    say(&mut listener, b"I am in");
    hear(&mut listener);
    let mut talker = enter(&server);
    hear(&mut listener);
    let payload = pattern(1024 * 1024);
    for _ in 0..16 {
        say(&mut talker, &payload);
        assert!(hear(&mut talker) == payload);
    }
    listener.shutdown(Shutdown::Write).unwrap();
    for n in 0..16 {
        assert!(hear(&mut listener) == payload, "frame {n}");
    }
    let mut rest = Vec::new();
    listener.read_to_end(&mut rest).expect("FIN, not a reset");
    assert!(rest.is_empty());
    say(&mut talker, b"goes on");
    assert_eq!(hear(&mut talker), b"goes on");
}
