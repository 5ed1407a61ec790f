//! System calls that fail on purpose (`--faults`): every echoed byte is correct, no client mistakes
//! a partial echo for a complete one, nothing leaks, and the server continues.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;

use rustix::process::Signal;
use serde_json::Value;

use super::server::{DEADLINE, Server, echown, pattern};
use crate::common::wait_until;

/// How an exchange ended, for the client. The bytes that came back before were correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Went {
    /// All of it came back, and then end of stream.
    Whole,
    /// End of stream came first: the client was not served.
    Refused,
    /// End of stream came after a part.
    Torn,
    /// The connection was reset.
    Reset,
}

/// Sends all of it in parts, and reads at the same time. Panics if a wrong byte comes back.
fn exchange(address: SocketAddr, sent: &[u8]) -> Went {
    let Ok(client) = TcpStream::connect(address) else { return Went::Reset };
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut back = Vec::new();
    let (ended, is_written) = std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            let written = sent.chunks(PIECE).try_for_each(|piece| (&client).write_all(piece));
            written.and_then(|()| client.shutdown(Shutdown::Write)).is_ok()
        });
        let ended = (&client).read_to_end(&mut back);
        (ended, writer.join().unwrap())
    });
    assert!(back.len() <= sent.len() && back == sent[..back.len()], "a byte that was not sent");
    match ended {
        Ok(_) if back.len() == sent.len() => Went::Whole,
        // A reset is reported once, to the first caller.
        Ok(_) if !is_written => Went::Reset,
        Ok(_) if back.is_empty() => Went::Refused,
        Ok(_) => Went::Torn,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Went::Reset,
        Err(error) => panic!("after {} of {} bytes: {error}", back.len(), sent.len()),
    }
}

/// The size of a part: complete lines, for the style that replies to lines.
const PIECE: usize = 1500;

/// Sends each part after the echo of the one before, on one thread, so that end of stream and a
/// reset are distinguished.
fn exchange_by_turns(address: SocketAddr, sent: &[u8]) -> Went {
    let Ok(mut client) = TcpStream::connect(address) else { return Went::Reset };
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut done = 0;
    for piece in sent.chunks(PIECE) {
        if client.write_all(piece).is_err() {
            return Went::Reset;
        }
        let mut back = vec![0; piece.len()];
        let mut filled = 0;
        while filled < piece.len() {
            match client.read(&mut back[filled..]) {
                Ok(0) if done + filled == 0 => return Went::Refused,
                Ok(0) => return Went::Torn,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Went::Reset,
                Err(error) => panic!("after {} bytes: {error}", done + filled),
            }
            assert_eq!(back[..filled], piece[..filled], "a byte that was not sent");
        }
        done += filled;
    }
    // The echo is complete: how the connection ends now does not matter.
    Went::Whole
}

/// Bytes as lines, for the style that replies only to lines.
fn lines(bytes: &[u8]) -> Vec<u8> {
    let newline_at = |index: usize| index % 100 == 99 || index + 1 == bytes.len();
    let byte = |(index, &byte): (usize, &u8)| match byte {
        _ if newline_at(index) => b'\n',
        b'\n' => b'.',
        other => other,
    };
    bytes.iter().enumerate().map(byte).collect()
}

/// Bytes as frames, for the style that replies only to frames.
fn frames(bytes: &[u8]) -> Vec<u8> {
    let frame = |payload: &[u8]| [&(payload.len() as u64).to_be_bytes()[..], payload].concat();
    bytes.chunks(1000).flat_map(frame).collect()
}

/// A server whose system calls fail.
struct Sabotaged {
    server: Server,
    before: Vec<(i32, String)>,
    summary: PathBuf,
    reports: PathBuf,
}

/// Its results.
struct Left {
    summary: Value,
    reports: Vec<Value>,
    log: String,
}

impl Sabotaged {
    /// Waits until the server has no more open than without clients.
    fn wait_until_idle(&self) {
        self.server.wait_for_descriptors(|open| open.len() == self.before.len());
    }

    fn start(name: &str, plan: &str, further: &[&str]) -> Sabotaged {
        let file = |what: &str| {
            let file = format!("echown-faults-{}-{name}-{what}.json", std::process::id());
            std::env::temp_dir().join(file)
        };
        let (summary, reports) = (file("summary"), file("reports"));
        let _ = std::fs::remove_file(&reports);
        let mut arguments = vec!["--faults", plan, "--faults-seed", "1", "--log-level", "debug"];
        arguments.extend(["--summary", summary.to_str().unwrap()]);
        arguments.extend(["--report", "json", "--report-file", reports.to_str().unwrap()]);
        arguments.extend(further);
        let server = Server::start(&arguments);
        let before = server.open_descriptors();
        Sabotaged { server, before, summary, reports }
    }

    /// Makes `clients` exchanges, eight at a time. Returns the number of each outcome.
    fn meet(&self, clients: usize, sent: &[u8]) -> BTreeMap<Went, u64> {
        self.meet_by(exchange, clients, sent)
    }

    fn meet_by(
        &self,
        exchange: fn(SocketAddr, &[u8]) -> Went,
        clients: usize,
        sent: &[u8],
    ) -> BTreeMap<Went, u64> {
        let (tally, address) = (Mutex::new(BTreeMap::new()), self.server.address());
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for _ in 0..clients / 8 {
                        let went = exchange(address, sent);
                        *tally.lock().unwrap().entry(went).or_default() += 1;
                    }
                });
            }
        });
        tally.into_inner().unwrap()
    }

    /// Asserts that only the descriptors of the start are open, that the server drains, and that
    /// its exit code is 0.
    fn stop(mut self) -> Left {
        let before = std::mem::take(&mut self.before);
        let numbers = |open: &[(i32, String)]| open.iter().map(|(number, _)| *number).collect();
        let as_before: Vec<i32> = numbers(&before);
        // By number: the reserve descriptor was released and opened again.
        self.server.wait_for_descriptors(|open| numbers(open) == as_before);
        self.server.signal(Signal::TERM);
        let code = self.server.wait().code();
        let log = self.server.seen.join("\n");
        assert_eq!(code, Some(0), "{log}");
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("the file was written");
        let json = |text: &str| serde_json::from_str(text).expect("the document is JSON");
        let summary: Value = json(&read(&self.summary));
        let reports = read(&self.reports).lines().map(json).collect();
        assert_eq!(summary["open_resources"], 0, "{summary}");
        assert_eq!(summary["leaks"], 0, "{summary}");
        assert_eq!(summary["replaced"], 0, "{summary}");
        assert_eq!(summary["panics"], 0, "{summary}");
        assert_eq!(summary["stuck"], Value::Array(Vec::new()), "{summary}");
        Left { summary, reports, log }
    }
}

impl Drop for Sabotaged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.summary);
        let _ = std::fs::remove_file(&self.reports);
    }
}

impl Left {
    fn struck(&self, kind: &str) -> u64 {
        self.summary["syscall_faults"][kind].as_u64().expect("a number for each kind")
    }

    fn count(&self, what: &str) -> u64 {
        self.summary[what].as_u64().expect("a number")
    }
}

/// Encodes bytes as requests of a style.
type Prepare = fn(&[u8]) -> Vec<u8>;

/// The styles, and the plain echo with parked connections.
const STYLES: [(&str, Prepare); 5] = [
    ("echo", <[u8]>::to_vec),
    ("parked", <[u8]>::to_vec),
    ("callback", <[u8]>::to_vec),
    ("staged", lines),
    ("broadcast", frames),
];

/// A style with places for all clients: some have few by default.
fn roomy(style: &str) -> Vec<&str> {
    let chosen = if style == "parked" { vec!["--park"] } else { vec!["--style", style] };
    [chosen, vec!["--max-connections", "64"]].concat()
}

#[test]
fn recoverable_faults_lose_no_bytes_and_no_connection_in_any_style() {
    for (style, prepare) in STYLES {
        let plan = "interrupt=0.2,short=0.2,again=0.2";
        let name = format!("mild-{style}");
        let sabotaged = Sabotaged::start(&name, plan, &roomy(style));
        // A client of a chat receives the frames of the others: one at a time.
        let clients = if style == "broadcast" { 1 } else { 64 };
        let sent = prepare(&pattern(50_000));
        for _ in 0..64 / clients {
            let tally = if clients == 1 {
                BTreeMap::from([(exchange(sabotaged.server.address(), &sent), 1)])
            } else {
                sabotaged.meet(clients, &sent)
            };
            assert_eq!(tally, BTreeMap::from([(Went::Whole, clients as u64)]), "{style}");
        }
        let left = sabotaged.stop();
        assert!(left.struck("interrupt") > 20, "{style}: {}", left.summary);
        assert!(left.struck("short") > 20, "{style}: {}", left.summary);
        assert!(left.struck("again") > 5, "{style}: {}", left.summary);
        assert_eq!(left.count("connections"), 64, "{style}");
        assert_eq!(left.count("errors") + left.count("refused"), 0, "{style}: {}", left.log);
        assert!(left.reports.is_empty(), "{style}: {:?}", left.reports);
    }
}

#[test]
fn a_failed_read_or_write_resets_its_connection_and_is_logged() {
    for style in ["echo", "parked", "callback", "staged"] {
        let prepare = if style == "staged" { lines } else { <[u8]>::to_vec };
        for kind in ["read", "write"] {
            let name = format!("{kind}-{style}");
            let plan = format!("{kind}=0.02");
            let sabotaged = Sabotaged::start(&name, &plan, &roomy(style));
            let tally = sabotaged.meet_by(exchange_by_turns, 400, &prepare(&pattern(20_000)));
            let left = sabotaged.stop();
            let struck = left.struck(kind);
            let reset = tally.get(&Went::Reset).copied().unwrap_or_default();
            assert!(struck > 10, "{name}: {}", left.summary);
            let torn = tally.get(&Went::Torn).or(tally.get(&Went::Refused));
            assert_eq!(torn, None, "{name}: a partial echo looks complete: {tally:?}");
            assert_eq!(left.count("connections"), 400, "{name}");
            assert_eq!(left.count("errors"), struck, "{name}: {tally:?}");
            assert!(reset <= struck, "{name}: {tally:?} of {struck}");
            let reasons = left
                .log
                .lines()
                .filter(|line| line.contains("ended: ") && line.contains("(os error"));
            assert_eq!(reasons.count() as u64, struck, "{name}");
            assert!(left.reports.is_empty(), "{name}: {:?}", left.reports);
        }
    }
}

#[test]
fn a_failed_accept_or_thread_rejects_clients_and_the_server_continues() {
    // Parked, these clients need no thread.
    for (name, kind, further) in [
        ("accept", "accept", &[][..]),
        ("accept-parked", "accept", &["--park"]),
        ("thread", "thread", &[]),
    ] {
        let clients = 160;
        let sabotaged = Sabotaged::start(name, &format!("{kind}=0.2"), further);
        let sent = pattern(3000);
        let tally = sabotaged.meet(clients, &sent);
        let whole = tally[&Went::Whole];
        let left = sabotaged.stop();
        assert!(left.struck(kind) > 0, "{kind}: {}", left.summary);
        assert_eq!(left.count("connections"), whole, "{kind}: {tally:?}");
        assert_eq!(left.count("refused"), clients as u64 - whole, "{kind}: {tally:?}");
        assert_eq!(left.count("errors"), 0, "{kind}: {}", left.log);
        assert!(whole > clients as u64 / 4, "{kind}: {tally:?}");
    }
}

#[test]
fn a_failed_close_is_reported_and_not_retried() {
    for (name, further) in [("close", &[][..]), ("close-parked", &["--park"])] {
        let sabotaged = Sabotaged::start(name, "close=0.5", further);
        let tally = sabotaged.meet(200, &pattern(3000));
        assert_eq!(tally, BTreeMap::from([(Went::Whole, 200)]), "{name}");
        let left = sabotaged.stop();
        assert!(left.struck("close") > 50, "{name}: {}", left.summary);
        let reported =
            left.reports.iter().filter(|report| report["code"] == "finalizer-failed").count();
        assert_eq!(reported, left.reports.len(), "{name}: {:?}", left.reports.first());
        // Half of them return EINTR, which is not reported.
        let range = left.struck("close") / 4..left.struck("close") * 3 / 4;
        assert!(range.contains(&(reported as u64)), "{name}: {reported} of {}", left.summary);
        let text = left.reports[0].to_string();
        assert!(text.contains("Input/output error"), "{name}: {text}");
    }
}

#[test]
fn with_all_faults_at_once_echoed_bytes_are_correct_and_nothing_leaks() {
    for (style, prepare) in STYLES {
        for rate in ["0.01", "0.2"] {
            let name = format!("all-{style}-{rate}");
            let sabotaged = Sabotaged::start(&name, &format!("all={rate}"), &roomy(style));
            let sent = prepare(&pattern(20_000));
            if style == "broadcast" {
                for _ in 0..40 {
                    exchange(sabotaged.server.address(), &sent);
                    // Otherwise the next client could read log lines about this one.
                    sabotaged.wait_until_idle();
                }
            } else {
                sabotaged.meet(160, &sent);
                let tally = sabotaged.meet_by(exchange_by_turns, 160, &sent);
                assert_eq!(
                    tally.get(&Went::Torn),
                    None,
                    "{name}: a partial echo looks complete: {tally:?}"
                );
            }
            let left = sabotaged.stop();
            let what = &left.summary["syscall_faults"];
            let output_text = left.log.contains("injected system call failures: ");
            assert!(
                output_text && what.as_object().is_some_and(|kinds| kinds.len() == 9),
                "{what}"
            );
        }
    }
}

/// Whether one byte comes back. All bytes arrive before the server reads, so that it reads no more
/// often than the faults make it.
fn exchange_while_stopped(server: &Server) -> bool {
    server.hold();
    let mut client = TcpStream::connect(server.address()).expect("the kernel queues it");
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // On a loaded machine the kernel delivers later than the calls return.
    wait_until("the end of the stream to arrive", || {
        server.end_of(&client).is_some_and(|end| !end.is_established)
    });
    server.signal(Signal::CONT);
    let mut back = Vec::new();
    match client.read_to_end(&mut back) {
        Ok(_) => back == b"x",
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn equal_seeds_inject_faults_into_equal_calls_of_sequential_clients() {
    let struck = |seed: &str, run: &str| {
        let further = ["--faults-seed", seed];
        // Not of starting threads: whether one is started depends on how soon the last one is idle.
        let plan = "short=0.3,read=0.05,write=0.05";
        let sabotaged = Sabotaged::start(&format!("seed-{seed}-{run}"), plan, &further);
        let went: Vec<bool> = (0..50)
            .map(|_| {
                let went = exchange_while_stopped(&sabotaged.server);
                // The next client connects when this one has ended.
                sabotaged.wait_until_idle();
                went
            })
            .collect();
        went
    };
    let first = struck("7", "first");
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(struck("7", "again"), first);
    assert_ne!(struck("8", "first"), first);
}

#[test]
fn invalid_faults_exit_with_2_and_state_what_is_expected() {
    let rejected = |arguments: &[&str]| {
        let mut command = echown();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let output = command.output().expect("the program starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        text
    };
    let text = rejected(&["--faults", "reed=0.1"]);
    assert!(text.contains("unknown fault `reed`, expected one of: interrupt, short,"), "{text}");
    let text = rejected(&["--faults", "all=1"]);
    assert!(text.contains("a number from 0 to 0.9"), "{text}");
    let text = rejected(&["--faults-seed", "1"]);
    assert!(text.contains("--faults <KIND=RATE"), "{text}");
}
