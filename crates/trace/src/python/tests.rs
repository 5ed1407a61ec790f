//! Tests with real programs: a child waits for its standard input at a known place.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
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
    output: BufReader<ChildStdout>,
    /// The first line that it printed.
    line: String,
}

impl Running {
    fn process(&self) -> i32 {
        self.child.id() as i32
    }
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
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let running = Running { child, folder, file, output, line };
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

/// Reads the frames of a task until they are those that are expected, or the deadline has passed.
fn frames_until(
    mut read: impl FnMut() -> Vec<Shown>,
    is_expected: impl Fn(&[Shown]) -> bool,
) -> Vec<Shown> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let frames = read();
        if is_expected(&frames) || Instant::now() > deadline {
            return frames;
        }
        std::thread::yield_now();
    }
}

fn memory_of(process: i32) -> impl Memory {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    move |address: u64, buffer: &mut [u8]| memory.read_at(buffer, address).unwrap_or(0)
}

/// Function, file and line.
type Shown = (String, String, u32);

fn shown_frames(
    reader: &mut PythonReader,
    process: i32,
    task: i32,
    memory: &mut dyn Memory,
    stacks: &mut Stacks,
) -> Vec<Shown> {
    let frames = reader.frames(process, task, memory, stacks);
    frames.iter().map(|frame| shown(*frame, stacks)).collect()
}

fn shown(frame: Frame, stacks: &Stacks) -> Shown {
    let Frame::Script(id) = frame else { panic!("{frame:?} is no frame of Python") };
    let frame = stacks.script_of(id).unwrap();
    (frame.function.clone(), frame.file.clone(), frame.line)
}

#[test]
fn the_frames_of_a_waiting_program_have_functions_files_and_lines() {
    for (program, running) in programs("frames", SCRIPT) {
        let (mut reader, process) = (PythonReader::new(), running.process());
        let (mut memory, mut stacks) = (memory_of(process), Stacks::new());
        let expected: Vec<_> =
            MAIN.iter().map(|(name, line)| ((*name).into(), running.file.clone(), *line)).collect();
        let frames = frames_until(
            || shown_frames(&mut reader, process, process, &mut memory, &mut stacks),
            |frames| frames == expected,
        );
        assert_eq!(frames, expected, "{program}");
    }
}

#[test]
fn a_thread_is_found_by_the_kernels_id() {
    for (program, running) in programs("thread", SCRIPT) {
        let (mut reader, process) = (PythonReader::new(), running.process());
        let (mut memory, mut stacks) = (memory_of(process), Stacks::new());
        let thread = running.line.trim().parse().unwrap();
        let expected = ("wait".to_owned(), running.file.clone(), 16);
        let frames = frames_until(
            || shown_frames(&mut reader, process, thread, &mut memory, &mut stacks),
            |frames| frames.first() == Some(&expected),
        );
        assert_eq!(frames.first(), Some(&expected), "{program}");
        let functions: Vec<&str> = frames.iter().map(|frame| frame.0.as_str()).collect();
        let outer = ["Thread.run", "Thread._bootstrap_inner", "Thread._bootstrap"];
        assert!(outer.iter().all(|name| functions.contains(name)), "{program}: {functions:?}");
    }
}

/// Each module is loaded, executed and freed, so that the next one has its addresses.
const MODULES: &str = "\
import marshal, sys

def wait(number):
    print(number, flush=True)
    sys.stdin.buffer.raw.read(1)

def module(number):
    return marshal.dumps(compile(f'wait({number})', f'<module {number:02}>', 'exec'))

for content in [module(number) for number in range(20)]:
    exec(marshal.loads(content))
";

#[test]
fn code_at_the_address_of_code_that_is_gone_is_noticed() {
    for (program, mut running) in programs("modules", MODULES) {
        let (mut reader, process) = (PythonReader::new(), running.process());
        let (mut memory, mut stacks) = (memory_of(process), Stacks::new());
        let mut input = running.child.stdin.take().unwrap();
        for number in 0..20 {
            let expected = [
                ("wait".to_owned(), running.file.clone(), 5),
                ("<module>".to_owned(), format!("<module {number:02}>"), 1),
                ("<module>".to_owned(), running.file.clone(), 11),
            ];
            let frames = frames_until(
                || shown_frames(&mut reader, process, process, &mut memory, &mut stacks),
                |frames| frames == expected,
            );
            assert_eq!(frames, expected, "{program}");
            input.write_all(b"\n").unwrap();
            running.line.clear();
            running.output.read_line(&mut running.line).unwrap();
        }
    }
}
