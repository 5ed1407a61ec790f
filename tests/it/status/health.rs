//! `/healthz`, and the status address that other machines reach.

use std::io::{Read, Write};

use rustix::process::Signal;

use super::super::server::{Server, never_reads, serve};
use super::http::{connect, get, request, send, status_of};
use super::start;
use crate::common::wait_until;

/// The exit code and standard error of a health check.
fn check(status: std::net::SocketAddr) -> (Option<i32>, String) {
    let url = format!("http://{status}/healthz");
    let output = super::super::server::echown().args(["healthcheck", &url]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn healthz_is_200_while_the_server_serves_and_503_from_the_first_signal_on() {
    let (mut server, status) = start(&["--drain-timeout", "60s"]);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let healthy = get(status, "/healthz");
    assert_eq!((healthy.code, &*healthy.body), (200, "ok\n"));
    let head = send(status, request("HEAD", "/healthz", "localhost").as_bytes());
    assert_eq!((head.code, &*head.body, head.field("content-length")), (200, "", Some("3")));
    assert_eq!(send(status, request("POST", "/healthz", "localhost").as_bytes()).code, 405);
    assert_eq!(check(status), (Some(0), String::new()));

    // The client does not read, so its connection stays in the drain.
    let greedy = never_reads(&server);
    server.signal(Signal::TERM);
    server.wait_for_line("draining");
    wait_until("the status to say that the server stops", || get(status, "/healthz").code == 503);
    let stopping = get(status, "/healthz");
    assert_eq!(stopping.body, "503 Service Unavailable\n\nthe server is stopping\n");
    let expected = format!(
        "echown: not healthy: http://{status}/healthz returned 503: the server is stopping\n"
    );
    assert_eq!(check(status), (Some(1), expected));
    drop(greedy);
    drop(client);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
}

#[test]
fn an_address_that_other_machines_reach_serves_only_what_is_public() {
    for address in ["0.0.0.0:0", ":0"] {
        let mut server = Server::start(&["--status", address]);
        let port = status_of(&mut server).port();
        let status = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let only = server.seen.iter().find(|line| line.contains("other machines can connect"));
        assert!(only.is_some_and(|line| line.contains("only /healthz")), "{:#?}", server.seen);
        for host in ["echo.example:9100", "10.1.2.3", "localhost"] {
            for target in ["/", "/events", "/snapshot.json", "/missing"] {
                let reply = send(status, request("GET", target, host).as_bytes());
                assert_eq!(reply.code, 404, "{host}{target}: {reply:?}");
                assert!(reply.body.contains("\n/healthz  "), "{reply:?}");
                assert!(!reply.body.contains("/snapshot.json"), "{reply:?}");
                let why = "served only on a loopback address or a Unix socket.";
                assert!(reply.body.contains(why), "{reply:?}");
            }
            let public = request("GET", "/healthz", host);
            assert_eq!(send(status, public.as_bytes()).code, 200, "{host}");
        }
        assert_eq!(check(status), (Some(0), String::new()));
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn an_address_of_another_machine_is_an_error_of_the_status() {
    let output = serve(&["127.0.0.1:0"], &["--status", "192.0.2.1:0"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("this machine does not have this address"), "{stderr}");
    assert!(!stderr.contains("listening on"), "{stderr}");
}

#[test]
fn viewers_that_occupy_all_places_do_not_make_a_server_unhealthy() {
    let (_server, status) = start(&[]);
    let _viewers: Vec<_> = (0..8)
        .map(|_| {
            let mut viewer = connect(status);
            viewer.write_all(request("GET", "/events", "localhost").as_bytes()).unwrap();
            viewer.read_exact(&mut [0]).unwrap();
            viewer
        })
        .collect();
    wait_until("a further viewer to be rejected", || get(status, "/snapshot.json").code == 503);
    assert_eq!(get(status, "/healthz").code, 200);
    assert_eq!(get(status, "/missing").code, 503);
}
