//! `docs/reference-servers.md`: its outputs match the program, and the regression tests that it
//! names exist.

use std::io::{Read, Write};
use std::path::Path;

use super::callback::{Drawn, of_the_reference};
use super::pages;
use super::server::Server;
use crate::common::doc_pages::{assert_page_shows, rust_sources};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference-servers.md");
    std::fs::read_to_string(path).expect("the page exists")
}

/// The section of the page under a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect("the heading exists");
    rest.split("\n## ").next().expect("there is a first part")
}

/// The blocks of one language, line by line.
fn blocks<'a>(section: &'a str, language: &str) -> Vec<Vec<&'a str>> {
    let fence = format!("\n```{language}\n");
    let parts = section.split(&fence).skip(1);
    parts.map(|part| part.lines().take_while(|line| *line != "```").collect()).collect()
}

#[test]
fn the_reference_servers_are_listed_in_order() {
    let page = page();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, ["Overview", "Miou", "edsm", "mob", "SocketManager"]);
}

#[test]
fn every_bug_in_the_table_names_an_existing_regression_test() {
    let sources = rust_sources(&["tests", "src"]);
    let page = page();
    let rows = page.lines().skip_while(|line| !line.starts_with("| reference server | bug |"));
    let rows: Vec<Vec<&str>> = rows
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    for server in ["Miou", "edsm", "mob", "SocketManager"] {
        let bugs = rows.iter().filter(|row| row[1] == server);
        assert!(bugs.count() >= 3, "{server}");
    }
    for row in rows {
        let mut names = row[3].split('`').skip(1).step_by(2).peekable();
        assert!(names.peek().is_some(), "no test for {row:?}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
        }
    }
}

#[test]
fn the_callback_graphs_match_the_output() {
    let page = page();
    let drawn: Vec<Drawn> = blocks(section(&page, "SocketManager"), "mermaid")
        .iter()
        .map(|it| Drawn::read(it))
        .collect();
    // The same graphs with which the program's output is compared.
    assert_eq!(drawn, of_the_reference());
}

/// A line of the custody table as the page has it: without numbers of descriptors, ages, threads,
/// and lines of source. `None` for lines that the page omits.
fn as_on_the_page(line: &str) -> Option<String> {
    let indent = line.len() - line.trim_start().len();
    let line = line.trim_start();
    let is_kept = match indent {
        0 => line.starts_with("task "),
        2 => line.contains(" fd "),
        _ => ["acquired by ", "given ", "transferred ", "claimed "]
            .iter()
            .any(|word| line.starts_with(word)),
    };
    if !is_kept {
        return None;
    }
    let kept = match indent {
        0 => line.split(" (").next()?.to_owned(),
        2 => {
            let half = [", read half", ", write half"].into_iter().find(|half| line.contains(half));
            line.split(" fd ").next()?.to_owned() + half.unwrap_or_default()
        }
        _ => line.split(".rs").next()?.to_owned() + ".rs",
    };
    Some(" ".repeat(indent) + &kept)
}

/// Compares the page's custody of one client with the program's, once that has all of `wanted`.
fn assert_custody(
    marker: &str,
    port: u16,
    arguments: &[&str],
    request: &[u8],
    wanted: &[&str],
    tasks: &[&str],
) {
    let mut server = Server::start(arguments);
    let mut client = server.connect();
    client.write_all(request).unwrap();
    client.read_exact(&mut vec![0; request.len()]).unwrap();
    let table = pages::custody(&mut server, wanted);
    let lines = tasks.iter().flat_map(|name| pages::task(&table, name, None));
    let output_text: String = lines
        .filter_map(|line| as_on_the_page(&line))
        .map(|line| line.replace(&server.address().to_string(), &format!("127.0.0.1:{port}")))
        .map(|line| line.replace(&client.local_addr().unwrap().to_string(), pages::CLIENT) + "\n")
        .collect();
    assert_page_shows("docs/reference-servers.md", marker, "text", &output_text);
}

#[test]
fn the_custody_of_one_client_matches_the_output() {
    let tasks = ["main", "accept ", "echo "];
    assert_custody("custody by Miou", 3000, &[], b"Hello\n", &["6 bytes out"], &tasks);
}

#[test]
fn the_path_through_the_machines_matches_the_output() {
    let staged = ["--style", "staged", "--max-connections", "1"];
    let wanted = ["`RX-1`, 4 bytes in, 4 bytes out"];
    let tasks = ["staged ", "LISTENER-1", "WORKER-1", "RX-1"];
    assert_custody("custody by edsm", 3333, &staged, b"123\n", &wanted, &tasks);
}

#[test]
fn the_two_owners_of_a_split_socket_match_the_output() {
    let frame = b"\0\0\0\0\0\0\0\x05Hello";
    let wanted = ["13 bytes in, 0 bytes out", "0 bytes in, 13 bytes out"];
    let (style, tasks) = (["--style", "broadcast"], ["broadcast ", "writer of"]);
    assert_custody("custody by mob", 8000, &style, frame, &wanted, &tasks);
}
