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
        0 => ["main", "accept ", "echo "].iter().any(|name| line.contains(&format!(" `{name}"))),
        2 => line.contains(" fd "),
        _ => line.starts_with("acquired by ") || line.starts_with("given "),
    };
    if !is_kept {
        return None;
    }
    let kept = match indent {
        0 => line.split(" (").next()?.to_owned(),
        2 => line.split(" fd ").next()?.to_owned() + " fd",
        _ => line.split(".rs").next()?.to_owned() + ".rs",
    };
    Some(" ".repeat(indent) + &kept)
}

#[test]
fn the_custody_of_one_client_is_the_programs() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.write_all(b"Hello\n").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    server.signal(Signal::USR1);
    server.wait_for_line("custody: ");
    server.wait_for_line("fd 0 declared");
    let names = [
        (server.address().to_string(), "127.0.0.1:3000"),
        (client.local_addr().unwrap().to_string(), "127.0.0.1:50000"),
    ];
    let shown = server.seen.iter().skip_while(|line| !line.starts_with("custody: "));
    let shown: Vec<String> = shown
        .filter_map(|line| as_on_the_page(line))
        .map(|line| names.iter().fold(line, |line, (is, page)| line.replace(is, page)))
        .collect();
    let page = page();
    let page = blocks(section(&page, "Miou"), "text").concat();
    let page: Vec<String> = page.into_iter().filter_map(as_on_the_page).collect();
    assert_eq!(shown, page);
}
