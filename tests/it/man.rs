//! Manual pages: from the definitions, and as roff prints them.

use std::fs;
use std::process::Command;

use super::server::echown;
use crate::common::{require_tool, temp_path::TempPath};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// The files of all pages, as the program prints their names.
fn pages(folder: &TempPath) -> Vec<String> {
    let output = echown().args(["man", "--dir", folder.text()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    text(output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_page_that_names_its_options_and_variables() {
    let folder = TempPath::new("pages");
    let mut written = pages(&folder);
    let entries = fs::read_dir(&*folder).unwrap();
    let mut found: Vec<String> =
        entries.map(|entry| entry.unwrap().path().to_str().unwrap().to_owned()).collect();
    written.sort();
    found.sort();
    assert_eq!(written, found);
    let help = text(echown().arg("--help").output().unwrap().stdout);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in commands.lines() {
        let Some(name) = line.strip_prefix("  ").and_then(|line| line.split(' ').next()) else {
            continue;
        };
        if !name.is_empty() && name != "help" {
            assert!(folder.join(format!("echown-{name}.1")).exists(), "{name}");
        }
    }
    let page = fs::read_to_string(folder.join("echown-serve.1")).unwrap();
    let printed = text(echown().args(["man", "serve"]).output().unwrap().stdout);
    assert_eq!(page, printed);
    for part in ["\\-\\-max\\-per\\-ip", "ECHOWN_SERVE_MAX_PER_IP", "\n.SH EXIT CODES\n.TP\n"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(folder.join("echown-bench-compare.1").exists());
}

#[test]
fn roff_prints_the_pages_without_a_warning_and_as_they_are_meant() {
    let has_groff = Command::new("groff").arg("--version").output().is_ok();
    if !require_tool("groff", has_groff) {
        return;
    }
    let folder = TempPath::new("roff");
    for path in pages(&folder) {
        let mut groff = Command::new("groff");
        // As man(1) does, but without the escape sequences of a terminal.
        let output = groff.args(["-man", "-Tutf8", "-ww", "-P-cbou", "-rLL=78n", &path]).output();
        let output = output.unwrap();
        let printed = text(output.stdout.clone());
        assert!(output.status.success() && output.stderr.is_empty(), "{path}: {output:?}");
        // A quotation mark or an accent in place of a character that an option or a command needs.
        assert!(!printed.contains(['`', '\u{2018}', '\u{2c6}', '\u{2dc}']), "{path}: {printed}");
        assert!(printed.lines().all(|line| line.chars().count() <= 80), "{path}: {printed}");
        if path.ends_with("echown-serve.1") {
            for line in [
                "       echown serve [OPTIONS]",
                "       --max-per-ip <N>",
                "WITH --STYLE STAGED",
                "       SIGHUP reopen the output files",
                "       0      drained",
                "       130    stopped by a second SIGINT",
                "       echown(1)",
            ] {
                assert!(printed.lines().any(|it| it == line), "{line:?}: {printed}");
            }
            assert!(printed.contains("a terminal stopped with ^S"), "{printed}");
        }
    }
}

#[test]
fn an_unknown_page_and_an_unwritable_folder_are_errors() {
    for (arguments, code, expected) in [
        (
            &["nonsense"][..],
            2,
            "no manual page for `nonsense`; the commands of `echown` are serve, ",
        ),
        (&["serve", "x"], 2, "no manual page for `x`: `echown serve` has no commands of its own"),
        (&["--dir", "/dev/null/man"], 1, "failed to create /dev/null/man: "),
    ] {
        let output = echown().arg("man").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let stderr = text(output.stderr);
        assert!(stderr.starts_with(&format!("echown: {expected}")), "{stderr}");
    }
}
