//! `echown bench`: what it says of a server is true, above all of one that is not as it should be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{self, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::reserved::Reserved;
use super::server::{PATIENCE, Server, echown};

mod compare;
mod rate;
mod verdicts;

/// Short, so that nothing can be said of speed.
const SHORT: [&str; 4] = ["--duration", "300ms", "--warmup", "50ms"];

fn bench(arguments: &[&str]) -> Output {
    echown().arg("bench").args(SHORT).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The outcome of a success, as JSON. Where other tests leave no processor for so short a time, it takes
/// longer.
fn outcome(arguments: &[&str]) -> Value {
    let json = [arguments, &["--format", "json"]].concat();
    let mut output = bench(&json);
    if text(&output.stderr).contains("measure longer (--duration)") {
        output = bench(&[&json[..], &["--duration", "5s"]].concat());
    }
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The outcome as JSON, with the exit code that it has to have.
fn outcome_with(code: i32, arguments: &[&str]) -> Value {
    let output = bench(&[arguments, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_without_errors(outcome: &Value) -> bool {
    outcome["errors"].as_object().unwrap().is_empty()
}

/// A server that does to each connection what it is told; it ends with the process.
fn server_that(serves: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let serves = serves.clone();
            thread::spawn(move || serves(client));
        }
    });
    address
}

/// Echoes, and has what was read pass through the hands of `change`, with how much there was before.
fn echoing(change: impl Fn(u64, &mut Vec<u8>) + Clone + Send + 'static) -> SocketAddr {
    server_that(move |mut client| {
        let mut before = 0;
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = client.read(&mut buffer) {
            let mut bytes = buffer[..bytes].to_vec();
            let count = bytes.len() as u64;
            change(before, &mut bytes);
            before += count;
            if client.write_all(&bytes).is_err() {
                return;
            }
        }
    })
}

const SHAPES: &[&[&str]] = &[
    &["--client", "event"],
    &["--client", "event", "--client-threads", "2"],
    &["--client", "blocking"],
    &["--client", "event", "--pipeline", "5"],
    &["--client", "blocking", "--pipeline", "5"],
    &["--client", "event", "--size", "300KiB"],
    &["--client", "blocking", "--size", "300KiB"],
    &["--client", "event", "--churn"],
    &["--client", "blocking", "--churn"],
    &["--client", "event", "--rate", "400"],
    &["--client", "blocking", "--rate", "400"],
    &["--client", "event", "--rate", "400", "--churn"],
    &["--idle", "20"],
    &["--style", "callback"],
    &["--style", "staged"],
    &["--style", "staged", "--client", "blocking"],
    &["--style", "staged", "--size", "100KiB"],
    &["--style", "broadcast", "--size", "16"],
    &["--style", "broadcast", "--rate", "400"],
    &["--style", "broadcast"],
];

#[test]
fn an_honest_server_is_asked_in_every_shape_without_an_error() {
    for shape in SHAPES {
        let outcome = outcome(&[shape, &["--connections", "4"][..]].concat());
        assert!(is_without_errors(&outcome), "{shape:?}: {outcome:#}");
        assert!(outcome["messages"].as_u64().unwrap() > 0, "{shape:?}: {outcome:#}");
        assert_eq!(outcome["established"], 4, "{shape:?}: {outcome:#}");
        // Started for it, so that its process is known.
        assert!(outcome["server"]["threads"].as_u64().unwrap() > 1, "{shape:?}: {outcome:#}");
        let latency = &outcome["latency"];
        assert!(latency["p50"].as_f64() <= latency["p99"].as_f64());
        assert!(latency["p99"].as_f64() <= latency["max"].as_f64());
    }
}

#[test]
fn one_wrong_byte_is_exit_1_whoever_asks() {
    let address = echoing(|before, bytes| {
        if (before..before + bytes.len() as u64).contains(&1000) {
            bytes[(1000 - before) as usize] ^= 0x20;
        }
    });
    for client in ["event", "blocking"] {
        let output = bench(&[&address.to_string(), "--client", client, "--connections", "1"]);
        assert_eq!(output.status.code(), Some(1), "{client}: {output:?}");
        assert!(text(&output.stdout).contains("wrong bytes: 1"), "{output:?}");
        assert!(text(&output.stderr).contains("what came back was not what was sent"));
    }
}

#[test]
fn bytes_that_are_lost_or_sent_twice_are_wrong_bytes() {
    let doubling = echoing(|before, bytes| {
        if before > 640 {
            bytes.extend_from_within(..);
        }
    });
    let losing = echoing(|before, bytes| {
        if before > 640 {
            bytes.remove(0);
        }
    });
    for address in [doubling, losing] {
        let output = bench(&[&address.to_string(), "--connections", "1", "--pipeline", "4"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

#[test]
fn a_frame_that_is_changed_or_comes_out_of_order_is_a_wrong_byte() {
    // Sends each client its own frames alone, the second one before the first.
    let address = server_that(|mut client| {
        let mut greeting = [0; 24];
        client.read_exact(&mut greeting).unwrap();
        client.write_all(&greeting).unwrap();
        let (mut first, mut second) = ([0; 40], [0; 40]);
        client.read_exact(&mut first).unwrap();
        client.read_exact(&mut second).unwrap();
        let _ = client.write_all(&[second, first].concat());
        let _ = client.read(&mut first);
    });
    let output = bench(&[
        &address.to_string(),
        "--style",
        "broadcast",
        "--size",
        "32",
        "--connections",
        "1",
        "--pipeline",
        "2",
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_server_that_closes_or_never_answers_is_told_by_kind() {
    let closing = server_that(|mut client| {
        let _ = client.read(&mut [0; 64]);
    });
    let silent = server_that(|client| {
        thread::sleep(Duration::from_secs(60));
        drop(client);
    });
    let halving = server_that(|mut client| {
        let mut message = [0; 64];
        client.read_exact(&mut message).unwrap();
        let _ = client.write_all(&message[..32]);
    });
    let closed = "closed by the server";
    for (address, expected) in [(closing, closed), (halving, closed), (silent, "unanswered")] {
        for client in ["event", "blocking"] {
            let address = address.to_string();
            let output = bench(&[&address, "--client", client, "--connections", "2"]);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let expected = format!("{expected}: 2");
            assert!(text(&output.stdout).contains(&expected), "{client}: {output:?}");
        }
    }
}

#[test]
fn a_connection_that_is_hardly_answered_has_starved() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let accepted = Arc::new(AtomicU32::new(0));
    let address = server_that(move |mut client| {
        let is_first = accepted.fetch_add(1, Ordering::Relaxed) == 0;
        let mut buffer = [0; 64];
        while client.read_exact(&mut buffer).is_ok() && client.write_all(&buffer).is_ok() {
            if is_first {
                thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let output = bench(&[&address.to_string(), "--connections", "4"]);
    assert!(text(&output.stdout).contains("1 connection answered less"), "{output:?}");
}

#[test]
fn an_idle_connection_that_is_lost_meanwhile_is_an_error() {
    let address = server_that(|mut client| {
        // An idle one asks with 16 bytes, and is dropped soon after.
        let mut buffer = [0; 64];
        while let Ok(bytes @ 1..) = client.read(&mut buffer) {
            if client.write_all(&buffer[..bytes]).is_err() || bytes == 16 {
                return;
            }
        }
    });
    let output = bench(&[&address.to_string(), "--connections", "1", "--idle", "3"]);
    assert!(text(&output.stdout).contains("idle connection lost: 3"), "{output:?}");
}

#[test]
fn a_wrong_byte_to_an_idle_connection_is_a_lie_too() {
    let address = server_that(|mut client| {
        let mut buffer = [0; 64];
        let mut asked = 0;
        while let Ok(bytes @ 1..) = client.read(&mut buffer) {
            asked += usize::from(bytes == 16);
            buffer[3] ^= u8::from(asked == 2);
            if client.write_all(&buffer[..bytes]).is_err() {
                return;
            }
        }
    });
    let output = bench(&[&address.to_string(), "--connections", "1", "--idle", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("wrong bytes: 1"), "{output:?}");
}

#[test]
fn there_are_no_more_event_loops_than_connections() {
    let said =
        |arguments: &[&str]| text(&bench(arguments).stdout).lines().next().unwrap().to_owned();
    let few = said(&["--client-threads", "2"]);
    assert!(few.ends_with("client: 2 event loops"), "a load of its own, and no mix: {few}");
    let many = said(&["--client-threads", "9", "--connections", "4"]);
    assert!(many.ends_with("client: 4 event loops"), "{many}");
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let reserved = Reserved::new();
    let nobody = reserved.address().to_string();
    for (arguments, code, expected) in [
        (&[&*nobody][..], 1, "failed to connect to 127.0.0.1"),
        (&[&nobody, "--rate", "99"], 1, ": refused"),
        (&[&nobody, "--rate", "99", "--client", "blocking"], 1, ": refused"),
        (&[&nobody, "--idle", "2"], 1, ": refused: no server listens there"),
        (&["--pid", "1"], 2, "--pid is for a server that runs already"),
        (&[&nobody, "--pin-server", "0"], 2, "--pin-server is for a server that is started here"),
        (&["--pin-client", "1023"], 2, "cannot run on the processors 1023"),
        (&["--client", "blocking", "--client-threads", "2"], 2, "--client-threads is for"),
        (&["--churn", "--pipeline", "2"], 2, "--pipeline has no use"),
        (&["--rate", "9", "--pipeline", "2"], 2, "--pipeline has no use"),
        (&["--client", "blocking", "--connections", "9000000"], 1, "more than the ceiling of"),
        (&["--style", "broadcast", "--size", "15"], 2, "--size 16 or more"),
        (&["--style", "broadcast", "--client", "blocking"], 2, "the event client alone"),
        (&["--rate=-5"], 2, "expected a number of messages a second"),
        (&["--size", "0"], 2, "a size is more than 0"),
    ] {
        let output = bench(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    for (arguments, code, expected) in [
        (&["a=cat"][..], 2, "{port} in the command"),
        (&["a=false {port}"], 1, "has ended at once"),
        (&["echown", "--load", "none"], 2, "possible values: one, crowd"),
    ] {
        let output = echown().args(["bench", "compare"]).args(arguments).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn sigint_ends_it_early_with_the_figures_until_then() {
    let mut began = Instant::now();
    let output =
        interrupted(&["--duration", "60s", "--warmup", "0s", "--connections", "2"], |_| {
            thread::sleep(Duration::from_secs(3));
            began = Instant::now();
        });
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("it was ended early"), "{output:?}");
}

#[test]
fn the_latencies_are_drawn() {
    let file = std::env::temp_dir().join(format!("echown-{}-plot.svg", std::process::id()));
    let output =
        bench(&["--connections", "2", "--duration", "1s", "--plot", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let svg = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let svg = roxmltree::Document::parse(&svg).unwrap();
    let curves = svg.descendants().filter(|node| node.has_tag_name("polyline"));
    let points = curves.filter_map(|node| node.attribute("points"));
    assert!(points.map(|points| points.split_whitespace().count()).max() > Some(10));
}

/// The client of a load is a program of ours like any other.
#[test]
fn the_custody_table_of_a_load_lists_every_descriptor_that_is_open() {
    let server = Server::start(&[]);
    let address = server.address().to_string();
    for client in ["event", "blocking"] {
        let arguments = ["bench", &address, "--duration", "60s", "--warmup", "0s"];
        let arguments = [&arguments[..], &["--client", client]].concat();
        let mut bench = Server::run(echown().args(arguments).args(["--connections", "5"]), 0);
        thread::sleep(Duration::from_secs(1));
        let open: Vec<i32> =
            bench.open_descriptors().into_iter().map(|(number, _)| number).collect();
        assert!(open.len() >= 5 + 3, "{open:?}");
        bench.signal(Signal::USR1);
        // Every descriptor has a line that begins with what it is, or with its number.
        let mut listed: Vec<i32> = (0..open.len())
            .map(|_| {
                let line = bench.wait_for_line("fd ").replace(',', " ");
                let (_, number) = line.split_once("fd ").unwrap();
                number.split(' ').next().unwrap().parse().unwrap()
            })
            .collect();
        listed.sort_unstable();
        assert_eq!(listed, open);
        bench.signal(Signal::TERM);
        assert_eq!(bench.wait().code(), Some(0));
    }
}

/// Starts it, and ends it with SIGTERM when `look` has seen enough.
fn interrupted(arguments: &[&str], look: impl FnOnce(u32)) -> Output {
    let mut command = echown();
    command.arg("bench").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    look(child.id());
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_a_server_costs_is_known_by_its_process() {
    let server = Server::start(&[]);
    let address = server.address().to_string();
    let pid = server.pid().to_string();
    let without = outcome(&[&address, "--connections", "3"]);
    assert_eq!(without["server"], Value::Null, "{without:#}");
    let with = outcome(&[&address, "--connections", "3", "--pid", &pid]);
    assert!(with["server"]["threads"].as_u64().unwrap() > 3, "{with:#}");
    assert!(with["server"]["micros_per_message"].as_f64().unwrap() > 0.0, "{with:#}");
    let output = bench(&[&address, "--pid", "999999999"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("999999999"), "{output:?}");
}

#[test]
fn connections_come_from_the_addresses_that_were_said_in_turn() {
    let (tell, told) = std::sync::mpsc::channel();
    let address = server_that(move |mut client| {
        tell.send(client.peer_addr().unwrap().ip().to_string()).unwrap();
        let _ = std::io::copy(&mut client.try_clone().unwrap(), &mut client);
    });
    let sources = ["--source", "127.0.0.2", "--source", "127.0.0.3"];
    outcome(&[&[&*address.to_string(), "--connections", "4"], &sources[..]].concat());
    // On a busy machine the bench may have been asked a second time.
    let from: Vec<String> = told.try_iter().collect();
    let of = |wanted: &str| from.iter().filter(|address| *address == wanted).count();
    assert_eq!(from.len() % 4, 0, "{from:?}");
    assert_eq!([of("127.0.0.2"), of("127.0.0.3")], [from.len() / 2; 2], "{from:?}");
    assert!(!from.is_empty());
}

#[test]
fn client_and_server_run_where_they_are_pinned_to() {
    let processors = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    // One that this process may use, which need not be the first.
    let first: String =
        processors(process::id()).chars().take_while(char::is_ascii_digit).collect();
    let pinned = ["--duration", "60s", "--pin-client", &first, "--pin-server", &first];
    for (arguments, of_server) in
        [(&pinned[..], first.clone()), (&pinned[..4], processors(process::id()))]
    {
        interrupted(arguments, |pid| {
            let server = server_of(pid);
            // Pinned they are a moment after they have begun.
            let deadline = Instant::now() + PATIENCE;
            let (mut found, wanted) = (None, (first.clone(), of_server));
            while found.as_ref() != Some(&wanted) {
                assert!(Instant::now() < deadline, "{found:?}, and not {wanted:?}");
                found = Some((processors(pid), processors(server)));
                thread::sleep(Duration::from_millis(10));
            }
        });
    }
}

/// The server that a bench has started.
fn server_of(bench: u32) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no server was started");
        let children = std::fs::read_to_string(format!("/proc/{bench}/task/{bench}/children"));
        match children.unwrap().split_whitespace().next() {
            Some(child) => return child.parse().unwrap(),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[test]
fn a_second_signal_ends_it_at_once_and_its_server_with_it() {
    let mut server = 0;
    let pid = |pid: u32| Pid::from_raw(pid.cast_signed()).unwrap();
    let output = interrupted(&["--duration", "60s"], |bench| {
        server = server_of(bench);
        thread::sleep(Duration::from_secs(2));
        // So that it does not end when it is asked to, which keeps the bench waiting.
        kill_process(pid(server), Signal::STOP).unwrap();
        kill_process(pid(bench), Signal::TERM).unwrap();
        thread::sleep(Duration::from_secs(1));
    });
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_to_string(format!("/proc/{server}/cmdline")).is_ok_and(|it| !it.is_empty())
    {
        assert!(Instant::now() < deadline, "its server is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn without_arguments_a_mix_of_loads_ends_in_a_verdict() {
    // The whole of it where there is time.
    let whole = std::env::var_os("ECHOWN_LONG").is_some();
    let began = Instant::now();
    let output = if whole {
        echown().arg("bench").output().unwrap()
    } else {
        interrupted(&[], |_| thread::sleep(Duration::from_secs(12)))
    };
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.contains("One client has its answer in "), "{said}");
    assert!(said.contains("came back as they were sent, without an error"), "{said}");
    if whole {
        assert!((25..90).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        for part in ["clients with threads", "A thousand get", "come and go", "Sixteen streams"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn a_warm_up_is_longer_for_each_connection_unless_it_is_said_how_long() {
    let milliseconds = |time: &Value| {
        time["secs"].as_u64().unwrap() * 1000 + time["nanos"].as_u64().unwrap() / 1_000_000
    };
    let warmup = |arguments: &[&str], plan: &str| {
        let arguments = [arguments, &["--connections", "200", "--format", "json"]].concat();
        let output = echown().arg("bench").args(arguments).output().unwrap();
        let outcome: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        milliseconds(&outcome.pointer(plan).unwrap_or_else(|| panic!("{outcome:#}"))["warmup"])
    };
    let short = ["--duration", "100ms"];
    assert_eq!(warmup(&short, "/plan"), 1200);
    assert_eq!(warmup(&[&short[..], &["--warmup", "30ms"]].concat(), "/plan"), 30);
    let compared = [&["compare", "echown", "--rounds", "1"][..], &short].concat();
    assert_eq!(warmup(&compared, "/scenario/plan"), 700);
}
