//! `echown bench`: its result is correct, even for servers that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{self, Child, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::server::{DEADLINE, Server, echown};
use crate::common::reserved::Reserved;
use crate::common::{poll, stall, wait_for, wait_until};

mod compare;
mod file;
mod rate;
mod verdicts;

/// Short: these tests do not measure speed.
const SHORT: [&str; 4] = ["--duration", "300ms", "--warmup", "50ms"];

fn bench(arguments: &[&str]) -> Output {
    echown().arg("bench").args(SHORT).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs a load, and repeats it with longer durations until the output is as expected: on a loaded
/// machine a short run may get no processor time. Panics with the last output if it never is.
#[track_caller]
fn measured(run: impl Fn(&[&str]) -> Output, is_wanted: impl Fn(&Output) -> bool) -> Output {
    let mut longer = [&[][..], &["--duration", "5s"], &["--duration", "20s"]].into_iter();
    let mut last = None;
    let found = longer.find_map(|duration| {
        let output = run(duration);
        let is_it = is_wanted(&output);
        last = Some(output);
        is_it.then(|| last.take())?
    });
    found.unwrap_or_else(|| panic!("unexpected output: {last:?}"))
}

/// The outcome of a success, as JSON.
#[track_caller]
fn outcome(arguments: &[&str]) -> Value {
    outcome_where(arguments, |_| true)
}

/// The outcome of a success, as JSON, of a run that is long enough for the expected output.
#[track_caller]
fn outcome_where(arguments: &[&str], is_wanted: impl Fn(&Value) -> bool) -> Value {
    let json = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).ok();
    let output = measured(
        |longer| bench(&[arguments, &["--format", "json"], longer].concat()),
        |output| output.status.success() && json(output).is_some_and(|it| is_wanted(&it)),
    );
    json(&output).expect("the outcome is JSON")
}

/// The outcome as JSON. Asserts the exit code.
fn outcome_with(code: i32, arguments: &[&str]) -> Value {
    let output = bench(&[arguments, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_without_errors(outcome: &Value) -> bool {
    outcome["errors"].as_object().unwrap().is_empty()
}

/// A server that runs a closure for each connection. It ends with the process.
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

/// Echoes, and passes each read through `change`, with the number of bytes before it.
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
fn a_correct_server_gives_no_error_under_any_load() {
    for shape in SHAPES {
        let outcome = outcome(&[shape, &["--connections", "4"][..]].concat());
        assert!(is_without_errors(&outcome), "{shape:?}: {outcome:#}");
        assert!(outcome["messages"].as_u64().unwrap() > 0, "{shape:?}: {outcome:#}");
        assert_eq!(outcome["established"], 4, "{shape:?}: {outcome:#}");
        // Started by the bench, so that its process is known.
        assert!(outcome["server"]["threads"].as_u64().unwrap() > 1, "{shape:?}: {outcome:#}");
        let latency = &outcome["latency"];
        assert!(latency["p50"].as_f64() <= latency["p99"].as_f64());
        assert!(latency["p99"].as_f64() <= latency["max"].as_f64());
    }
}

#[test]
fn one_wrong_byte_gives_exit_code_1_for_every_client() {
    let address = echoing(|before, bytes| {
        if (before..before + bytes.len() as u64).contains(&1000) {
            bytes[(1000 - before) as usize] ^= 0x20;
        }
    });
    for client in ["event", "blocking"] {
        let output = bench(&[&address.to_string(), "--client", client, "--connections", "1"]);
        assert_eq!(output.status.code(), Some(1), "{client}: {output:?}");
        assert!(text(&output.stdout).contains("wrong bytes: 1"), "{output:?}");
        assert!(text(&output.stderr).contains("replies differed from the messages that were sent"));
    }
}

#[test]
fn lost_or_duplicated_bytes_count_as_wrong_bytes() {
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
fn a_changed_or_reordered_frame_counts_as_a_wrong_byte() {
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
fn a_server_that_closes_or_never_replies_is_reported_by_kind() {
    let closing = server_that(|mut client| {
        let _ = client.read(&mut [0; 64]);
    });
    let silent = server_that(|mut client| {
        // Reads, so that it detects the end of the client, and never writes.
        let _ = std::io::copy(&mut client, &mut std::io::sink());
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
fn a_connection_with_few_replies_counts_as_starved() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let address = server_that(move |mut client| {
        let is_first = accepted.fetch_add(1, Ordering::Relaxed) == 0;
        let mut buffer = [0; 64];
        while client.read_exact(&mut buffer).is_ok() && client.write_all(&buffer).is_ok() {
            if is_first {
                stall(Duration::from_millis(100));
            }
        }
    });
    let output = bench(&[&address.to_string(), "--connections", "4"]);
    assert!(text(&output.stdout).contains("1 connection got less"), "{output:?}");
}

#[test]
fn a_lost_idle_connection_is_an_error() {
    let address = server_that(|mut client| {
        // An idle connection sends 16 bytes; it is closed soon after.
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
fn a_wrong_byte_to_an_idle_connection_is_counted() {
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
fn event_loops_do_not_outnumber_connections() {
    let stdout =
        |arguments: &[&str]| text(&bench(arguments).stdout).lines().next().unwrap().to_owned();
    let few = stdout(&["--client-threads", "2"]);
    assert!(few.ends_with("client: 2 event loops"), "one load, not a mix: {few}");
    let many = stdout(&["--client-threads", "9", "--connections", "4"]);
    assert!(many.ends_with("client: 4 event loops"), "{many}");
}

#[test]
fn impossible_arguments_are_errors_with_a_remedy() {
    let reserved = Reserved::new();
    let reserved_address = reserved.address().to_string();
    for (arguments, code, expected) in [
        (&[&*reserved_address][..], 1, "failed to connect to 127.0.0.1"),
        (&[&reserved_address, "--rate", "99"], 1, ": refused"),
        (&[&reserved_address, "--rate", "99", "--client", "blocking"], 1, ": refused"),
        (&[&reserved_address, "--idle", "2"], 1, ": refused: no server listens there"),
        (&["--pid", "1"], 2, "--pid needs the address of a running server"),
        (
            &[&reserved_address, "--pin-server", "0"],
            2,
            "--pin-server cannot be used with an address",
        ),
        (&["--pin-client", "1023"], 2, "failed to run on the processors 1023"),
        (&["--client", "blocking", "--client-threads", "2"], 2, "--client-threads needs"),
        (&["--churn", "--pipeline", "2"], 2, "--pipeline cannot be used"),
        (&["--rate", "9", "--pipeline", "2"], 2, "--pipeline cannot be used"),
        (&["--client", "blocking", "--connections", "9000000"], 1, "exceed the limit of"),
        (&["--style", "broadcast", "--size", "15"], 2, "--size 16 or more"),
        (&["--style", "broadcast", "--client", "blocking"], 2, "needs --client event"),
        (&["--rate=-5"], 2, "expected messages per second"),
        (&["--size", "0"], 2, "size must be at least 1 byte"),
    ] {
        let output = bench(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    for (arguments, code, expected) in [
        (&["a=cat"][..], 2, "{port} in the command"),
        (&["a=false {port}"], 1, "exited at once"),
        (&["echown", "--load", "none"], 2, "possible values: latency-1, throughput-64"),
    ] {
        let output = echown().args(["bench", "compare"]).args(arguments).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

/// An echo that counts the messages of all its connections.
fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let address = echoing(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    (address, count)
}

#[test]
fn sigint_and_sigterm_end_a_run_early_with_partial_figures() {
    for signal in [Signal::INT, Signal::TERM] {
        let (address, messages) = counting();
        let address = address.to_string();
        let arguments = [&*address, "--duration", "1h", "--warmup", "0s", "--connections", "2"];
        let output = interrupted(signal, &arguments, |_| {
            wait_until("the run to be under way", || messages.load(Ordering::Relaxed) > 100);
        });
        assert_eq!(output.status.code(), Some(0), "{signal:?}: {output:?}");
        assert!(text(&output.stdout).contains("the run ended early"), "{signal:?}: {output:?}");
    }
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

/// The client of a load is a program with a custody table, as the server is.
#[test]
fn the_custody_table_of_a_load_lists_every_open_descriptor() {
    for client in ["event", "blocking"] {
        let echoed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&echoed);
        // Each connection counts once, at its hundredth message.
        let address = echoing(move |before, _| {
            counted.fetch_add(usize::from(before == 64 * 100), Ordering::Relaxed);
        });
        let address = address.to_string();
        let arguments = ["bench", &address, "--duration", "1h", "--warmup", "0s"];
        let arguments = [&arguments[..], &["--client", client]].concat();
        let mut bench = Server::run(echown().args(arguments).args(["--connections", "5"]), 0);
        wait_until("all connections to be in use", || echoed.load(Ordering::Relaxed) == 5);
        let open = bench.open_descriptors().into_iter();
        // Files for reading processor times may be open at this moment.
        let open = open.filter(|(_, target)| !target.starts_with("/proc"));
        let open: Vec<i32> = open.map(|(number, _)| number).collect();
        assert!(open.len() >= 5 + 3, "{open:?}");
        bench.signal(Signal::USR1);
        // Every descriptor has a line that begins with its kind, or with its number.
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

/// A running bench whose outputs are piped.
fn started(arguments: &[&str]) -> Child {
    let mut command = echown();
    command.arg("bench").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Starts a bench, and ends it with a signal when `look` has returned.
fn interrupted(signal: Signal, arguments: &[&str], look: impl FnOnce(u32)) -> Output {
    let child = started(arguments);
    look(child.id());
    kill_process(Pid::from_child(&child), signal).unwrap();
    output_of(child)
}

/// Waits for the end of a bench. Kills it at the deadline, because it may hang.
#[track_caller]
fn output_of(mut child: Child) -> Output {
    if poll(DEADLINE, || child.try_wait().unwrap()).is_none() {
        child.kill().unwrap();
        panic!("it does not exit: {:?}", child.wait_with_output());
    }
    child.wait_with_output().unwrap()
}

#[test]
fn the_cost_of_a_server_is_measured_by_its_process() {
    let server = Server::start(&[]);
    let address = server.address().to_string();
    let pid = server.pid().to_string();
    let without = outcome(&[&address, "--connections", "3"]);
    assert_eq!(without["server"], Value::Null, "{without:#}");
    // The kernel counts processor time in steps, and a short run may take none.
    let micros = |outcome: &Value| outcome["server"]["micros_per_message"].as_f64();
    let with = outcome_where(&[&address, "--connections", "3", "--pid", &pid], |outcome| {
        micros(outcome).is_some_and(|micros| micros > 0.0)
    });
    assert!(with["server"]["threads"].as_u64().unwrap() > 3, "{with:#}");
    let output = bench(&[&address, "--pid", "999999999"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("999999999"), "{output:?}");
}

#[test]
fn connections_use_the_given_source_addresses_in_turn() {
    let (sender, receiver) = mpsc::channel();
    let address = server_that(move |mut client| {
        sender.send(client.peer_addr().unwrap().ip().to_string()).unwrap();
        let _ = std::io::copy(&mut client.try_clone().unwrap(), &mut client);
    });
    let sources = ["--source", "127.0.0.2", "--source", "127.0.0.3"];
    outcome(&[&[&*address.to_string(), "--connections", "4"], &sources[..]].concat());
    // On a busy machine the bench may have run a second time.
    let from: Vec<String> = receiver.try_iter().collect();
    let of = |wanted: &str| from.iter().filter(|address| *address == wanted).count();
    assert_eq!(from.len() % 4, 0, "{from:?}");
    assert_eq!([of("127.0.0.2"), of("127.0.0.3")], [from.len() / 2; 2], "{from:?}");
    assert!(!from.is_empty());
}

#[test]
fn client_and_server_run_on_the_cpus_they_are_pinned_to() {
    let processors = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    // A CPU that this process may use, which need not be the first.
    let first: String =
        processors(process::id()).chars().take_while(char::is_ascii_digit).collect();
    let pinned = ["--duration", "60s", "--pin-client", &first, "--pin-server", &first];
    for (arguments, of_server) in
        [(&pinned[..], first.clone()), (&pinned[..4], processors(process::id()))]
    {
        interrupted(Signal::TERM, arguments, |pid| {
            let server = server_of(pid);
            // They are pinned a moment after they have started.
            let wanted = (first.clone(), of_server);
            wait_until(&format!("{wanted:?}"), || (processors(pid), processors(server)) == wanted);
        });
    }
}

/// The server that a bench started.
fn server_of(bench: u32) -> u32 {
    wait_for("a server to be started", || {
        let children = std::fs::read_to_string(format!("/proc/{bench}/task/{bench}/children"));
        children.unwrap().split_whitespace().next().map(|child| child.parse().unwrap())
    })
}

/// Whether a process has a TCP connection.
fn has_client(process: u32) -> bool {
    const ESTABLISHED: &str = "01";
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten();
    let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let own: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[3] == ESTABLISHED && own.contains(&format!("socket:[{}]", fields[9]))
    })
}

#[test]
fn a_second_signal_ends_the_bench_and_its_server_immediately() {
    let mut bench = started(&["--duration", "1h"]);
    let server = server_of(bench.id());
    wait_until("the run to be under way", || has_client(server));
    // A stopped server does not handle SIGTERM, so the bench waits for it.
    kill_process(Pid::from_raw(server.cast_signed()).unwrap(), Signal::STOP).unwrap();
    // A signal that follows soon counts as the same signal, so they are sent one after the other.
    wait_until("the bench to end", || {
        let has_ended = bench.try_wait().unwrap().is_some();
        if !has_ended {
            kill_process(Pid::from_child(&bench), Signal::TERM).unwrap();
        }
        has_ended
    });
    let output = output_of(bench);
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let name = || std::fs::read_to_string(format!("/proc/{server}/cmdline"));
    wait_until("its server to be gone", || name().map_or(true, |name| name.is_empty()));
}

#[test]
fn without_arguments_a_mix_of_loads_runs_and_gives_a_verdict() {
    // Reads all of the output.
    let whole = std::env::var_os("ECHOWN_LONG").is_some();
    let began = Instant::now();
    let mut bench = started(&[]);
    let mut lines = BufReader::new(bench.stdout.take().unwrap()).lines();
    let mut output_text = String::new();
    if !whole {
        // The first load has ended when its figures are printed.
        while !output_text.contains("latency ") {
            output_text += &(lines.next().expect("it shows figures").unwrap() + "\n");
        }
        kill_process(Pid::from_child(&bench), Signal::TERM).unwrap();
    }
    lines.for_each(|line| output_text += &(line.unwrap() + "\n"));
    let output = output_of(bench);
    assert_eq!(output.status.code(), Some(0), "{output:?} {output_text}");
    assert!(output_text.contains("One client: median round trip "), "{output_text}");
    assert!(output_text.contains("replies were correct, without an error"), "{output_text}");
    if whole {
        // It measures for this long at least; a loaded machine takes longer.
        assert!(began.elapsed() >= Duration::from_secs(25), "{:?}", began.elapsed());
        for part in ["with a thread each", "1,000 clients", "Short connections", "16 streams"] {
            assert!(output_text.contains(part), "{part}: {output_text}");
        }
    }
}

#[test]
fn the_default_warm_up_grows_with_the_number_of_connections() {
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
    assert_eq!(warmup(&compared, "/load/plan"), 700);
}
