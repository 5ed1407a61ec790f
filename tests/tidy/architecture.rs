//! Rules for `ARCHITECTURE.md` and `docs/files.md`: the names in them exist, and no file is
//! missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Faults;
use super::source::root;

const MAP: &str = "ARCHITECTURE.md";
const FILES: &str = "docs/files.md";

#[test]
fn every_function_that_the_architecture_names_exists() {
    let mut faults = Faults::because(
        "ARCHITECTURE.md answers `where is ...?` by file and function: each is there, \
         in the order of the row",
    );
    let map = read(MAP);
    let rows = map.lines().enumerate().skip_while(|(_, line)| !line.starts_with("| question |"));
    let rows = rows.skip(2).take_while(|(_, line)| line.starts_with('|'));
    let mut count = 0;
    for (index, row) in rows {
        count += 1;
        let columns: Vec<&str> = row.split(" | ").collect();
        let [_, files, functions] = columns[..] else {
            faults.add_at(MAP, index + 1, "a row has three columns".to_owned());
            continue;
        };
        let sources: Vec<(&str, String)> = spans(files).map(|file| (file, read(file))).collect();
        let mut used = vec![false; sources.len()];
        for function in spans(functions) {
            let is_there = |text: &str| {
                [format!("fn {function}("), format!("fn {function}<")]
                    .iter()
                    .any(|head| text.contains(head))
            };
            let found: Vec<usize> =
                (0..sources.len()).filter(|&file| is_there(&sources[file].1)).collect();
            if found.is_empty() {
                faults.add_at(MAP, index + 1, format!("no `fn {function}` in {files}"));
            }
            found.into_iter().for_each(|file| used[file] = true);
        }
        for ((file, _), used) in sources.iter().zip(used) {
            if !used {
                faults.add_at(MAP, index + 1, format!("no function of the row is in {file}"));
            }
        }
    }
    assert!(count > 20, "the table is read: {count} rows");
    faults.assert_none();
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let mut faults = Faults::because("ARCHITECTURE.md names files and folders that exist");
    for (index, line) in read(MAP).lines().enumerate() {
        for path in spans(line).filter(|span| span.contains('/') && !span.contains(' ')) {
            // Inside of the root package a path may begin below `src`.
            if !["", "src"].iter().any(|base| root().join(base).join(path).exists()) {
                faults.add_at(MAP, index + 1, format!("{path} does not exist"));
            }
        }
    }
    faults.assert_none();
}

/// `ci/pages` writes the page.
#[test]
fn every_source_file_is_listed_with_its_headers_first_sentence() {
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut queue = vec!["src".to_owned()];
    for entry in fs::read_dir(root().join("crates")).expect("the folder is there") {
        let name = entry.expect("it can be read").file_name();
        queue.push(format!("crates/{}/src", name.to_str().expect("a plain name")));
    }
    while let Some(folder) = queue.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
            if path.is_dir() {
                queue.push(format!("{folder}/{name}"));
            } else if let Some(module) = name.strip_suffix(".rs") {
                let line = format!("| `{module}.rs` | {} |\n", first_sentence(&path));
                folders.entry(folder.clone()).or_default().push(line);
            }
        }
    }
    let mut page = String::from(
        "# Source files\n\nEvery source file with the first sentence of its header. \
         `ci/pages` writes this page; [`ARCHITECTURE.md`](../ARCHITECTURE.md) is the map.\n",
    );
    for (folder, mut lines) in folders {
        lines.sort();
        page += &format!("\n## {folder}\n\n| file | what |\n|---|---|\n{}", lines.concat());
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(FILES), &page).expect("the page can be written");
    }
    assert!(read(FILES) == page, "{FILES} is out of date; with UPDATE_DOCS=1 this test writes it");
}

/// The text in code spans of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn read(name: &str) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn first_sentence(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("it can be read");
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    let words = header.map(|line| line[3..].trim()).take_while(|line| !line.is_empty());
    let header = words.collect::<Vec<_>>().join(" ");
    let end = header.find(". ").map_or(header.len(), |end| end + 1);
    without_links(&header[..end]).replace('|', "\\|")
}

/// A text with links replaced by their words: rustdoc links lead to items, not to files.
fn without_links(text: &str) -> String {
    let mut parts = text.split("](");
    let mut words = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let begin = words.rfind('[').expect("a link has an opening bracket");
        words.remove(begin);
        words += part.split_once(')').map_or("", |(target, rest)| {
            // A target may be a call: `crate::check()`.
            if target.ends_with('(') { rest.strip_prefix(')').unwrap_or(rest) } else { rest }
        });
    }
    words.replace("[`", "`").replace("`]", "`")
}
