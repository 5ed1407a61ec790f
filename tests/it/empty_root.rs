//! The program in a root directory that contains only it: no `/proc`, no `/dev`, no shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::server::{STYLES, Server, as_in_a_terminal, exchange, summary};
use crate::common::require_tool;

/// A folder with the program and the libraries that it loads. Removed on drop.
struct EmptyRoot {
    path: PathBuf,
    /// The command that changes the root: as root, or in a user namespace.
    enter: &'static [&'static str],
}

impl EmptyRoot {
    /// `None` if this user may not change the root, or a tool is missing; a message says so.
    fn new(name: &str) -> Option<EmptyRoot> {
        const WAYS: [&[&str]; 2] = [&["unshare", "-r", "chroot"], &["chroot"]];
        let program = env!("CARGO_BIN_EXE_echown");
        let path = std::env::temp_dir().join(format!("echown-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let mut root = EmptyRoot { path, enter: WAYS[0] };
        let libraries = Command::new("ldd").arg(program).output();
        let libraries = libraries.map(|output| output.stdout).unwrap_or_default();
        let libraries = String::from_utf8_lossy(&libraries);
        root.copy(program, "echown");
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            root.copy(library, library.trim_start_matches('/'));
        }
        for way in WAYS {
            root.enter = way;
            let output = root.echown(&["--version"]).output();
            if output.is_ok_and(|output| output.status.success()) {
                return Some(root);
            }
        }
        require_tool("a way to change the root (`unshare -r chroot`, `chroot`, `ldd`)", false);
        None
    }

    /// Copies in another process: a file that is open for writing cannot be executed, and a child
    /// that another test starts meanwhile would inherit it.
    fn copy(&self, from: &str, to: &str) {
        let to = self.path.join(to);
        fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).unwrap();
        let copied = Command::new("cp").arg("-L").arg(from).arg(&to).status();
        assert!(copied.is_ok_and(|status| status.success()), "{from} to {}", to.display());
    }

    /// `echown` in there, with an inherited descriptor that it does not know.
    fn echown(&self, arguments: &[&str]) -> Command {
        let mut command = as_in_a_terminal("sh");
        command.args(["-c", "exec 9</dev/null; exec \"$0\" \"$@\""]);
        command.args(self.enter).arg(&self.path).arg("/echown").args(arguments);
        command
    }

    fn serve(&self, arguments: &[&str]) -> Server {
        let serve = ["serve", "--listen", "127.0.0.1:0"];
        Server::run(&mut self.echown(&[&serve, arguments].concat()), 1)
    }
}

impl Drop for EmptyRoot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[test]
fn a_server_in_an_empty_root_serves_in_every_style_and_logs_its_limitations() {
    let Some(root) = EmptyRoot::new("serves") else { return };
    for (style, request) in STYLES {
        let mut server = root.serve(&["--style", style, "--ownership", "full"]);
        assert_eq!(exchange(server.connect(), request), request, "{style}");
        server.signal(Signal::USR1);
        server.wait_for_line("fd 9 declared: inherited");
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{style}: {lines:#?}");
        assert!(lines.iter().any(|line| line.contains("0 leaks, 0 violations")), "{lines:#?}");
        let lost = lines.iter().filter(|line| line.contains("WARN"));
        let lost: Vec<&String> = lost.collect();
        assert!(
            matches!(lost[..], [line] if line.contains("failed to read /proc")),
            "{style}: {lost:#?}"
        );
    }
}

#[test]
fn chaos_in_an_empty_root_is_reported() {
    const CLIENTS: u64 = 20;
    let Some(root) = EmptyRoot::new("chaos") else { return };
    let server = root.serve(&["--chaos", "fd-replaced=1"]);
    for _ in 0..CLIENTS {
        let mut client = server.connect();
        std::io::Write::write_all(&mut client, b"x").unwrap();
        // Until the connection ends, with or without an error.
        let _ = std::io::Read::read_to_end(&mut client, &mut Vec::new());
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(summary(&lines, "replaced fds"), CLIENTS, "{lines:#?}");
}

#[test]
fn clients_and_loads_in_an_empty_root_work_or_name_what_is_missing() {
    let Some(root) = EmptyRoot::new("clients") else { return };
    let server = Server::start(&[]);
    let address = server.address().to_string();
    let client = root.echown(&["client", "--workers", "1", "--count", "1", &address]).output();
    let client = client.unwrap();
    assert_eq!(client.status.code(), Some(0), "{client:?}");
    let check = root.echown(&["healthcheck", &address]).output().unwrap();
    assert_eq!((check.status.code(), check.stderr), (Some(0), Vec::new()));
    let load = ["bench", &address, "--duration", "200ms", "--warmup", "0s"];
    let load = root.echown(&load).output().unwrap();
    assert_eq!(load.status.code(), Some(0), "{load:?}");
    let stdout = String::from_utf8_lossy(&load.stdout);
    assert!(
        stdout.contains("processor times are unknown because /proc cannot be read"),
        "{stdout}"
    );
    for own in [&["bench", "--duration", "200ms"][..], &["bench", "compare", "echown"]] {
        let output = root.echown(own).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stdout = String::from_utf8_lossy(&output.stderr);
        assert!(
            stdout.contains("failed to start a server: the path of this program is unknown"),
            "{stdout}"
        );
        assert!(
            stdout.contains("mount /proc, or give the address of a running server"),
            "{stdout}"
        );
    }
}

#[test]
fn bench_without_a_shell_reports_that_it_is_missing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echown"));
    let output = command.args(["bench", "--duration", "200ms"]).env("PATH", "/nowhere").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("the shell `sh`, which is needed to start servers, is missing"),
        "{stderr}"
    );
}
