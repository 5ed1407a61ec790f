//! Clients of other programs: each talks to the plain server and gets its own bytes back.
//!
//! Without its tool a test is skipped, unless tools are required (see `tests/common/tools.rs`).

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::server::{Server, pattern, summary};
use crate::common::require_tool;

/// Enough for many reads and writes, and to fill every buffer on the path.
const BYTES: usize = 16 * 1024 * 1024;

/// Whether a tool is installed, by its version output.
fn is_installed(tool: &str, asks: &str, says: &str) -> bool {
    let output = Command::new(tool).arg(asks).output();
    let is_it = output.is_ok_and(|output| {
        let output_text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&output_text).to_lowercase().contains(says)
    });
    require_tool(tool, is_it)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Bytes in a file, for a client's standard input: a pipe would have to be filled while its output
/// is read.
struct Input(PathBuf);

impl Input {
    fn new(name: &str, bytes: &[u8]) -> Input {
        let path =
            std::env::temp_dir().join(format!("echown-clients-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Input(path)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a client that sends its standard input and prints what it receives. Asserts that both are
/// the same, and that the server counts one client and no error.
fn assert_echo(name: &str, client: impl FnOnce(&str) -> Command) {
    let server = Server::start(&[]);
    let sent = pattern(BYTES);
    let input = Input::new(name, &sent);
    let mut command = client(&server.address().port().to_string());
    command.stdin(File::open(&input.0).unwrap());
    let Output { status, stdout, stderr } = command.output().expect("it existed a moment ago");
    let stderr_text = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{name} ended with {status}: {stderr_text}");
    assert_eq!((stdout.len(), hash(&stdout)), (BYTES, hash(&sent)), "{name}: {stderr_text}");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(summary(&lines, "bytes in"), BYTES as u64, "{lines:#?}");
    assert_eq!(summary(&lines, "errors"), 0, "{lines:#?}");
}

#[test]
fn ncat_gets_its_bytes_back() {
    if is_installed("ncat", "--version", "ncat") {
        assert_echo("ncat", |port| {
            let mut ncat = Command::new("ncat");
            ncat.args(["127.0.0.1", port]);
            ncat
        });
    }
}

#[test]
fn socat_gets_its_bytes_back() {
    if is_installed("socat", "-V", "socat") {
        assert_echo("socat", |port| {
            let mut socat = Command::new("socat");
            // `-t`: how long it waits for the end of the echo after its own.
            socat.args(["-t", "30", "-", &format!("TCP:127.0.0.1:{port}")]);
            socat
        });
    }
}

#[test]
fn openbsd_netcat_gets_its_bytes_back() {
    if is_installed("nc", "-h", "openbsd") {
        assert_echo("nc", |port| {
            let mut nc = Command::new("nc");
            nc.args(["-N", "127.0.0.1", port]);
            nc
        });
    }
}

/// With Python's standard library only, as in typical scripts.
const SCRIPT: &str = r#"
import hashlib, socket, sys, threading

sent = sys.stdin.buffer.read()
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))

def send():
    client.sendall(sent)
    client.shutdown(socket.SHUT_WR)

sender = threading.Thread(target=send)
sender.start()
back = b"".join(iter(lambda: client.recv(65536), b""))
sender.join()
assert hashlib.sha256(back).digest() == hashlib.sha256(sent).digest(), "the bytes differ"
sys.stdout.buffer.write(back)
"#;

#[test]
fn a_python_script_gets_its_bytes_back() {
    if is_installed("python3", "--version", "python 3") {
        assert_echo("python", |port| {
            let mut python = Command::new("python3");
            python.args(["-c", SCRIPT, port]);
            python
        });
    }
}

/// iperf 2 in full duplex sends and receives on one connection, and only needs a server that reads
/// and sends, as an echo server does. Received bytes are counted, not compared.
#[test]
fn iperf_in_full_duplex_is_served() {
    if !is_installed("iperf", "--version", "iperf version 2") {
        return;
    }
    let server = Server::start(&[]);
    let port = server.address().port().to_string();
    let mut iperf = Command::new("iperf");
    iperf.args(["-c", "127.0.0.1", "-p", &port, "--full-duplex", "-t", "1", "-f", "k"]);
    let output = iperf.stdin(Stdio::null()).output().expect("it existed a moment ago");
    let output_text = [output.stdout, output.stderr].concat();
    let output_text = String::from_utf8_lossy(&output_text);
    assert!(output.status.success(), "{output_text}");
    assert!(!output_text.contains("failed") && !output_text.contains("WARN"), "{output_text}");
    // One line for sent bytes, one for received bytes, and their sum.
    let rates = output_text.lines().filter(|line| line.contains("bits/sec")).count();
    assert!(rates >= 3, "{output_text}");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(summary(&lines, "bytes in") > 1024 * 1024, "{output_text}{lines:#?}");
    assert_eq!(summary(&lines, "leaks"), 0, "{lines:#?}");
}
