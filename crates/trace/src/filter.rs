//! The seccomp filter, as a program for the kernel's classic BPF machine: which calls stop.
//!
//! A search tree over the call numbers, so that a call that is not followed costs few comparisons. For
//! most numbers the kernel does not even run it: it knows the answer from the time when the filter was
//! installed, as long as the answer does not depend on an argument.
//!
//! # Limits
//! A conditional jump reaches 255 instructions; the tree uses the long unconditional one instead.

use crate::calls::{Call, When};

/// One instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jump_true: u8,
    /// Instructions to skip otherwise.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// The message of a stop for a 32-bit call.
pub const CALL_32: u16 = u16::MAX;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const X86_64: u32 = 0xc000_003e;

const ALLOW: u32 = 0x7fff_0000;
const TRACE: u32 = 0x7ff0_0000;
const FAIL: u32 = 0x0005_0000;

/// The numbers of x32, which share the architecture of x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// 32-bit calls that create or close descriptors: open, creat, close, dup, pipe, dup2, socketcall, openat,
/// pipe2, accept4, socket.
const CALLS_32: &[u32] = &[5, 6, 8, 41, 42, 63, 102, 295, 331, 359, 364];

/// The filter for these calls, which are in the order of their numbers. `io_uring_fails` makes io_uring
/// fail with ENOSYS.
#[must_use]
pub fn program(calls: &[Call], io_uring_fails: bool) -> Vec<Instruction> {
    let mut tree = Vec::new();
    let groups: Vec<(u32, Vec<(usize, &Call)>)> = groups(calls);
    search(&groups, io_uring_fails, &mut tree);
    let mut program = vec![load(ARCHITECTURE)];
    let calls_32 = calls_32();
    // A native call skips the part for others.
    program.push(jump(JUMP_IF_EQUAL, X86_64, calls_32.len() as u8, 0));
    program.extend(calls_32);
    program.push(load(NUMBER));
    program.push(jump(JUMP_IF_AT_LEAST, X32_BIT, 0, 1));
    program.push(end(TRACE | u32::from(CALL_32)));
    program.extend(tree);
    program
}

/// What a native call with these arguments does, without the kernel: the index of the call, if it stops.
#[cfg(test)]
fn simulate(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [0u32; 16];
    data[0] = number;
    data[1] = architecture;
    for (index, argument) in arguments.into_iter().enumerate() {
        data[4 + 2 * index] = argument as u32;
        data[5 + 2 * index] = (argument >> 32) as u32;
    }
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let it = program[at];
        at += 1;
        let condition = match it.code {
            LOAD => {
                accumulator = data[it.operand as usize / 4];
                continue;
            }
            JUMP => {
                at += it.operand as usize;
                continue;
            }
            RETURN => return it.operand,
            JUMP_IF_EQUAL => accumulator == it.operand,
            JUMP_IF_AT_LEAST => accumulator >= it.operand,
            JUMP_IF_SET => accumulator & it.operand != 0,
            other => panic!("unknown operation {other:#x}"),
        };
        at += usize::from(if condition { it.jump_true } else { it.jump_false });
    }
}

fn groups(calls: &[Call]) -> Vec<(u32, Vec<(usize, &Call)>)> {
    let mut groups: Vec<(u32, Vec<(usize, &Call)>)> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let number = call.number as u32;
        match groups.last_mut() {
            Some((last, group)) if *last == number => group.push((index, call)),
            _ => groups.push((number, vec![(index, call)])),
        }
    }
    groups
}

/// The search among these numbers. Every way through it ends.
fn search(groups: &[(u32, Vec<(usize, &Call)>)], io_uring_fails: bool, to: &mut Vec<Instruction>) {
    match groups {
        [] => to.push(end(ALLOW)),
        [(number, calls)] => {
            let leaf = leaf(calls, io_uring_fails);
            to.push(jump(JUMP_IF_EQUAL, *number, 1, 0));
            to.push(end(ALLOW));
            to.extend(leaf);
        }
        _ => {
            let (low, high) = groups.split_at(groups.len() / 2);
            let (mut left, mut right) = (Vec::new(), Vec::new());
            search(low, io_uring_fails, &mut left);
            search(high, io_uring_fails, &mut right);
            to.push(jump(JUMP_IF_AT_LEAST, high[0].0, 0, 1));
            to.push(jump(JUMP, left.len() as u32, 0, 0));
            to.extend(left);
            to.extend(right);
        }
    }
}

/// The answer for one number, whose calls differ in their conditions.
fn leaf(calls: &[(usize, &Call)], io_uring_fails: bool) -> Vec<Instruction> {
    let mut leaf = Vec::new();
    for (index, call) in calls {
        let answer = if io_uring_fails && call.number == libc::SYS_io_uring_setup {
            FAIL | libc::ENOSYS as u32
        } else {
            TRACE | *index as u32
        };
        match call.when {
            When::Always => {
                leaf.push(end(answer));
                return leaf;
            }
            When::ArgumentIn(argument, values) => {
                leaf.push(load(ARGUMENTS + 8 * argument as u32));
                for value in values {
                    leaf.push(jump(JUMP_IF_EQUAL, *value, 0, 1));
                    leaf.push(end(answer));
                }
            }
            When::ArgumentHas(argument, bits) => {
                leaf.push(load(ARGUMENTS + 8 * argument as u32));
                leaf.push(jump(JUMP_IF_SET, bits, 0, 1));
                leaf.push(end(answer));
            }
        }
    }
    leaf.push(end(ALLOW));
    leaf
}

/// Calls of other architectures: those that touch descriptors stop, with one message for all.
fn calls_32() -> Vec<Instruction> {
    let mut part = vec![load(NUMBER)];
    for number in CALLS_32 {
        part.push(jump(JUMP_IF_EQUAL, *number, 0, 1));
        part.push(end(TRACE | u32::from(CALL_32)));
    }
    part.push(end(ALLOW));
    part
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, operand: offset }
}

fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

fn end(answer: u32) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::of_mode;

    const I386: u32 = 0x4000_0003;

    /// The index that a call with these arguments should stop with.
    fn expected(calls: &[Call], number: i64, arguments: [u64; 6]) -> u32 {
        let found = calls.iter().position(|call| {
            call.number == number
                && match call.when {
                    When::Always => true,
                    When::ArgumentIn(index, values) => values.contains(&(arguments[index] as u32)),
                    When::ArgumentHas(index, bits) => arguments[index] as u32 & bits != 0,
                }
        });
        found.map_or(ALLOW, |index| TRACE | index as u32)
    }

    #[test]
    fn each_call_gets_the_answer_of_the_table_in_each_mode() {
        for (uses, writes) in [(false, false), (true, true), (true, false)] {
            let calls = of_mode(uses, writes);
            let program = program(&calls, false);
            assert!(program.len() < 4096, "{}", program.len());
            for number in 0..500 {
                for value in [0, 1, 2, 7, 8, 15, 1030, 0x400, 0x5441, 0x5450, 0x5451, u64::MAX] {
                    let arguments = [value; 6];
                    let answer = simulate(&program, X86_64, number, arguments);
                    let expected = expected(&calls, i64::from(number), arguments);
                    assert_eq!(answer, expected, "call {number} with {value}");
                }
            }
        }
    }

    #[test]
    fn io_uring_fails_if_asked_and_32_bit_calls_stop_with_their_message() {
        let calls = of_mode(false, false);
        let number = libc::SYS_io_uring_setup as u32;
        let answer = simulate(&program(&calls, true), X86_64, number, [0; 6]);
        assert_eq!(answer, FAIL | libc::ENOSYS as u32);
        let program = program(&calls, false);
        let message = TRACE | u32::from(CALL_32);
        assert_eq!(simulate(&program, I386, 5, [0; 6]), message);
        assert_eq!(simulate(&program, I386, 3, [0; 6]), ALLOW);
        assert_eq!(simulate(&program, X86_64, X32_BIT | 2, [0; 6]), message);
    }

    #[test]
    fn reads_and_writes_do_not_stop_and_depend_on_no_argument() {
        let program = program(&of_mode(false, false), false);
        for number in [libc::SYS_read, libc::SYS_write, libc::SYS_poll, libc::SYS_epoll_wait] {
            for argument in [0, 1, u64::MAX] {
                assert_eq!(simulate(&program, X86_64, number as u32, [argument; 6]), ALLOW);
            }
        }
    }
}
