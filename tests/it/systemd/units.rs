//! The unit files in `deploy/`: valid, with few rights, and with all system calls that the server makes.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::manager::Manager;
use crate::common::temp_path::TempPath;
use crate::common::{require_tool, wait_until};
use crate::server::{Server, as_in_a_terminal, exchange};
use crate::status::http::{get, status_of};

/// The highest exposure that `systemd-analyze security` may find: 10 is a service without any limits.
const EXPOSURE_MAX: f64 = 1.5;

/// Where the units expect the program.
const INSTALLED: &str = "/usr/local/bin/echown";

const UNITS: [&str; 4] =
    ["echown.service", "echown.socket", "echown-each@.service", "echown-each.socket"];

const SERVICES: [&str; 2] = ["echown.service", "echown-each@.service"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn unit(name: &str) -> String {
    fs::read_to_string(deploy().join(name)).unwrap()
}

/// Copies of the units that start the program under test.
fn units() -> TempPath {
    let folder = TempPath::folder("units");
    for unit in UNITS {
        let text = self::unit(unit).replace(INSTALLED, env!("CARGO_BIN_EXE_echown"));
        fs::write(folder.join(unit), text).unwrap();
    }
    folder
}

/// What `systemd-analyze` prints in a folder. `None`: it is not installed.
fn analyze(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).current_dir(folder).output();
    if !require_tool("`systemd-analyze`", output.is_ok()) {
        return None;
    }
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "{arguments:?}: {text}");
    Some(text)
}

#[test]
fn systemd_accepts_the_units_without_a_word() {
    let folder = units();
    let paths = UNITS.map(|unit| format!("./{unit}"));
    let verify = ["verify", "--man=no"].into_iter().chain(paths.iter().map(String::as_str));
    if let Some(text) = analyze(&folder, &verify.collect::<Vec<&str>>()) {
        assert_eq!(text, "");
    }
}

#[test]
fn the_services_have_a_low_exposure() {
    let folder = units();
    for service in SERVICES {
        let path = format!("./{service}");
        let security = ["security", "--offline=yes", "--no-pager", &path];
        let Some(text) = analyze(&folder, &security) else { return };
        let line = text.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let exposure = line.split(": ").nth(1).and_then(|level| level.split(' ').next()).unwrap();
        assert!(exposure.parse::<f64>().unwrap() <= EXPOSURE_MAX, "{line}");
    }
}

#[test]
fn the_filter_of_the_service_allows_every_system_call_of_a_busy_server() {
    let Some(sets) = analyze(Path::new("/"), &["syscall-filter", "--no-pager"]) else { return };
    let allowed = Sets::of(&sets).allowed_by(&unit(SERVICES[0]));
    assert_eq!(Sets::of(&sets).allowed_by(&unit(SERVICES[1])), allowed);
    assert!(allowed.contains("accept4") && !allowed.contains("mount"), "{allowed:?}");
    for style in ["echo", "staged", "broadcast", "callback"] {
        let Some(made) = made_by(style) else { return };
        assert!(made.contains("accept4") && made.contains("futex"), "{made:?}");
        let rejected: Vec<&String> = made.difference(&allowed).collect();
        assert!(rejected.is_empty(), "{style}: {rejected:?}");
    }
}

/// The sets of system calls that systemd knows, by name.
struct Sets(HashMap<String, Vec<String>>);

impl Sets {
    /// From the output of `systemd-analyze syscall-filter`.
    fn of(text: &str) -> Sets {
        let mut sets: HashMap<String, Vec<String>> = HashMap::new();
        let mut set = String::new();
        for line in text.lines() {
            match line.trim() {
                name if line.starts_with('@') => set = name.to_owned(),
                entry if entry.is_empty() || entry.starts_with('#') => {}
                entry => sets.entry(set.clone()).or_default().push(entry.to_owned()),
            }
        }
        Sets(sets)
    }

    fn expand(&self, entry: &str, into: &mut BTreeSet<String>) {
        match self.0.get(entry) {
            Some(entries) => entries.iter().for_each(|entry| self.expand(entry, into)),
            None => drop(into.insert(entry.to_owned())),
        }
    }

    /// The names that a unit allows.
    fn allowed_by(&self, unit: &str) -> BTreeSet<String> {
        let mut allowed = BTreeSet::new();
        // Every list of allowed calls has them.
        self.expand("@default", &mut allowed);
        for value in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
            let mut named = BTreeSet::new();
            value.trim_start_matches('~').split(' ').for_each(|it| self.expand(it, &mut named));
            let is_denied = value.starts_with('~');
            allowed = if is_denied { &allowed - &named } else { &allowed | &named };
        }
        allowed
    }
}

/// The names of the system calls of a server that has the options which make some.
fn made_by(style: &str) -> Option<BTreeSet<String>> {
    let folder = TempPath::folder("calls");
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !require_tool("strace(1) with the right to trace", probe.is_ok_and(|it| it.success())) {
        return None;
    }
    let counts = file("counts");
    let mut strace = as_in_a_terminal("strace");
    // With the tracer as its grandchild, the child of this process is the server.
    strace.args(["-D", "-f", "-qq", "-c", "-U", "name", "-S", "name", "-o", &counts]);
    strace.args([env!("CARGO_BIN_EXE_echown"), "serve", "--style", style, "--sandbox", "best"]);
    strace.args(["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--acceptors", "2"]);
    strace.args(["--status", "127.0.0.1:0", "--log-file", &file("log")]);
    strace.args(["--record", &file("record"), "--summary", &file("summary")]);
    strace.args(["--report-file", &file("report")]);
    let mut manager = Manager::new();
    manager.manages(&mut strace).env("WATCHDOG_USEC", "1000000");
    let mut server = Server::run(&mut strace, 2);
    let status = status_of(&mut server);
    manager.wait_for("WATCHDOG=1");
    for _ in 0..3 {
        let clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
        clients.into_iter().for_each(|client| drop(exchange(client, b"\0\0\0\0\0\0\0\x01\n")));
    }
    assert_eq!(get(status, "/healthz").code, 200);
    server.signal(Signal::HUP);
    manager.wait_for("RELOADING=1");
    server.signal(Signal::USR1);
    server.wait_for_line("custody: ");
    assert_eq!(server.stop().0, Some(0));
    let mut text = String::new();
    wait_until("the counts of strace", || {
        text = fs::read_to_string(&counts).unwrap_or_default();
        text.contains("total")
    });
    let names = text.lines().map(str::trim).filter(|line| !line.starts_with('-'));
    Some(names.filter(|name| !["syscall", "total"].contains(name)).map(str::to_owned).collect())
}
