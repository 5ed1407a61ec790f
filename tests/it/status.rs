//! The status server of `echown serve --status`: what it serves, to whom, and that it disturbs no
//! client of the echo.

pub mod events;
mod health;
pub mod http;
mod view;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use super::common::temp_path::TempPath;
use super::common::{require_tool, wait_until};
use super::server::{DEADLINE, Server, exchange, serve};
use http::{connect, get, reply, request, send, status_of};

/// A server with a status server on a free port.
fn start(arguments: &[&str]) -> (Server, std::net::SocketAddr) {
    let arguments = [&["--status", "127.0.0.1:0"], arguments].concat();
    let mut server = Server::start(&arguments);
    let status = status_of(&mut server);
    (server, status)
}

/// The numbers of a snapshot, owned and declared.
fn numbers(snapshot: &serde_json::Value) -> Vec<i64> {
    let lists = ["resources", "declared"].map(|list| snapshot[list].as_array().expect("a list"));
    let entries = lists.into_iter().flatten();
    let mut numbers: Vec<i64> = entries.filter_map(|entry| entry["number"].as_i64()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn the_snapshot_lists_what_the_kernel_lists_and_marks_its_own_tasks() {
    let (server, status) = start(&[]);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();

    // The viewer's connection stays open until the viewer has read the end, for a second at most.
    let (mut local, mut snapshot) = (None, serde_json::Value::Null);
    wait_until("a snapshot while the viewer is connected", || {
        let mut viewer = connect(status);
        viewer.write_all(request("GET", "/snapshot.json", "localhost").as_bytes()).unwrap();
        viewer.read_exact(&mut [0]).unwrap();
        let open = server.open_descriptors();
        let open: Vec<i64> = open.iter().map(|(number, _)| i64::from(*number)).collect();
        let mut text = String::from("H");
        viewer.read_to_string(&mut text).unwrap();
        snapshot = http::Reply::of(&text).json();
        local = viewer.local_addr().ok();
        numbers(&snapshot) == open
    });

    let owners = |kind: &str| -> Vec<String> {
        let resources = snapshot["resources"].as_array().unwrap();
        let of_kind = resources.iter().filter(|resource| resource["kind"] == kind);
        of_kind.map(|resource| resource["owner"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let streams = owners("tcp stream");
    let local = local.expect("it was connected");
    assert!(streams.contains(&format!("status client {local}")), "{streams:?}");
    assert!(streams.contains(&format!("echo {}", client.local_addr().unwrap())), "{streams:?}");
    assert!(owners("tcp listener").contains(&"status acceptor".to_owned()));
    drop(client);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn every_response_forbids_caching_sniffing_frames_and_foreign_readers() {
    let (_server, status) = start(&[]);
    for (bytes, code) in [
        (request("GET", "/snapshot.json", "localhost"), 200),
        (request("GET", "/missing", "localhost"), 404),
        (request("GET", "/snapshot.json", "evil.example"), 403),
        (request("DELETE", "/snapshot.json", "localhost"), 405),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), 505),
    ] {
        let reply = send(status, bytes.as_bytes());
        assert_eq!(reply.code, code, "{reply:?}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("connection", "close"),
        ] {
            assert_eq!(reply.field(name), Some(value), "{reply:?}");
        }
        let policy = reply.field("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        let cors = reply.fields.iter().find(|(name, _)| name.starts_with("access-control"));
        assert_eq!(cors, None);
        let length: usize = reply.field("content-length").expect("a length").parse().unwrap();
        assert_eq!(length, reply.body.len());
    }
}

#[test]
fn only_get_and_head_are_allowed_and_head_has_no_body() {
    let (_server, status) = start(&[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"] {
        let reply = send(status, request(method, "/snapshot.json", "localhost").as_bytes());
        assert_eq!((reply.code, reply.field("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let body = "x".repeat(50_000);
    let post = format!(
        "POST /snapshot.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(send(status, post.as_bytes()).code, 405, "the body does not reset the response");
    for (target, code) in [("/snapshot.json", 200), ("/missing", 404)] {
        let reply = send(status, request("HEAD", target, "localhost").as_bytes());
        assert_eq!((reply.code, &*reply.body), (code, ""));
        let length: usize = reply.field("content-length").expect("a length").parse().unwrap();
        assert!(length > 0);
    }
}

#[test]
fn a_host_that_is_no_name_of_this_machine_is_rejected_unless_it_is_allowed() {
    let (_server, status) = start(&["--status-host", "Status.Example.org"]);
    let own = [
        status.to_string(),
        "localhost".into(),
        format!("LOCALHOST:{}", status.port()),
        "127.9.9.9".into(),
        "[::1]:9".into(),
        "status.example.org".into(),
        "status.example.org:443".into(),
    ];
    for host in own {
        let reply = send(status, request("GET", "/snapshot.json", &host).as_bytes());
        assert_eq!(reply.code, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "example.org", "192.0.2.1", ""] {
        for target in ["/snapshot.json", "/", "/missing"] {
            let reply = send(status, request("GET", target, host).as_bytes());
            assert_eq!(reply.code, 403, "{host}");
            assert!(reply.body.contains("is not a name of this server"), "{}", reply.body);
            assert!(reply.body.contains("--status-host NAME"), "{}", reply.body);
        }
    }
    let absolute = request("GET", "http://evil.example/snapshot.json", "localhost");
    assert_eq!(send(status, absolute.as_bytes()).code, 403);
    let absolute = request("GET", "http://localhost/snapshot.json", "localhost");
    assert_eq!(send(status, absolute.as_bytes()).code, 200);
    for hosts in ["", "Host: localhost\r\nHost: evil.example\r\n"] {
        let request = format!("GET /snapshot.json HTTP/1.1\r\n{hosts}\r\n");
        assert_eq!(send(status, request.as_bytes()).code, 400);
    }
}

#[test]
fn a_page_of_another_site_gets_nothing() {
    let (_server, status) = start(&[]);
    for (site, code) in
        [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
    {
        let request = format!(
            "GET /snapshot.json HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: {site}\r\n\r\n"
        );
        assert_eq!(send(status, request.as_bytes()).code, code, "{site}");
    }
}

#[test]
fn the_page_is_one_document_that_may_load_only_its_own_parts() {
    let (_server, status) = start(&[]);
    let page = get(status, "/");
    assert_eq!(page.code, 200);
    assert!(page.body.starts_with("<!DOCTYPE html>"), "{}", page.body);
    assert!(page.body.trim_end().ends_with("</html>"));
    let policy = page.field("content-security-policy").expect("it has a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    // A link on another site may lead to it.
    let link = "GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n";
    assert_eq!(send(status, link.as_bytes()).code, 200);
}

#[test]
fn an_unknown_path_gets_the_list_of_what_exists() {
    let (_server, status) = start(&[]);
    for target in ["/missing", "/snapshot.json/", "/..%2f", "*", "/snapshot"] {
        let reply = get(status, target);
        assert_eq!(reply.code, 404, "{target}");
        assert!(reply.body.contains("\n/snapshot.json  "), "{}", reply.body);
    }
    get(status, "/snapshot.json?now=1").json();
}

#[test]
fn a_request_has_at_most_8_kib_and_arrives_within_5_s() {
    let (server, status) = start(&[]);
    let filled = |bytes: usize| {
        let frame = "GET /snapshot.json HTTP/1.1\r\nHost: localhost\r\nX: \r\n\r\n";
        frame.replace("X: ", &format!("X: {}", "x".repeat(bytes - frame.len())))
    };
    assert_eq!(send(status, filled(8 * 1024).as_bytes()).code, 200);
    let reply = send(status, filled(8 * 1024 + 1).as_bytes());
    assert_eq!(reply.code, 431, "{reply:?}");
    assert!(reply.body.contains("at most 8192 bytes"), "{}", reply.body);
    let fields = "a: b\r\n".repeat(65);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    assert_eq!(send(status, many.as_bytes()).code, 431);

    // One byte at a time keeps it no longer than 5 s: the time counts for the whole head.
    let mut slow = connect(status);
    slow.write_all(b"GET /snapshot.json HTTP/1.1\r\nX: ").unwrap();
    let mut reader = slow.try_clone().unwrap();
    let response = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("the response is complete");
        text
    });
    wait_until("the slow client to get its response", || {
        // Fails when the server has closed.
        let _ = slow.write_all(b"x");
        response.is_finished()
    });
    let reply = http::Reply::of(&response.join().unwrap());
    assert_eq!(reply.code, 408);
    assert!(reply.body.contains("within 5 s"), "{}", reply.body);
    assert_eq!(exchange(server.connect(), b"meanwhile"), b"meanwhile");
}

#[test]
fn a_busy_address_and_invalid_hosts_are_errors_that_name_the_option() {
    let server = Server::start(&[]);
    let busy = server.address().to_string();
    let output = serve(&["127.0.0.1:0"], &["--status", &busy]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("in use by another program"), "{stderr}");
    assert!(stderr.contains("with --status"), "{stderr}");
    for (arguments, expected) in [
        (&["--status-host", "a"][..], "--status <ADDR>"),
        (&["--status", "0", "--status-host", "a:80"], "`a:80` is not a host"),
        (&["--status", "nowhere"], "expected ADDRESS:PORT"),
    ] {
        let output = serve(&["127.0.0.1:0"], arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn a_unix_socket_serves_the_status_and_is_removed_at_exit() {
    let path = TempPath::new("status.sock");
    let mut server = Server::start(&["--status", &format!("unix:{}", path.text())]);
    server.wait_for_line(&format!("status on unix:{}", path.text()));
    let ask = |host: &str| {
        let mut stream = UnixStream::connect(&*path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request("GET", "/snapshot.json", host).as_bytes()).unwrap();
        reply(stream)
    };
    ask("localhost").json();
    assert_eq!(ask("evil.example").code, 403);
    assert_eq!(server.stop().0, Some(0));
    assert!(!path.exists());
}

#[test]
fn the_status_is_served_during_the_drain_and_closed_after_it() {
    let (server, status) = start(&["--drain-timeout", "60s"]);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    // The client does not read, so its connection stays in the drain.
    let greedy = super::server::never_reads(&server);
    server.signal(Signal::TERM);
    server.wait_for("the echo to stop listening", |server| server.listeners() == 1);
    let snapshot = get(status, "/snapshot.json").json();
    assert!(snapshot["tasks"].to_string().contains("echo 127.0.0.1"), "{snapshot:#}");
    let idle = connect(status);
    drop(greedy);
    drop(client);
    let mut server = server;
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    assert_eq!(reply_or_nothing(idle), "", "an idle client of the status does not delay the exit");
}

fn reply_or_nothing(mut stream: impl Read) -> String {
    let mut text = String::new();
    // A reset is as good as an end.
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn a_client_that_closes_its_sending_side_gets_its_response() {
    let (_server, status) = start(&[]);
    let mut stream = connect(status);
    stream.write_all(request("GET", "/snapshot.json", "localhost").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    reply(stream).json();
}

#[test]
fn the_status_is_outside_the_limit_of_connections() {
    let (server, status) = start(&["--max-connections", "1"]);
    let mut only = server.connect();
    only.write_all(b"x").unwrap();
    only.read_exact(&mut [0]).unwrap();
    for _ in 0..3 {
        get(status, "/snapshot.json").json();
    }
    drop(only);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert!(lines.iter().any(|line| line.contains("1 connection, ")), "{lines:#?}");
}

#[test]
fn curl_reads_the_snapshot_over_tcp_and_unix() {
    let probe = std::process::Command::new("curl").arg("--version").output();
    if !require_tool("curl", probe.is_ok()) {
        return;
    }
    let path = TempPath::new("curl.sock");
    let (_server, status) = start(&[]);
    let unix = format!("unix:{}", path.text());
    let mut other = Server::start(&["--status", &unix]);
    other.wait_for_line("status on unix:");
    let url = format!("http://{status}/snapshot.json");
    for arguments in [
        &["-sS", "--fail", &url][..],
        &["-sS", "--fail", "--unix-socket", path.text(), "http://localhost/snapshot.json"],
    ] {
        let output = std::process::Command::new("curl").args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str::<serde_json::Value>(&text).expect("a snapshot");
    }
}
