//! Options of `echown serve` as environment variables.

use std::process::Command;

use super::server::{Server, echown, exchange, serve};
use crate::common::temp_path::TempPath;

/// Starts a server with these variables only.
fn start(variables: &[(&str, &str)], arguments: &[&str], listeners: usize) -> Server {
    let mut command = echown();
    command.arg("serve").args(arguments).envs(variables.iter().copied());
    Server::run(&mut command, listeners)
}

fn failed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

#[test]
fn every_option_of_the_server_has_a_variable_in_its_help() {
    let output = echown().args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let mut options = 0;
    let mut sections = help.split("\n      --").skip(1);
    // The notes below the options name options, too.
    for section in sections.by_ref() {
        let option =
            section.split(|it: char| !it.is_ascii_lowercase() && it != '-').next().unwrap();
        let name = option.to_uppercase().replace('-', "_");
        assert!(section.contains(&format!("[env: ECHOWN_SERVE_{name}]")), "--{option}: {section}");
        options += 1;
    }
    assert!(options > 30, "{help}");
    assert!(help.contains("ECHOWN_SERVE_MAX_PER_IP=8 is --max-per-ip 8"), "{help}");
}

#[test]
fn a_variable_sets_an_option_and_a_list_is_separated_by_commas() {
    let variables = [
        ("ECHOWN_SERVE_LISTEN", "127.0.0.1:0,127.0.0.1:0"),
        ("ECHOWN_SERVE_STYLE", "staged"),
        ("ECHOWN_SERVE_LOG_FORMAT", "json"),
        // Counts as not set.
        ("ECHOWN_SERVE_MAX_CONNECTIONS", ""),
        ("ECHOWN_SERVE_GRAPH", "false"),
    ];
    let mut server = start(&variables, &[], 2);
    let names = "set by environment variables: ECHOWN_SERVE_STYLE, ECHOWN_SERVE_LISTEN, ";
    assert!(server.seen.iter().any(|line| line.contains(names)), "{:#?}", server.seen);
    assert_eq!(exchange(server.connect(), b"hello\n"), b"hello\n");
    server.wait_for_line("`staged 127.0.0.1:");
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn the_command_line_wins_over_a_variable() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let variables = [("ECHOWN_SERVE_LISTEN", &*taken), ("ECHOWN_SERVE_STYLE", "nonsense")];
    // A list of the command line replaces that of the variable. Its values may contain commas.
    let folder = TempPath::folder("comma");
    let path = folder.join("a,b");
    let unix = format!("unix:{}", path.display());
    let arguments = ["--style", "echo", "--listen", &unix];
    let mut server = start(&variables, &arguments, 0);
    let line = server.wait_for_line("listening on ");
    assert_eq!(line, format!("listening on {unix}"));
    assert!(!server.seen.iter().any(|line| line.contains("environment")), "{:#?}", server.seen);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn an_invalid_value_is_an_error_that_names_the_variable() {
    for (name, value, expected) in [
        ("DRAIN_TIMEOUT", "10", "'10' for 'ECHOWN_SERVE_DRAIN_TIMEOUT': expected a duration"),
        ("LISTEN", "127.0.0.1:0,nowhere", "'nowhere' for 'ECHOWN_SERVE_LISTEN': the port is"),
        ("GRAPH", "yes", "'yes' for 'ECHOWN_SERVE_GRAPH'\n  [possible values: true, false]"),
        ("STYLE", "loud", "'loud' for 'ECHOWN_SERVE_STYLE'\n  [possible values: echo, staged,"),
    ] {
        let name = format!("ECHOWN_SERVE_{name}");
        let stderr = failed(echown().arg("serve").env(name, value));
        assert!(stderr.starts_with(&format!("echown: invalid value {expected}")), "{stderr}");
    }
    // Of two errors, that of the command line is reported, as it is without the variable.
    let mut both = serve(&["127.0.0.1:0"], &["--acceptors", "0"]);
    let stderr = failed(both.env("ECHOWN_SERVE_STYLE", "loud"));
    assert!(stderr.contains("invalid value '0' for '--acceptors <N>'"), "{stderr}");
}

#[test]
fn an_error_of_options_together_says_which_variables_set_some() {
    for (name, value, expected) in [
        ("MAX_FRAME", "1MiB", "--max-frame is for --style broadcast, not --style echo"),
        ("CHAOS_SEED", "7", "the following required arguments were not provided"),
        ("GRAPH", "true", "--graph is for --style callback"),
    ] {
        let name = format!("ECHOWN_SERVE_{name}");
        let stderr = failed(serve(&["127.0.0.1:0"], &[]).env(&name, value));
        assert!(stderr.starts_with(&format!("echown: {expected}")), "{stderr}");
        assert!(stderr.ends_with(&format!("set by environment variables: {name}\n")), "{stderr}");
    }
}

#[test]
fn an_unknown_variable_is_an_error_that_names_the_closest_one() {
    for (unknown, closest) in [
        ("LISTN", "; did you mean ECHOWN_SERVE_LISTEN?"),
        ("MAX_CONNECTION", "; did you mean ECHOWN_SERVE_MAX_CONNECTIONS?"),
        // Of another program, and an alias.
        ("PORT", "; did you mean ECHOWN_SERVE_LISTEN?"),
        ("FORMAT", "; did you mean ECHOWN_SERVE_REPORT?"),
        ("ZZZ", ""),
    ] {
        let name = format!("ECHOWN_SERVE_{unknown}");
        let stderr = failed(serve(&["127.0.0.1:0"], &[]).env(&name, ""));
        let expected = format!("echown: unknown environment variable {name}{closest}\n");
        assert!(stderr.starts_with(&expected), "{stderr}");
        // Other commands have no such variables, and the help works in every environment.
        let others = [&["explain", "leak"][..], &["serve", "--help"], &["help", "serve"]];
        for arguments in others {
            let output = echown().args(arguments).env(&name, "").output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        }
    }
}

#[test]
fn servers_that_bench_starts_ignore_the_variables() {
    let mut command = echown();
    command.args(["bench", "--connections", "2", "--duration", "100ms", "--warmup", "0s"]);
    command.env("ECHOWN_SERVE_STYLE", "broadcast").env("ECHOWN_SERVE_NONSENSE", "1");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
