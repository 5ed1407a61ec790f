//! Tests with real programs: a child waits for its standard input at a known place.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// How long a child may take until it waits at the place.
const DEADLINE: Duration = Duration::from_secs(20);

/// A thread waits for a pipe, and the main thread for standard input, in a method with a name that is
/// not ASCII, called by a generator, called by a callback of a function written in C.
const SCRIPT: &str = "\
import os, sys, threading

class Reader:
    def lire_é_日(self, first):
        return (
            sys.stdin.buffer.raw.read(1)
        )

def rows(reader):
    yield reader.lire_é_日(True)

def by_key(item):
    return next(rows(Reader()))

def wait(pipe):
    os.read(pipe, 1)

def main():
    threading.Thread(target=wait, args=[os.pipe()[0]], daemon=True).start()
    print(threading.enumerate()[1].native_id, flush=True)
    sorted([1], key=by_key)

main()
";

/// What the main thread executes.
const MAIN: &[(&str, u32)] =
    &[("Reader.lire_é_日", 6), ("rows", 10), ("by_key", 13), ("main", 21), ("<module>", 23)];

/// Programs that may be there. The first one has to be.
const PROGRAMS: &[&str] = &[
    "python3",
    "/usr/bin/python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.15",
];

/// A child that runs a script, and the folder with the script. Both are gone at the end.
struct Running {
    child: Child,
    folder: PathBuf,
    file: String,
    /// What it printed.
    line: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts a program with a script. `None` if the program is not there, or cannot run it.
fn start(program: &str, test: &str, script: &str) -> Option<Running> {
    let folder = format!("echown-{test}-{}-{}", program.replace('/', "-"), std::process::id());
    let folder = std::env::temp_dir().join(folder);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("écho.py");
    fs::write(&file, script).unwrap();
    let mut command = Command::new(program);
    command.arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let started = command.env("PYTHONUTF8", "1").spawn();
    let Ok(mut child) = started else {
        let _ = fs::remove_dir_all(&folder);
        return None;
    };
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let running = Running { child, folder, file, line };
    (!running.line.is_empty()).then_some(running)
}

/// All programs that are there, once for each version and file; fails if there has to be one.
fn programs(test: &str, script: &str) -> Vec<(&'static str, Running)> {
    let mut found: Vec<(&str, Running)> = Vec::new();
    for program in PROGRAMS {
        found.extend(start(program, test, script).map(|running| (*program, running)));
    }
    let is_required =
        std::env::var_os("ECHOWN_REQUIRE_TOOLS").is_some_and(|value| !value.is_empty());
    assert!(
        !found.is_empty() || !is_required,
        "python3 is missing, and ECHOWN_REQUIRE_TOOLS is set"
    );
    if found.is_empty() {
        eprintln!("skipped: python3 is missing");
    }
    found
}

/// The frames of a task as text, once the outermost ones are those that are expected.
fn frames_until(
    process: i32,
    task: i32,
    is_expected: impl Fn(&[(String, String, u32)]) -> bool,
) -> Vec<(String, String, u32)> {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut read = |address, buffer: &mut [u8]| memory.read_at(buffer, address).unwrap_or(0);
    let (mut reader, mut stacks) = (PythonReader::new(), Stacks::new());
    let deadline = Instant::now() + DEADLINE;
    loop {
        let frames = reader.frames(process, task, &mut read, &mut stacks);
        let frames: Vec<_> = frames.iter().map(|frame| shown(*frame, &stacks)).collect();
        if is_expected(&frames) || Instant::now() > deadline {
            return frames;
        }
        std::thread::yield_now();
    }
}

fn shown(frame: Frame, stacks: &Stacks) -> (String, String, u32) {
    let Frame::Script(id) = frame else { panic!("{frame:?} is no frame of Python") };
    let frame = stacks.script_of(id).unwrap();
    (frame.function.clone(), frame.file.clone(), frame.line)
}

#[test]
fn the_frames_of_a_waiting_program_have_functions_files_and_lines() {
    for (program, running) in programs("frames", SCRIPT) {
        let process = running.child.id() as i32;
        let expected: Vec<_> =
            MAIN.iter().map(|(name, line)| ((*name).into(), running.file.clone(), *line)).collect();
        let frames = frames_until(process, process, |frames| frames == expected);
        assert_eq!(frames, expected, "{program}");
    }
}

#[test]
fn a_thread_is_found_by_the_kernels_id() {
    for (program, running) in programs("thread", SCRIPT) {
        let process = running.child.id() as i32;
        let thread = running.line.trim().parse().unwrap();
        let expected = ("wait".to_owned(), running.file.clone(), 16);
        let frames = frames_until(process, thread, |frames| frames.first() == Some(&expected));
        assert_eq!(frames.first(), Some(&expected), "{program}");
        let functions: Vec<&str> = frames.iter().map(|frame| frame.0.as_str()).collect();
        let outer = ["Thread.run", "Thread._bootstrap_inner", "Thread._bootstrap"];
        assert!(outer.iter().all(|name| functions.contains(name)), "{program}: {functions:?}");
    }
}
