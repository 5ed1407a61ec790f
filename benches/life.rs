//! Benchmark of own, give and release of a socket, compared with opening and closing it.
//!
//! `cargo bench --bench life`. The variants take turns, and a difference is the median over the
//! turns, so that a disturbance that lasts longer than a turn cancels out. Everything runs on one
//! thread. A message over loopback is included as a yardstick, because the cost of system calls
//! differs more between machines than the cost of the checker.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use echown::net::Stream;
use echown::ownership::{Level, Registry};
use rustix::net::{AddressFamily, SocketType, socket, sockopt::socket_cookie};

/// Turns of each variant, and lives per turn.
const TURNS: usize = 301;
const LIVES: usize = 200;

/// A variant under measurement.
struct Variant {
    name: &'static str,
    live: Box<dyn FnMut()>,
    /// Nanoseconds per life, one for each turn.
    times: Vec<f64>,
}

fn variant(name: &'static str, live: impl FnMut() + 'static) -> Variant {
    Variant { name, live: Box::new(live), times: Vec::new() }
}

fn at(level: Level) -> Registry {
    Registry::builder().level(level).build()
}

fn new_socket() -> OwnedFd {
    socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("there are descriptors left")
}

fn owned(registry: &Registry) -> Stream {
    let _entered = registry.enter();
    let socket = UnixStream::from(black_box(new_socket()));
    Stream::own(socket).expect("a running task can own")
}

/// The life of an accepted connection: owned, given to a task, released there.
fn given(level: Level) -> impl FnMut() {
    let registry = at(level);
    move || {
        let stream = owned(&registry);
        let released = registry.run_inline("child", [stream.resource()], || stream.release());
        assert!(matches!(released, Ok(Ok(()))), "{released:?}");
    }
}

/// 64 bytes sent by TCP and received: half of the system calls of an echo.
fn message() -> impl FnMut() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let mut one =
        TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (mut other, _) = listener.accept().expect("a client waits");
    one.set_nodelay(true).expect("it is a TCP socket");
    let mut bytes = [7; 64];
    move || {
        one.write_all(&bytes).expect("it is connected");
        other.read_exact(&mut bytes).expect("the bytes were sent");
    }
}

fn variants() -> Vec<Variant> {
    let (alone, on, value) = (at(Level::On), at(Level::On), at(Level::On));
    vec![
        variant("open, close", || drop(black_box(new_socket()))),
        variant("open, ask twice who it is, close", || {
            let socket = new_socket();
            let asked = || socket_cookie(black_box(&socket)).expect("it is a socket");
            assert_eq!(asked(), asked());
        }),
        variant("open, own, release", move || owned(&on).release().expect("it is ours")),
        variant("open, own, give, release: off", given(Level::Off)),
        variant("open, own, give, release: on", given(Level::On)),
        variant("a task alone", move || {
            alone.run_inline("child", [], || black_box(7)).expect("it is let run");
        }),
        variant("a value: own, give, release", move || {
            let owned = value.own(black_box(7)).expect("a running task can own");
            let released = value.run_inline("child", [owned.resource()], || owned.release());
            assert!(matches!(released, Ok(Ok(()))), "{released:?}");
        }),
        variant("a message: send, receive", message()),
    ]
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn main() {
    // `cargo test --benches` only checks that it works.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let (turns, lives) = if is_measured { (TURNS, LIVES) } else { (3, 10) };
    let mut variants = variants();
    for turn in 0..turns {
        for step in 0..variants.len() {
            // Rotate the order, so that no variant always follows the same one.
            let count = variants.len();
            let variant = &mut variants[if turn % 2 == 0 { step } else { count - 1 - step }];
            let begun = Instant::now();
            (0..lives).for_each(|_| (variant.live)());
            variant.times.push(begun.elapsed().as_nanos() as f64 / lives as f64);
        }
    }
    println!("{turns} turns of {lives} lives each");
    println!("{:<34} {:<28} more than opened and closed", "", "ns, median (quartiles)");
    let plain = variants[0].times.clone();
    for Variant { name, times, .. } in &variants {
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(times, share));
        let more: Vec<f64> = times.iter().zip(&plain).map(|(mine, theirs)| mine - theirs).collect();
        let quartiles = format!("{median:.0} ({low:.0} to {high:.0})");
        print!("{name:<34} {quartiles:<28}");
        if name.starts_with("open, ") {
            println!(" {:.0}", quantile(&more, 0.5))
        } else {
            println!()
        }
    }
}
