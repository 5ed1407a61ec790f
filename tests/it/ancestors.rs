//! `docs/ancestors.md` shows what the program shows.

use std::io::{Read, Write};
use std::path::Path;

use rustix::process::Signal;

use super::callback::{Drawn, of_the_ancestor};
use super::server::Server;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ancestors.md");
    std::fs::read_to_string(path).expect("the page is there")
}

/// The part of the page under a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect("the heading is there");
    rest.split("\n## ").next().expect("there is a first part")
}

/// The blocks of one language, line by line.
fn blocks<'a>(section: &'a str, language: &str) -> Vec<Vec<&'a str>> {
    let fence = format!("\n```{language}\n");
    let parts = section.split(&fence).skip(1);
    parts.map(|part| part.lines().take_while(|line| *line != "```").collect()).collect()
}

#[test]
fn the_ancestors_have_their_headings_in_order() {
    let page = page();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, ["Miou", "edsm", "mob", "SocketManager"]);
}

#[test]
fn the_pictures_of_the_callbacks_are_the_programs() {
    let page = page();
    let drawn: Vec<Drawn> = blocks(section(&page, "SocketManager"), "mermaid")
        .iter()
        .map(|it| Drawn::read(it))
        .collect();
    // The same that the program's own pictures are compared with.
    assert_eq!(drawn, of_the_ancestor());
}

/// A line of the custody table as the page has it: without numbers of descriptors, ages, threads,
/// and lines of source. `None` for what the page leaves out.
fn as_on_the_page(line: &str) -> Option<String> {
    let indent = line.len() - line.trim_start().len();
    let line = line.trim_start();
    let is_kept = match indent {
        0 => line.starts_with("task "),
        2 => line.contains(" fd "),
        _ => ["acquired by ", "given ", "claimed "].iter().any(|word| line.starts_with(word)),
    };
    if !is_kept {
        return None;
    }
    let kept = match indent {
        0 => line.split(" (").next()?.to_owned(),
        2 => {
            let half = [", read half", ", write half"].into_iter().find(|half| line.contains(half));
            line.split(" fd ").next()?.to_owned() + " fd" + half.unwrap_or_default()
        }
        _ => line.split(".rs").next()?.to_owned() + ".rs",
    };
    Some(" ".repeat(indent) + &kept)
}

/// Tasks with what belongs to them, in the order of their names: which comes first is chance.
fn by_task(lines: Vec<String>, wanted: &[&str]) -> Vec<Vec<String>> {
    let mut tasks: Vec<Vec<String>> = Vec::new();
    for line in lines {
        if line.starts_with("task ") {
            tasks.push(vec![line]);
        } else {
            tasks.last_mut().expect("a table begins with a task").push(line);
        }
    }
    tasks.retain(|task| wanted.iter().any(|name| task[0].contains(&format!(" `{name}"))));
    tasks.sort();
    tasks
}

/// Holds the picture of one client's custody against the program's own.
fn attest_custody(heading: &str, port: u16, arguments: &[&str], request: &[u8], tasks: &[&str]) {
    let mut server = Server::start(arguments);
    let mut client = server.connect();
    client.write_all(request).unwrap();
    client.read_exact(&mut vec![0; request.len()]).unwrap();
    let names = [
        (server.address().to_string(), format!("127.0.0.1:{port}")),
        (client.local_addr().unwrap().to_string(), "127.0.0.1:50000".to_owned()),
    ];
    let page = page();
    let page = blocks(section(&page, heading), "text").concat();
    let page = by_task(page.into_iter().filter_map(as_on_the_page).collect(), tasks);
    // After its answer the connection is handed on for the next request, in a moment.
    let deadline = std::time::Instant::now() + super::server::PATIENCE;
    loop {
        server.seen.clear();
        server.signal(Signal::USR1);
        server.wait_for_line("custody: ");
        server.wait_for_line("fd 0 declared");
        let shown = server.seen.iter().skip_while(|line| !line.starts_with("custody: "));
        let shown: Vec<String> = shown
            .filter_map(|line| as_on_the_page(line))
            .map(|line| names.iter().fold(line, |line, (is, page)| line.replace(is, page)))
            .collect();
        let shown = by_task(shown, tasks);
        if shown == page {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "shown {shown:#?}, on the page {page:#?}");
    }
}

#[test]
fn the_custody_of_one_client_is_the_programs() {
    attest_custody("Miou", 3000, &[], b"Hello\n", &["main", "accept ", "echo "]);
}

#[test]
fn the_way_through_the_machines_is_the_programs() {
    let staged = ["--style", "staged", "--max-connections", "1"];
    attest_custody("edsm", 3333, &staged, b"123\n", &["RX-1", "staged "]);
}

#[test]
fn the_two_owners_of_a_split_socket_are_the_programs() {
    let frame = b"\0\0\0\0\0\0\0\x05Hello";
    attest_custody("mob", 8000, &["--style", "broadcast"], frame, &["broadcast ", "writer of"]);
}
