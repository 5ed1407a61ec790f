//! Rules for prose: banned words in Markdown, help texts and comments.
//!
//! Code blocks and code spans do not count: `nobody` is a Unix account. The places that still break
//! the rule are listed in `tests/tidy/prose_exceptions.txt`. The list can only shrink: a place that
//! no longer needs to be listed fails the test, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use super::Faults;
use super::markdown::{documents, without_code};
use super::source::{everything, root};

/// Words and phrases of the project's former private dialect, with what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("anew", "again, or name what is new"),
    ("answers", "returns, or replies"),
    ("beside", "next to"),
    ("for ever", "indefinitely, or permanently"),
    ("in hand", "in use"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("mends", "fixes"),
    ("nobody", "no task, no client, no reader"),
    ("patience", "timeout"),
    ("refused", "rejected"),
    ("so long", "this long, or the duration"),
    ("stranger", "another task, or a downstream crate"),
    ("strangers", "other tasks, or downstream crates"),
    ("told", "logged, notified or reported"),
    ("whoever", "the caller, the client, a task that"),
];

/// What the kernel calls it.
const PERMITTED: &[(&str, &str)] = &[("connection", "refused")];

const EXCEPTIONS: &str = "tests/tidy/prose_exceptions.txt";

#[test]
fn prose_has_no_banned_words() {
    let mut faults = Faults::because(
        "documents, help texts and comments are written in plain technical English: \
         no banned words outside code spans and code blocks",
    );
    let mut found = BTreeMap::new();
    for (kind, texts) in
        [("Markdown", documents()), ("help text", helps()), ("comments", comments())]
    {
        let mut count = 0;
        let mut files = 0;
        for (name, text) in texts {
            // Written from module headers, which are checked where they stand.
            if name == "docs/files.md" {
                continue;
            }
            let words = banned_words(&text);
            count += words.len();
            files += usize::from(!words.is_empty());
            found.insert(name, words);
        }
        println!("{kind}: {count} banned words in {files} places");
    }
    let exceptions = exceptions();
    for (name, words) in &found {
        match (exceptions.contains(name), words.is_empty()) {
            (false, false) => {
                for (line, word, instead) in words {
                    faults.add_at(name, *line, format!("`{word}`; write: {instead}"));
                }
            }
            (true, true) => {
                faults.add_at(EXCEPTIONS, 1, format!("{name} is clean: take it off the list"));
            }
            _ => {}
        }
    }
    for name in exceptions.iter().filter(|name| !found.contains_key(*name)) {
        faults.add_at(EXCEPTIONS, 1, format!("{name} does not exist: take it off the list"));
    }
    faults.assert_none();
}

#[test]
fn banned_words_are_found_where_they_count_and_nowhere_else() {
    let text =
        "Nobody is\nfor\never told.\n\n```text\nanew\n```\n`nobody`, connection refused, mending";
    let words: Vec<(usize, &str)> =
        banned_words(&without_code(text)).into_iter().map(|(line, word, _)| (line, word)).collect();
    assert_eq!(words, [(1, "nobody"), (2, "for ever"), (3, "told")]);
}

/// Each banned word of a text, with its line and its replacement.
fn banned_words(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let words: Vec<(usize, String)> = text
        .lines()
        .enumerate()
        .flat_map(|(index, line)| {
            let words = line.split(|sign: char| !sign.is_alphanumeric() && sign != '-');
            words.filter(|word| !word.is_empty()).map(move |word| (index + 1, word.to_lowercase()))
        })
        .collect();
    let mut found = Vec::new();
    for (index, (line, word)) in words.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |before| &*words[before].1);
        if PERMITTED.contains(&(before, word)) {
            continue;
        }
        let is_here = |phrase: &str| {
            let rest = words[index..].iter().map(|(_, word)| &**word);
            phrase.split(' ').zip(rest.map(Some).chain([None])).all(|(is, it)| Some(is) == it)
                && words.len() - index >= phrase.split(' ').count()
        };
        if let Some((phrase, instead)) = BANNED.iter().find(|(phrase, _)| is_here(phrase)) {
            found.push((*line, *phrase, *instead));
        }
    }
    found
}

/// The long help of the program and of each of its commands.
fn helps() -> Vec<(String, String)> {
    let mut commands = vec![Vec::new()];
    let mut helps = Vec::new();
    while let Some(command) = commands.pop() {
        let help = help(&command);
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in listed.take_while(|line| !line.is_empty()) {
            let name = line.trim_start().split(' ').next().unwrap_or_default();
            // Further lines of a description are indented by more.
            if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
                commands.push([&command[..], &[name.to_owned()]].concat());
            }
        }
        let name = ["echown"].into_iter().chain(command.iter().map(|word| &**word));
        let name = name.chain(["--help"]).collect::<Vec<_>>().join(" ");
        helps.push((name, without_code(&help)));
    }
    assert!(helps.len() >= 5, "the help lists the commands: {helps:?}");
    helps
}

fn help(command: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_echown")).args(command).arg("--help").output();
    let output = output.expect("the program starts");
    String::from_utf8(output.stdout).expect("the help is text")
}

/// The comment lines of all sources.
fn comments() -> Vec<(String, String)> {
    everything()
        .map(|file| {
            let lines = file.lines.iter().map(|line| line.trim_start().strip_prefix("//"));
            let text = lines.map(|text| text.unwrap_or_default().trim_start_matches(['/', '!']));
            let text: Vec<&str> = text.collect();
            (file.name.clone(), without_code(&text.join("\n")))
        })
        .collect()
}

fn exceptions() -> BTreeSet<String> {
    let list = fs::read_to_string(root().join(EXCEPTIONS)).expect("the list is there");
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}
