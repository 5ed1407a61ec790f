//! Error messages of the program: one prefix, the operation that failed, the cause, and what to do.

use std::process::Output;

use super::hostile::as_unprivileged_user;
use super::server::{Server, echown, serve, without_variables};
use crate::common::{require_tool, temp_path::TempPath};

/// The message for every address that does not parse.
const ADDRESSES: &str =
    "expected ADDRESS:PORT, [IPv6]:PORT, :PORT (all addresses), PORT or unix:PATH";

/// The exit code of wrong arguments.
const USAGE: i32 = 2;

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Arguments, the exit code, and the first line of standard error, whole or from its beginning.
#[track_caller]
fn assert_error(arguments: &[&str], code: i32, expected: &str) {
    let output = echown().args(arguments).output().unwrap();
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(stderr.starts_with(&format!("echown: {expected}")), "{arguments:?}: {stderr}");
    for internal in ["os error 24", "parse", "invalid digit", "target type", "Some(", "error: "] {
        assert!(!stderr.contains(internal), "{arguments:?} print {internal:?}: {stderr}");
    }
}

/// The message for an invalid value, by the option's usage and the reason.
#[track_caller]
fn assert_value(arguments: &[&str], option: &str, reason: &str) {
    let value = arguments.last().unwrap();
    let value = value.split_once('=').filter(|_| value.starts_with("--")).map_or(*value, |it| it.1);
    assert_error(arguments, USAGE, &format!("invalid value '{value}' for '{option}': {reason}\n"));
}

#[test]
fn an_invalid_address_is_an_error_with_the_reason_and_the_valid_forms() {
    for (subcommand, option) in [
        (&["serve", "--listen"][..], "--listen <ADDR>"),
        (&["client"], "[ADDR]"),
        (&["bench"], "[ADDR]"),
    ] {
        for (address, why) in [
            ("nowhere", "the port is missing, as in `nowhere:3000`"),
            ("127.0.0.1", "the port is missing, as in `127.0.0.1:3000`"),
            ("[::1]", "the port is missing, as in `[::1]:3000`"),
            ("::1", "an IPv6 address is in brackets, as in `[::1]:3000`"),
            ("fe80::1%eth0:3000", "an IPv6 address is in brackets, as in `[fe80::1%eth0]:3000`"),
            ("70000", "a port is a number from 0 to 65535"),
            ("127.0.0.1:http", "`http` is not a port, which is a number from 0 to 65535"),
            ("http://127.0.0.1:3000", "an address has no scheme: omit `http://`"),
            ("/run/echo", "the path of a Unix socket is written `unix:/run/echo`"),
            ("256.0.0.1:3000", "`256.0.0.1` is not an IPv4 address"),
            ("[*]:3000", "`[*]` is not an IPv6 address"),
            ("", "it is empty"),
        ] {
            let arguments = [subcommand, &[address]].concat();
            assert_value(&arguments, option, &format!("{why}; {ADDRESSES}"));
        }
    }
}

#[test]
fn a_failed_bind_is_an_error_with_its_cause_and_a_remedy() {
    let long = format!("unix:/{}", "a".repeat(120));
    for (address, cause) in [
        ("192.0.2.1:0", "this machine does not have this address; `ip address` lists those it has"),
        (
            "[fe80::1]:0",
            "a link-local address needs its network interface, as in `[fe80::1%eth0]:3000`",
        ),
        ("[fe80::1%4711]:0", "this machine has no such network interface; `ip link` lists them"),
        ("[fe80::1%nosuch0]:0", "`nosuch0` is not a network interface of this machine"),
        ("nosuch.invalid:0", "the host `nosuch.invalid` has no known address ("),
        ("unix:/nonexistent/x", "its directory does not exist; create it or choose another path"),
        ("unix:/proc/self/status/x", "its parent is a file, not a directory; choose another path"),
        ("unix:/", "a file that is not a socket exists there; remove it or choose another path"),
        (&long, "a path has at most 107 bytes, but this one has 121; choose another path"),
    ] {
        if address.contains("fe80") && !std::path::Path::new("/proc/net/if_inet6").exists() {
            eprintln!("skipped: {address}: this system has no IPv6");
            continue;
        }
        assert_error(
            &["serve", "--listen", address],
            1,
            &format!("failed to listen on {address}: {cause}"),
        );
    }
}

#[test]
fn an_address_given_twice_is_not_blamed_on_another_program() {
    let busy = Server::start(&[]);
    let taken = busy.address().to_string();
    assert_error(
        &["serve", "--listen", &taken],
        1,
        &format!(
            "failed to listen on {taken}: in use by another program; stop that program or choose another"
        ),
    );
    drop(busy);
    let folder = std::env::temp_dir().join(format!("echown-twice-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = format!("unix:{}", folder.join("socket").display());
    let detour = format!("unix:{}/./socket", folder.display());
    let everywhere = format!("0.0.0.0:{}", taken.rsplit(':').next().unwrap());
    let all = everywhere.replace("0.0.0.0", "");
    let star = everywhere.replace("0.0.0.0", "*");
    let twice = "listed twice; list each address once";
    let overlaps =
        |other: &str| format!("it overlaps with {other}, which this server also listens on");
    for (first, second, named, cause) in [
        (&taken, &taken, &taken, twice.to_owned()),
        (&path, &path, &path, twice.to_owned()),
        (&path, &detour, &detour, twice.to_owned()),
        (&everywhere, &taken, &taken, overlaps(&everywhere)),
        (&taken, &everywhere, &everywhere, overlaps(&taken)),
        (&taken, &all, &star, overlaps(&taken)),
    ] {
        let arguments = ["serve", "--listen", first, "--listen", second];
        assert_error(&arguments, 1, &format!("failed to listen on {named}: {cause}"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_wildcard_address_covers_both_ip_versions() {
    for written in [":0", "*:0"] {
        let mut server = Server::start_on(&[written], &["--acceptors", "2"]);
        let port = server.address().port();
        let mut hosts = vec!["127.0.0.1"];
        if server.address().is_ipv6() {
            hosts.push("::1");
        }
        for host in hosts {
            let client = std::net::TcpStream::connect((host, port)).unwrap();
            assert_eq!(super::server::exchange(client, b"hello"), b"hello", "{written} by {host}");
        }
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_port_alone_means_loopback_for_servers_and_clients() {
    let server = Server::start_on(&["0"], &["--style", "staged"]);
    assert!(server.address().ip().is_loopback());
    let port = server.address().port();
    for address in [port.to_string(), format!(":{port}"), format!("localhost:{port}")] {
        let client = ["client", &address, "--workers", "1", "--count", "1"];
        let output = echown().args(client).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{address}: {output:?}");
    }
}

#[test]
fn permission_denied_is_not_always_explained_by_a_low_port() {
    let Some((mut command, _copy)) = as_unprivileged_user("low port") else {
        eprintln!("skipped: needs root, to become a user without privileges");
        return;
    };
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if start.trim().parse::<u16>().unwrap() > 80 {
        let rejected = command.args(["--listen", "127.0.0.1:80"]).output().unwrap();
        let expected = format!(
            "echown: failed to listen on 127.0.0.1:80: ports below {} need the capability \
             CAP_NET_BIND_SERVICE; choose a higher port with --listen\n",
            start.trim()
        );
        assert_eq!(stderr(&rejected), expected);
    }
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", "trace=bind", "-e", "inject=bind:error=EPERM"]);
    let program = serve(&["127.0.0.1:0"], &[]);
    strace.arg(program.get_program()).args(program.get_args());
    let rejected = without_variables(&mut strace).output();
    let rejected = rejected.ok().filter(|it| it.status.code() == Some(1));
    if !require_tool("strace(1) with the right to trace", rejected.is_some()) {
        return;
    }
    let rejected = rejected.unwrap();
    let expected = "echown: failed to listen on 127.0.0.1:0: forbidden by a rule of this system, such as \
                    a seccomp filter; choose another address with --listen\n";
    assert_eq!(stderr(&rejected), expected);
}

#[test]
fn invalid_numbers_durations_and_sizes_state_what_is_expected() {
    let whole = "expected a whole number, 1 or more";
    let any = "expected a whole number, 0 or more";
    let large = "the number is too large";
    let huge = "9".repeat(30);
    for (start, option, value) in [
        (&["serve", "--acceptors"][..], "--acceptors <N>", "x"),
        (&["serve", "--acceptors"], "--acceptors <N>", ""),
        (&["serve", "--acceptors"], "--acceptors <N>", "0"),
        (&["serve", "--acceptors"], "--acceptors <N>", "-1"),
        (&["serve", "--max-connections"], "--max-connections <N>", "1e3"),
        (&["serve", "--max-per-ip"], "--max-per-ip <N>", "0"),
        (&["client", "--workers"], "--workers <N>", "0"),
        (&["client", "--count"], "--count <N>", "0"),
        (&["client", "--count"], "--count <N>", "-1"),
        (&["bench", "--connections"], "--connections <N>", "many"),
        (&["bench", "--pipeline"], "--pipeline <N>", "0"),
        (&["bench", "--client-threads"], "--client-threads <N>", "x"),
        (&["bench", "compare", "echown", "--rounds"], "--rounds <N>", "x"),
    ] {
        assert_value(&[start, &[value]].concat(), option, whole);
        assert_value(&[start, &[huge.as_str()]].concat(), option, large);
    }
    for (start, option, value) in [
        (&["serve", "--chaos=leak=1", "--chaos-seed"][..], "--chaos-seed <N>", "x"),
        (&["serve", "--faults=all=0.1", "--faults-seed"], "--faults-seed <N>", "-1"),
        (&["bench", "--idle"], "--idle <N>", "-1"),
    ] {
        assert_value(&[start, &[value]].concat(), option, any);
        assert_value(&[start, &[huge.as_str()]].concat(), option, large);
    }
    let time = "expected a duration with a unit, such as `500ms`, `5s` or `1h30m`";
    for (subcommand, option) in [
        ("serve", "--idle-timeout"),
        ("serve", "--write-timeout"),
        ("serve", "--drain-timeout"),
        ("serve", "--request-timeout"),
        ("client", "--pause"),
        ("client", "--retry"),
        ("client", "--reply-timeout"),
        ("bench", "--duration"),
        ("bench", "--warmup"),
    ] {
        for value in ["5", "x", "", "-1s"] {
            let written = format!("{option}={value}");
            assert_value(&[subcommand, &written], &format!("{option} <DURATION>"), time);
        }
        let written = format!("{option}=400d");
        let option = format!("{option} <DURATION>");
        assert_value(&[subcommand, &written], &option, "expected at most 365d");
    }
    let size = "expected a size such as `65536`, `64KiB` or `16MiB`";
    for (subcommand, option) in [
        ("serve", "--max-request"),
        ("serve", "--max-frame"),
        ("serve", "--max-send-queue"),
        ("client", "--max-frame"),
        ("bench", "--size"),
    ] {
        for value in ["x", "", "1.5", "-5", "5zb", &huge] {
            let written = format!("{option}={value}");
            assert_value(&[subcommand, &written], &format!("{option} <SIZE>"), size);
        }
        let rejected = format!("size must be at least 1 byte; {size}");
        assert_value(&[subcommand, option, "0"], &format!("{option} <SIZE>"), &rejected);
    }
    for (option, usage, value, expected) in [
        ("--pid", "--pid <PID>", "x", "expected a process ID, such as `4711`"),
        ("--pid", "--pid <PID>", "-5", "expected a process ID, such as `4711`"),
        (
            "--source",
            "--source <ADDR>",
            "x",
            "expected an IP address without a port, such as `127.0.0.2`",
        ),
        ("--pin-client", "--pin-client <CPUS>", "x", "expected CPU numbers, such as `0` or `0,2`"),
        ("--pin-server", "--pin-server <CPUS>", "-1", "expected CPU numbers, such as `0` or `0,2`"),
        ("--rate", "--rate <R>", "-1", "expected messages per second, more than 0, such as `5000`"),
    ] {
        assert_value(&["bench", option, value], usage, expected);
    }
}

/// 0 disables a wait of the program, and is an error where it would end every client.
#[test]
fn a_duration_of_0_follows_one_rule_for_all_options() {
    let rejected = "timeout must be greater than 0";
    for (subcommand, option) in [
        ("serve", "--idle-timeout"),
        ("serve", "--write-timeout"),
        ("serve", "--request-timeout"),
        ("client", "--reply-timeout"),
    ] {
        for value in ["0", "0s"] {
            let usage = format!("{option} <DURATION>");
            assert_value(&[subcommand, option, value], &usage, rejected);
        }
    }
    let measured = "duration must be greater than 0";
    assert_value(&["bench", "--duration", "0s"], "--duration <DURATION>", measured);
    let server = Server::start(&["--drain-timeout", "0s"]);
    let _idle = server.connect();
    assert_eq!(server.stop().0, Some(0));
    let client = ["client", "--pause=0s", "--retry=0", "--workers=1", "--count=1", "127.0.0.1:1"];
    let output = echown().args(client).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "nothing listens there: {output:?}");
}

#[test]
fn unknown_words_are_errors_that_list_the_known_ones() {
    for (arguments, option, known) in [
        (&["serve", "--ownership", "loud"][..], "--ownership <LEVEL>", "off, on, full"),
        (&["serve", "--on-leak", "cry"], "--on-leak <POLICY>", "ignore, warn, fail, abort"),
        (
            &["serve", "--on-violation", "cry"],
            "--on-violation <POLICY>",
            "ignore, warn, fail, abort",
        ),
        (
            &["serve", "--log-level", "loud"],
            "--log-level <LEVEL>",
            "off, error, warn, info, debug, trace",
        ),
        (&["serve", "--log-format", "xml"], "--log-format <FORMAT>", "text, json"),
        (&["serve", "--report", "xml"], "--report <FORMAT>", "text, json, junit, sarif, github"),
        (&["client", "--style", "bad"], "--style <STYLE>", "staged, broadcast"),
        (&["bench", "--client", "bad"], "--client <CLIENT>", "event, blocking"),
        (
            &["bench", "compare", "echown", "--load", "bad"],
            "--load <NAME>",
            "latency-1, throughput-64",
        ),
        (&["explain", "bad"], "[CODE]", "leak, "),
    ] {
        let value = arguments.last().unwrap();
        let expected =
            format!("invalid value '{value}' for '{option}'\n  [possible values: {known}");
        assert_error(arguments, USAGE, &expected);
    }
}

#[test]
fn options_of_other_programs_suggest_the_equivalent_ones() {
    let address = "the address has no option: write it alone, as in `127.0.0.1:3000`";
    for (subcommand, option, tip) in [
        ("serve", "--port", "a similar argument exists: '--listen'"),
        ("serve", "--host", "a similar argument exists: '--listen'"),
        ("serve", "--bind", "a similar argument exists: '--listen'"),
        ("serve", "--threads", "a similar argument exists: '--max-connections'"),
        ("client", "--port", address),
        ("client", "--host", address),
        ("bench", "--port", address),
        ("bench", "--threads", "a similar argument exists: '--client-threads'"),
    ] {
        for arguments in [&[subcommand, option][..], &[subcommand, option, "3000"]] {
            let expected = format!("unexpected argument '{option}' found\n\n  tip: {tip}\n");
            assert_error(arguments, USAGE, &expected);
        }
        let help = echown().args([subcommand, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(!help.contains(&format!("{option} ")), "{subcommand} has no {option}");
    }
}

#[test]
fn conflicts_and_unknown_arguments_have_the_common_prefix() {
    for (arguments, expected) in [
        (&["frob"][..], "unrecognized subcommand 'frob'"),
        (&["serve", "extra"], "unexpected argument 'extra' found"),
        (&["serve", "--listen"], "a value is required for '--listen <ADDR>'"),
        (&["serve", "--chaos-seed", "1"], "the following required arguments were not provided"),
        (&["serve", "--max-send-queue", "1MiB"], "--max-send-queue is for --style broadcast, not"),
        (
            &["serve", "--graph", "--style=callback", "--ownership=off"],
            "--graph needs recorded references",
        ),
        (&["serve", "--chaos", "leak=1", "--ownership", "off"], "--chaos needs the checker"),
        (&["serve", "--report", "junit"], "--report junit is a document"),
        (
            &["serve", "--suppressions", "/nonexistent"],
            "failed to read the suppressions in /nonexistent",
        ),
        (&["serve", "--baseline", "/nonexistent"], "failed to read the baseline /nonexistent"),
        (&["client", "--name", "x"], "--name is for --style broadcast"),
        (&["client", "--style=broadcast", "--workers=3"], "--workers is for --style staged"),
        (
            &["bench", "--client=blocking", "--client-threads=2"],
            "--client-threads needs --client event",
        ),
        (&["bench", "--pipeline", "4", "--churn"], "--pipeline cannot be used with --churn"),
        (&["bench", "--pid", "5"], "--pid needs the address of a running server"),
        (
            &["bench", "127.0.0.1:1", "--pin-server", "0"],
            "--pin-server cannot be used with an address",
        ),
        (
            &["bench", "127.0.0.1:1", "compare", "echown"],
            "the subcommand 'compare' cannot be used with",
        ),
        (&["bench", "compare"], "the following required arguments were not provided"),
        (&["bench", "compare", "a="], "`a=`: expected NAME=COMMAND with {port} in the command"),
        (&["explain", "leak", "extra"], "unexpected argument 'extra' found"),
    ] {
        assert_error(arguments, USAGE, expected);
    }
    assert_error(
        &["bench", "compare", "a=false {port}", "--load=latency-1"],
        1,
        "latency-1, round 1, a: failed to start the server a: `false ",
    );
}

#[test]
fn an_fd_limit_too_low_for_any_client_is_an_error_at_start() {
    let program = serve(&["127.0.0.1:0"], &[]);
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=20").arg(program.get_program()).args(program.get_args());
    let limited = without_variables(&mut limited).output().unwrap();
    let text = stderr(&limited);
    assert_eq!(limited.status.code(), Some(1), "{text}");
    let expected = "echown: cannot serve a single client: RLIMIT_NOFILE is 20, and 1 acceptor and one \
                    client need ";
    assert!(text.starts_with(expected) && text.contains("; raise it with `ulimit -n "), "{text}");
    let many = "cannot serve a single client: RLIMIT_NOFILE is ";
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--acceptors", "100000000"];
    assert_error(&arguments, 1, many);
    let text = stderr(&echown().args(arguments).output().unwrap());
    assert!(text.contains("; use fewer --acceptors, or raise it with `ulimit -n "), "{text}");
}

/// As with a firewall or a seccomp filter, every `accept4(2)` fails, and the client stays queued.
#[test]
fn an_accept_that_always_fails_is_logged_once_and_retried_less_often() {
    let log = TempPath::new("accepts");
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-e", "trace=accept4", "-e", "inject=accept4:error=EPERM", "-o"]).arg(&*log);
    let probe = std::process::Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    let can_trace = probe.is_ok_and(|status| status.success());
    if !require_tool("strace(1) with the right to trace", can_trace) {
        return;
    }
    let program = serve(&["127.0.0.1:0"], &[]);
    let mut server = Server::run(strace.arg(program.get_program()).args(program.get_args()), 1);
    let _queued = server.connect();
    let warning = server.wait_for_line("failed to accept: ");
    assert!(warning.contains("a firewall or a seccomp filter"), "{warning}");
    let calls = || std::fs::read_to_string(&*log).unwrap_or_default().matches("accept4(").count();
    server.wait_for("six calls", |_| calls() >= 6);
    let lines = server.lines().iter().filter(|line| line.contains("accept")).count();
    assert_eq!(lines, 1, "{:#?}", server.seen);
    let first = std::fs::read_to_string(&*log).unwrap();
    assert!(first.contains("EPERM"), "{first}");
    // The server outlives a killed strace: the test kills it by its own process ID.
    let traced = first.split(' ').next().and_then(|number| number.parse().ok());
    let traced = traced.and_then(rustix::process::Pid::from_raw).expect("a line has a number");
    rustix::process::kill_process(traced, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
}

/// At every width of the terminal, a line of a paragraph ends where the next word does not fit.
#[test]
fn help_is_wrapped_once_at_every_width() {
    for subcommand in [
        &["serve"][..],
        &["client"],
        &["bench"],
        &["bench", "compare"],
        &["explain"],
        &["unchecked"],
    ] {
        for width in [80, 90, 100] {
            let help = echown()
                .args(subcommand)
                .arg("--help")
                .env("COLUMNS", width.to_string())
                .output()
                .unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            let about = help.split("\nUsage: ").next().unwrap();
            for pair in about.lines().collect::<Vec<_>>().windows(2) {
                let [line, next] = pair else { unreachable!() };
                let Some(word) = next.split(' ').next().filter(|word| !word.is_empty()) else {
                    continue;
                };
                let is_paragraph = !line.is_empty() && !line.starts_with(' ');
                let is_full = line.chars().count() + 1 + word.chars().count() > width;
                assert!(!is_paragraph || is_full, "{subcommand:?} at {width}: {line:?}, {next:?}");
            }
            let long = help.lines().find(|line| line.chars().count() > width);
            assert_eq!(long, None, "{subcommand:?} at {width}");
        }
        // Tables are not wrapped.
        let of = |width: &str| {
            let help =
                echown().args(subcommand).arg("--help").env("COLUMNS", width).output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            help.split_once("\nExit codes:").map(|(_, table)| table.to_owned())
        };
        assert_eq!(of("80"), of("100"), "{subcommand:?}");
    }
}
