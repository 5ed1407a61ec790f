//! Benchmark of the checker's cost in a server's round trip: 64 bytes read and written back.
//!
//! `cargo bench --bench roundtrip` compares in one run: a plain loop of the standard library, the
//! same with a locked map before every call, and checked streams at the three levels. They take
//! turns, and the order changes from turn to turn.
//!
//! `... -- count MODE N` does only N round trips in one thread, for callgrind to count; with mode
//! `life`, N times own, give to a task and release there. `benches/README.md` has commands, figures
//! and their limits.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use echown::net::{StdSocket, Stream};
use echown::ownership::{Level, Registry};

const MESSAGE_BYTES: usize = 64;

/// Other connections in the comparison's map.
const NEIGHBOURS: i32 = 1000;

/// Turns of each variant, and round trips per turn; short enough that a disturbance affects single
/// turns and not the median of all.
const TURNS: usize = 301;
const TRIPS: usize = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The standard library alone.
    Plain,
    /// The same, with a lookup of the owner in a locked map before every call.
    Map,
    /// Checked streams.
    Checked(Level),
}

const MODES: [Mode; 5] = [
    Mode::Plain,
    Mode::Map,
    Mode::Checked(Level::Off),
    Mode::Checked(Level::On),
    Mode::Checked(Level::Full),
];

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Plain => f.pad("plain"),
            Mode::Map => f.pad("map"),
            Mode::Checked(level) => f.pad(&level.to_string()),
        }
    }
}

/// Echoes one message: the server's part of a round trip.
type EchoOnce = Box<dyn FnMut() -> io::Result<()>>;

impl Mode {
    fn answers<S>(self, mut socket: S) -> EchoOnce
    where
        S: StdSocket<Stream> + Read + Write + AsRawFd + 'static,
    {
        let mut buffer = [0; MESSAGE_BYTES];
        match self {
            Mode::Plain => Box::new(move || {
                let bytes = socket.read(&mut buffer)?;
                socket.write_all(&buffer[..bytes])
            }),
            Mode::Map => {
                let number = socket.as_raw_fd();
                let owners = Owners::new(number);
                Box::new(move || {
                    owners.check(number)?;
                    let bytes = socket.read(&mut buffer)?;
                    owners.check(number)?;
                    socket.write_all(&buffer[..bytes])
                })
            }
            Mode::Checked(level) => {
                let registry = Registry::builder().level(level).build();
                let _entered = registry.enter();
                let owned = Stream::own(socket);
                let mut stream = owned.expect("a running task can own");
                Box::new(move || {
                    let bytes = stream.read(&mut buffer)?;
                    stream.write_all(&buffer[..bytes])
                })
            }
        }
    }
}

/// The comparison: the owner of each number, behind a lock, as in a program without this crate.
struct Owners(Mutex<HashMap<RawFd, thread::ThreadId>>);

impl Owners {
    fn new(number: RawFd) -> Owners {
        let me = thread::current().id();
        Owners(Mutex::new((0..NEIGHBOURS).chain([number]).map(|number| (number, me)).collect()))
    }

    fn check(&self, number: RawFd) -> io::Result<()> {
        let owners = self.0.lock().map_err(|_| io::Error::other("poisoned"))?;
        match owners.get(&number) {
            Some(owner) if *owner == thread::current().id() => Ok(()),
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("it listens");
    let (server, _) = listener.accept().expect("the client connects");
    for end in [&client, &server] {
        end.set_nodelay(true).expect("it is a TCP socket");
    }
    (server, client)
}

fn unix_pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("there are descriptors left")
}

/// A variant under measurement.
struct Variant {
    mode: Mode,
    turn: Box<dyn FnMut() -> Duration>,
    /// Nanoseconds per round trip, one for each turn.
    times: Vec<f64>,
}

/// Client and server in one thread: without waiting and switching, so that little but the calls is
/// measured.
fn in_one_thread<S>(mode: Mode, (server, mut client): (S, S), trips: usize) -> Variant
where
    S: StdSocket<Stream> + Read + Write + AsRawFd + 'static,
{
    let mut echo_once = mode.answers(server);
    let turn = move || {
        let mut message = [7; MESSAGE_BYTES];
        let begun = Instant::now();
        for _ in 0..trips {
            client.write_all(&message).expect("the server is there");
            echo_once().expect("the client is there");
            client.read_exact(&mut message).expect("it was answered");
        }
        begun.elapsed()
    };
    Variant { mode, turn: Box::new(turn), times: Vec::new() }
}

/// The client in its own thread, as in practice: both ends wait for each other.
fn in_two_threads<S>(mode: Mode, (server, mut client): (S, S), trips: usize) -> Variant
where
    S: StdSocket<Stream> + Read + Write + AsRawFd + Send + 'static,
{
    let mut echo_once = mode.answers(server);
    let (start, started) = std::sync::mpsc::sync_channel::<()>(0);
    thread::spawn(move || {
        let mut message = [7; MESSAGE_BYTES];
        while started.recv().is_ok() {
            for _ in 0..trips {
                client.write_all(&message).expect("the server is there");
                client.read_exact(&mut message).expect("it was answered");
            }
        }
    });
    let turn = move || {
        start.send(()).expect("the client is there");
        let begun = Instant::now();
        for _ in 0..trips {
            echo_once().expect("the client is there");
        }
        begun.elapsed()
    };
    Variant { mode, turn: Box::new(turn), times: Vec::new() }
}

fn compare(title: &str, mut variants: Vec<Variant>, turns: usize, trips: usize) {
    for turn in 0..turns {
        for step in 0..variants.len() {
            // The order changes, so that no variant always follows the slowest: steps of one to
            // four through five variants meet each one once.
            let count = variants.len();
            let variant = &mut variants[(turn + step * (1 + turn % (count - 1))) % count];
            let elapsed = (variant.turn)();
            variant.times.push(elapsed.as_nanos() as f64 / trips as f64);
        }
    }
    if turns < TURNS {
        return println!("{title}: works");
    }
    println!("\n{title}: {turns} turns of {trips} round trips each");
    println!("mode   ns, median (quartiles)      time / plain   time / off");
    for variant in &variants {
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&variant.times, share));
        // Compared per turn, so that a disturbance of the whole machine that is longer than a turn
        // cancels out.
        let against = |mode| {
            let rival =
                variants.iter().find(|variant| variant.mode == mode).expect("all modes run");
            let ratios: Vec<f64> = variant
                .times
                .iter()
                .zip(&rival.times)
                .map(|(mine, theirs)| mine / theirs)
                .collect();
            quantile(&ratios, 0.5)
        };
        println!(
            "{:<5} {median:>8.0} ({low:.0} to {high:.0}) {:>14.3} {:>12.3}",
            variant.mode,
            against(Mode::Plain),
            against(Mode::Checked(Level::Off)),
        );
    }
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Only round trips or lives of a value, for counting.
fn count(mode: &str, trips: &str) {
    let trips: usize = trips.parse().expect("a number of round trips");
    if mode == "life" {
        let registry = Registry::new();
        for _ in 0..trips {
            let value = registry.own(0u64).expect("a running task can own");
            let released = registry.run_inline("child", [value.resource()], || value.release());
            assert!(matches!(released, Ok(Ok(()))), "{released:?}");
        }
        return;
    }
    let known = MODES.into_iter().find(|known| known.to_string() == mode);
    let mode = known.unwrap_or_else(|| panic!("unknown mode `{mode}`"));
    (in_one_thread(mode, unix_pair(), trips).turn)();
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, mode, trips, ..] = &arguments[..]
        && word == "count"
    {
        return count(mode, trips);
    }
    // `cargo test --benches` only checks that it works.
    let is_measured = arguments.iter().any(|argument| argument == "--bench");
    let (turns, trips) = if is_measured { (TURNS, TRIPS) } else { (3, 10) };
    let variants = |variant: &dyn Fn(Mode) -> Variant| MODES.into_iter().map(variant).collect();
    compare(
        "TCP, one thread",
        variants(&|mode| in_one_thread(mode, tcp_pair(), trips)),
        turns,
        trips,
    );
    compare(
        "Unix, one thread",
        variants(&|mode| in_one_thread(mode, unix_pair(), trips)),
        turns,
        trips,
    );
    compare(
        "TCP, two threads",
        variants(&|mode| in_two_threads(mode, tcp_pair(), trips)),
        turns,
        trips,
    );
    compare(
        "Unix, two threads",
        variants(&|mode| in_two_threads(mode, unix_pair(), trips)),
        turns,
        trips,
    );
}
