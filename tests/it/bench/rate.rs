//! The open loop (`--rate`): messages are due at a rate, regardless of earlier ones.

use std::io::Read;
use std::net::TcpListener;
use std::process::Output;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::super::server::{Server, echown};
use super::{SHORT, bench, echoing, measured, outcome, outcome_with, server_that, text};
use crate::common::stall;

#[test]
fn at_a_rate_a_server_stall_counts_for_all_messages_due_in_it() {
    // Stalls once, for half of the run.
    let stalling = || {
        echoing(|before, bytes| {
            if (before..before + bytes.len() as u64).contains(&6400) {
                stall(Duration::from_millis(500));
            }
        })
    };
    let arguments = |address: &str, more: &[&str]| -> Value {
        let all = [&["--duration", "1s", "--connections", "1", address], more].concat();
        outcome(&all)
    };
    let open = arguments(&stalling().to_string(), &["--rate", "1000"]);
    let p90 = open["latency"]["p90"].as_f64().unwrap();
    assert!(p90 > 200_000.0, "{open:#}");
    // In a closed loop the stall would appear in one measurement only.
    let closed = arguments(&stalling().to_string(), &[]);
    let p90 = closed["latency"]["p90"].as_f64().unwrap();
    assert!(p90 < 100_000.0, "{closed:#}");
    assert!(closed["latency"]["max"].as_f64().unwrap() > 400_000.0, "{closed:#}");
}

#[test]
fn at_a_rate_a_stall_until_the_end_of_the_run_is_counted() {
    for client in ["event", "blocking"] {
        let stalling = echoing(|before, bytes| {
            if (before..before + bytes.len() as u64).contains(&(64 * 700)) {
                stall(Duration::from_millis(900));
            }
        });
        let arguments = ["--rate", "1000", "--duration", "1s", "--connections", "1"];
        let outcome =
            outcome(&[&arguments[..], &["--client", client, &stalling.to_string()]].concat());
        let p90 = outcome["latency"]["p90"].as_f64().unwrap();
        assert!(p90 > 400_000.0, "{client}: {outcome:#}");
    }
}

#[test]
fn at_a_rate_messages_due_on_a_lost_connection_are_reported() {
    for client in ["event", "blocking"] {
        let closing = server_that(|mut client| {
            let _ = client.read(&mut [0; 64]);
        });
        let arguments =
            ["--rate", "1000", "--duration", "2s", "--connections", "1", "--client", client];
        let outcome = outcome_with(1, &[&arguments[..], &[&closing.to_string()]].concat());
        let errors = |kind: &str| outcome["errors"][kind].as_u64().unwrap_or(0);
        // The first few are sent before the loss is detected.
        let (lost, due) = (errors("unanswered"), errors("scheduled without a connection"));
        assert!(due > 100, "{client}: {outcome:#}");
        assert_eq!(lost + due, 2050, "{client}: each message is reported: {outcome:#}");
    }
}

#[test]
fn at_a_rate_messages_that_were_never_sent_are_reported() {
    // A client that only sends is a slow reader: its send queue must hold all that it sends.
    let server = Server::start(&["--style", "broadcast", "--max-send-queue", "1GiB"]);
    let roomy = server.address().to_string();
    for more in [
        &["--client", "event"][..],
        &["--client", "event", "--churn"],
        &["--client", "blocking"],
        &[&*roomy, "--style", "broadcast"],
    ] {
        let arguments = ["--rate", "1e9", "--connections", "1"];
        let outcome = outcome(&[&arguments[..], more].concat());
        let never = outcome["errors"]["scheduled but never sent"].as_u64().unwrap_or(0);
        assert!(never > 100_000_000, "{more:?}: {outcome:#}");
        // No message was due during the measurement: this must not give a latency of zero.
        assert!(outcome["latency"].is_null(), "{more:?}: {outcome:#}");
    }
    let unknown = ["--rate", "1e9", "--connections", "1"];
    let run = |longer: &[&str]| bench(&[&unknown, longer].concat());
    let output = measured(run, |output| output.status.success());
    let stdout = text(&output.stdout);
    assert!(stdout.contains("latency     unknown") && !stdout.contains("p50"), "{stdout}");
    let load = ["--load", "latency-1", "--rounds", "1", "--rate", "1e9"];
    let arguments = [&["bench", "compare", "echown"][..], &load].concat();
    let run = |longer: &[&str]| {
        let short = [&SHORT[..], &["--connections", "1"]].concat();
        echown().args(&arguments).args(short).args(longer).output().unwrap()
    };
    let row = |output: &Output| {
        let stdout = text(&output.stdout);
        stdout.lines().find(|line| line.starts_with("| echown |")).map(str::to_owned)
    };
    // A run without replies has no row.
    let row = row(&measured(run, |output| row(output).is_some())).expect("it has a row");
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    assert_eq!(cells[2..8], ["-"; 6], "figure, ratio, p99 and their ranges in {row}");
}

#[test]
fn a_server_that_exits_with_many_messages_due_is_one_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        // Replies slowly, so that many messages are due, and then exits.
        for client in listener.incoming().map_while(Result::ok).take(40) {
            stall(Duration::from_millis(10));
            drop(client);
        }
    });
    let arguments = ["--churn", "--rate", "100000", "--duration", "1s", "--connections", "2"];
    let outcome = outcome_with(1, &[&arguments[..], &[&address]].concat());
    assert!(
        outcome["errors"]["scheduled but never sent"].as_u64().unwrap_or(0) > 50_000,
        "{outcome:#}"
    );
    assert!(outcome["errors"]["refused"].as_u64().unwrap_or(0) > 0, "{outcome:#}");
}

#[test]
fn a_rate_above_the_servers_throughput_gives_a_warning() {
    let slow = echoing(|_, _| stall(Duration::from_millis(10)));
    let address = slow.to_string();
    let outcome = outcome(&[&address, "--rate", "5000", "--connections", "1", "--size", "1000"]);
    let warnings = outcome["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|it| it["kind"] == "rate-missed"), "{outcome:#}");
}
