//! When `echown bench` succeeds: messages came back, every byte was correct, and the server ran
//! until the end. Everything else gives exit code 1 and an error message.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use super::super::broadcast::{frame, try_hear};
use super::super::server::{DEADLINE, echown};
use super::{
    bench, echoing, has_client, measured, outcome_with, output_of, server_of, server_that, started,
    text,
};
use crate::common::reserved::Reserved;
use crate::common::wait_until;

/// Every kind of client, for a server of any kind.
const CLIENTS: &[&[&str]] = &[
    &["--client", "event"],
    &["--client", "event", "--client-threads", "2", "--pipeline", "3"],
    &["--client", "blocking"],
    &["--client", "blocking", "--size", "100KiB"],
    &["--client", "event", "--churn"],
    &["--client", "blocking", "--churn"],
    &["--client", "event", "--rate", "100"],
    &["--client", "blocking", "--rate", "100"],
    &["--client", "event", "--rate", "100", "--churn"],
    &["--client", "blocking", "--rate", "100", "--churn"],
    &["--style", "staged"],
];

/// Runs all of them at the same time against a server, and returns the output of each.
fn all(address: SocketAddr, each: impl Fn(&[&str], Output) + Sync) {
    thread::scope(|threads| {
        for client in CLIENTS {
            let (address, each) = (address.to_string(), &each);
            threads.spawn(move || {
                each(client, bench(&[*client, &[&*address, "--connections", "2"][..]].concat()));
            });
        }
    });
}

/// Waits for the end of a bench that would run for an hour if it did not detect the failure.
fn ended(mut command: Command) -> Output {
    output_of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Reads everything and never replies.
fn silent_server() -> SocketAddr {
    server_that(|mut client| drop(std::io::copy(&mut client, &mut std::io::sink())))
}

fn closing() -> SocketAddr {
    server_that(|mut client| drop(client.read(&mut [0; 64])))
}

#[test]
fn a_run_without_any_reply_verified_nothing_and_gives_exit_code_1() {
    for (address, why) in [(silent_server(), "unanswered"), (closing(), "closed by the server")] {
        all(address, |client, output| {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(1), "{client:?}: {output:?}");
            assert!(out.contains(", nothing verified)"), "{client:?}: {out}");
            assert!(!out.contains("byte verified"), "{client:?}: {out}");
            let sentence = format!("{address}: nothing was verified: no reply arrived");
            assert!(err.contains(&sentence), "{client:?}: {err}");
            // For a connection with two kinds of errors the first one is also printed.
            assert!(err.contains(why) || err.contains("reset"), "{client:?}: {err}");
        });
    }
    let outcome = outcome_with(1, &[&silent_server().to_string(), "--connections", "2"]);
    assert_eq!(outcome["verified"], "nothing", "{outcome:#}");
    assert_eq!(outcome["messages"], 0, "{outcome:#}");
}

#[test]
fn replies_on_idle_connections_alone_verify_nothing() {
    // Idle connections send 16 bytes, the others 64.
    let address = server_that(|mut client| {
        let mut buffer = [0; 64];
        while let Ok(bytes @ 1..) = client.read(&mut buffer) {
            if bytes == 16 && client.write_all(&buffer[..bytes]).is_err() {
                return;
            }
        }
    });
    let output = bench(&[&address.to_string(), "--connections", "1", "--idle", "3"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("nothing was verified"), "{output:?}");
    // The first load detects a server that never replies.
    let silent = server_that(|mut client| drop(client.read(&mut [0; 64])));
    let output = bench(&[&silent.to_string(), "--connections", "1", "--idle", "3"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("failed to connect to ") && stderr.contains("does not reply"),
        "{stderr}"
    );
}

#[test]
fn the_line_of_the_throughput_agrees_with_the_errors() {
    let lying = echoing(|before, bytes| {
        if (before..before + bytes.len() as u64).contains(&1000) {
            bytes[(1000 - before) as usize] ^= 0x20;
        }
    });
    for client in ["event", "blocking"] {
        let address = lying.to_string();
        let arguments = ["--client", client, "--connections", "1", &address];
        let output = bench(&arguments);
        let out = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(out.contains("wrong bytes: 1") && out.contains(", wrong bytes received)"), "{out}");
        assert!(!out.contains("byte verified"), "{out}");
        assert_eq!(outcome_with(1, &arguments)["verified"], "wrong");
    }
    let honest = echoing(|_, _| {}).to_string();
    let output = bench(&[&honest, "--connections", "2"]);
    assert!(text(&output.stdout).contains(", every byte verified)"), "{output:?}");
    assert_eq!(outcome_with(0, &[&honest, "--connections", "2"])["verified"], "whole");
}

/// Echoes five messages of 64 bytes on each connection.
fn for_a_while(then: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    server_that(move |mut client| {
        let mut message = [0; 64];
        for _ in 0..5 {
            if client.read_exact(&mut message).and_then(|()| client.write_all(&message)).is_err() {
                return;
            }
        }
        then(client);
    })
}

#[test]
fn a_server_that_exits_or_stops_replying_before_the_end_is_a_failure() {
    let gone = for_a_while(drop);
    let silent = for_a_while(|mut client| drop(std::io::copy(&mut client, &mut std::io::sink())));
    for address in [gone, silent] {
        for client in ["event", "blocking"] {
            let address = address.to_string();
            // The bench does not wait when no reply can arrive any more.
            let duration = if address == gone.to_string() { "1h" } else { "2s" };
            let mut command = echown();
            command.args(["bench", &address, "--client", client, "--connections", "2"]);
            command.args(["--warmup", "0s", "--duration", duration]);
            let output = ended(command);
            assert_eq!(output.status.code(), Some(1), "{client}: {output:?}");
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert!(err.contains("the server has gone or stopped replying"), "{client}: {err}");
            assert!(out.contains("every received byte verified"), "{client}: {out}");
        }
    }
}

#[test]
fn a_server_of_frames_that_stops_replying_is_a_failure() {
    let greeting_only = server_that(|mut client| {
        let greeting = try_hear(&mut client).unwrap();
        client.write_all(&frame(&greeting)).unwrap();
        let _ = std::io::copy(&mut client, &mut std::io::sink());
    });
    for more in [&[][..], &["--rate", "100"]] {
        let address = greeting_only.to_string();
        let arguments = ["--style", "broadcast", "--connections", "1", &address];
        let output = bench(&[&arguments[..], more].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("nothing was verified"), "{output:?}");
    }
}

#[test]
fn only_the_first_connection_is_waited_for_and_the_wait_is_logged() {
    let address = silent_server().to_string();
    // Each load would wait equally long.
    let arguments = ["--style", "broadcast", "--connections", "64", &address];
    let output = bench(&arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output.stderr);
    let waits = format!("echown: connecting to {address}: 0 of 64\n");
    assert_eq!(stderr.matches(&waits).count(), 1, "{stderr}");
    let failed = format!("failed to connect to {address}: unanswered: the server accepts");
    assert!(stderr.contains(&failed), "{stderr}");
}

#[test]
fn a_comparison_with_a_server_that_never_replies_gives_exit_code_1() {
    let program = env!("CARGO_BIN_EXE_echown");
    // It reads the bytes as the length of a frame that is too long.
    let other = format!("other={program} serve --listen 127.0.0.1:{{port}} --style broadcast");
    for format in ["text", "json"] {
        let arguments = ["bench", "compare", "echown", &other, "--rounds", "1"];
        let more = ["--connections", "2", "--warmup", "20ms", "--format", format];
        let run = |longer: &[&str]| {
            let duration = ["--duration", "100ms"];
            echown().args(arguments).args(more).args(duration).args(longer).output().unwrap()
        };
        // Long enough for the server that replies.
        let output = measured(run, |output| {
            !text(&output.stderr).contains("echown: echown: nothing was verified")
        });
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("other: nothing was verified"), "{stderr}");
        assert!(!stderr.contains("echown: echown: nothing"), "{stderr}");
        if format == "json" {
            let row: Value = serde_json::from_slice(&output.stdout).unwrap();
            let verified = row["servers"].as_array().unwrap().iter().map(|cell| &cell["verified"]);
            assert_eq!(verified.collect::<Vec<_>>(), ["whole", "nothing"], "{row:#}");
        } else {
            assert!(text(&output.stdout).contains("other: nothing was verified"), "{output:?}");
        }
    }
}

#[test]
fn a_chart_omits_runs_without_latencies_and_names_wrong_bytes() {
    let file = std::env::temp_dir().join(format!("echown-{}-verdict.svg", std::process::id()));
    let plot = ["--connections", "1", "--plot", file.to_str().unwrap()];
    let output = bench(&[&plot[..], &[&silent_server().to_string()]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("nothing was verified") && !stderr.contains("cannot draw"), "{stderr}");
    let lying = echoing(|before, bytes| bytes[0] ^= u8::from(before > 6400));
    let output = bench(&[&plot[..], &["--warmup", "0s", &lying.to_string()]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let svg = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(svg.contains("(wrong bytes received)"), "{svg}");
}

#[test]
fn an_address_without_a_server_is_an_immediate_error_with_a_remedy() {
    let reserved = Reserved::new();
    let reserved_address = reserved.address().to_string();
    let missing = format!("unix:/tmp/echown-{}-missing", std::process::id());
    for (address, why) in [(&reserved_address, "refused"), (&missing, "no such socket")] {
        let broadcast = [&["--style", "broadcast"][..], &["--idle", "5"]];
        for client in CLIENTS.iter().chain(&broadcast) {
            let mut command = echown();
            command.args(["bench", address, "--duration", "1h", "--connections", "64"]);
            command.args(*client);
            let output = ended(command);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{client:?}: {stderr}");
            let cause = format!("failed to connect to {address}: {why}: no server listens there");
            assert!(stderr.contains(&cause), "{client:?}: {stderr}");
            assert!(stderr.contains("echown serve --listen"), "{client:?}: {stderr}");
        }
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).unwrap()
}

/// Waits for the end of a process that is not a child of this one.
fn wait_for_the_end(process: u32) {
    let Ok(handle) = pidfd_open(pid(process), PidfdFlags::empty()) else { return };
    let mut polled = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec::try_from(DEADLINE).unwrap();
    let ended = rustix::event::poll(&mut polled, Some(&timeout)).unwrap();
    assert_eq!(ended, 1, "process {process} has not exited");
}

#[test]
fn killing_the_bench_ends_the_server_it_started() {
    let program = env!("CARGO_BIN_EXE_echown");
    let compared = format!("a={program} serve --listen 127.0.0.1:{{port}}");
    let ours = ["--duration", "60s"];
    let foreign = ["compare", &compared, "--duration", "60s"];
    // Another server, which ignores SIGTERM.
    let deaf = ["compare", "a=sh -c 'trap \"\" TERM; while :; do sleep 1; done' {port}"];
    for arguments in [&[][..], &ours, &foreign, &deaf] {
        let mut command = echown();
        command.arg("bench").args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let server = server_of(child.id());
        // The process is the server once the shell has called `exec`.
        let is_shell =
            |name: &str| name.is_empty() || name.contains("exec ") || name.contains("\0bench");
        wait_until("the server to be executed", || {
            let name = std::fs::read_to_string(format!("/proc/{server}/cmdline"));
            !is_shell(&name.unwrap_or_default())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for_the_end(server);
    }
}

#[test]
fn a_started_server_that_exits_during_the_run_gives_exit_code_1() {
    let load = ["--duration", "1h", "--connections", "2", "--warmup", "0s"];
    // A load, the mix, a comparison.
    for arguments in [&load[..], &[], &[&["compare", "echown"][..], &load].concat()] {
        let child = started(arguments);
        let server = server_of(child.id());
        wait_until("a client of the server", || has_client(server));
        kill_process(pid(server), Signal::KILL).unwrap();
        let output = output_of(child);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("echown: the server exited during the run: signal: 9"), "{stderr}");
    }
}
