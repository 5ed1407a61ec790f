//! Sources as tokens with their lines, and the paths that they name.
//!
//! *Test code* is code under `#[cfg(test)]` or `#[cfg(all(.., test, ..))]`, including modules in
//! separate files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A word or sign of a source. Brackets and literals are tokens; the text of literals is omitted.
#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub line: usize,
    /// Under `#[cfg(test)]`.
    pub is_test: bool,
    pub is_in_attribute: bool,
    /// The number of inline modules around it.
    pub depth: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

/// A path as written, from its first word; inside a group, with the prefix of the group.
#[derive(Clone)]
pub struct Written {
    pub segments: Vec<String>,
    depth: usize,
}

impl Written {
    /// The path as it would be written outside of inline modules.
    pub fn at_top_level(self) -> Vec<String> {
        let inside = self.segments.iter().take(self.depth).take_while(|it| *it == "super").count();
        self.segments[inside..].to_vec()
    }
}

pub struct File {
    /// From the project's root, with slashes.
    pub name: String,
    pub lines: Vec<String>,
    pub tokens: Vec<Token>,
}

impl File {
    /// The modules that lead to this file from its crate: `["ownership", "slot"]`.
    fn modules(&self) -> Vec<&str> {
        let path = self.name.rsplit_once("src/").map_or(&*self.name, |(_, path)| path);
        let path = path.trim_end_matches(".rs");
        path.split('/').collect()
    }

    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// Whether all of it is test code.
    pub fn is_test(&self) -> bool {
        !self.tokens.is_empty() && self.tokens.iter().all(|token| token.is_test)
    }

    /// Whether this is a source of the root package.
    pub fn is_in_root_package(&self) -> bool {
        self.name.starts_with("src/")
    }

    /// The module right below the crate.
    pub fn room(&self) -> String {
        self.modules()[0].to_owned()
    }

    /// All paths whose first word can lead out of the file's own room.
    pub fn paths(&self) -> Vec<(Written, usize)> {
        self.paths_from(&["crate", "super", "self", "echown"])
    }

    /// All paths that begin with one of these words.
    pub fn paths_from(&self, beginnings: &[&str]) -> Vec<(Written, usize)> {
        let mut found = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            let starts = beginnings.contains(&&*token.text);
            let goes_on =
                index >= 2 && self.tokens[index - 1].is(":") && self.tokens[index - 2].is(":");
            // `pub(crate)`
            let is_visibility = self.tokens.get(index + 1).is_some_and(|token| token.is(")"));
            if starts && !goes_on && !is_visibility {
                let mut written = Written { segments: Vec::new(), depth: token.depth };
                self.follow(index, &mut written, &mut found);
            }
        }
        found
    }

    /// Follows a path from its first token and records it; a group gives several paths. Returns the
    /// index of its end.
    fn follow(
        &self,
        mut at: usize,
        path: &mut Written,
        found: &mut Vec<(Written, usize)>,
    ) -> usize {
        let line = self.tokens[at].line;
        while let Some(token) = self.tokens.get(at) {
            if token.is("{") {
                at += 1;
                while !self.tokens[at].is("}") {
                    let mut branch = path.clone();
                    at = self.follow(at, &mut branch, found);
                    while !self.tokens[at].is(",") && !self.tokens[at].is("}") {
                        // `as name`
                        at += 1;
                    }
                    at += usize::from(self.tokens[at].is(","));
                }
                return at + 1;
            }
            path.segments.push(token.text.clone());
            let goes_on =
                |offset: usize| self.tokens.get(at + offset).is_some_and(|token| token.is(":"));
            if !(goes_on(1) && goes_on(2)) {
                at += 1;
                break;
            }
            at += 3;
            if self.tokens[at].is("<") {
                break;
            }
        }
        found.push((path.clone(), line));
        at
    }

    /// The room that a path leads to, if it leads out of this file's module.
    pub fn room_of(&self, path: &Written) -> Option<String> {
        let mut modules: Vec<&str> = self.modules();
        if self.name == "src/main.rs" {
            modules.clear();
        }
        modules.extend((0..path.depth).map(|_| "an inline module"));
        let mut left_the_file = false;
        for segment in &path.segments {
            match &**segment {
                "crate" | "echown" => {
                    modules.clear();
                    left_the_file = true;
                }
                "super" => {
                    modules.pop();
                    left_the_file = true;
                }
                "self" => {}
                name if modules.is_empty() => return Some(name.to_owned()),
                // Somewhere below a room: the room is what counts.
                _ => break,
            }
        }
        if !left_the_file {
            return None;
        }
        // `use crate::*` and `use super::*` at the top end here: no room, and so a fault.
        Some(modules.first().map_or(String::from("the whole crate"), |room| (*room).to_owned()))
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let folders = ["src", "crates", "tests", "examples", "benches", "ci"];
    folders.into_iter().flat_map(folder).collect()
});

/// All Rust sources of the project.
pub fn everything() -> impl Iterator<Item = &'static File> {
    FILES.iter()
}

/// The Rust sources of the root package and of the crates below `crates`, in the order of their
/// names.
pub fn sources() -> impl Iterator<Item = &'static File> {
    let is_source = |file: &&File| {
        file.is_in_root_package()
            || (file.name.starts_with("crates/") && file.name.contains("/src/"))
    };
    everything().filter(is_source)
}

/// The Rust sources of the servers with which this one is compared.
pub fn peers() -> impl Iterator<Item = &'static File> {
    everything().filter(|file| file.name.starts_with("benches/peers/"))
}

fn folder(name: &str) -> Vec<File> {
    let mut paths = Vec::new();
    collect(&root().join(name), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no sources below {name}");
    let mut test_files = BTreeSet::new();
    let mut files: Vec<File> = paths.iter().map(|path| read(path, &mut test_files)).collect();
    // Submodules of a test module are test code.
    let is_below = |name: &str, of: &String| {
        of.strip_suffix(".rs")
            .and_then(|of| name.strip_prefix(of))
            .is_some_and(|it| it.starts_with('/'))
    };
    for file in &mut files {
        let name = &file.name;
        if test_files.contains(name) || test_files.iter().any(|of| is_below(name, of)) {
            file.tokens.iter_mut().for_each(|token| token.is_test = true);
        }
    }
    files
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources can be read") {
        let path = entry.expect("its entries too").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Reads a file, and records the files of the modules that it declares for tests only.
fn read(path: &Path, test_files: &mut BTreeSet<String>) -> File {
    let name = path.strip_prefix(root()).expect("it lies below the root");
    let name = name.to_str().expect("names of sources are UTF-8").to_owned();
    let text = fs::read_to_string(path).expect("a source can be read");
    let stream: TokenStream =
        text.parse().unwrap_or_else(|error| panic!("{name} is not Rust: {error}"));
    let mut reading = Reading { tokens: Vec::new(), test_modules: Vec::new() };
    let nowhere = Place { is_test: false, is_in_attribute: false, depth: 0 };
    reading.read(stream, nowhere);
    for module in reading.test_modules {
        test_files.insert(format!("{}/{module}.rs", name.trim_end_matches(".rs")));
    }
    let lines = text.lines().map(str::to_owned).collect();
    File { name, lines, tokens: reading.tokens }
}

struct Reading {
    tokens: Vec<Token>,
    test_modules: Vec<String>,
}

/// The context of a range of tokens.
#[derive(Clone, Copy)]
struct Place {
    is_test: bool,
    is_in_attribute: bool,
    depth: usize,
}

impl Reading {
    fn read(&mut self, stream: TokenStream, place: Place) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        // Set by a `#[cfg(test)]` until the end of the item below it.
        let mut item_is_test = false;
        for (index, tree) in trees.iter().enumerate() {
            let before = |back: usize| index.checked_sub(back).and_then(|index| trees.get(index));
            let follows = |back, word: &str| before(back).is_some_and(|tree| is_word(tree, word));
            let is_test = place.is_test || item_is_test;
            let here = Place { is_test, ..place };
            match tree {
                TokenTree::Group(group) => {
                    let is_attribute = group.delimiter() == Delimiter::Bracket
                        && (follows(1, "#") || (follows(1, "!") && follows(2, "#")));
                    let is_module = follows(2, "mod");
                    let inner = Place {
                        is_in_attribute: place.is_in_attribute || is_attribute,
                        depth: place.depth + usize::from(is_module),
                        ..here
                    };
                    self.group(group, inner);
                    if is_attribute {
                        item_is_test |= is_for_tests(group);
                    } else if group.delimiter() == Delimiter::Brace {
                        item_is_test = false;
                    }
                }
                TokenTree::Punct(punct) => {
                    let sign = punct.as_char();
                    self.push(sign.to_string(), tree, here);
                    if sign == ';' {
                        if let (true, true, Some(module)) = (is_test, follows(2, "mod"), before(1))
                        {
                            self.test_modules.push(module.to_string());
                        }
                        item_is_test = false;
                    }
                }
                TokenTree::Ident(ident) => self.push(ident.to_string(), tree, here),
                TokenTree::Literal(_) => self.push("literal".into(), tree, here),
            }
        }
    }

    fn group(&mut self, group: &Group, place: Place) {
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        let at = |text: &str, line| Token {
            text: text.to_owned(),
            line,
            is_test: place.is_test,
            is_in_attribute: place.is_in_attribute,
            depth: place.depth,
        };
        self.tokens.push(at(open, group.span_open().start().line));
        self.read(group.stream(), place);
        self.tokens.push(at(close, group.span_close().start().line));
    }

    fn push(&mut self, text: String, tree: &TokenTree, place: Place) {
        let Place { is_test, is_in_attribute, depth } = place;
        let line = tree.span().start().line;
        self.tokens.push(Token { text, line, is_test, is_in_attribute, depth });
    }
}

fn is_word(tree: &TokenTree, word: &str) -> bool {
    match tree {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Punct(punct) => word.len() == 1 && word.starts_with(punct.as_char()),
        _ => false,
    }
}

/// Whether an attribute is `cfg(test)` or `cfg(all(.., test, ..))`.
fn is_for_tests(attribute: &Group) -> bool {
    let trees: Vec<TokenTree> = attribute.stream().into_iter().collect();
    let [TokenTree::Ident(cfg), TokenTree::Group(condition)] = &trees[..] else { return false };
    let mut condition: Vec<TokenTree> = condition.stream().into_iter().collect();
    if let [TokenTree::Ident(all), TokenTree::Group(inner)] = &condition[..]
        && all == "all"
    {
        condition = inner.stream().into_iter().collect();
    }
    cfg == "cfg" && condition.iter().any(|tree| is_word(tree, "test"))
}
