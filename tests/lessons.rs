//! The programs of `echown learn` under the attribute, as in the project that `echown learn init`
//! writes: each program with the bug fails with the findings that its lesson promises, and each
//! fixed one passes.
//!
//! This binary is its own test subject: a test of a lesson runs the fixed program, and on request
//! ([`BROKEN`]) the one with the bug. What a lesson shows as recorded is the output of such a run.
// Some of the findings need recorded system calls.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

#[path = "common/mod.rs"]
mod common;

use common::doc_pages::{KERNELS, steady};

/// The variable that requests the program with the bug.
const BROKEN: &str = "ECHOWN_LESSONS_BROKEN";

/// The tests of the lessons: name, options of the attribute, and the two programs.
macro_rules! exercises {
    ($($test:ident($($options:tt)*) $broken:ident = $from:literal, $fixed:ident = $to:literal;)+) => {
        $(
            #[path = $from]
            mod $broken;
            #[path = $to]
            mod $fixed;

            #[echown::test($($options)*)]
            fn $test() -> Result<(), Box<dyn std::error::Error>> {
                if std::env::var_os(BROKEN).is_some() { $broken::run() } else { $fixed::run() }
            }
        )+
    };
}

exercises! {
    every_descriptor_is_closed()
        give_broken = "../src/lessons/give/broken.rs",
        give_fixed = "../src/lessons/give/fixed.rs";
    the_lines_are_counted(timeout_ms = 2000)
        eof_broken = "../src/lessons/eof/broken.rs",
        eof_fixed = "../src/lessons/eof/fixed.rs";
    the_server_stops(timeout_ms = 2000)
        idle_client_broken = "../src/lessons/idle_client/broken.rs",
        idle_client_fixed = "../src/lessons/idle_client/fixed.rs";
    each_pipe_is_closed_once()
        reused_number_broken = "../src/lessons/reused_number/broken.rs",
        reused_number_fixed = "../src/lessons/reused_number/fixed.rs";
    every_request_gets_a_reply()
        park_broken = "../src/lessons/park/broken.rs",
        park_fixed = "../src/lessons/park/fixed.rs";
    the_input_arrives()
        transfer_broken = "../src/lessons/transfer/broken.rs",
        transfer_fixed = "../src/lessons/transfer/fixed.rs";
    every_client_is_served()
        offer_broken = "../src/lessons/offer/broken.rs",
        offer_fixed = "../src/lessons/offer/fixed.rs";
    one_task_writes()
        split_broken = "../src/lessons/split/broken.rs",
        split_fixed = "../src/lessons/split/fixed.rs";
    the_connection_is_closed()
        cycle_broken = "../src/lessons/cycle/broken.rs",
        cycle_fixed = "../src/lessons/cycle/fixed.rs";
    the_entries_are_written()
        panic_order_broken = "../src/lessons/panic_order/broken.rs",
        panic_order_fixed = "../src/lessons/panic_order/fixed.rs";
    the_acceptor_is_stopped(timeout_ms = 10000)
        cancel_broken = "../src/lessons/cancel/broken.rs",
        cancel_fixed = "../src/lessons/cancel/fixed.rs";
    no_task_is_left(timeout_ms = 10000)
        forgotten_task_broken = "../src/lessons/forgotten_task/broken.rs",
        forgotten_task_fixed = "../src/lessons/forgotten_task/fixed.rs";
    nothing_is_closed_twice()
        double_close_broken = "../src/lessons/double_close/broken.rs",
        double_close_fixed = "../src/lessons/double_close/fixed.rs";
    nothing_is_inherited(timeout_ms = 10000)
        close_on_exec_broken = "../src/lessons/close_on_exec/broken.rs",
        close_on_exec_fixed = "../src/lessons/close_on_exec/fixed.rs";
    the_lock_is_free_again()
        three_tables_broken = "../src/lessons/three_tables/broken.rs",
        three_tables_fixed = "../src/lessons/three_tables/fixed.rs";
    each_number_is_closed()
        passing_broken = "../src/lessons/passing/broken.rs",
        passing_fixed = "../src/lessons/passing/fixed.rs";
}

/// The lessons, as the program describes them.
fn lessons() -> Vec<Value> {
    let echown = Command::new(env!("CARGO_BIN_EXE_echown")).args(["learn", "--data"]).output();
    let Value::Array(lessons) = serde_json::from_slice(&echown.unwrap().stdout).unwrap() else {
        panic!("a list of lessons")
    };
    assert!(!lessons.is_empty());
    lessons
}

/// Runs the test of a lesson as a test runner does, with the program that has the bug.
fn run_broken(test: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--show-output"]).env(BROKEN, "1").env("RUST_BACKTRACE", "0");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("this binary runs again")
}

#[test]
fn each_broken_program_fails_with_the_findings_that_its_lesson_promises() {
    for lesson in lessons() {
        let test = lesson["test"]["name"].as_str().unwrap();
        let output = run_broken(test);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1 failed; "), "{test}: {text}");
        for code in lesson["test"]["finds"].as_array().unwrap() {
            let code = code.as_str().unwrap();
            assert!(text.contains(&format!("{code}: ")), "{test}, {code}: {text}");
        }
    }
}

#[test]
fn recorded_outputs_are_those_of_the_tests() {
    for lesson in lessons().iter().filter(|lesson| lesson["is_recorded"] == true) {
        let test = lesson["test"]["name"].as_str().unwrap();
        let module = lesson["name"].as_str().unwrap().replace('-', "_");
        let output = run_broken(test);
        let text = String::from_utf8_lossy(&output.stdout);
        let text = recorded(&text, &module);
        let path = format!("{}/src/lessons/{module}/recorded.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(Path::new(&path), text).unwrap();
        } else {
            let known = fs::read_to_string(&path).unwrap();
            assert_eq!(known, text, "{path}: with UPDATE_DOCS=1 this test writes it");
        }
    }
}

/// The output of a test, with the names that the programs have in a lesson, and without the frame
/// of the test itself.
fn recorded(text: &str, module: &str) -> String {
    let (_, text) = text.split_once(" stdout ----\n").unwrap();
    let (text, _) = text.split_once("\n\nfailures:").unwrap();
    let text = text.replace(&format!("tests/../src/lessons/{module}/broken.rs"), "broken.rs");
    let text = text.replace(&format!("lessons::{module}_broken::"), "");
    let ours = text.trim_end().lines().filter(|line| !line.contains("(tests/lessons.rs:"));
    // Systems have it in different folders.
    let line = |line: &str| match line.strip_suffix(" (argv[0] `cat`)") {
        Some(_) => "    it was inherited by /usr/bin/cat (argv[0] `cat`)\n".to_owned(),
        None => format!("{line}\n"),
    };
    steady(&ours.map(line).collect::<String>(), KERNELS)
}
