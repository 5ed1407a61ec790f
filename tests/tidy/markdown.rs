//! Rules for Markdown: one line per paragraph, and no broken links.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Faults;
use super::source::root;

#[test]
fn a_paragraph_is_one_line() {
    let mut faults = Faults::because(
        "Markdown has one line per paragraph and list item, so that a change of a word is a change \
         of one line, and no file is wrapped in a way of its own",
    );
    for (name, text) in texts() {
        for (line, _) in continued_lines(&text) {
            faults.add_at(&name, line, "continues the paragraph of the line above");
        }
    }
    faults.assert_none();
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut faults = Faults::because("a link in Markdown leads to a file and heading that exist");
    for (name, text) in texts() {
        // The beginning of docs/reports.md, whose links are checked there.
        if name == "tests/reports/introduction.md" {
            continue;
        }
        for (index, line) in without_code(&text).lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if target.contains("://") {
                    continue;
                }
                let (path, heading) = target.split_once('#').unwrap_or((target, ""));
                let file = match path {
                    "" => root().join(&name),
                    _ => root().join(&name).parent().expect("it is in a folder").join(path),
                };
                let is_there = match fs::read_to_string(&file) {
                    _ if heading.is_empty() => file.exists(),
                    Ok(page) => anchors(&page).contains(heading),
                    Err(_) => false,
                };
                if !is_there {
                    faults.add_at(&name, index + 1, format!("`{target}` leads nowhere"));
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn continued_lines_are_distinguished_from_blocks() {
    let text = "# A\none\ntwo\n\n- item\n  more\n- item\n\n| a |\n|---|\ntext\n```\nx\ny\n```\nz\n";
    let lines: Vec<usize> = continued_lines(text).iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [3, 6, 11]);
}

/// Names and texts of the Markdown documents of the project.
fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).expect("it is text");
                found.push((name_of(&path), text));
            }
        }
    }
    assert!(found.len() > 20, "the documents are found: {found:?}");
    found
}

fn name_of(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("it is below the root");
    path.to_str().expect("names are ASCII").replace('\\', "/")
}

/// Names of the Markdown documents, and their texts without code.
pub fn documents() -> Vec<(String, String)> {
    texts().into_iter().map(|(name, text)| (name, without_code(&text))).collect()
}

/// A text with blanks for code blocks and code spans; lines keep their numbers.
pub fn without_code(text: &str) -> String {
    let lines: Vec<&str> =
        mark_code_blocks(text).map(|(line, is_code)| if is_code { "" } else { line }).collect();
    let mut rest = &*lines.join("\n");
    let mut without = String::new();
    while let Some((before, opened)) = rest.split_once('`') {
        without += before;
        let ticks = 1 + opened.len() - opened.trim_start_matches('`').len();
        let opened = &opened[ticks - 1..];
        // Without a closing sign in its paragraph, it is an ordinary character.
        let paragraph = opened.split("\n\n").next().unwrap_or_default();
        let fence = "`".repeat(ticks);
        let code = paragraph.split_once(&*fence).map_or("", |(code, _)| code);
        without += " ";
        without.extend(code.chars().filter(|sign| *sign == '\n'));
        rest = if code.is_empty() { opened } else { &opened[code.len() + ticks..] };
    }
    without + rest
}

/// The lines of a text, and whether each is in a fenced code block or its fence.
fn mark_code_blocks(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut fence: Option<&str> = None;
    text.lines().map(move |line| {
        let trimmed = line.trim();
        match fence {
            Some(open) => {
                if trimmed == open {
                    fence = None;
                }
                (line, true)
            }
            None if trimmed.starts_with("```") => {
                let ticks = trimmed.len() - trimmed.trim_start_matches('`').len();
                fence = Some(&trimmed[..ticks]);
                (line, true)
            }
            None => (line, false),
        }
    })
}

/// The lines that continue the paragraph, list item or table of the line above.
fn continued_lines(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut is_open = false;
    for (index, (line, is_code)) in mark_code_blocks(text).enumerate() {
        let trimmed = line.trim_start();
        let is_list_item = trimmed.starts_with("- ")
            || trimmed.starts_with("* ")
            || trimmed.trim_start_matches(|sign: char| sign.is_ascii_digit()).starts_with(". ");
        let begins_a_block = is_code
            || trimmed.is_empty()
            || is_list_item
            || ["#", "|", ">", "<!--"].iter().any(|sign| trimmed.starts_with(sign));
        if is_open && !begins_a_block {
            found.push((index + 1, line));
        }
        is_open = !is_code
            && !trimmed.is_empty()
            && !trimmed.starts_with('#')
            && !trimmed.starts_with("<!--");
    }
    found
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        mark_code_blocks(page).filter(|(line, is_code)| !is_code && line.starts_with('#'));
    headings
        .map(|(line, _)| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |sign: &char| sign.is_alphanumeric() || [' ', '-', '_'].contains(sign);
            heading.chars().filter(kept).collect::<String>().replace(' ', "-")
        })
        .collect()
}
