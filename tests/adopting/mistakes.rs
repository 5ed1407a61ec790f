//! Mistakes in the attribute: each gives one error with the correct form.

use std::fs;
use std::path::PathBuf;

use super::downstream::{DownstreamCrate, manifest, root, text};

/// Wrong attributes, with the expected compile error.
const MISTAKES: &[(&str, &str)] = &[
    (
        "#[echown::test] async fn it() {}",
        "an async test needs a runtime: add the attribute of yours",
    ),
    ("#[echown::test] fn it(number: u8) {}", "a test takes no arguments and has no generics"),
    ("#[echown::test] fn it<T>() {}", "a test takes no arguments and has no generics"),
    ("#[echown::test] unsafe fn it() {}", "a test cannot be an unsafe function"),
    ("#[echown::test] struct It;", "expected a function, found `struct`"),
    ("#[echown::test] #[test] fn it() {}", "remove the `#[test]`"),
    (
        "#[echown::test] #[should_panic] fn it() -> Result<(), String> { Ok(()) }",
        "a `#[should_panic]` test returns nothing",
    ),
    (
        "#[echown::test(ignore_fd = 3)] fn it() {}",
        "unknown option `ignore_fd`; options are ignore_path",
    ),
    ("#[echown::test(ignore_path = \"/tmp\")] fn it() {}", "write `, because = \"...\"` after it"),
    (
        "#[echown::test(ignore_path = \"/tmp\", because = \" \")] fn it() {}",
        "`because` must not be empty",
    ),
    ("#[echown::test(because = \"why\")] fn it() {}", "`because` needs an option before it"),
    (
        "#[echown::test(ignore_kind = \"sokcet\", because = \"why\")] fn it() {}",
        "unknown kind \"sokcet\"; kinds are `socket`, `tcp listener`",
    ),
    ("#[echown::test(settle_ms = \"5\")] fn it() {}", "`settle_ms` expects a number"),
    ("#[echown::test(settle_ms)] fn it() {}", "write `settle_ms = N`"),
    ("#[echown::test(no_trace = 1)] fn it() {}", "write `no_trace = true` or `no_trace = false`"),
    ("#[echown::test(no_trace no_rerun)] fn it() {}", "expected a comma between two options"),
    // The compiler's message for a `use super::*` above which the attribute was imported.
    (
        "pub use echown::test; #[cfg(test)] mod tests { use super::*; #[test] fn it() {} }",
        "`test` is ambiguous",
    ),
];

#[test]
fn a_wrong_attribute_is_a_compile_error_with_the_correct_form() {
    let mut files = vec![
        (PathBuf::from("Cargo.toml"), manifest("mistakes")),
        (PathBuf::from("src/lib.rs"), String::from("//! Nothing.\n")),
    ];
    for (index, (code, _)) in MISTAKES.iter().enumerate() {
        files.push((PathBuf::from(format!("tests/mistake_{index}.rs")), format!("{code}\n")));
    }
    // The same build folder as the corpus: common dependencies are built once.
    DownstreamCrate::corpus();
    let downstream = DownstreamCrate::new("mistakes", &files);
    let output_text = text(&downstream.cargo(&["check", "--tests", "--keep-going"]));
    let output_text = output_text.replace("error[E0659]: ", "error: ");
    for (index, (code, wanted)) in MISTAKES.iter().enumerate() {
        let place = format!("--> tests/mistake_{index}.rs:1:");
        let errors: Vec<&str> = output_text
            .split("error: ")
            // Another file's warning may follow it.
            .filter_map(|it| it.split("\n\n").next())
            // Cargo's final line on one file, followed by another file's warning.
            .filter(|it| it.contains(&place) && !it.starts_with("could not compile"))
            .collect();
        let [error] = errors[..] else {
            panic!("expected one error for `{code}`, got {errors:#?} in\n{output_text}");
        };
        assert!(error.contains(wanted), "expected `{wanted}` for `{code}`, got {error}");
    }
}

/// The compiler leaves it out, as with `#[test]`: nothing runs, and no message is possible.
#[test]
fn a_test_for_a_target_without_a_runner_is_left_out() {
    let harness = "[[test]]\nname = \"plain\"\nharness = false\n";
    let attributed = "#[echown::test]\nfn it() { panic!(\"it was run\") }\n";
    let doctest = format!("```\n{attributed}```\n");
    let doctest: String = doctest.lines().map(|line| format!("//! {line}\n")).collect();
    let files = [
        (PathBuf::from("Cargo.toml"), manifest("plain") + harness),
        (PathBuf::from("src/lib.rs"), doctest),
        (
            PathBuf::from("tests/plain.rs"),
            format!("fn main() {{ println!(\"main alone\") }}\n{attributed}"),
        ),
    ];
    DownstreamCrate::corpus();
    let output = DownstreamCrate::new("plain", &files).cargo(&["test"]);
    let output_text = text(&output);
    assert!(output.status.success(), "{output_text}");
    assert!(
        output_text.contains("main alone") && output_text.contains("1 passed"),
        "{output_text}"
    );
    assert!(!output_text.contains("it was run"), "{output_text}");
}

/// The attribute's crate, which has no dependencies, reads the table of kinds of `echown-fd`.
#[test]
fn the_attribute_and_the_harness_share_one_table_of_kinds() {
    let source = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let table = source("crates/fd/src/kind.rs");
    assert_eq!(source("crates/test-macros/src/kind.rs"), table);
    let sources = ["open.rs", "rare_socket.rs", "fd.rs"]
        .map(|name| source(&format!("crates/fd/src/sys/{name}")));
    let found = sources.concat() + &table;
    let (_, rows) = table.split_once("\nkinds! {").expect("the table exists");
    let (rows, _) = rows.split_once("\n}").expect("it ends");
    let names: Vec<&str> = rows.lines().filter_map(|row| row.split_whitespace().next()).collect();
    assert!(names.len() > 20);
    for name in &names {
        let is_found =
            found.contains(&format!("kind::{name}")) || found.contains(&format!("\", {name})"));
        assert!(is_found, "no descriptor is ever of kind {name}");
    }
}
