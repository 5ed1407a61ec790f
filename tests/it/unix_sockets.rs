//! Unix sockets: their mode and group, what is replaced at their path and what is not, and two servers
//! that start at once.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::reports::{Folder, stderr, text};
use super::server::{Server, serve, without_variables};
use crate::common::{require_tool, wait_until};

/// A server on this path only, which listens.
fn start(path: &str, arguments: &[&str]) -> Server {
    let mut server = Server::run(&mut serve(&[&format!("unix:{path}")], arguments), 0);
    server.wait_for_line(&format!("listening on unix:{path}"));
    server
}

/// The error of a server that cannot start on this path.
#[track_caller]
fn rejected(path: &str, arguments: &[&str]) -> String {
    let mut server = Server::run(&mut serve(&[&format!("unix:{path}")], arguments), 0);
    assert_eq!(server.wait().code(), Some(1), "{:#?}", server.seen);
    let prefix = format!("echown: failed to listen on unix:{path}: ");
    let [line] = &server.seen[..] else { panic!("{:#?}", server.seen) };
    line.strip_prefix(&prefix).unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// Makes what a killed server leaves behind.
fn leave_stale(path: &str) {
    drop(UnixListener::bind(path).unwrap());
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

fn is_socket(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn echoes(path: &str) {
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut echoed = Vec::new();
    client.read_to_end(&mut echoed).unwrap();
    assert_eq!(echoed, b"hello");
}

#[test]
fn sockets_have_the_requested_mode_and_group_and_other_files_the_umask() {
    let folder = Folder::new("unix-mode");
    let (socket, status, log) = (folder.file("socket"), folder.file("status"), folder.file("log"));
    let group = rustix::process::getegid().as_raw().to_string();
    for (written, expected) in [("0666", 0o666), ("660", 0o660), ("0o600", 0o600)] {
        // Replacing a stale file gives the new mode, too.
        leave_stale(&socket);
        let arguments = ["--unix-mode", written, "--unix-group", &group, "--log-file", &log];
        let status_arguments = ["--status", &format!("unix:{status}")];
        let command =
            serve(&[&format!("unix:{socket}")], &[&arguments[..], &status_arguments].concat());
        // In a shell that has a stricter umask than the mode.
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 077; exec \"$0\" \"$@\""]);
        shell.arg(command.get_program()).args(command.get_args());
        let mut server = Server::run(&mut shell, 0);
        server.wait_for_line(&format!("status on unix:{status}"));
        assert_eq!((mode(&socket), mode(&status)), (expected, expected), "{written}");
        assert_eq!(fs::metadata(&socket).unwrap().gid().to_string(), group);
        assert_eq!(mode(&log), 0o600, "the umask is as before");
        echoes(&socket);
        assert_eq!(server.stop().0, Some(0));
        assert!(!Path::new(&socket).exists() && !Path::new(&status).exists());
    }
}

#[test]
fn a_client_without_the_right_to_write_is_rejected_and_a_member_of_the_group_is_not() {
    const NOBODY: &str = "65534";
    let folder = Folder::new("unix-group");
    let socket = folder.file("socket");
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        let message = rejected(&socket, &["--unix-group", "0"]);
        let expected = "the group of its file cannot be set to 0: Operation not permitted (os error 1); the \
                        server's user must be a member of the group";
        assert_eq!(message, expected);
        assert!(!Path::new(&socket).exists(), "the file is removed");
        return;
    }
    let check = |group: &str| {
        let groups = [format!("--regid={group}"), "--clear-groups".into()];
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={NOBODY}")).args(groups);
        let address = format!("unix:{socket}");
        command.args([env!("CARGO_BIN_EXE_echown"), "healthcheck", &address]);
        command.output().ok().and_then(|output| output.status.code())
    };
    let server = start(&socket, &["--unix-mode", "0660", "--unix-group", "4711"]);
    if !require_tool("setpriv(1)", check("4711").is_some()) {
        return;
    }
    assert_eq!(check("4711"), Some(0), "a member");
    assert_eq!(check("4712"), Some(1), "another user");
    assert_eq!(server.stop().0, Some(0));
}

/// The kernel rejects clients until `listen(2)`.
#[test]
fn mode_and_group_are_set_before_a_client_can_connect() {
    let folder = Folder::new("unix-order");
    let (socket, calls) = (folder.file("socket"), folder.file("calls"));
    let group = rustix::process::getegid().as_raw().to_string();
    // It binds the first address, and then it exits.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [format!("unix:{socket}"), taken.local_addr().unwrap().to_string()];
    let arguments = ["--unix-mode", "0660", "--unix-group", &group];
    let program = serve(&[&addresses[0], &addresses[1]], &arguments);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=umask,bind,fchownat,listen", "-o", &calls]);
    if !can_trace() {
        return;
    }
    strace.arg(program.get_program()).args(program.get_args());
    assert_eq!(without_variables(&mut strace).output().unwrap().status.code(), Some(1));
    let calls = text(&calls);
    let names = calls.lines().filter_map(|line| line.split_once(' ')?.1.trim().split('(').next());
    let begin: Vec<&str> = names.take(5).collect();
    assert_eq!(begin, ["umask", "bind", "umask", "fchownat", "listen"], "{calls}");
    assert!(!Path::new(&socket).exists());
}

#[test]
fn only_a_stale_socket_is_replaced() {
    let folder = Folder::new("unix-replace");
    let path = folder.file("path");
    let message = "a file that is not a socket exists there; remove it or choose another path with \
                   --listen";
    fs::write(&path, "precious").unwrap();
    assert_eq!(rejected(&path, &[]), message);
    assert_eq!(text(&path), "precious");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(rejected(&path, &[]), message);
    assert!(Path::new(&path).is_dir());
    fs::remove_dir(&path).unwrap();
    // Links: to a file, to a stale socket, to nothing.
    fs::write(folder.file("file"), "precious").unwrap();
    leave_stale(&folder.file("stale"));
    for target in ["file", "stale", "nothing"] {
        symlink(target, &path).unwrap();
        assert_eq!(rejected(&path, &["--unix-mode", "0600"]), message, "{target}");
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "{target}");
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(text(folder.file("file")), "precious");
    assert_ne!(mode(folder.file("file")), 0o600);
    assert!(is_socket(&folder.file("stale")));
    let datagrams = UnixDatagram::bind(&path).unwrap();
    assert!(rejected(&path, &[]).starts_with("in use by another program"));
    drop(datagrams);
    assert!(is_socket(&path));
    fs::remove_file(&path).unwrap();
    leave_stale(&path);
    let server = start(&path, &[]);
    echoes(&path);
    assert_eq!(server.stop().0, Some(0));
}

/// Servers that start at once, with their standard error.
struct Starters(Vec<(Child, String)>);

impl Drop for Starters {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            // Only these children; an error means that one has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn of_servers_that_start_at_once_on_a_stale_path_exactly_one_serves() {
    const STARTERS: usize = 5;
    const ROUNDS: usize = 4;
    let folder = Folder::new("unix-race");
    let path = folder.file("socket");
    for round in 0..ROUNDS {
        leave_stale(&path);
        let starters = Starters(
            (0..STARTERS)
                .map(|number| {
                    let log = folder.file(&format!("{round}-{number}"));
                    let mut command = serve(&[&format!("unix:{path}")], &["--unix-mode", "0600"]);
                    command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap());
                    (command.spawn().unwrap(), log)
                })
                .collect(),
        );
        let count =
            |part: &str| starters.0.iter().filter(|(_, log)| text(log).contains(part)).count();
        wait_until("each to listen or to fail", || {
            count("listening on ") + count("in use by another program") == STARTERS
        });
        assert_eq!(count("listening on "), 1, "round {round}");
        echoes(&path);
        drop(starters);
        // Killed, the server has left its file, which is stale again.
        fs::remove_file(&path).unwrap();
    }
}

/// A socket that is bound and does not listen yet rejects clients as a stale one does.
#[test]
fn a_server_that_has_bound_and_not_listened_yet_is_not_replaced() {
    let folder = Folder::new("unix-early");
    let (path, calls) = (folder.file("socket"), folder.file("calls"));
    if !can_trace() {
        return;
    }
    let mut strace = Command::new("strace");
    let delay = ["-f", "-e", "trace=listen", "-e", "inject=listen:delay_enter=700000"];
    strace.args(delay).args(["-o", &calls]);
    let program = serve(&[&format!("unix:{path}")], &[]);
    strace.arg(program.get_program()).args(program.get_args());
    let mut first = Server::run(&mut strace, 0);
    wait_until("the bound socket", || is_socket(&path));
    assert!(rejected(&path, &[]).starts_with("in use by another program"));
    first.wait_for_line("listening on ");
    echoes(&path);
    // The server is not this test's child: it is stopped by its own process ID.
    let calls = text(&calls);
    let traced = calls.split(' ').next().and_then(|number| Pid::from_raw(number.parse().ok()?));
    kill_process(traced.expect("a line has a number"), Signal::TERM).unwrap();
    assert_eq!(first.wait().code(), Some(0), "{:#?}", first.seen);
    assert!(!Path::new(&path).exists());
}

/// Whether `strace(1)` works; prints if it does not.
fn can_trace() -> bool {
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    let can_trace = probe.is_ok_and(|status| status.success());
    require_tool("strace(1) with the right to trace", can_trace)
}

#[test]
fn options_of_unix_sockets_are_rejected_with_a_reason() {
    let none = "--unix-mode is for `unix:` addresses of --listen and --status, and there is none";
    let no_group =
        "--unix-group is for `unix:` addresses of --listen and --status, and there is none";
    for (arguments, expected) in [
        (&["--unix-mode", "0660"][..], none),
        (&["--unix-group", "0"], no_group),
        (&["--unix-mode", "rw-rw----"], "expected permissions in octal, such as `0660`"),
        (&["--unix-mode", "4755"], "at most 0777"),
        (&["--unix-group", "no-such-group"], "there is no group `no-such-group` in /etc/group"),
    ] {
        let output = serve(&["127.0.0.1:0"], arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}
