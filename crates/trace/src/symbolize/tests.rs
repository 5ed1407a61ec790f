//! Tests of the symbolizer with compiled programs, good ones and damaged ones.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::*;

const SOURCE: &str = "
#include <fcntl.h>
static inline __attribute__((always_inline)) int inlined(const char *path) { return open(path, 0); }
__attribute__((noinline)) int opener(const char *path) {
    return inlined(path) + 1;
}
int main(int argc, char **argv) { return opener(argv[argc]); }
";

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("echown-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for programs");
        Folder(path)
    }

    /// Compiles the source; nothing if there is no compiler.
    fn compiled(&self, flags: &[&str]) -> Option<PathBuf> {
        let (source, program) = (self.0.join("a.c"), self.0.join("a"));
        std::fs::write(&source, SOURCE).expect("a source");
        let mut command = Command::new("gcc");
        command.args(["-O2", "-g"]).args(flags).arg("-o").arg(&program).arg(&source);
        match command.status() {
            Ok(status) => assert!(status.success(), "gcc {flags:?}"),
            Err(_) => {
                assert!(std::env::var_os("ECHOWN_REQUIRE_TOOLS").is_none(), "gcc is missing");
                eprintln!("skipped: gcc is missing");
                return None;
            }
        }
        Some(program)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn module(path: &Path) -> Module {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(path).expect("a program");
    let path = path.to_str().expect("a path in UTF-8").to_owned();
    Module { identity: (facts.dev(), facts.ino()), modified_ns: 0, path }
}

/// The offset in the file of the call in a function: where `needle` is in its disassembly.
fn call_in(program: &Path, function: &str, needle: &str) -> u64 {
    let output = Command::new("objdump").arg("-d").arg(program).output().expect("binutils");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let body = text.split_once(&format!("<{function}>:\n")).expect("the function").1;
    let line = body.lines().find(|line| line.contains(needle)).expect("the call");
    // In a small program, code has its address as its offset.
    u64::from_str_radix(line.split(':').next().expect("an address").trim(), 16).expect("a number")
}

fn stack_of(program: &Path, offset: u64) -> (Stacks, StackId) {
    let mut stacks = Stacks::new();
    let module = stacks.module(module(program));
    let id = stacks.intern(&[Frame::File { module, offset, is_guessed: true }]);
    (stacks, id)
}

#[test]
fn inlined_functions_have_their_own_lines() {
    let folder = Folder::new("symbolize");
    let Some(program) = folder.compiled(&[]) else { return };
    let offset = call_in(&program, "opener", "open");
    let (stacks, id) = stack_of(&program, offset);
    let mut symbolizer = Symbolizer::new();
    symbolizer.folder = folder.0.to_str().unwrap().to_owned();
    let frames = symbolizer.resolve(&stacks, id);
    let shown: Vec<_> = frames
        .iter()
        .map(|frame| (&*frame.function, frame.file.as_deref(), frame.line, frame.is_guessed))
        .collect();
    assert_eq!(shown, [("inlined", Some("a.c"), 3, true), ("opener", Some("a.c"), 5, true)]);
    assert!(frames.iter().all(|frame| frame.is_own && frame.package.is_none()), "{frames:?}");
    assert_eq!(symbolizer.notes(), [""; 0]);
}

#[test]
fn a_c_function_whose_name_could_be_a_type_keeps_its_name() {
    let folder = Folder::new("short");
    for flags in [&["-Dopener=h"][..], &["-Dopener=h", "-g0"]] {
        let Some(program) = folder.compiled(flags) else { return };
        let (stacks, id) = stack_of(&program, call_in(&program, "h", "open"));
        let frames = Symbolizer::new().resolve(&stacks, id);
        assert_eq!(frames.last().unwrap().function, "h", "{flags:?}");
    }
}

#[test]
fn a_deleted_file_that_was_kept_open_has_names() {
    let folder = Folder::new("deleted");
    let Some(program) = folder.compiled(&[]) else { return };
    let offset = call_in(&program, "opener", "open");
    let (mut stacks, id) = stack_of(&program, offset);
    let Frame::File { module, .. } = stacks.frames(id)[0] else { unreachable!() };
    stacks.keep_file(module, Arc::new(File::open(&program).unwrap()));
    std::fs::remove_file(&program).unwrap();
    let mut symbolizer = Symbolizer::new();
    let frames = symbolizer.resolve(&stacks, id);
    assert_eq!(frames.last().unwrap().function, "opener", "{:?}", symbolizer.notes());
}

#[test]
fn a_replaced_file_costs_its_names_and_is_noted() {
    let folder = Folder::new("replaced");
    let path = folder.0.join("prog\x1bram");
    std::fs::write(&path, "another file").unwrap();
    let mut other = module(&path);
    other.identity.1 += 1;
    let mut stacks = Stacks::new();
    let module = stacks.module(other);
    let id = stacks.intern(&[Frame::File { module, offset: 16, is_guessed: false }]);
    let mut symbolizer = Symbolizer::new();
    let frames = symbolizer.resolve(&stacks, id);
    assert_eq!(frames[0].function, "0x10");
    assert_eq!(frames[0].package.as_deref(), Some(r"prog\x1bram"));
    let notes = symbolizer.notes();
    assert!(notes[0].ends_with("the file is gone or was replaced"), "{notes:?}");
    assert!(!notes[0].contains('\x1b'), "{notes:?}");
}

#[test]
fn damaged_files_cost_names_and_not_the_process() {
    let folder = Folder::new("damaged");
    let Some(program) = folder.compiled(&[]) else { return };
    let offset = call_in(&program, "opener", "open");
    let whole = std::fs::read(&program).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let mut bytes = whole.clone();
        if round % 3 == 0 {
            bytes.truncate(random.usize(..bytes.len()));
        } else {
            for _ in 0..1 + round {
                let bit = random.usize(..bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        std::fs::write(&program, &bytes).unwrap();
        let (stacks, id) = stack_of(&program, offset);
        let frames = Symbolizer::new().resolve(&stacks, id);
        assert!(!frames.is_empty(), "round {round}");
    }
}

#[test]
fn functions_that_a_library_makes_of_text_are_not_the_authors() {
    let mut stacks = Stacks::new();
    let mut stack = |files: &[&str]| {
        let frames: Vec<Frame> = files
            .iter()
            .map(|file| {
                let (function, file) = (String::from("f"), String::from(*file));
                stacks.script(ScriptFrame { function, file, line: 2 })
            })
            .collect();
        stacks.intern(&frames)
    };
    let of_option = stack(&["<string>", "/usr/lib/python3.11/os.py", "<string>"]);
    let of_library = stack(&["<string>", "/work/app/server.py"]);
    let mut symbolizer = Symbolizer::new();
    let mut own = |id| -> Vec<bool> {
        symbolizer.resolve(&stacks, id).iter().map(|frame| frame.is_own).collect()
    };
    assert_eq!(own(of_option), [true, false, true]);
    assert_eq!(own(of_library), [false, true]);
}
