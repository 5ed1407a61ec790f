//! The sandbox: what a restricted server can still do, what it cannot, and what it logs about it.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Output};

use landlock::{ABI, AccessFs, LandlockStatus, Ruleset, RulesetAttr};
use rustix::process::{Pid, Signal, kill_process};

use super::reports::{Folder, meet, stderr, text};
use super::server::{AS_ROOT, DEADLINE, STYLES, Server, exchange, serve, without_variables};
use crate::common::temp_path::TempPath;
use crate::common::{require_tool, wait_until};

/// The command `echown serve --sandbox LEVEL`, not notifying anything.
fn sandboxed(level: &str, arguments: &[&str]) -> Command {
    let mut command = serve(&["127.0.0.1:0"], &["--sandbox", level]);
    command.args(arguments).env_remove("NOTIFY_SOCKET").env_remove("RUST_BACKTRACE");
    command
}

fn start(level: &str, arguments: &[&str]) -> Server {
    Server::run(&mut sandboxed(level, arguments), 1)
}

/// Whether the kernel has everything that `--sandbox strict` needs; prints if it does not.
fn has_landlock() -> bool {
    // It restricts the thread that asks, which ends with this.
    let asked = std::thread::spawn(|| {
        let ruleset = Ruleset::default().handle_access(AccessFs::MakeBlock).unwrap();
        ruleset.create().unwrap().restrict_self().map(|status| status.landlock)
    });
    let status = asked.join().unwrap();
    let has_all = matches!(
        status,
        Ok(LandlockStatus::Available { effective_abi, .. }) if effective_abi >= ABI::V6
    );
    if !has_all {
        eprintln!("skipped: landlock is not complete in this kernel: {status:?}");
    }
    has_all
}

/// Runs a command whose `landlock_create_ruleset(2)` fails with this error, as on another kernel. `None`
/// without `strace`, which makes it fail, and writes the call to a log.
fn without_landlock(error: &str, command: &Command, log: &Path) -> Option<Command> {
    let injected = format!("inject=landlock_create_ruleset:error={error}");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=landlock_create_ruleset", "-e", &injected, "-o"]).arg(log);
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    let can_trace = probe.is_ok_and(|status| status.success());
    if !require_tool("strace(1) with the right to trace", can_trace) {
        return None;
    }
    strace.arg(command.get_program()).args(command.get_args());
    strace.env_remove("NOTIFY_SOCKET");
    without_variables(&mut strace);
    Some(strace)
}

#[track_caller]
fn assert_fails(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(stderr(output), format!("echown: failed to apply --sandbox strict: {message}\n"));
}

#[test]
fn a_strict_server_serves_every_style_and_each_of_its_threads_is_restricted() {
    if !has_landlock() {
        return;
    }
    for (style, request) in STYLES {
        let mut server = start("strict", &["--style", style]);
        assert_eq!(exchange(server.connect(), request), request, "{style}");
        for thread in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
            let status = text(thread.unwrap().path().join("status"));
            // A thread may end meanwhile.
            assert!(status.is_empty() || status.contains("\nNoNewPrivs:\t1\n"), "{status}");
        }
        let line = server.seen.iter().find(|line| line.contains("sandbox: ")).cloned();
        let line = line.expect("it is logged before `listening on`");
        assert!(line.contains(" INFO ") && line.contains("no_new_privs, landlock ABI "), "{line}");
        assert!(
            line.ends_with("no signals to other processes; no abstract Unix sockets of others")
        );
        server.signal(Signal::USR1);
        server.wait_for_line("custody: ");
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{style}: {lines:#?}");
        // It can still read what /proc says about itself.
        assert!(!lines.iter().any(|line| line.contains("failed to read /proc")), "{lines:#?}");
    }
}

/// What a server opens to serve: the limits on its threads, and, in the C library, the processors.
#[test]
fn a_strict_server_is_denied_nothing_that_it_opens() {
    if !has_landlock() {
        return;
    }
    let calls = TempPath::new("sandbox-opens");
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    let can_trace = probe.is_ok_and(|status| status.success());
    if !require_tool("strace(1) with the right to trace", can_trace) {
        return;
    }
    let program = sandboxed("strict", &["--ownership", "full"]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=openat,landlock_restrict_self", "-o"]).arg(&*calls);
    strace.arg(program.get_program()).args(program.get_args()).env_remove("NOTIFY_SOCKET");
    let mut server = Server::run(&mut strace, 1);
    let clients: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for mut client in clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    // The server is not this test's child: it is stopped by its own process ID.
    let first = text(&*calls);
    let traced = first.split(' ').next().and_then(|number| Pid::from_raw(number.parse().ok()?));
    kill_process(traced.expect("a line has a number"), Signal::TERM).unwrap();
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let all = text(&*calls);
    let (_, restricted) = all.split_once("landlock_restrict_self").expect("it was traced");
    assert!(restricted.contains("/proc/self/maps"), "{restricted}");
    let denied: Vec<&str> = restricted.lines().filter(|line| line.contains("EACCES")).collect();
    assert_eq!(denied, [""; 0]);
}

/// Otherwise the kernel frees the inodes that the rules refer to when memory is short.
#[test]
fn a_sandbox_keeps_its_folders_of_proc_open_and_in_custody() {
    if !has_landlock() {
        return;
    }
    let mut server = start("strict", &["--log-format", "json"]);
    let open = server.open_descriptors();
    for folder in [format!("/proc/{}", server.pid()), "/proc/sys".into()] {
        assert!(open.iter().any(|(_, target)| *target == folder), "{folder}: {open:#?}");
    }
    let numbers: Vec<i32> = open.iter().map(|(number, _)| *number).collect();
    assert_eq!(server.custody(), numbers);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_file_is_reopened_in_its_folder_and_not_in_another() {
    if !has_landlock() {
        return;
    }
    let folder = Folder::new("sandbox-reopen");
    let [logs, elsewhere] = ["logs", "elsewhere"].map(|name| folder.0.join(name));
    fs::create_dir(&logs).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink("logs/first", folder.file("log")).unwrap();
    let mut server = start("strict", &["--log-file", &folder.file("log")]);
    fs::rename(logs.join("first"), logs.join("first.1")).unwrap();
    server.signal(Signal::HUP);
    wait_until("the file to be reopened", || logs.join("first").exists());
    // Now the name leads to another folder.
    fs::remove_file(folder.file("log")).unwrap();
    symlink("elsewhere/second", folder.file("log")).unwrap();
    server.signal(Signal::HUP);
    let line = server.wait_for_line("failed to reopen it");
    assert!(line.contains("Permission denied"), "{line}");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(text(logs.join("first.1")).contains("sandbox: no_new_privs"));
    assert!(text(logs.join("first")).contains("SIGTERM"), "it is still written to");
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn every_output_is_written_in_a_strict_sandbox() {
    if !has_landlock() {
        return;
    }
    let folder = Folder::new("sandbox-outputs");
    let files = ["summary", "reports", "baseline", "recording", "log"];
    for name in files.map(|name| folder.file(name)) {
        // Each in its own folder, and replaced.
        fs::create_dir(&name).unwrap();
        fs::write(Path::new(&name).join("file"), "old").unwrap();
    }
    let [summary, reports, baseline, recording, log] =
        files.map(|name| folder.file(&format!("{name}/file")));
    let socket = folder.file("socket");
    let server = start(
        "strict",
        &[
            &["--summary", &summary, "--report", "sarif", "--report-file", &reports][..],
            &["--write-baseline", &baseline, "--record", &recording, "--log-file", &log],
            &["--listen", &format!("unix:{socket}"), "--chaos", "leak=1"],
        ]
        .concat(),
    );
    meet(&server);
    wait_until("the report", || text(&reports).contains("\"ruleId\""));
    let moved = format!("{reports}.1");
    fs::rename(&reports, &moved).unwrap();
    server.signal(Signal::HUP);
    wait_until("a new document", || Path::new(&reports).exists());
    meet(&server);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let denied = |line: &&String| line.contains("denied") || line.contains("failed");
    assert_eq!(lines.iter().find(denied), None, "{lines:#?}");
    assert!(text(&summary).contains("\"leaks\":2"), "{}", text(&summary));
    assert!(text(&reports).contains("\"ruleId\"") && text(&moved).contains("\"ruleId\""));
    assert!(text(&baseline).contains("leak"), "{}", text(&baseline));
    assert!(text(&recording).ends_with("\n") && text(&recording).contains("\"finished\""));
    assert!(text(&log).starts_with("old") && text(&log).contains("replaces files in "));
    assert!(!Path::new(&socket).exists(), "the socket's file is removed at exit");
    for name in files {
        let entries = fs::read_dir(folder.file(name)).unwrap().count();
        assert_eq!(entries, if name == "reports" { 2 } else { 1 }, "{name}: no temporary file");
    }
}

#[test]
fn reports_have_source_lines_and_panics_have_symbols_in_a_strict_sandbox() {
    if !has_landlock() {
        return;
    }
    let mut command =
        sandboxed("strict", &["--chaos", "panic=0.5,leak=0.5", "--ownership", "full"]);
    let mut server = Server::run(command.env("RUST_BACKTRACE", "1"), 1);
    let has = |server: &mut Server, part: &str| server.lines().iter().any(|it| it.contains(part));
    // The seed decides which connection gets which fault.
    while !(has(&mut server, "error[leak]") && has(&mut server, "stack backtrace:")) {
        meet(&server);
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let any = |wanted: &dyn Fn(&str) -> bool| lines.iter().any(|line| wanted(line));
    assert!(any(&|line| line.contains("--> src/server/accept.rs:")), "{lines:#?}");
    assert!(any(&|line| line.contains(" | ") && line.contains(".accept")), "{lines:#?}");
    assert!(any(&|line| line.contains("src/pool/workers.rs:")), "{lines:#?}");
}

#[test]
fn a_kernel_without_landlock_is_a_warning_for_best_and_an_error_for_strict() {
    const LACKING: &str = "this kernel, or the filter of a container, lacks landlock";
    let log = TempPath::new("sandbox-calls");
    let Some(mut best) = without_landlock("ENOSYS", &sandboxed("best", &[]), &log) else { return };
    let mut server = Server::run(&mut best, 1);
    let warning = server.seen.iter().find(|line| line.contains("sandbox: ")).cloned();
    let warning = warning.expect("it is logged before `listening on`");
    assert!(warning.contains(" WARN ") && warning.contains(LACKING), "{warning}");
    assert!(warning.contains("no_new_privs, without landlock"), "{warning}");
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    // The server is not this test's child: it is stopped by its own process ID.
    let call = text(&*log);
    let traced = call.split(' ').next().and_then(|number| Pid::from_raw(number.parse().ok()?));
    kill_process(traced.expect("a line has a number"), Signal::TERM).unwrap();
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let strict = sandboxed("strict", &[]);
    let missing = without_landlock("ENOSYS", &strict, &log).unwrap().output().unwrap();
    let remedy = "use Linux 6.12 or later; `best` applies what there is";
    assert_fails(&missing, &format!("{LACKING}: {remedy}"));
    let disabled = without_landlock("EOPNOTSUPP", &strict, &log).unwrap().output().unwrap();
    let lsm =
        "landlock is disabled in this kernel: add `landlock` to the list in its boot parameter";
    assert_fails(&disabled, &format!("{lsm} `lsm=`; `best` applies what there is"));
}

#[test]
fn a_service_manager_is_notified_out_of_a_strict_sandbox() {
    if !has_landlock() {
        return;
    }
    let name = TempPath::new("sandbox-notify");
    let abstract_address = SocketAddr::from_abstract_name(name.text()).unwrap();
    for (address, socket) in [
        (name.text().to_owned(), UnixDatagram::bind(&name).unwrap()),
        (format!("@{}", name.text()), UnixDatagram::bind_addr(&abstract_address).unwrap()),
    ] {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let received = |wanted: &str| {
            let mut buffer = [0; 4096];
            // It fails at the deadline.
            while !buffer.starts_with(wanted.as_bytes()) {
                socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            }
        };
        let server = Server::run(sandboxed("strict", &[]).env("NOTIFY_SOCKET", &address), 1);
        received("READY=1");
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{lines:#?}");
        received("STOPPING=1");
    }
}

/// The warnings to root of a server that is started by a wrapper, reloads once and ends. `None`: the
/// wrapper does not work here.
fn warnings_to_root(wrapper: &[&str]) -> Option<Vec<String>> {
    let log = TempPath::new("as-root");
    // Another user writes to it.
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let program = serve(&["127.0.0.1:0"], &["--log-file", log.text()]);
    let (wrapped, words) =
        wrapper.split_first().map_or((None, wrapper), |(it, rest)| (Some(it), rest));
    let mut command = Command::new(wrapped.map_or(program.get_program(), |it| OsStr::new(*it)));
    command.args(words).args(wrapped.map(|_| program.get_program())).args(program.get_args());
    let probe = wrapped.map_or(Ok(true), |it| {
        Command::new(it).args(words).arg("true").status().map(|status| status.success())
    });
    if !require_tool(&wrapper.join(" "), probe.unwrap_or(false)) {
        return None;
    }
    let server = Server::run(&mut command, 1);
    server.signal(Signal::HUP);
    wait_until("the reload", || text(&*log).contains("SIGHUP"));
    assert_eq!(server.stop().0, Some(0));
    Some(text(&*log).lines().filter(|line| line.contains(AS_ROOT)).map(str::to_owned).collect())
}

#[test]
fn root_gets_one_warning_that_names_the_ways_not_to_be_root() {
    let warnings = warnings_to_root(&[]).unwrap();
    let uid_map = text("/proc/self/uid_map");
    let is_initial = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !(rustix::process::geteuid().is_root() && is_initial) {
        eprintln!("skipped: the user is not root");
        assert_eq!(warnings, [""; 0]);
        return;
    }
    let [warning] = &warnings[..] else { panic!("{warnings:#?}") };
    for way in ["WARN", "`User=`", "socket activation", "CAP_NET_BIND_SERVICE"] {
        assert!(warning.contains(way), "{warning}");
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    assert_eq!(warnings_to_root(&nobody).unwrap_or_default(), [""; 0]);
}

/// As in a rootless container, where root is the user that started it.
#[test]
fn root_of_a_user_namespace_gets_no_warning() {
    assert_eq!(warnings_to_root(&["unshare", "-r"]).unwrap_or_default(), [""; 0]);
}

#[test]
fn strict_servers_take_over_from_each_other_and_the_last_removes_the_files() {
    if !has_landlock() {
        return;
    }
    let folder = TempPath::folder("sandbox-upgrade");
    // Only its owner may replace the sockets in it.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let paths = ["upgrade", "echo", "status"].map(|name| folder.join(name).display().to_string());
    let [listen, status] = [&paths[1], &paths[2]].map(|path| format!("unix:{path}"));
    let arguments = ["--upgrade-socket", &paths[0], "--listen", &listen, "--status", &status];
    let mut server = start("strict", &arguments);
    for _ in 0..2 {
        let mut next = start("strict", &arguments);
        next.wait_for_line("took over from process ");
        assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
        server = next;
        assert_eq!(exchange(server.connect(), b"hello"), b"hello");
        UnixStream::connect(&paths[1]).expect("the file is still there");
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("removes sockets in ")), "{lines:#?}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}
