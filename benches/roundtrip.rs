//! Benchmark of the checker's cost in a server's round trip: 64 bytes read and written back.
//!
//! `cargo bench --bench roundtrip` compares in one run: a plain loop of the standard library, the
//! same with a locked map in front of every call, and checked streams at the three levels. They
//! take turns, and the order changes from turn to turn.
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

use echown::net::{StdStream, Stream};
use echown::ownership::{Level, Registry};

const MESSAGE_BYTES: usize = 64;

/// Connections that the rival's map knows of besides.
const NEIGHBOURS: i32 = 1000;

/// Turns that each way gets, and round trips in each of them; short enough that a disturbance
/// spoils single turns and not the median of all.
const TURNS: usize = 301;
const TRIPS: usize = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The standard library alone.
    Plain,
    /// The same, with a locked map asked for the owner in front of every call.
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

/// Answers one message: the server's part of a round trip.
type Answer = Box<dyn FnMut() -> io::Result<()>>;

impl Mode {
    fn answers<S>(self, mut socket: S) -> Answer
    where
        S: StdStream + Read + Write + AsRawFd + 'static,
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
                let owned = Stream::own_in(&registry, socket);
                let mut stream = owned.expect("a running task can own");
                Box::new(move || {
                    let bytes = stream.read(&mut buffer)?;
                    stream.write_all(&buffer[..bytes])
                })
            }
        }
    }
}

/// The rival: who owns which number, behind a lock, as a program without this crate would have it.
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

/// One way of answering, ready to take its turns.
struct Lane {
    mode: Mode,
    turn: Box<dyn FnMut() -> Duration>,
    /// Nanoseconds per round trip, one for each turn.
    times: Vec<f64>,
}

/// Client and server in one thread: no waiting and no switching, so that little but the calls
/// themselves is measured.
fn in_one_thread<S>(mode: Mode, (server, mut client): (S, S), trips: usize) -> Lane
where
    S: StdStream + Read + Write + AsRawFd + 'static,
{
    let mut answer = mode.answers(server);
    let turn = move || {
        let mut message = [7; MESSAGE_BYTES];
        let begun = Instant::now();
        for _ in 0..trips {
            client.write_all(&message).expect("the server is there");
            answer().expect("the client is there");
            client.read_exact(&mut message).expect("it was answered");
        }
        begun.elapsed()
    };
    Lane { mode, turn: Box::new(turn), times: Vec::new() }
}

/// The client in a thread of its own, as a client is: both ends wait for each other.
fn in_two_threads<S>(mode: Mode, (server, mut client): (S, S), trips: usize) -> Lane
where
    S: StdStream + Read + Write + AsRawFd + Send + 'static,
{
    let mut answer = mode.answers(server);
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
            answer().expect("the client is there");
        }
        begun.elapsed()
    };
    Lane { mode, turn: Box::new(turn), times: Vec::new() }
}

fn compare(title: &str, mut lanes: Vec<Lane>, turns: usize, trips: usize) {
    for turn in 0..turns {
        for step in 0..lanes.len() {
            // Who comes after whom changes, so that nobody always follows the slowest: steps of
            // one to four through five lanes meet each lane once.
            let count = lanes.len();
            let lane = &mut lanes[(turn + step * (1 + turn % (count - 1))) % count];
            let elapsed = (lane.turn)();
            lane.times.push(elapsed.as_nanos() as f64 / trips as f64);
        }
    }
    if turns < TURNS {
        return println!("{title}: works");
    }
    println!("\n{title}: {turns} turns of {trips} round trips each");
    println!("mode   ns, median (quartiles)      time / plain   time / off");
    for lane in &lanes {
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&lane.times, share));
        // Turn by turn: what disturbs the whole machine for longer than a turn falls out.
        let against = |mode| {
            let rival = lanes.iter().find(|lane| lane.mode == mode).expect("all modes run");
            let ratios: Vec<f64> =
                lane.times.iter().zip(&rival.times).map(|(mine, theirs)| mine / theirs).collect();
            quantile(&ratios, 0.5)
        };
        println!(
            "{:<5} {median:>8.0} ({low:.0} to {high:.0}) {:>14.3} {:>12.3}",
            lane.mode,
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

/// Round trips, or lives of a value, and nothing else.
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
    // `cargo test --benches` only wants to know whether it works.
    let is_measured = arguments.iter().any(|argument| argument == "--bench");
    let (turns, trips) = if is_measured { (TURNS, TRIPS) } else { (3, 10) };
    let lanes = |lane: &dyn Fn(Mode) -> Lane| MODES.into_iter().map(lane).collect();
    compare("TCP, one thread", lanes(&|mode| in_one_thread(mode, tcp_pair(), trips)), turns, trips);
    compare(
        "Unix, one thread",
        lanes(&|mode| in_one_thread(mode, unix_pair(), trips)),
        turns,
        trips,
    );
    compare(
        "TCP, two threads",
        lanes(&|mode| in_two_threads(mode, tcp_pair(), trips)),
        turns,
        trips,
    );
    compare(
        "Unix, two threads",
        lanes(&|mode| in_two_threads(mode, unix_pair(), trips)),
        turns,
        trips,
    );
}
