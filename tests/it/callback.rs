//! The echo by callbacks: its three graphs are those of SocketManager's article, its cycle is broken at
//! every end, and a round trip takes as long as without callbacks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::server::{Server, exchange, never_reads, pattern, serve, summary};

fn start(arguments: &[&str]) -> Server {
    Server::start(&[&["--style", "callback"], arguments].concat())
}

fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}

/// A drawn flowchart, read back: counts by name, and edges by names. A name ends where a count or a
/// task's number begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Those that have one.
    counts: BTreeMap<String, u64>,
    nodes: BTreeSet<String>,
    strong: BTreeSet<String>,
    weak: BTreeSet<String>,
}

/// The pictures of SocketManager's article, for the three moments: what its diagrams show of the echo, by
/// the same names. The runtime's task is the connection's here.
///
/// It draws no count for what it never counts: manager, callback and task.
pub fn of_the_reference() -> [Drawn; 3] {
    let drawn = |counts: &[(&str, u64)], strong: &[&str]| {
        let mut drawn = Drawn {
            counts: counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            strong: strong.iter().map(|edge| (*edge).to_owned()).collect(),
            weak: ["Waker -> task".to_owned()].into(),
            nodes: BTreeSet::new(),
        };
        for edge in drawn.strong.iter().chain(&drawn.weak) {
            drawn.nodes.extend(edge.split(" -> ").map(str::to_owned));
        }
        drawn
    };
    [
        drawn(
            &[("Waker", 1), ("Connection", 2), ("Notifier", 2), ("MsgReceiver", 2), ("Sender", 1)],
            &[
                "Notifier -> Waker",
                "MsgReceiver -> Sender",
                "MsgReceiver -> Notifier",
                "ConnCallback -> MsgReceiver",
                "SocketManager -> ConnCallback",
                "ConnCallback -> Connection",
                "Connection -> Notifier",
                "Connection -> MsgReceiver",
                "Sender -> Connection",
            ],
        ),
        drawn(
            &[("Waker", 1), ("Connection", 1), ("Notifier", 2), ("MsgReceiver", 2), ("Sender", 1)],
            &[
                "Notifier -> Waker",
                "MsgReceiver -> Sender",
                "MsgReceiver -> Notifier",
                "ConnCallback -> MsgReceiver",
                "Connection -> Notifier",
                "Connection -> MsgReceiver",
                "Sender -> Connection",
            ],
        ),
        drawn(
            &[("Waker", 1), ("Connection", 1), ("Notifier", 1), ("MsgReceiver", 1), ("Sender", 0)],
            &[
                "Notifier -> Waker",
                "Connection -> Notifier",
                "Connection -> MsgReceiver",
                "Sender -> Connection",
            ],
        ),
    ]
}

impl Drawn {
    /// Reads what `--graph` says.
    pub fn read(lines: &[&str]) -> Drawn {
        let mut names = BTreeMap::new();
        let mut drawn = Drawn::default();
        for line in lines {
            let line = line.trim();
            if let Some((id, label)) = line.split_once("(\"") {
                let label = label.trim_end_matches("\")");
                let (name, count) = match label.split_once(" ref=") {
                    Some((name, count)) => (name, Some(count.parse().expect("a number"))),
                    None => (label, None),
                };
                let name = if name.starts_with("task ") { "task" } else { name };
                names.insert(id.to_owned(), name.to_owned());
                drawn.nodes.insert(name.to_owned());
                // Held by one who does not count in SocketManager's pictures.
                if let Some(count) = count
                    && name != "ConnCallback"
                {
                    drawn.counts.insert(name.to_owned(), count);
                }
            } else if let [from, arrow, to] = ends(line)[..]
                && names.contains_key(from)
            {
                let edge = format!("{} -> {}", names[from], names[to]);
                let edges = match arrow {
                    "-.->" => &mut drawn.weak,
                    "-->" | "==>" => &mut drawn.strong,
                    other => panic!("an arrow of another kind: {other}"),
                };
                assert!(edges.insert(edge), "twice the same reference: {line}");
            }
        }
        drawn
    }
}

/// Where an arrow begins, the arrow, and where it ends; without the label that it may have.
fn ends(line: &str) -> Vec<&str> {
    let (before, after) = match line.split_once('|') {
        Some((before, label)) => (before, label.rsplit('|').next().unwrap_or("")),
        None => (line, ""),
    };
    before.split_whitespace().chain(after.split_whitespace()).collect()
}

/// The pictures of one connection among what the server said: moment and drawing, in order.
fn pictures(said: &[String], connection: u64) -> Vec<(String, Drawn)> {
    let head = format!("graph of connection {connection} with ");
    let text = said.join("\n");
    let blocks = text.split("graph of connection ").skip(1).map(|block| {
        let block = format!("graph of connection {block}");
        let (title, rest) = block.split_once('\n').expect("a title has a picture");
        let lines: Vec<&str> = rest.lines().take_while(|line| *line != "```").collect();
        (title.to_owned(), Drawn::read(&lines))
    });
    blocks
        .filter(|(title, _)| title.starts_with(&head))
        .map(|(title, drawn)| {
            let moment = title.rsplit_once(", ").expect("a title ends with the moment").1;
            (moment.trim_end_matches(':').to_owned(), drawn)
        })
        .collect()
}

#[test]
fn the_three_pictures_are_those_of_the_reference_edge_by_edge() {
    let server = start(&["--graph"]);
    assert_eq!(exchange(server.connect(), b"Hello\n"), b"Hello\n");
    let (code, said) = server.stop();
    assert_eq!(code, Some(0));
    let pictures = pictures(&said, 1);
    let moments: Vec<&str> = pictures.iter().map(|(moment, _)| &**moment).collect();
    assert_eq!(moments, ["connected", "remote closed", "erased"], "{said:#?}");
    for ((moment, drawn), expected) in pictures.into_iter().zip(of_the_reference()) {
        assert_eq!(drawn, expected, "{moment}");
    }
}

#[test]
fn the_pictures_of_one_connection_are_the_same_among_others_and_after_any_end() {
    let mut server = start(&["--graph", "--drain-timeout", "200ms"]);
    let talk = |n: u8| {
        let mut client = server.connect();
        client.write_all(&[n]).unwrap();
        client.read_exact(&mut [0]).unwrap();
        client
    };
    let (staying, leaving, resetting) = (talk(1), talk(2), talk(3));
    drop(leaving);
    reset(resetting);
    server.wait_for_line("graph of connection 3 with ");
    server.wait_for_line("graph of connection 3 with ");
    server.wait_for_line("graph of connection 3 with ");
    let _greedy = never_reads(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    drop(staying);
    let [connected, closed, erased] = of_the_reference();
    for (connection, moment) in
        [(1, "remote closed"), (2, "remote closed"), (3, "closed"), (4, "closed")]
    {
        let pictures = pictures(&server.seen, connection);
        let expected = [("connected", &connected), (moment, &closed), ("erased", &erased)];
        assert_eq!(pictures.len(), 3, "connection {connection}: {pictures:#?}");
        for ((is, drawn), (should, expected)) in pictures.iter().zip(expected) {
            assert_eq!((&**is, drawn), (should, expected), "connection {connection}");
        }
    }
}

#[test]
fn the_references_of_the_moment_are_shown_on_sigusr1_and_none_are_left_in_the_end() {
    let mut server = start(&["--log-format", "json"]);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let edges = |server: &mut Server| -> Vec<String> {
        server.signal(Signal::USR1);
        let line = server.wait_for_line("\"edges\":");
        let graph: Value = serde_json::from_str(&line).expect("it is JSON");
        let name = |end: &Value| end["name"].as_str().expect("a name").to_owned();
        let edges = graph["edges"].as_array().expect("a list").iter();
        edges.map(|edge| name(&edge["from"]) + " -> " + &name(&edge["to"])).collect()
    };
    let seen = edges(&mut server);
    assert!(seen.iter().any(|edge| edge == "MsgReceiver -> Sender"), "{seen:?}");
    assert!(seen.iter().any(|edge| edge.starts_with("Connection -> fd ")), "{seen:?}");
    // One that is erased has left nothing behind: what is shown is the other one's.
    drop(client);
    server.wait_for_descriptors(|open| {
        open.iter().filter(|(_, target)| target.starts_with("socket:")).count() <= 3
    });
    let mut other = server.connect();
    other.write_all(b"x").unwrap();
    other.read_exact(&mut [0]).unwrap();
    assert_eq!(edges(&mut server).len(), seen.len());
}

#[test]
fn a_cycle_that_is_left_in_place_is_a_leak_that_names_it_and_the_reference_to_cut() {
    let path = std::env::temp_dir().join(format!("echown-{}.callback.json", std::process::id()));
    let file = path.to_str().unwrap();
    let arguments =
        ["--chaos", "cycle=1", "--chaos-seed", "1", "--report", "json", "--report-file", file];
    let server = start(&arguments);
    let before = server.open_descriptors();
    let sent = pattern(100_000);
    for n in 0..10 {
        if n % 2 == 0 {
            assert!(exchange(server.connect(), &sent) == sent, "it lacks nothing but its end");
        } else {
            let mut client = server.connect();
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
            client.write_all(b"y").unwrap();
            client.read_exact(&mut [0]).unwrap();
            reset(client);
        }
    }
    // The memory is lost: that is what a cycle is. The descriptor is not.
    server.wait_for_descriptors(|open| open == before);
    let (code, said) = server.stop();
    assert_eq!(code, Some(0));
    assert!(
        said.iter().any(|line| line.contains("injected 10 cycle; reported 10 cycle")),
        "{said:#?}"
    );
    let reports = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(reports.lines().count(), 10);
    for report in reports.lines() {
        let report: Value = serde_json::from_str(report).unwrap();
        let cycle = &report["resources"][0]["kept_alive_by"];
        let name = |end: &Value| end["name"].as_str().expect("a name").to_owned();
        let drawn = |edge: &Value| name(&edge["from"]) + " -> " + &name(&edge["to"]);
        let edges: Vec<String> =
            cycle["edges"].as_array().expect("a cycle is known").iter().map(drawn).collect();
        let expected =
            ["Connection -> MsgReceiver", "MsgReceiver -> Sender", "Sender -> Connection"];
        assert_eq!(edges, expected, "{report}");
        assert_eq!(drawn(&cycle["cut"]), "MsgReceiver -> Sender", "the one that is erased");
        let site = cycle["cut"]["site"].as_str().unwrap();
        assert!(site.starts_with("src/echo/callback/echo.rs:"), "{site}");
        assert!(drawn(&cycle["path"][0]).starts_with("Connection -> fd "), "{cycle}");
    }
}

/// Resident memory, in bytes.
fn resident(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().unwrap();
    kib * 1024
}

#[test]
fn fifteen_hundred_resets_leave_memory_where_it_was() {
    /// A cycle that stays keeps its connection's handles and records, 3.75 KiB (measured under
    /// `--chaos cycle=1`): 5.5 MiB of 1,500. Without one, what grows is the allocator's arenas and the
    /// idle threads' stacks, once; allowed is less than half of that.
    const MARGIN_BYTES: usize = 5 * 1024 * 1024 / 2;
    const RESETS: usize = 1500;
    let server = start(&[]);
    let talk_and_reset = |rounds: usize| {
        for n in 0..rounds {
            let mut client = server.connect();
            client.write_all(&pattern(20_000)).unwrap();
            client.read_exact(&mut [0; 1000]).unwrap();
            if n % 2 == 0 {
                client.read_exact(&mut [0; 19_000]).unwrap();
            }
            reset(client);
        }
    };
    // Threads and arenas come with the first connections.
    talk_and_reset(300);
    let before = resident(&server);
    talk_and_reset(RESETS);
    server.wait_for("the last connection to be over", |server| {
        server.open_descriptors().iter().filter(|(_, to)| to.starts_with("socket:")).count() <= 3
    });
    let after = resident(&server);
    assert!(after < before + MARGIN_BYTES, "from {before} to {after} bytes");
    eprintln!("{RESETS} resets: from {before} to {after} bytes");
    let (code, said) = server.stop();
    assert_eq!(code, Some(0));
    assert!(said.iter().any(|line| line.contains("0 panics, 0 leaks, 0 violations")), "{said:#?}");
}

#[test]
fn a_round_trip_takes_no_longer_than_the_plain_echos() {
    /// SocketManager's flush timer makes it 1.1 ms, some fifty times as long. Both ways take their
    /// turns in one run, and the median is far from both: a loaded machine has made it 1.6.
    const RATIO_MAX: f64 = 10.0;
    const TURNS: usize = 41;
    const TRIPS: u32 = 50;
    let (plain, callback) = (Server::start(&[]), start(&[]));
    let mut clients = [plain.connect(), callback.connect()];
    for client in &clients {
        client.set_nodelay(true).unwrap();
    }
    let mut ratios: Vec<f64> = (0..TURNS)
        .map(|_| {
            let [plain, callback] = clients.each_mut().map(|client| {
                let begun = Instant::now();
                let mut message = [7; 64];
                for _ in 0..TRIPS {
                    client.write_all(&message).unwrap();
                    client.read_exact(&mut message).unwrap();
                }
                begun.elapsed().as_secs_f64()
            });
            callback / plain
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[TURNS / 2];
    assert!(median < RATIO_MAX, "{median:.2} times as long as the plain echo's: {ratios:?}");
    eprintln!("a round trip by callbacks takes {median:.3} times as long as a plain one");
}

#[test]
fn a_half_close_with_four_mebibytes_in_flight_gets_all_of_it_back() {
    let server = start(&[]);
    let sent = pattern(4 * 1024 * 1024);
    assert!(exchange(server.connect(), &sent) == sent);
}

#[test]
fn a_peer_that_never_reads_is_bounded() {
    let server = start(&[]);
    let before = resident(&server);
    let _greedy = never_reads(&server);
    // What waits is with the kernel; the connection has its buffer and its thread.
    let after = resident(&server);
    assert!(after < before + 2 * 1024 * 1024, "from {before} to {after} bytes");
}

#[test]
fn a_busy_port_is_one_clear_line_and_a_non_zero_exit() {
    let first = start(&[]);
    let address = first.address().to_string();
    let output = serve(&[&address], &["--style", "callback"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("failed to listen on {address}")), "{said}");
}

#[test]
fn pictures_are_refused_where_there_are_none() {
    for (arguments, expected) in [
        (&["--graph"][..], "--graph is for --style callback, not --style echo"),
        (
            &["--graph", "--style", "callback", "--ownership", "off"],
            "--graph needs recorded references: use",
        ),
    ] {
        let output = serve(&["127.0.0.1:0"], arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn under_chaos_of_every_kind_nothing_is_left_and_no_other_client_is_affected() {
    const PLAN: &str = "panic=0.1,leak=0.1,foreign-write=0.1,cycle=0.1,double-release=0.1,fd-replaced=0.1,finalizer-panic=0.1";
    let server = start(&["--chaos", PLAN, "--chaos-seed", "1", "--report-file", "/dev/null"]);
    let before = server.open_descriptors();
    for _ in 0..300 {
        let mut client = server.connect();
        client.write_all(b"first").unwrap();
        client.read_exact(&mut [0; 5]).expect("whoever is struck gets its first bytes");
        let _ = client.write_all(b"second");
        let mut back = [0; 6];
        if client.read_exact(&mut back).is_ok() {
            assert_eq!(&back, b"second");
        }
    }
    server.wait_for_descriptors(|open| open == before);
    let (code, said) = server.stop();
    assert_eq!(code, Some(0));
    let told = said.iter().find(|line| line.starts_with("injected ")).expect("it says what it did");
    let (injected, reported) = told["injected ".len()..].split_once("; reported ").unwrap();
    assert_eq!(injected, reported, "{told}");
    assert!(summary(&said, "panics") > 0);
}
