//! Chaos: every fault is found and reported once, every byte comes back, and no other client is
//! affected.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use super::server::{DEADLINE, Server, echown, pattern};

const KINDS: [&str; 7] =
    ["panic", "leak", "foreign-write", "cycle", "double-release", "fd-replaced", "finalizer-panic"];

/// The outcomes of the clients.
#[derive(Debug, Default)]
struct Met {
    /// Got back every byte, and then end of stream.
    whole: u64,
    /// The connection ended too early; all bytes until then were correct.
    cut: u64,
}

/// Each client sends a message, waits for its echo, and then sends the rest in parts. The bytes
/// that come back must be those that were sent.
///
/// True if all of them came back, and then end of stream. Panics if the first reply does not
/// arrive: faults happen after it.
fn exchange_is_whole(address: SocketAddr, sent: &[u8]) -> bool {
    const FIRST: usize = 100;
    let mut client = TcpStream::connect(address).expect("the server accepts");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    let mut back = vec![0; FIRST];
    client.write_all(&sent[..FIRST]).expect("the server takes something");
    client.read_exact(&mut back).expect("every faulted client gets its first bytes");
    assert_eq!(back, sent[..FIRST]);
    let mut done = FIRST;
    while done < sent.len() {
        let piece = &sent[done..sent.len().min(done + 1000)];
        if client.write_all(piece).is_err() {
            return false;
        }
        back.resize(piece.len(), 0);
        if client.read_exact(&mut back).is_err() {
            return false;
        }
        assert_eq!(back, piece, "a byte that this client did not send");
        done += piece.len();
    }
    if client.shutdown(Shutdown::Write).is_err() {
        return false;
    }
    matches!(client.read(&mut [0]), Ok(0))
}

/// Runs `count` clients, several at a time.
fn meet(address: SocketAddr, clients: u64) -> Met {
    meet_with(address, clients, <[u8]>::to_vec)
}

/// The parts as lines: for a server that replies only to lines.
fn lines(bytes: &[u8]) -> Vec<u8> {
    let ends_piece = |index: usize| index % 1000 == 99 || index == bytes.len() - 1;
    let byte = |(index, byte): (usize, &u8)| match *byte {
        _ if ends_piece(index) => b'\n',
        b'\n' => b'.',
        other => other,
    };
    bytes.iter().enumerate().map(byte).collect()
}

/// The same, with the bytes of each client passed through `prepare`.
fn meet_with(address: SocketAddr, clients: u64, prepare: fn(&[u8]) -> Vec<u8>) -> Met {
    const AT_A_TIME: u64 = 16;
    let next = AtomicU64::new(0);
    let whole = AtomicU64::new(0);
    let bytes = pattern(5000);
    std::thread::scope(|threads| {
        for _ in 0..AT_A_TIME {
            threads.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < clients {
                    // Every client sends different bytes.
                    let from = next.load(Ordering::Relaxed) as usize % 1000;
                    let is_whole = exchange_is_whole(address, &prepare(&bytes[from..from + 4000]));
                    whole.fetch_add(u64::from(is_whole), Ordering::Relaxed);
                }
            });
        }
    });
    let whole = whole.into_inner();
    Met { whole, cut: clients - whole }
}

/// A server with files for its summary and its reports.
struct Chaotic {
    server: Server,
    summary: PathBuf,
    reports: PathBuf,
}

/// The results of a server under chaos.
struct Left {
    code: Option<i32>,
    summary: Value,
    reports: Vec<Value>,
    log: String,
}

impl Chaotic {
    fn start(name: &str, plan: &str, seed: u64, further: &[&str]) -> Chaotic {
        let file = |what: &str| {
            let file = format!("echown-chaos-{}-{name}-{what}.json", std::process::id());
            std::env::temp_dir().join(file)
        };
        let (summary, reports) = (file("summary"), file("reports"));
        let seed = seed.to_string();
        let text = |path: &PathBuf| path.to_str().expect("the name is text").to_owned();
        let (summary_path, reports_path) = (text(&summary), text(&reports));
        let mut arguments = vec!["--chaos", plan, "--chaos-seed", &seed];
        arguments.extend(["--summary", &summary_path]);
        arguments.extend(["--report", "json", "--report-file", &reports_path]);
        arguments.extend(further);
        Chaotic { server: Server::start(&arguments), summary, reports }
    }

    /// Drains the server.
    fn stop(mut self) -> Left {
        self.server.signal(Signal::TERM);
        let code = self.server.wait().code();
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("the file was written");
        let json = |text: &str| serde_json::from_str(text).expect("the document is JSON");
        Left {
            code,
            summary: json(&read(&self.summary)),
            reports: read(&self.reports).lines().map(json).collect(),
            log: self.server.seen.join("\n"),
        }
    }
}

impl Drop for Chaotic {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.summary);
        let _ = std::fs::remove_file(&self.reports);
    }
}

impl Left {
    /// Asserts that the injected faults were reported: in the summary, and in the report file, with
    /// exactly one report for each fault. Returns their number.
    #[track_caller]
    fn assert_all_reported(&self) -> u64 {
        let injected = &self.summary["injected"];
        assert_eq!(injected, &self.summary["reported"], "in {}", self.summary);
        let mut reported: BTreeMap<&str, u64> = BTreeMap::new();
        for report in &self.reports {
            *reported.entry(kind_of(report)).or_default() += 1;
        }
        // The one fault that is not a finding of the checker: a panic is the outcome of its task.
        reported.insert("panic", self.injected("panic"));
        for kind in KINDS {
            let written = reported.remove(kind).unwrap_or_default();
            assert_eq!(written, self.injected(kind), "reports of `{kind}`");
        }
        assert!(reported.is_empty(), "reports without an injected fault: {reported:?}");
        KINDS.iter().map(|kind| self.injected(kind)).sum()
    }

    fn injected(&self, kind: &str) -> u64 {
        self.summary["injected"][kind.replace('-', "_")].as_u64().expect("a number for each kind")
    }
}

/// The kind of fault that a report is about.
fn kind_of(report: &Value) -> &str {
    match (&report["verdict"], &report["code"]) {
        (verdict, _) if verdict == "leak" => {
            let resources = report["resources"].as_array().expect("a leak has resources");
            assert_eq!(resources.len(), 1, "a connection has one socket");
            if resources[0]["kept_alive_by"].is_null() { "leak" } else { "cycle" }
        }
        (verdict, code) if verdict == "violation" && code == "not-owner" => "foreign-write",
        (verdict, code) if verdict == "violation" && code == "double-release" => "double-release",
        (verdict, code) if verdict == "fd-replaced" && code == "fd-replaced" => "fd-replaced",
        (verdict, code) if verdict == "finalizer" && code == "finalizer-panicked" => {
            "finalizer-panic"
        }
        other => panic!("a report without an injected fault: {other:?} in {report}"),
    }
}

const MIXED: &str = "panic=0.08,leak=0.08,foreign-write=0.08,cycle=0.08,double-release=0.08,fd-replaced=0.08,finalizer-panic=0.08";

#[test]
fn three_thousand_connections_under_chaos_leave_only_reports() {
    const CLIENTS: u64 = 3000;
    let chaotic = Chaotic::start("mixed", MIXED, 1, &[]);
    let before = chaotic.server.open_descriptors();
    let met = meet(chaotic.server.address(), CLIENTS);
    // By identity: the same sockets and pipes under the same numbers, and nothing else.
    chaotic.server.wait_for_descriptors(|open| open == before);
    let left = chaotic.stop();
    assert_eq!(left.code, Some(0), "the policy is `warn`");
    let summary = &left.summary;
    assert_eq!(summary["connections"], CLIENTS);
    assert_eq!(summary["refused"], 0);
    let struck = left.assert_all_reported();
    for kind in KINDS {
        // 240 are expected; ten standard deviations to either side.
        let count = left.injected(kind);
        assert!((90..390).contains(&count), "{kind}: {count}");
    }
    // A foreign write is rejected and its connection continues; every other fault ends its
    // connection.
    assert_eq!(met.cut, struck - left.injected("foreign-write"), "{met:?} in {summary}");
    // The totals that other counters also have.
    assert_eq!(summary["leaks"], left.injected("leak") + left.injected("cycle"));
    assert_eq!(
        summary["violations"],
        left.injected("foreign-write") + left.injected("double-release")
    );
    assert_eq!(summary["replaced"], left.injected("fd-replaced"));
    assert_eq!(summary["panics"], left.injected("panic"));
    assert!(left.log.contains("\ninjected "), "the summary as text: {}", left.log);
}

#[test]
fn lines_passed_between_machines_survive_chaos() {
    survives_chaos("staged", &["--style", "staged"], lines);
}

#[test]
fn parked_connections_survive_chaos() {
    survives_chaos("parked", &["--park"], <[u8]>::to_vec);
}

fn survives_chaos(name: &str, style: &[&str], prepare: fn(&[u8]) -> Vec<u8>) {
    const CLIENTS: u64 = 600;
    // Places for those that are still exiting when the next ones arrive, on a loaded machine.
    let chaotic = Chaotic::start(name, MIXED, 5, &[style, &["--max-connections", "256"]].concat());
    let before = chaotic.server.open_descriptors();
    let met = meet_with(chaotic.server.address(), CLIENTS, prepare);
    chaotic.server.wait_for_descriptors(|open| open == before);
    let left = chaotic.stop();
    assert_eq!(left.code, Some(0), "the policy is `warn`");
    let struck = left.assert_all_reported();
    assert!(struck > 200, "{struck} of {CLIENTS}");
    assert_eq!(met.cut, struck - left.injected("foreign-write"), "{met:?} in {}", left.summary);
}

#[test]
fn equal_seeds_inject_equal_faults_and_other_seeds_do_not() {
    let injected = |seed: u64, run: u32| {
        let chaotic = Chaotic::start(&format!("seed-{seed}-{run}"), MIXED, seed, &[]);
        meet(chaotic.server.address(), 200);
        let left = chaotic.stop();
        left.assert_all_reported();
        left.summary["injected"].clone()
    };
    let first = injected(7, 1);
    assert_eq!(injected(7, 2), first);
    assert_ne!(injected(8, 1), first);
}

#[test]
fn each_kind_of_fault_alone_hits_every_connection_and_is_reported() {
    const CLIENTS: u64 = 40;
    for kind in KINDS {
        let chaotic = Chaotic::start(kind, &format!("{kind}=1"), 0, &[]);
        let before = chaotic.server.open_descriptors();
        let met = meet(chaotic.server.address(), CLIENTS);
        chaotic.server.wait_for_descriptors(|open| open == before);
        let left = chaotic.stop();
        assert_eq!(left.code, Some(0), "{kind}");
        assert_eq!(left.assert_all_reported(), CLIENTS, "{kind}");
        assert_eq!(left.injected(kind), CLIENTS, "{kind}");
        assert_eq!(met.cut, if kind == "foreign-write" { 0 } else { CLIENTS }, "{kind}");
        let part = match kind {
            "panic" => "chaos: a panic in the middle of an exchange",
            "leak" => "\"acquired\":\"src/server/accept.rs:",
            "foreign-write" => "used by task",
            "cycle" => "\"kept_alive_by\":{",
            "double-release" => "first released at src/echo/chaos/fault_actions.rs:",
            "fd-replaced" => "registered as socket cookie",
            _ => "failed to finalize: its finalizer panicked: chaos: a finalizer that panics",
        };
        let text = left.reports.first().map_or(left.log, Value::to_string);
        assert!(text.contains(part), "{kind}: no {part:?} in {text}");
    }
}

#[test]
fn a_leak_in_a_cycle_reports_the_cycle_and_the_reference_to_cut() {
    let chaotic = Chaotic::start("knot", "cycle=1", 0, &[]);
    meet(chaotic.server.address(), 1);
    let left = chaotic.stop();
    let cycle = &left.reports[0]["resources"][0]["kept_alive_by"];
    let drawn = |edges: &Value| -> Vec<String> {
        let edges = edges.as_array().expect("a list of references");
        let name = |end: &Value| end["name"].as_str().expect("a name").to_owned();
        edges.iter().map(|edge| name(&edge["from"]) + " -> " + &name(&edge["to"])).collect()
    };
    assert_eq!(drawn(&cycle["edges"]), ["Session -> Watcher", "Watcher -> Session"], "{cycle}");
    let number = &left.reports[0]["resources"][0]["number"];
    assert_eq!(drawn(&cycle["path"]), [format!("Session -> fd {number} (tcp stream)")]);
    assert_eq!(cycle["cut"], cycle["edges"][0], "the one that closed the cycle");
    let site = cycle["cut"]["site"].as_str().expect("a place in the source");
    assert!(site.starts_with("src/echo/chaos/fault_actions.rs:"), "{site}");
}

#[test]
fn under_policy_fail_chaos_exits_with_23_after_all_clients_are_served() {
    for (kind, policy) in
        [("leak", "--on-leak"), ("cycle", "--on-leak"), ("fd-replaced", "--on-violation")]
    {
        let plan = format!("{kind}=0.5");
        let chaotic = Chaotic::start(&format!("fail-{kind}"), &plan, 3, &[policy, "fail"]);
        let met = meet(chaotic.server.address(), 40);
        assert!(met.whole > 0 && met.cut > 0, "{kind}: {met:?}");
        let left = chaotic.stop();
        assert_eq!(left.code, Some(23), "{kind}");
        assert_eq!(left.assert_all_reported(), met.cut, "{kind}");
    }
}

#[test]
fn at_level_full_chaos_is_reported_once_per_fault() {
    let chaotic = Chaotic::start("full", MIXED, 5, &["--ownership", "full"]);
    let before = chaotic.server.open_descriptors();
    meet(chaotic.server.address(), 200);
    chaotic.server.wait_for_descriptors(|open| open == before);
    let left = chaotic.stop();
    assert_eq!(left.code, Some(0));
    assert!(left.assert_all_reported() > 0);
}

#[test]
fn a_drain_under_chaos_exits_with_0_and_reports_every_fault() {
    let chaotic = Chaotic::start("drain", MIXED, 9, &[]);
    let address = chaotic.server.address();
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut client = TcpStream::connect(address).expect("the server accepts");
            client.write_all(b"begun").expect("the server takes it");
            client
        })
        .collect();
    let left = chaotic.stop();
    drop(clients);
    assert_eq!(left.code, Some(0), "{}", left.log);
    left.assert_all_reported();
}

#[test]
fn invalid_fault_rates_exit_with_2() {
    let rejected = |arguments: &[&str]| {
        let output = echown()
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .output()
            .expect("the program starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        text
    };
    let text = rejected(&["--chaos", "leek=0.1"]);
    assert!(text.contains("unknown fault `leek`, expected one of: panic, leak,"), "{text}");
    let text = rejected(&["--chaos", "leak=0.6,panic=0.6"]);
    assert!(text.contains("the rates add up to 1.2, expected at most 1"), "{text}");
    let text = rejected(&["--chaos-seed", "1"]);
    assert!(text.contains("--chaos <KIND=RATE"), "{text}");
    let text = rejected(&["--chaos", "leak=0.1", "--ownership", "off"]);
    assert!(text.contains("--chaos needs the checker: use --ownership on or full"), "{text}");
}
