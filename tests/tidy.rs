//! The project's rules as tests. `ARCHITECTURE.md` explains them.
//!
//! Sources are read as tokens, so that comments, docs and strings do not count and macro bodies do.
//! Comments are read from the lines. Each rule is one test, which lists every violation and the
//! reason of the rule.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;

use source::{File, everything, peers, root, sources};

#[path = "tidy/api.rs"]
mod api;
#[path = "tidy/architecture.rs"]
mod architecture;
#[path = "tidy/cycles.rs"]
mod cycles;
#[path = "tidy/markdown.rs"]
mod markdown;
#[path = "tidy/prose.rs"]
mod prose;
#[path = "tidy/source.rs"]
mod source;

/// The modules (rooms) and their layers (floors). A file imports only from floors below its own.
const FLOORS: &[(&str, u8)] = &[
    ("sync", 0),
    ("sys", 0),
    ("faults", 0),
    ("ownership", 1),
    // `crate::report` is a name in lib.rs for `echown_report`.
    ("events", 0),
    ("report", 0),
    ("explained", 0),
    ("stage", 2),
    ("rate_limited_log", 2),
    ("frame", 2),
    ("pool", 3),
    ("net", 3),
    // `crate::thread` is a name in lib.rs for the pool's functions for plain threads.
    ("thread", 3),
    ("echo", 4),
    ("client", 4),
    ("bind", 4),
    ("systemd", 4),
    ("sandbox", 4),
    ("check", 4),
    ("harness", 4),
    ("server", 5),
    ("signals", 5),
    ("status", 5),
    ("upgrade", 5),
    ("lessons", 5),
    ("tracer", 5),
    ("cli", 6),
    // Above all others: the binary, whose one line calls the library's `cli`.
    ("main", 7),
];

/// The maximum number of lines of a file.
const LINES_MAX: usize = 600;

/// The maximum number of characters of a test name.
const TEST_NAME_MAX: usize = 80;

/// The maximum number of lines between an atomic operation and the start of its reason.
const ORD_LINES_MAX: usize = 10;

/// Where a compare-and-swap may be named, and why.
const MAY_SWAP: &[(&str, &str)] = &[
    ("src/ownership/slot.rs", "it is argued in docs/proof.md and model-checked"),
    ("src/sync.rs", "the models' stand-in for the atomic passes it on"),
];

/// Where `loom` may be named, and why.
const MAY_NAME_LOOM: &[(&str, &str)] = &[
    ("src/sync.rs", "the door"),
    ("src/ownership/slot/model", "the models"),
    ("src/sys/loom_probe.rs", "what the models use needs a line of `unsafe`"),
];

/// Files that may print, and why. All others return a value or emit a `tracing` event.
const MAY_PRINT: &[(&str, &str)] = &[
    ("src/ownership/registry.rs", "a report must not be lost where no subscriber listens"),
    ("src/cli/", "the output of a command for its user"),
    ("src/check.rs", "what it ignores, the runner captures and shows"),
    ("crates/test/src/", "what a test prints, and its verdict, the runner captures and shows"),
];

// The rules.

#[test]
fn a_file_imports_only_from_lower_floors() {
    let mut faults = Faults::because(
        "a file imports only from lower floors, and rooms on one floor don't meet: \
         what lies below can be understood, tested and used without what lies above",
    );
    // Between crates, dependencies in Cargo.toml do the same.
    for file in sources().filter(|file| file.is_in_root_package()) {
        let room = file.room();
        if room == "lib" {
            // The public interface: it names every room.
            continue;
        }
        let Some(mine) = floor(&room) else {
            faults.add(file, 1, format!("room `{room}` is not in the table of floors"));
            continue;
        };
        for (path, line) in file.paths() {
            let Some(other) = file.room_of(&path) else { continue };
            match floor(&other) {
                _ if other == room => {}
                Some(theirs) if theirs < mine => {}
                Some(theirs) => faults.add(
                    file,
                    line,
                    format!("`{room}` (floor {mine}) names `{other}` (floor {theirs})"),
                ),
                None => {
                    let path = path.segments.join("::");
                    faults.add(file, line, format!("`{path}` leads to no room in the table"));
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn unsafe_stands_only_in_sys() {
    let mut faults = Faults::because(
        "`unsafe` stands only in a module `sys` of the root, of crates/fd and of crates/trace: three \
         small rooms to read when memory is at stake",
    );
    for file in sources() {
        let may_be_unsafe = file.is_in_root_package()
            || ["crates/fd/", "crates/trace/"].iter().any(|it| file.name.starts_with(it));
        if file.room() != "sys" || !may_be_unsafe {
            faults.add_idents(file, &["unsafe"]);
        }
    }
    // The peers' servers in C have to be called somehow.
    for file in peers() {
        if file.name != "benches/peers/src/c.rs" {
            faults.add_idents(file, &["unsafe"]);
        }
    }
    faults.assert_none();
}

#[test]
fn every_unsafe_block_has_a_safety_comment() {
    let mut faults = Faults::because(
        "the comment that ends right above an `unsafe` (attributes may stand between) has a line \
         that begins with `// SAFETY:`: the fact, and where it was established",
    );
    for file in sources().chain(peers()) {
        for token in file.tokens.iter().filter(|token| token.is("unsafe")) {
            let above = file.lines[..token.line - 1].iter().rev().map(|line| line.trim_start());
            let mut comment = above
                .skip_while(|line| line.starts_with("#["))
                .take_while(|line| line.starts_with("//"));
            if !comment.any(|line| line.starts_with("// SAFETY:")) {
                faults.add(file, token.line, "`unsafe` without `// SAFETY:` above it");
            }
        }
    }
    faults.assert_none();
}

/// Matching: above the line with the `Ordering::X`, within [`ORD_LINES_MAX`] lines and without a
/// blank line or a line with the word `fn` in between, a line begins with `// ord: X`, the same
/// `X`. Consecutive operations may share one. `X` must not be imported directly and `Ordering` must
/// not be renamed, or this test would miss it.
#[test]
fn every_atomic_operation_has_a_comment_on_its_ordering() {
    const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
    let mut faults = Faults::because(
        "an atomic operation has a line `// ord: ORDERING...` among the few above it: \
         its partner, and what breaks if it were weaker",
    );
    for file in sources() {
        for (index, token) in file.tokens.iter().enumerate() {
            if token.is_test || !token.is("Ordering") {
                continue;
            }
            let next: Vec<&str> =
                file.tokens[index + 1..].iter().take(3).map(|token| &*token.text).collect();
            match next[..] {
                ["as", ..] => faults.add(file, token.line, "`Ordering` under another name"),
                [":", ":", "*" | "{"] => {
                    faults.add(file, token.line, "orderings without the word `Ordering::`");
                }
                [":", ":", ordering] if ORDERINGS.contains(&ordering) => {
                    let wanted = format!("// ord: {ordering}");
                    let line = file.tokens[index + 3].line;
                    let above = file.lines[..line - 1].iter().rev().map(|line| line.trim());
                    let mut near = above
                        .take(ORD_LINES_MAX)
                        .take_while(|line| !line.is_empty() && !is_head_of_function(line));
                    if !near.any(|line| line.starts_with(&wanted)) {
                        let what = format!("`Ordering::{ordering}` without `{wanted}` above it");
                        faults.add(file, line, what);
                    }
                }
                _ => {}
            }
        }
    }
    faults.assert_none();
}

#[test]
fn compare_and_swap_is_used_only_in_the_slot() {
    let mut faults = Faults::because(
        "the only compare-and-swap is in src/ownership/slot.rs, where it is argued and \
         model-checked; elsewhere a lock or a counter does",
    );
    for file in sources() {
        if is_listed(file, MAY_SWAP) {
            continue;
        }
        faults.add_idents(
            file,
            &[
                "compare_exchange",
                "compare_exchange_weak",
                "compare_and_swap",
                "fetch_update",
                "try_update",
            ],
        );
        for (index, token) in file.tokens.iter().enumerate() {
            // `update` is also a common name; only with an ordering is it an atomic operation.
            let arguments = file.tokens.iter().skip(index + 1).take(2);
            if token.is("update") && arguments.map(|token| &*token.text).eq(["(", "Ordering"]) {
                faults.add(file, token.line, "`update` of an atomic");
            }
        }
    }
    faults.assert_none();
}

/// The files that may take a step of a close.
const MAY_CLOSE: &[(&str, &str)] = &[
    ("src/ownership/closing.rs", "every way to give up a resource goes through it"),
    ("src/ownership/slot.rs", "defines the steps"),
    ("src/ownership/slot/model", "models of the slot alone"),
];

#[test]
fn a_close_is_ended_in_one_file() {
    let mut faults = Faults::because(
        "the steps of a close are taken in closing.rs, behind a guard: a copy that forgets one \
         leaves the slot Closing permanently, or closes a number that is in use",
    );
    for file in sources().filter(|file| !is_listed(file, MAY_CLOSE)) {
        faults.add_idents(file, &["end_close", "wait_for_pins"]);
    }
    faults.assert_none();
}

#[test]
fn loom_is_named_only_in_sync_and_in_the_models() {
    let mut faults = Faults::because(
        "`loom` is named only in src/sync.rs and in the models: what is shipped is what is modelled",
    );
    for file in sources() {
        if !is_listed(file, MAY_NAME_LOOM) {
            faults.add_idents(file, &["loom"]);
        }
    }
    faults.assert_none();
}

#[test]
fn signal_calls_are_in_one_file() {
    let mut faults = Faults::because(
        "only src/signals.rs and its children name `ctrlc` and `signal_hook`: \
         their order and their side effects are one story",
    );
    for file in sources() {
        if file.name != "src/signals.rs" && !file.name.starts_with("src/signals/") {
            faults.add_idents(file, &["ctrlc", "signal_hook"]);
        }
    }
    faults.assert_none();
}

/// The functions of `rustix` that move bytes and connections, by module. Those of UDP are not
/// listed: datagrams have no faults.
const DATA_PATH: &[(&str, &[&str])] = &[
    ("net", &["recv", "send", "sendmsg", "recvmsg", "acceptfrom_with", "accept_with", "connect"]),
    ("io", &["read", "readv", "write", "writev"]),
    ("event", &["poll"]),
];

#[test]
fn bytes_and_connections_pass_through_one_file() {
    let mut faults = Faults::because(
        "system calls that move bytes and connections are made in src/net/syscalls.rs: there they are \
         made to fail (`--faults`), and one that goes round it is never put to the test",
    );
    for file in sources()
        .filter(|file| file.name.starts_with("src/net/") && file.name != "src/net/syscalls.rs")
    {
        for (path, line) in file.paths_from(&["rustix"]) {
            let [_, module, call] = &path.segments[..] else { continue };
            if DATA_PATH.iter().any(|(from, calls)| module == from && calls.contains(&&**call)) {
                faults.add(file, line, format!("`rustix::{module}::{call}`"));
            }
        }
    }
    faults.assert_none();
}

#[test]
fn arguments_are_parsed_in_cli() {
    let mut faults =
        Faults::because("only src/cli names `clap`: the library builds without an argument parser");
    for file in sources() {
        if file.room() != "cli" {
            faults.add_idents(file, &["clap"]);
        }
    }
    faults.assert_none();
}

#[test]
fn no_file_exceeds_the_line_limit() {
    let mut faults = Faults::because(
        "a file is one idea, readable from the top: at most 600 lines; a longer file of tests is \
         split by subject",
    );
    for file in everything() {
        if file.lines.len() > LINES_MAX {
            faults.add(file, LINES_MAX + 1, format!("{} lines", file.lines.len()));
        }
    }
    faults.assert_none();
}

/// The downstream crate in `tests/corpus` sleeps, as tests of other projects do.
#[test]
fn tests_wait_for_conditions_and_sleep_in_one_file() {
    let mut faults = Faults::because(
        "a test waits for a condition, with a deadline, by the helpers in tests/common/wait.rs: a \
         fixed sleep is too short on a loaded machine and too long on every other",
    );
    for file in everything() {
        let is_test = ["tests/", "ci/", "benches/peers/tests/"];
        let may_sleep =
            file.name == "tests/common/wait.rs" || file.name.starts_with("tests/corpus/");
        if is_test.iter().any(|place| file.name.starts_with(place)) && !may_sleep {
            faults.add_idents(file, &["sleep", "sleep_until"]);
        }
    }
    faults.assert_none();
}

#[test]
fn no_test_name_exceeds_the_length_limit() {
    let mut faults = Faults::because(
        "the name of a test has at most 80 characters: what is done and what is expected; \
         the rest is a line of documentation above it",
    );
    for file in everything() {
        for (index, token) in file.tokens.iter().enumerate() {
            let is_function = index > 0 && file.tokens[index - 1].is("fn");
            if is_function && token.text.len() > TEST_NAME_MAX {
                let what = format!("`{}` has {} characters", token.text, token.text.len());
                faults.add(file, token.line, what);
            }
        }
    }
    faults.assert_none();
}

#[test]
fn there_are_no_todos_and_no_ignored_tests() {
    let mut faults = Faults::because(
        "what is there works: no `todo!`, `unimplemented!` or `dbg!`, and no `#[ignore]`, \
         under which a test rots",
    );
    for file in everything() {
        // A downstream test may be ignored: the corpus tests that this works.
        let may_ignore = file.name.starts_with("tests/corpus/");
        for (token, next) in file.tokens.iter().zip(file.tokens.iter().skip(1)) {
            let is_macro = ["todo", "unimplemented", "dbg"].contains(&&*token.text) && next.is("!");
            // `#[ignore]`, `#[ignore = "..."]`, `#[cfg_attr(.., ignore)]`
            let is_attribute = token.is("ignore") && token.is_in_attribute && !may_ignore;
            if is_macro || is_attribute {
                faults.add(file, token.line, format!("`{}`", token.text));
            }
        }
    }
    faults.assert_none();
}

#[test]
fn unwrap_is_used_only_in_tests() {
    let mut faults = Faults::because(
        "no `unwrap()` outside tests: `expect` with the sentence that says why it cannot fail, \
         or an error",
    );
    for file in sources() {
        for (index, token) in file.tokens.iter().enumerate() {
            let call = file.tokens.iter().skip(index).take(3).map(|token| &*token.text);
            if !token.is_test && call.eq(["unwrap", "(", ")"]) {
                faults.add(file, token.line, "`unwrap()`");
            }
        }
    }
    faults.assert_none();
}

#[test]
fn only_listed_files_print() {
    let mut faults = Faults::because(
        "a library returns values and emits events; files that print are listed in \
         tests/tidy.rs with the reason",
    );
    for file in sources() {
        let may = is_listed(file, MAY_PRINT);
        for (token, next) in file.tokens.iter().zip(file.tokens.iter().skip(1)) {
            let prints = ["print", "println", "eprint", "eprintln"].contains(&&*token.text);
            if prints && next.is("!") && !may && !token.is_test {
                faults.add(file, token.line, format!("`{}!`", token.text));
            }
        }
    }
    faults.assert_none();
}

#[test]
fn every_file_has_a_header() {
    let mut faults = Faults::because("a file begins with `//!`: what it is, before how it is done");
    for file in everything() {
        if !file.lines.first().is_some_and(|line| line.starts_with("//! ")) {
            faults.add(file, 1, "no module documentation in the first line");
        }
    }
    faults.assert_none();
}

#[test]
fn every_dependency_has_a_comment_with_its_reason() {
    let mut faults = Faults::because(
        "a dependency has one line of reason right above it in Cargo.toml: \
         who doesn't know why it is there cannot say when it may go",
    );
    let crates = fs::read_dir(root().join("crates")).expect("there are crates").map(|folder| {
        let folder = folder.expect("the folder can be read").file_name();
        format!("crates/{}/Cargo.toml", folder.to_str().expect("names are ASCII"))
    });
    let others = ["Cargo.toml", "benches/peers/Cargo.toml"];
    for name in others.map(str::to_owned).into_iter().chain(crates) {
        let name = &*name;
        let manifest = fs::read_to_string(root().join(name)).expect("a package has a manifest");
        let (mut in_dependencies, mut before) = (false, "");
        for (index, line) in manifest.lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.trim_end().ends_with("dependencies]");
            } else if in_dependencies
                && line.starts_with(|first: char| first.is_ascii_alphabetic())
                && !before.starts_with("# ")
            {
                let dependency = line.split(['=', '.']).next().unwrap_or(line).trim();
                faults.add_at(name, index + 1, format!("`{dependency}` has no reason above it"));
            }
            before = line;
        }
    }
    faults.assert_none();
}

// Helpers.

/// The violations of one rule, and its reason.
struct Faults {
    reason: &'static str,
    found: BTreeSet<(String, usize, String)>,
}

impl Faults {
    fn because(reason: &'static str) -> Faults {
        Faults { reason, found: BTreeSet::new() }
    }

    fn add(&mut self, file: &File, line: usize, what: impl fmt::Display) {
        self.add_at(&file.name, line, what);
    }

    fn add_at(&mut self, name: &str, line: usize, what: impl fmt::Display) {
        self.found.insert((name.to_owned(), line, what.to_string()));
    }

    /// Adds every use of one of these identifiers, tests included.
    fn add_idents(&mut self, file: &File, words: &[&str]) {
        for token in file.tokens.iter().filter(|token| words.contains(&&*token.text)) {
            self.add(file, token.line, format!("`{}`", token.text));
        }
    }

    #[track_caller]
    fn assert_none(&self) {
        if self.found.is_empty() {
            return;
        }
        let mut text = String::new();
        for (file, line, what) in &self.found {
            text += &format!("\n  {file}:{line}: {what}");
        }
        panic!("{}{text}", self.reason);
    }
}

/// Whether a file, or the folder it is in, is on a list of exceptions.
fn is_listed(file: &File, places: &[(&str, &str)]) -> bool {
    places.iter().any(|(place, _)| file.name.starts_with(place))
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

fn is_head_of_function(line: &str) -> bool {
    !line.starts_with("//")
        && line.split(|sign: char| !sign.is_alphanumeric()).any(|word| word == "fn")
}
