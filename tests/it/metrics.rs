//! `/metrics`: its two formats, its page in the docs, and that it agrees with the summary.

mod parking;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::common::doc_pages::assert_page_shows;
use super::common::temp_path::TempPath;
use super::common::{DEADLINE, poll, wait_until};
use super::server::{Server, exchange, never_reads, serve, summary};
use super::status::http::{Reply, connect, get, request, send, status_of};
use parse::{Family, Sample, families};

const PAGE: &str = "docs/metrics.md";

fn start(arguments: &[&str]) -> (Server, SocketAddr) {
    let mut server = Server::start(&[&["--status", "127.0.0.1:0"], arguments].concat());
    let status = status_of(&mut server);
    (server, status)
}

fn scrape_as(status: SocketAddr, accept: &str) -> Reply {
    let head = format!("GET /metrics HTTP/1.1\r\nHost: any.example\r\nAccept: {accept}\r\n\r\n");
    let reply = send(status, head.as_bytes());
    assert_eq!(reply.code, 200, "{reply:?}");
    reply
}

/// The families in the OpenMetrics format.
fn scrape(status: SocketAddr) -> Vec<Family> {
    let reply = scrape_as(status, "application/openmetrics-text;version=1.0.0");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(reply.field("content-type"), Some(content_type));
    let text = reply.body.strip_suffix("# EOF\n").expect("the end has a mark");
    families(text, true)
}

/// All samples by name and labels, as in `echown_findings_total{code="leak"}`.
fn numbers(status: SocketAddr) -> BTreeMap<String, f64> {
    let samples = scrape(status).into_iter().flat_map(|family| family.samples);
    samples.map(|sample| (sample.series(), sample.value)).collect()
}

/// The numbers of a server that may have no thread for the request.
fn try_numbers(status: SocketAddr) -> Option<BTreeMap<String, f64>> {
    let mut stream = connect(status);
    stream.write_all(request("GET", "/metrics", "x").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    let samples = families(body, false).into_iter().flat_map(|family| family.samples);
    Some(samples.map(|sample| (sample.series(), sample.value)).collect())
}

/// Waits until this many clients were served, and all of them have ended.
#[track_caller]
fn wait_for_ends(status: SocketAddr, clients: u64) {
    wait_until("all clients to end", || {
        let all = numbers(status);
        let open = all["echown_connections_open"];
        (all["echown_connections_total"], open) == (clients as f64, 0.0)
    });
}

/// Sends these bytes, finishes, and reads them back.
fn echo(server: &Server, bytes: &[u8]) {
    assert_eq!(exchange(server.connect(), bytes), bytes);
}

#[test]
fn both_formats_are_valid_and_have_the_same_numbers() {
    let (server, status) = start(&[]);
    echo(&server, b"hello");
    wait_for_ends(status, 1);
    let open = scrape(status);
    let plain = scrape_as(status, "*/*");
    assert_eq!(plain.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(get(status, "/metrics").field("content-type"), plain.field("content-type"));
    let plain = families(&plain.body, false);
    // The last scrape may still have its connection.
    let is_steady = |sample: &&Sample| sample.name != "echown_owned_descriptors";
    let samples = |families: &[Family]| -> BTreeMap<String, f64> {
        let samples = families.iter().flat_map(|family| &family.samples).filter(is_steady);
        samples.map(|sample| (sample.series(), sample.value)).collect()
    };
    assert_eq!(samples(&open), samples(&plain));
    let head = send(status, request("HEAD", "/metrics", "x").as_bytes());
    assert_eq!((head.code, &*head.body), (200, ""));
}

/// The rows of the table: metric, type, names of labels.
fn documented() -> BTreeSet<(String, String, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let names = |cell: &str| -> Vec<String> {
        cell.split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
    };
    let row = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let labels = if cells[2].is_empty() { Vec::new() } else { names(cells[2]) };
        (cells[0].trim_matches('`').to_owned(), cells[1].to_owned(), labels)
    };
    rows.map(row).collect()
}

#[test]
fn the_page_lists_every_metric_with_its_type_and_labels_and_no_other() {
    let (_server, status) = start(&[]);
    let served = scrape(status).into_iter().map(|family| {
        let name = match &*family.kind {
            "counter" => format!("{}_total", family.name),
            "info" => format!("{}_info", family.name),
            _ => family.name.clone(),
        };
        let labels = family.samples[0].labels.iter().map(|(label, _)| label.clone());
        let labels = labels.filter(|label| label != "le").collect();
        (name, family.kind, labels)
    });
    assert_eq!(served.collect::<BTreeSet<_>>(), documented());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(path).unwrap();
    let known: Vec<String> = documented().into_iter().map(|(name, ..)| name).collect();
    let is_of_name = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
    for word in page.split(|sign| !is_of_name(sign)).filter(|word| word.starts_with("echown_")) {
        let base = word.strip_suffix("_bucket").unwrap_or(word);
        let is_known = known.iter().any(|name| name == base) || word == "echown_connections";
        assert!(is_known, "{PAGE} names {word}");
    }
}

#[test]
fn the_page_shows_the_connections_of_a_server_after_one_client() {
    let (server, status) = start(&[]);
    echo(&server, b"hello");
    wait_for_ends(status, 1);
    let body = get(status, "/metrics").body;
    let lines = body.lines().filter(|line| line.starts_with("echown_connections"));
    let shown: String = lines.map(|line| format!("{line}\n")).collect();
    let command = "$ curl -s http://127.0.0.1:9100/metrics | grep ^echown_connections\n";
    assert_page_shows(PAGE, "metrics of connections", "console", &(command.to_owned() + &shown));
}

/// Connects and closes with unread input, which resets the connection.
fn reset(server: &Server) {
    let mut client = server.connect();
    client.write_all(b"never read").unwrap();
    // The reply is there and stays unread.
    assert!(client.peek(&mut [0]).is_ok());
}

#[test]
fn counters_agree_with_the_summary_after_known_traffic() {
    let path = TempPath::new("metrics-summary.json");
    let limits = ["--max-connections", "2", "--summary", path.text()];
    let (mut server, status) = start(&limits);
    for ended in 1..=5 {
        echo(&server, b"ten bytes.");
        wait_for_ends(status, ended);
    }
    reset(&server);
    wait_for_ends(status, 6);
    let mut inside: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    for client in &mut inside {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let while_open = numbers(status);
    assert_eq!(while_open["echown_connections_open"], 2.0);
    assert_eq!(while_open["echown_connections_max"], 2.0);
    assert!(while_open["echown_threads{state=\"running\"}"] >= 3.0, "{while_open:#?}");
    for _ in 0..3 {
        let mut refused = server.connect();
        assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0);
    }
    drop(inside);
    wait_for_ends(status, 8);
    let last = numbers(status);
    server.signal(Signal::TERM);
    server.wait();
    let totals: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let of = |key: &str| totals[key].as_u64().unwrap_or_else(|| panic!("{key}")) as f64;
    assert_eq!((last["echown_connections_total"], of("connections")), (8.0, 8.0));
    for (series, key) in [
        ("echown_connections_refused_total{limit=\"max_connections\"}", "refused"),
        ("echown_received_bytes_total", "bytes_in"),
        ("echown_sent_bytes_total", "bytes_out"),
        ("echown_connection_errors_total", "errors"),
        ("echown_accept_to_serve_seconds_count", "connections"),
    ] {
        assert_eq!(last[series], of(key), "{series}: {totals:#}");
    }
    assert_eq!((of("refused"), of("errors")), (3.0, 1.0), "{totals:#}");
    for (reason, count) in totals["ends"].as_object().unwrap() {
        if reason != "refused" {
            let series = format!("echown_connections_ended_total{{reason=\"{reason}\"}}");
            assert_eq!(Some(last[&series]), count.as_f64(), "{series}");
        }
    }
}

#[test]
fn findings_are_counted_by_their_code() {
    let (server, status) = start(&["--chaos", "leak=1"]);
    assert_eq!(numbers(status)["echown_findings_total{code=\"leak\"}"], 0.0);
    for _ in 0..3 {
        let mut client = server.connect();
        client.write_all(b"x").unwrap();
        // Until the fault ends it.
        let _ = client.read_to_end(&mut Vec::new());
    }
    wait_for_ends(status, 3);
    let all = numbers(status);
    let (_, lines) = server.stop();
    assert_eq!(all["echown_findings_total{code=\"leak\"}"], summary(&lines, "leaks") as f64);
    assert_eq!(summary(&lines, "leaks"), 3, "{lines:#?}");
}

#[test]
fn sigusr1_prints_the_numbers_of_the_summary_so_far() {
    let mut server = Server::start(&[]);
    echo(&server, b"hello");
    let mut open = server.connect();
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0]).unwrap();
    let line = "totals: 2 connections, 0 refused, 5 bytes in, 5 bytes out, 0 errors, 0 aborted, \
                0 panics, 0 leaks, 0 violations, 0 replaced fds, ";
    wait_until("the first client to end", || {
        server.signal(Signal::USR1);
        server.wait_for_line("totals: ").starts_with(line)
    });
    drop(open);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.starts_with("totals: ") && line.contains("drained")));
    assert_eq!(summary(&lines, "bytes in"), 6, "{lines:#?}");

    let mut server = Server::start(&["--log-format", "json", "--max-connections", "1"]);
    echo(&server, b"hello");
    let mut totals = Value::Null;
    wait_until("the client to end", || {
        server.signal(Signal::USR1);
        totals = serde_json::from_str(&server.wait_for_line("\"event\":\"totals\"")).unwrap();
        totals["ends"]["finished"] == 1
    });
    let (_, lines) = server.stop();
    let last = lines.iter().find(|line| line.contains("\"event\":\"summary\"")).unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&totals), keys(&last));
    for key in ["connections", "bytes_in", "bytes_out", "errors", "ends", "leaks", "injected"] {
        assert_eq!(totals[key], last[key], "{key}");
    }
    assert!(totals["message"].as_str().unwrap().starts_with("totals: 1 connection, "), "{totals}");
}

#[test]
fn a_refusal_is_counted_for_the_limit_that_caused_it() {
    for (limit, arguments) in
        [("max_per_ip", &["--max-per-ip", "1"][..]), ("threads", &["--faults", "thread=0.5"])]
    {
        let (server, status) = start(arguments);
        let _inside = server.connect();
        let series = format!("echown_connections_refused_total{{limit=\"{limit}\"}}");
        wait_until("a refusal", || {
            // Closed at once, or not accepted for a while.
            drop(server.connect());
            try_numbers(status).is_some_and(|all| all[&series] > 0.0)
        });
        let all = poll(DEADLINE, || try_numbers(status)).expect("a scrape");
        let others = all.iter().filter(|(name, count)| {
            name.contains("_refused_total{") && **name != series && **count > 0.0
        });
        assert_eq!(others.count(), 0, "{limit}: {all:#?}");
    }
}

#[test]
fn a_refusal_for_lack_of_descriptors_is_counted_as_one() {
    let (mut server, status) = start(&[]);
    // Below the limit at its start, as when the whole system runs out.
    server.set_limit("--nofile=40");
    let mut crowd: Vec<TcpStream> = (0..60).map(|_| server.connect()).collect();
    server.wait_for_line("accept paused");
    wait_until("the close of a client", || {
        crowd.iter_mut().any(|client| {
            client.set_read_timeout(Some(std::time::Duration::from_millis(10))).unwrap();
            matches!(client.read(&mut [0]), Ok(0))
        })
    });
    drop(crowd);
    let all = numbers(status);
    assert!(all["echown_connections_refused_total{limit=\"descriptors\"}"] > 0.0, "{all:#?}");
    assert_eq!(all["echown_connections_refused_total{limit=\"max_connections\"}"], 0.0);
}

#[test]
fn a_drain_is_visible_and_the_clients_of_a_public_address_see_it() {
    let mut command = serve(&["127.0.0.1:0"], &["--status", "0.0.0.0:0", "--drain-timeout", "60s"]);
    let mut server = Server::run(&mut command, 1);
    let status = SocketAddr::from(([127, 0, 0, 1], status_of(&mut server).port()));
    assert_eq!(numbers(status)["echown_stopping"], 0.0);
    let greedy = never_reads(&server);
    server.signal(Signal::TERM);
    wait_until("the drain", || numbers(status)["echown_stopping"] == 1.0);
    assert_eq!(numbers(status)["echown_connections_open"], 1.0);
    greedy.shutdown(Shutdown::Both).unwrap();
    drop(greedy);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
}

#[test]
fn numbers_are_consistent_while_clients_come_and_go() {
    const CLIENTS: u64 = 200;
    let (server, status) = start(&[]);
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    let clients = std::thread::spawn(move || {
        clients.into_iter().all(|client| exchange(client, b"during a scrape") == b"during a scrape")
    });
    let mut before = 0.0;
    while !clients.is_finished() {
        let all = numbers(status);
        let total = all["echown_connections_total"];
        assert!(total >= before && total >= all["echown_connections_open"], "{all:#?}");
        before = total;
    }
    assert!(clients.join().unwrap(), "every client gets its bytes back");
    wait_for_ends(status, CLIENTS);
    assert_eq!(numbers(status)["echown_received_bytes_total"], (CLIENTS * 15) as f64);
}
