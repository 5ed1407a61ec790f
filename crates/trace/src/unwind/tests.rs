//! Tests of the unwinder with programs that block in a system call.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::stack::Module;

/// How long a program may take to reach its blocking call.
const DEADLINE: Duration = Duration::from_secs(30);

const NESTED: &str = "
#include <signal.h>
#include <unistd.h>
__attribute__((noinline)) int inner(void) { char c; int n = read(0, &c, 1); return n + 1; }
__attribute__((noinline)) int outer(int n) { volatile char a[5000]; a[n] = 1; return inner() + a[n]; }
static void handler(int number) { char c; if (read(0, &c, 1)) c++; }
int main(int argc, char **argv) { signal(SIGUSR1, handler); return outer(argc) - 1; }
";

/// A program that blocks in `read` on its standard input.
struct Blocked {
    child: Child,
    memory: File,
    registers: Registers,
}

impl Blocked {
    /// A signal's handler reads, too.
    fn in_handler(&mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        let before = self.registers.sp;
        rustix::process::kill_process(process, rustix::process::Signal::USR1).expect("own child");
        let start = Instant::now();
        while self.registers.sp == before {
            assert!(start.elapsed() < DEADLINE, "the handler does not block");
            self.registers = in_read(self.child.id()).unwrap_or(self.registers);
            std::thread::yield_now();
        }
    }

    fn start(program: &Path) -> Blocked {
        let mut command = Command::new(program);
        let child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
        let start = Instant::now();
        let registers = loop {
            assert!(start.elapsed() < DEADLINE, "the program does not block");
            if let Some(registers) = in_read(child.id()) {
                break registers;
            }
            std::thread::yield_now();
        };
        let memory = File::open(format!("/proc/{}/mem", child.id())).expect("own child");
        Blocked { child, memory, registers }
    }

    fn unwind(&self, unwinder: &mut Unwinder, stacks: &mut Stacks, reads: &mut u32) -> StackId {
        let mut read = |address: u64, bytes: &mut [u8]| {
            *reads += 1;
            self.memory.read_at(bytes, address).unwrap_or(0)
        };
        unwinder.unwind(self.child.id() as i32, self.registers, &mut read, stacks)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // It ends when its input ends.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The registers of a process that is in `read(0)`. The frame pointer is not among them.
fn in_read(process: u32) -> Option<Registers> {
    let mut text = String::new();
    File::open(format!("/proc/{process}/syscall")).ok()?.read_to_string(&mut text).ok()?;
    let fields: Vec<_> = text.split_whitespace().collect();
    if fields.len() != 9 || fields[..2] != ["0", "0x0"] {
        return None;
    }
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    Some(Registers { ip: number(fields[8])?, sp: number(fields[7])?, bp: 0 })
}

/// Removes the program when the test ends.
struct Program(PathBuf);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().expect("a folder of its own"));
    }
}

/// Compiles a C program; nothing if there is no such compiler.
fn compiled(compiler: &str, name: &str, flags: &[&str]) -> Option<Program> {
    let folder = std::env::temp_dir().join(format!("echown-unwind-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for programs");
    let (source, program) = (folder.join(format!("{name}.c")), folder.join(name));
    std::fs::write(&source, NESTED).expect("a source");
    let mut command = Command::new(compiler);
    command.args(["-O2", "-g", "-fomit-frame-pointer"]).args(flags);
    match command.arg("-o").arg(&program).arg(&source).status() {
        Ok(status) => assert!(status.success(), "{compiler} {flags:?}"),
        Err(_) => {
            assert!(std::env::var_os("ECHOWN_REQUIRE_TOOLS").is_none(), "{compiler} is missing");
            eprintln!("skipped: {compiler} is missing");
            return None;
        }
    }
    Some(Program(program))
}

fn module_names(stacks: &Stacks, id: StackId) -> Vec<String> {
    let name = |module: &Module| module.path.rsplit('/').next().unwrap_or_default().to_owned();
    let names = stacks.frames(id).iter().map(|frame| match frame {
        Frame::File { module, is_guessed, .. } => {
            let name = name(stacks.module_of(*module).expect("a stored module"));
            if *is_guessed { format!("{name}?") } else { name }
        }
        other => format!("{other:?}"),
    });
    names.collect()
}

#[test]
fn a_program_is_unwound_through_libc_to_its_start() {
    let Some(program) = compiled("gcc", "nested", &[]) else { return };
    let blocked = Blocked::start(&program.0);
    let (mut unwinder, mut stacks, mut reads) = (Unwinder::new(), Stacks::new(), 0);
    let id = blocked.unwind(&mut unwinder, &mut stacks, &mut reads);
    let names = module_names(&stacks, id);
    let libc = "libc.so.6";
    assert_eq!(names, [libc, "nested", "nested", "nested", libc, libc, "nested"]);
    assert_eq!(unwinder.failures(), 0, "{:?}", unwinder.notes());
    reads = 0;
    assert_eq!(blocked.unwind(&mut unwinder, &mut stacks, &mut reads), id);
    assert_eq!(reads, 1, "an equal stack is recognized with one read of memory");
}

#[test]
fn a_new_stack_in_known_code_needs_few_reads() {
    let Some(program) = compiled("gcc", "few", &[]) else { return };
    let blocked = Blocked::start(&program.0);
    let (mut unwinder, mut stacks, mut reads) = (Unwinder::new(), Stacks::new(), 0);
    let id = blocked.unwind(&mut unwinder, &mut stacks, &mut reads);
    reads = 0;
    // The same stack, as if it were 64 bytes lower.
    let mut read = |address: u64, bytes: &mut [u8]| {
        reads += 1;
        blocked.memory.read_at(bytes, address + 64).unwrap_or(0)
    };
    let registers = Registers { sp: blocked.registers.sp - 64, ..blocked.registers };
    let process = blocked.child.id() as i32;
    assert_eq!(unwinder.unwind(process, registers, &mut read, &mut stacks), id);
    // It has an array of 5,000 bytes.
    assert!(reads <= 2, "{reads}");
}

#[test]
fn a_signal_handler_is_unwound_to_the_interrupted_function() {
    let Some(program) = compiled("gcc", "signal", &[]) else { return };
    let mut blocked = Blocked::start(&program.0);
    blocked.in_handler();
    let (mut unwinder, mut stacks, mut reads) = (Unwinder::new(), Stacks::new(), 0);
    let id = blocked.unwind(&mut unwinder, &mut stacks, &mut reads);
    let names = module_names(&stacks, id);
    let (libc, own) = ("libc.so.6", "signal");
    // read, handler, the return from it, read, inner, outer, main, two of the start, _start
    assert_eq!(names, [libc, own, libc, libc, own, own, own, libc, libc, own]);
    reads = 0;
    assert_eq!(blocked.unwind(&mut unwinder, &mut stacks, &mut reads), id);
    assert_eq!(reads, 1);
}

#[test]
fn code_without_tables_is_guessed_and_marked() {
    let Some(program) = compiled("musl-gcc", "static", &["-static"]) else { return };
    let blocked = Blocked::start(&program.0);
    let (mut unwinder, mut stacks, mut reads) = (Unwinder::new(), Stacks::new(), 0);
    let id = blocked.unwind(&mut unwinder, &mut stacks, &mut reads);
    let names = module_names(&stacks, id);
    assert!(names.contains(&String::from("static?")), "{names:?}");
    assert!(names.len() >= 4, "{names:?}");
}

#[test]
fn a_child_shares_what_is_known_and_an_exec_forgets_it() {
    let Some(program) = compiled("gcc", "shared", &[]) else { return };
    let blocked = Blocked::start(&program.0);
    let (mut unwinder, mut stacks, mut reads) = (Unwinder::new(), Stacks::new(), 0);
    let process = blocked.child.id() as i32;
    let id = blocked.unwind(&mut unwinder, &mut stacks, &mut reads);
    unwinder.forked(process, -1);
    let mut read =
        |address: u64, bytes: &mut [u8]| blocked.memory.read_at(bytes, address).unwrap_or(0);
    assert_eq!(unwinder.unwind(-1, blocked.registers, &mut read, &mut stacks), id);
    unwinder.executed(-1);
    assert_eq!(unwinder.unwind(-1, blocked.registers, &mut read, &mut stacks), StackId::NONE);
    assert_eq!(unwinder.failures(), 1);
}
