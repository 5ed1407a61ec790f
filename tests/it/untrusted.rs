//! Text from clients, peers and users is escaped wherever the program prints it.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, socket};
use rustix::process::Signal;

use super::broadcast::{frame, try_hear};
use super::reports::Folder;
use super::server::{DEADLINE, Server, echown, serve};

/// Contains terminal commands, a forged line, bidirectional and invisible characters, and invalid
/// UTF-8 at its end.
const HOSTILE: &[u8] =
    b"\x1b[31m\n2026 ERROR forged\xc2\x9b2J\xe2\x80\xae\xe2\x81\xa6\xe2\x80\x8b\xe2\x80\xa8\\\xff";

/// The same, as it is printed.
const ESCAPED: &str = r"\x1b[31m\n2026 ERROR forged\u{9b}2J\u{202e}\u{2066}\u{200b}\u{2028}\\\xff";

/// The characters of a text that would affect a terminal or a log, except newlines.
fn unprintable(text: &str) -> Vec<char> {
    let is_hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    text.chars().filter(|&c| c != '\n' && c.is_control() || is_hidden(c)).collect()
}

#[track_caller]
fn assert_printable(what: &str, text: &str) {
    assert_eq!(unprintable(text), Vec::<char>::new(), "{what}: {text:?}");
    assert!(!text.contains("\n2026 ERROR forged"), "{what} has a forged line: {text:?}");
}

/// A client with a chosen name.
fn client_called(name: &SocketAddrUnix, server: &SocketAddrUnix) -> Option<UnixStream> {
    let client: OwnedFd = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    // Not every file system allows every name.
    bind(&client, name).ok()?;
    connect(&client, server).expect("the server listens");
    Some(client.into())
}

/// The client's names, and how each is printed.
fn hostile_names(folder: &Folder) -> Vec<(SocketAddrUnix, String)> {
    let mut names = Vec::new();
    let inside = PathBuf::from(folder.file("")).join(OsStr::from_bytes(HOSTILE));
    let shown = format!("unix:{}{ESCAPED}", folder.file(""));
    names.push((SocketAddrUnix::new(inside).unwrap(), shown));
    let own = std::process::id().to_string();
    let name = [own.as_bytes(), HOSTILE].concat();
    let shown = format!("unix:@{own}{ESCAPED}");
    names.push((SocketAddrUnix::new_abstract_name(&name).unwrap(), shown));
    for length in [107, 108] {
        let mut path = PathBuf::from(folder.file("n"));
        let filled = path.as_os_str().len();
        path.as_mut_os_string().push("n".repeat(length - filled));
        let shown = format!("unix:{}", path.display());
        names.push((SocketAddrUnix::new(path).unwrap(), shown));
    }
    names
}

#[test]
fn a_hostile_client_name_is_escaped_in_log_custody_and_reports() {
    const STYLES: [&str; 4] = ["echo", "staged", "broadcast", "callback"];
    for (style, format) in
        STYLES.into_iter().zip(["text", "json", "text", "text"]).chain([("echo", "json")])
    {
        let folder = Folder::new(&format!("hostile-{style}-{format}"));
        let place = folder.file("server");
        let mut command = serve(&[&format!("unix:{place}")], &["--style", style]);
        command.args(["--log-level", "trace", "--log-format", format]);
        let mut server = Server::run(&mut command, 0);
        server.wait_for_line("listening on ");
        let before = server.open_descriptors().len();
        let address = SocketAddrUnix::new(&place).unwrap();
        for (name, shown) in hostile_names(&folder) {
            let Some(client) = client_called(&name, &address) else { continue };
            let shown = if format == "json" { shown.replace('\\', "\\\\") } else { shown };
            // An accepted connection has an owner, and so an entry in the table.
            server.wait_for_descriptors(|open| open.len() > before);
            server.signal(Signal::USR1);
            server.wait_for_line(&shown);
            drop(client);
            server.wait_for_descriptors(|open| open.len() == before);
        }
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{lines:#?}");
        assert_printable(style, &lines.join("\n"));
        assert!(!lines.iter().any(|line| line.starts_with("2026 ERROR")), "{lines:#?}");
    }
}

#[test]
fn a_server_serves_on_the_longest_path_and_prints_it_in_full() {
    for length in [107, 108] {
        let folder = Folder::new(&format!("longest-{length}"));
        let mut path = folder.file("n");
        path.push_str(&"n".repeat(length - path.len()));
        let mut server = Server::run(&mut serve(&[&format!("unix:{path}")], &[]), 0);
        assert_eq!(server.wait_for_line("listening on "), format!("listening on unix:{path}"));
        let client: OwnedFd = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        connect(&client, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let mut client = UnixStream::from(client);
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        server.signal(Signal::USR1);
        let line = server.wait_for_line("unix stream fd ");
        assert!(line.ends_with(&format!(", unix:{path}")), "{line}");
    }
}

#[test]
fn a_hostile_client_name_is_escaped_in_findings_of_every_format() {
    for format in ["text", "json", "github", "junit", "sarif"] {
        let folder = Folder::new(&format!("hostile-{format}"));
        let (place, report) = (folder.file("server"), folder.file("report"));
        let mut command = serve(&[&format!("unix:{place}")], &["--chaos", "leak=1"]);
        command.args(["--report", format, "--report-file", &report]);
        let mut server = Server::run(&mut command, 0);
        server.wait_for_line("listening on ");
        let address = SocketAddrUnix::new(&place).unwrap();
        for (name, _) in hostile_names(&folder) {
            let Some(mut client) = client_called(&name, &address) else { continue };
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            // The fault comes after the first echo.
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
            let _ = client.write_all(b"y");
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = client.read_to_end(&mut Vec::new());
        }
        let (_, lines) = server.stop();
        assert_printable(format, &lines.join("\n"));
        let report = fs::read(&report).unwrap();
        let report = std::str::from_utf8(&report).expect("a report is text");
        assert!(report.contains("leak"), "{format}: {report}");
        assert_printable(format, report);
    }
}

/// Serves one chat client: replies to its one frame with the given frames.
fn peer_that_sends(frames: &'static [&'static [u8]]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        let own = try_hear(&mut stream).unwrap();
        for payload in frames {
            stream.write_all(&frame(payload)).unwrap();
        }
        stream.write_all(&frame(&own)).unwrap();
    });
    address
}

#[test]
fn a_line_of_a_chat_peer_is_escaped_even_in_a_pipe() {
    let address =
        peer_that_sends(&[HOSTILE, b"ann: hi\nbob: forged", b"tab\tstays, so does \xc3\xbc"]);
    let mut chat = echown()
        .args(["client", "--style", "broadcast", &address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    chat.stdin.take().unwrap().write_all(b"mine\n").unwrap();
    let output = chat.wait_with_output().unwrap();
    let expected = format!("{ESCAPED}\nann: hi\\nbob: forged\ntab\tstays, so does \u{fc}\nmine\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn a_wrong_reply_is_escaped_in_the_log_of_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let hostile: Vec<u8> = HOSTILE.iter().copied().filter(|&byte| byte != b'\n').collect();
        stream.write_all(&[&hostile[..], b"\n"].concat()).unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let asked = ["client", "--style", "staged", "--workers", "1", "--count", "1", &address];
    let output = echown().args(asked).output().unwrap();
    server.join().unwrap();
    let errors = String::from_utf8(output.stderr).expect("invalid UTF-8 is escaped");
    assert_printable("the log", &errors);
    assert!(errors.contains(&ESCAPED.replace("\\n", "")), "{errors}");
}

#[test]
fn addresses_and_paths_of_the_user_are_escaped_in_messages() {
    let folder = Folder::new("hostile-arguments");
    let text = std::str::from_utf8(&HOSTILE[..HOSTILE.len() - 1]).unwrap();
    let missing = format!("{}{text}/x", folder.file(""));
    let unix = format!("unix:{missing}");
    let host = format!("{text}:1");
    let named = format!("{text}=false {{port}} {text}");
    let wrong: &[&[&str]] = &[
        &["serve", "--listen", &unix],
        &["serve", "--listen", &host],
        &["serve", "--listen", "127.0.0.1:0", "--log-file", &missing],
        &["serve", "--listen", "127.0.0.1:0", "--report-file", &missing],
        &["serve", "--listen", "127.0.0.1:0", "--baseline", &missing],
        &["serve", "--listen", "127.0.0.1:0", "--suppressions", &missing],
        &["client", "--style", "broadcast", &unix],
        &["client", "--style", "broadcast", &host],
        &["bench", &unix],
        &["bench", &host],
        &["bench", "compare", text],
        &["bench", "compare", "echown", "--load", text],
        &["bench", "compare", &named, "--rounds", "1"],
        &["client", text],
        &["explain", text],
        &["serve", "--faults", text],
    ];
    for arguments in wrong {
        let output = echown().args(*arguments).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let errors = String::from_utf8(output.stderr).expect("messages are text");
        assert_printable(&format!("{arguments:?}"), &errors);
        assert!(!errors.is_empty(), "{arguments:?}");
    }
}
