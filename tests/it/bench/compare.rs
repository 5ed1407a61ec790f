//! `echown bench compare`: servers measured in alternating rounds.

use std::process::{self, Command};

use serde_json::Value;

use super::super::server::echown;
use super::text;

/// Long enough for a reply even when other tests load the machine: without a reply the run fails.
const LOAD: [&str; 4] = ["--duration", "1s", "--warmup", "50ms"];

#[test]
fn a_peer_by_name_needs_the_peers_program_and_a_known_name() {
    let directory = std::env::temp_dir().join(format!("echown-peers-{}", process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    // Written by another process: a file that this process has open for writing while another
    // thread starts a process could not be executed.
    let program = directory.join("echown");
    let copied =
        Command::new("cp").arg(env!("CARGO_BIN_EXE_echown")).arg(&program).status().unwrap();
    assert!(copied.success());
    let rejected = || {
        let output = Command::new(&program).args(["bench", "compare", "tok"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr).to_owned()
    };
    let output_text = rejected();
    assert!(
        output_text.contains("build it with `cargo build --release -p echown-peers`"),
        "{output_text}"
    );
    let lines = "printf '#!/bin/sh\necho tik  a server\necho tak  another\n' > echown-peers";
    let write = format!("{lines} && chmod +x echown-peers");
    let written = Command::new("sh").args(["-c", &write]).current_dir(&directory).status().unwrap();
    assert!(written.success());
    let output_text = rejected();
    assert!(
        output_text.contains("no server `tok`; available: echown,")
            && output_text.contains("tik, tak"),
        "{output_text}"
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn servers_are_compared_in_alternating_rounds() {
    let program = env!("CARGO_BIN_EXE_echown");
    let slower = format!("slow={program} serve --listen 127.0.0.1:{{port}} --ownership full");
    let arguments = ["bench", "compare", "echown", &slower, "--rounds", "2", "--connections", "2"];
    let output = echown().args(arguments).args(LOAD).args(["--format", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cells = row["servers"].as_array().unwrap();
    let names: Vec<&str> = cells.iter().map(|cell| cell["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["echown", "slow"]);
    assert_eq!(cells[0]["ratio"], 1.0, "it is compared with itself");
    // Other tests also use the machine, so rounds may be dropped.
    let count = |what: &str| row[what].as_u64().unwrap();
    assert_eq!(count("rounds_requested"), 2, "{row:#}");
    assert!(count("rounds") >= 1 && count("rounds") + count("rounds_dropped") >= 2, "{row:#}");
    let output = echown().args(arguments).args(LOAD).args(["--load", "churn"]).output().unwrap();
    let stdout = text(&output.stdout);
    assert!(stdout.contains("| server | thousand connections/s |"), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("| echown |")).count(), 1, "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("| slow |")).count(), 1, "{stdout}");
}

#[test]
fn options_override_the_values_of_a_named_load() {
    let arguments =
        ["bench", "compare", "echown", "--load", "idle", "--idle", "50", "--rounds", "1"];
    let output = echown().args(arguments).args(LOAD).args(["--connections", "3"]).output().unwrap();
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout.contains("3 connections of 64 B and 50 idle ones"), "{stdout}");
}

#[test]
fn echown_servers_are_compared_in_every_style() {
    for style in ["staged", "broadcast", "callback"] {
        let arguments = ["bench", "compare", "echown", "--style", style, "--rounds", "1"];
        let output =
            echown().args(arguments).args(LOAD).args(["--connections", "2"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{style}: {output:?}");
        assert!(text(&output.stdout).contains("| echown |"), "{style}: {output:?}");
    }
}

#[test]
fn the_parking_server_is_compared_by_name_with_plain_echo_only() {
    let arguments = ["bench", "compare", "echown", "echown-park", "echown-park-off"];
    let load = ["--connections", "2", "--rounds", "1"];
    let output = echown().args(arguments).args(load).args(LOAD).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stdout = text(&output.stdout);
    for name in ["echown", "echown-park", "echown-park-off"] {
        assert!(stdout.contains(&format!("| {name} |")), "{stdout}");
    }
    let output = echown().args(arguments).args(["--style", "staged"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("`echown-park` needs --style echo"), "{stderr}");
}
