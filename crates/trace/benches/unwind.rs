//! Benchmark of the unwinder: one stack of a C program with seven frames through the C library.
//!
//! `known` is a stack that equals a recent one, `unwound` one that is seen for the first time, with all
//! tables read. Each includes its reads of memory, with `pread` of `/proc/PID/mem`, which costs about as
//! much as `process_vm_readv`. It needs gcc.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use echown_trace::stack::Stacks;
use echown_trace::unwind::{Registers, Unwinder};

const SOURCE: &str = "
#include <unistd.h>
__attribute__((noinline)) int inner(void) { char c; int n = read(0, &c, 1); return n + 1; }
__attribute__((noinline)) int outer(int n) { volatile char a[50]; a[n] = 1; return inner() + a[n]; }
int main(int argc, char **argv) { return outer(argc) - 1; }
";

/// How far the stack seems to move for each unwinding.
const SHIFT: u64 = 16;

fn main() {
    divan::main();
}

/// A program that blocks in `read`.
struct Blocked {
    child: Child,
    memory: File,
    registers: Registers,
}

impl Blocked {
    fn start() -> Blocked {
        let program = std::env::temp_dir().join(format!("echown-bench-{}", std::process::id()));
        let source = program.with_extension("c");
        std::fs::write(&source, SOURCE).expect("a source");
        let mut compiler = Command::new("gcc");
        compiler.args(["-O2", "-fomit-frame-pointer", "-o"]).arg(&program).arg(&source);
        assert!(compiler.status().expect("gcc is installed").success(), "it compiles");
        let mut command = Command::new(&program);
        let child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
        let registers = loop {
            let path = format!("/proc/{}/syscall", child.id());
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let fields: Vec<_> = text.split_whitespace().collect();
            if let ["0", "0x0", .., sp, ip] = fields[..] {
                let number = |text: &str| u64::from_str_radix(&text[2..], 16).expect("a number");
                break Registers { ip: number(ip), sp: number(sp), bp: 0 };
            }
            std::thread::yield_now();
        };
        for file in [&program, &source] {
            std::fs::remove_file(file).expect("it was written");
        }
        let memory = File::open(format!("/proc/{}/mem", child.id())).expect("own child");
        Blocked { child, memory, registers }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[divan::bench]
fn known(bencher: divan::Bencher<'_, '_>) {
    unwind(bencher, 0);
}

#[divan::bench]
fn unwound(bencher: divan::Bencher<'_, '_>) {
    unwind(bencher, SHIFT);
}

/// Unwinds the stack again and again. It seems to be `shift` bytes lower each time.
fn unwind(bencher: divan::Bencher<'_, '_>, shift: u64) {
    let blocked = Blocked::start();
    let process = blocked.child.id() as i32;
    let (mut unwinder, mut stacks) = (Unwinder::new(), Stacks::new());
    let mut distance = 0;
    let mut unwind_one = move || {
        distance += shift;
        let mut read = |address: u64, bytes: &mut [u8]| {
            blocked.memory.read_at(bytes, address + distance).unwrap_or(0)
        };
        let sp = blocked.registers.sp - distance;
        unwinder.unwind(process, Registers { sp, ..blocked.registers }, &mut read, &mut stacks)
    };
    let first = unwind_one();
    bencher.bench_local(|| assert_eq!(unwind_one(), first));
}
