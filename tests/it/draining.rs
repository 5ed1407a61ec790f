//! The drain ends within its timeout, whatever clients do during it.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use echown::echo::Handler;
use echown::net::{Address, Endpoint, Stream};
use echown::ownership::Registry;
use echown::server::{Control, ControlHandle, Server, ServerSettings, ServerSummary};
use rustix::process::Signal;

use super::server;
use crate::common::stall;

/// The address of a server, for clients that connect and disconnect.
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    fn visit(&self) {
        // The connect fails if the server has stopped listening.
        match self {
            Place::Tcp(address) => drop(TcpStream::connect(address)),
            Place::Unix(path) => drop(UnixStream::connect(path)),
        }
    }
}

/// A style that serves no client; for each rejected client another one connects.
#[derive(Default)]
struct Rush {
    at: OnceLock<(Place, ControlHandle)>,
    rejected: AtomicUsize,
    is_ordered: AtomicBool,
    refused_after: AtomicUsize,
}

impl Rush {
    /// Clients that are rejected before the drain starts.
    const BEFORE: usize = 100;
    /// The limit of a rush that would not end.
    const MOST: usize = 5_000;
}

impl Handler for Rush {
    fn name(&self) -> &'static str {
        "rush"
    }

    fn serve(&self, _: Stream) -> io::Result<()> {
        Ok(())
    }

    fn connection_refused(&self, _: &Address) {
        let (place, control) = self.at.get().expect("it is set before the server starts");
        if self.is_ordered.load(Ordering::SeqCst) {
            self.refused_after.fetch_add(1, Ordering::SeqCst);
        }
        let number = self.rejected.fetch_add(1, Ordering::SeqCst);
        if number < Rush::MOST {
            place.visit();
        }
        if number == Rush::BEFORE {
            control.send(Control::Drain);
            // The main task has to wake up and pass the drain on; acceptors keep accepting
            // meanwhile.
            stall(Duration::from_secs(1));
            self.is_ordered.store(true, Ordering::SeqCst);
        }
    }
}

/// Serves a rush. Returns how many clients were accepted after the drain started.
fn rush(endpoint: &str, acceptors: usize) -> usize {
    const BACKLOG: u32 = 64;
    let mut settings = ServerSettings::default();
    settings.max_connections = 0;
    settings.backlog = BACKLOG;
    settings.acceptors = NonZeroUsize::new(acceptors).unwrap();
    let endpoint: Endpoint = endpoint.parse().unwrap();
    let style = Arc::new(Rush::default());
    let shared: Arc<dyn Handler> = Arc::clone(&style) as _;
    let endpoints = std::slice::from_ref(&endpoint);
    let server = Server::bind(&Registry::new(), endpoints, settings, shared).unwrap();
    let place = match endpoint {
        Endpoint::Unix(path) => Place::Unix(path),
        _ => Place::Tcp(server.addresses().next().unwrap().parse().unwrap()),
    };
    (0..8).for_each(|_| place.visit());
    assert!(style.at.set((place, server.control())).is_ok());
    let summary = server.serve().expect("the drain starts");
    assert!(summary.refused as usize > Rush::BEFORE, "{summary}");
    style.refused_after.load(Ordering::SeqCst)
}

#[test]
fn the_drain_accepts_queued_clients_although_more_keep_arriving() {
    let path = std::env::temp_dir().join(format!("echown-{}-rush.sock", std::process::id()));
    let unix = format!("unix:{}", path.display());
    for (endpoint, acceptors) in
        [("127.0.0.1:0", 1), ("127.0.0.1:0", 3), ("[::1]:0", 1), (&*unix, 1), (&*unix, 3)]
    {
        let accepted = rush(endpoint, acceptors);
        assert!(accepted < 300, "{endpoint} with {acceptors}: {accepted} after the drain started");
    }
}

/// A style whose one client is blocked until it is disconnected, and which holds the acceptor when
/// the drain starts.
#[derive(Default)]
struct Held {
    control: OnceLock<ControlHandle>,
}

/// How long the acceptor is held, and how long the drain may take.
const HOLD: Duration = Duration::from_secs(2);

impl Handler for Held {
    fn name(&self) -> &'static str {
        "held"
    }

    fn serve(&self, mut stream: Stream) -> io::Result<()> {
        loop {
            stream.write_all(&[0; 1 << 16])?;
        }
    }

    fn connection_refused(&self, _: &Address) {
        self.control.get().expect("it is set before the server starts").send(Control::Drain);
        stall(HOLD);
    }
}

#[test]
fn the_drain_timeout_starts_at_the_signal() {
    let mut settings = ServerSettings::default();
    settings.max_connections = 1;
    settings.drain_timeout = HOLD;
    let style = Arc::new(Held::default());
    let shared: Arc<dyn Handler> = Arc::clone(&style) as _;
    let endpoint: Endpoint = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(&Registry::new(), &[endpoint], settings, shared).unwrap();
    let address: SocketAddr = server.addresses().next().unwrap().parse().unwrap();
    let _served = TcpStream::connect(address).unwrap();
    let _refused = TcpStream::connect(address).unwrap();
    style.control.set(server.control()).unwrap();
    let summary: ServerSummary = server.serve().unwrap();
    let most = u64::try_from((HOLD * 7 / 4).as_millis()).unwrap();
    assert!(summary.drain_ms < most, "{summary}");
    assert_eq!(summary.aborted, 1, "{summary}");
}

/// Styles with a client's request and a beginning of one.
const STYLES: [(&str, &[u8], &[u8]); 4] = [
    ("echo", b"abc", b"abc"),
    ("staged", b"abc\n", b"abc"),
    ("broadcast", b"\0\0\0\0\0\0\0\x03abc", b"\0\0\0\0\0\0\0\x09abc"),
    ("callback", b"abc", b"abc"),
];

/// The duration of a drain with idle clients of every kind.
fn drain_duration(style: &str, request: &[u8], half: &[u8]) -> Duration {
    let path = format!("echown-{}-{style}.sock", std::process::id());
    let path = std::env::temp_dir().join(path);
    let unix = format!("unix:{}", path.display());
    let summary = path.with_extension("json");
    let mut command = server::serve(
        &["127.0.0.1:0", &unix],
        &["--style", style, "--acceptors", "2", "--drain-timeout", "20s", "--summary"],
    );
    let mut server = server::Server::run(command.arg(&summary), 1);
    server.wait_for("its socket", |_| path.exists());
    let idle = |client: &mut dyn Write, part: usize| {
        match part {
            0 => Ok(()),
            1 => client.write_all(half),
            2 => client.write_all(&half[..1]),
            3 => client.write_all(&[request, half].concat()),
            _ => client.write_all(request),
        }
        .expect("the server takes a few bytes");
    };
    // None of them ever reads.
    let mut over_tcp: Vec<TcpStream> = (0..6).map(|_| server.connect()).collect();
    over_tcp.iter_mut().enumerate().for_each(|(part, client)| idle(client, part));
    over_tcp[5].shutdown(Shutdown::Write).unwrap();
    let mut over_unix: Vec<UnixStream> =
        (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
    over_unix.iter_mut().enumerate().for_each(|(part, client)| idle(client, part));
    // A client is idle once it has been silent for a second: the rest of a frame could be on its
    // way.
    stall(Duration::from_millis(1_100));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let text = std::fs::read_to_string(&summary).unwrap();
    std::fs::remove_file(&summary).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(numbers["aborted"], 0, "{style}: {text}");
    Duration::from_millis(numbers["drain_ms"].as_u64().unwrap())
}

#[test]
fn idle_clients_do_not_delay_the_drain_in_any_style() {
    /// A style that waited for a silent client would take a second or more.
    const MOST: Duration = Duration::from_millis(900);
    for (style, request, half) in STYLES {
        // On a loaded machine one drain may take longer.
        let drains: Vec<Duration> = (0..5)
            .scan(false, |is_over, _| {
                let drain = (!*is_over).then(|| drain_duration(style, request, half))?;
                *is_over = drain < MOST;
                Some(drain)
            })
            .collect();
        assert!(drains.iter().any(|drain| *drain < MOST), "{style}: {drains:?}");
    }
}

#[test]
fn a_blocked_client_is_disconnected_at_the_deadline_in_every_style() {
    type Client = fn(&server::Server) -> TcpStream;
    let never_reads: [(&str, Client); 3] = [
        ("echo", server::never_reads),
        ("staged", super::staged::never_reads),
        ("callback", server::never_reads),
    ];
    for (style, never_reads) in never_reads {
        let arguments = ["--style", style, "--drain-timeout", "500ms", "--write-timeout", "1h"];
        let mut server = server::Server::start(&arguments);
        let _greedy = never_reads(&server);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{style}: {:#?}", server.seen);
        assert_eq!(server::summary(&server.seen, "aborted"), 1, "{style}");
    }
}
