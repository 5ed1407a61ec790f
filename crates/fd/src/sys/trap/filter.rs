//! The seccomp filter: which calls are trapped, and from where.

use std::fs;
use std::ops::Range;

use super::calls::{CALLS, Condition, PARANOID_CALLS, conditions};
use super::{Level, TrapError};

/// `AUDIT_ARCH_X86_64`.
const ARCHITECTURE: u32 = 0xc000_003e;

/// The bit of x32 calls, which are not in use.
const X32: u32 = 0x4000_0000;

/// Mappings with a smaller gap in bytes are merged into one range, because libraries are mapped
/// close together.
const GAP_MAX: usize = 64 * 1024 * 1024;

/// A binary below this address is not position-independent.
const FIXED_BELOW: usize = 0x1000_0000;

/// The jump on a common bit, which the libc crate lacks.
const BPF_JSET: u32 = 0x40;

/// Offsets in `seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const POINTER: u32 = 8;
const ARGUMENTS: u32 = 16;

/// The address ranges of this process's code, if programs that it starts have their code elsewhere.
///
/// # Errors
/// The code of programs to come could have the same addresses. The error gives the reason.
pub(super) fn text_of_this_process() -> Result<Vec<Range<usize>>, TrapError> {
    const ADDR_NO_RANDOMIZE: libc::c_int = 0x004_0000;
    // SAFETY: with this argument the call only reads the personality.
    let personality = unsafe { libc::personality(0xffff_ffff) };
    let randomised = fs::read_to_string("/proc/sys/kernel/randomize_va_space");
    if personality & ADDR_NO_RANDOMIZE != 0 || randomised.is_ok_and(|value| value.trim() == "0") {
        return Err(TrapError::new(
            "address space randomization is off, so programs that the test starts would be trapped, too",
        ));
    }
    let maps = fs::read_to_string("/proc/self/maps").map_err(|error| TrapError {
        reason: "/proc/self/maps cannot be read",
        source: Some(error),
    })?;
    let text = text_in(&maps);
    match text.first() {
        None => Err(TrapError::new("/proc/self/maps lists no code")),
        Some(first) if first.start < FIXED_BELOW => {
            Err(TrapError::new("the test binary is loaded at a fixed address"))
        }
        Some(_) => Ok(text),
    }
}

/// The executable file mappings in ascending order; close ones are merged.
fn text_in(maps: &str) -> Vec<Range<usize>> {
    let mut text: Vec<Range<usize>> = Vec::new();
    // The rights (`r-xp`) follow the first space. Most lines end here: splitting all of them takes a
    // tenth of a millisecond in a debug build, for each test.
    let is_code = |line: &&str| {
        line.find(' ').is_some_and(|space| line.as_bytes().get(space + 3) == Some(&b'x'))
    };
    for line in maps.lines().filter(is_code) {
        let mut words = line.split_whitespace();
        let (Some(range), Some(path)) = (words.next(), words.nth(4)) else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let (Ok(start), Ok(end)) =
            (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        else {
            continue;
        };
        if !path.starts_with('/') {
            continue;
        }
        match text.last_mut() {
            Some(last) if start - last.end < GAP_MAX => last.end = end,
            _ => text.push(start..end),
        }
    }
    text
}

/// Installs the filter on this thread and the threads that it starts.
///
/// Other threads do not get it (SECCOMP_FILTER_FLAG_TSYNC): one of them may be inside
/// `pthread_create` with all signals blocked, so its next call, which unblocks them, would be
/// trapped and kill the process.
///
/// # Errors
/// The kernel rejects the filter.
pub(super) fn install(text: &[Range<usize>], magic: u64, level: Level) -> Result<(), TrapError> {
    let mut program = program(text, magic, level);
    let length =
        u16::try_from(program.len()).map_err(|_| TrapError::new("the filter is too long"))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: `prctl` with these arguments takes only integers; `seccomp` reads the program that
    // `filter` points to, which outlives the call and has the given length.
    let result = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(TrapError::of_last_call("the kernel rejects NO_NEW_PRIVS"));
        }
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
    };
    match result {
        0 => Ok(()),
        _ => Err(TrapError::of_last_call("the kernel rejects a seccomp filter")),
    }
}

/// The target of a jump.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// The condition with the second index of the call with this number.
    Condition(i64, usize),
    /// `clone` is trapped, unless it is made again.
    CheckClone,
    /// The same for `clone3`.
    CheckClone3,
    /// The call is trapped if it comes from this address.
    CheckOrigin,
    From(usize),
    Allow,
    Trap,
}

/// Instructions whose jumps use labels.
#[derive(Default)]
struct Assembly {
    instructions: Vec<(u32, u32, To, To)>,
    labels: Vec<(To, usize)>,
}

impl Assembly {
    fn label(&mut self, label: To) {
        self.labels.push((label, self.instructions.len()));
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, To::Next, To::Next);
    }

    fn if_equal(&mut self, value: u32, then: To, otherwise: To) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, then, otherwise);
    }

    fn if_at_least(&mut self, value: u32, then: To, otherwise: To) {
        self.push(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, value, then, otherwise);
    }

    fn if_any_bit(&mut self, bits: u32, then: To, otherwise: To) {
        self.push(libc::BPF_JMP | BPF_JSET | libc::BPF_K, bits, then, otherwise);
    }

    /// Goes on at `then` if the condition holds, and allows the call otherwise.
    fn conditionally(&mut self, condition: Condition, then: To) {
        match condition {
            Condition::OneOf(index, values) => {
                self.load(argument(index));
                let (last, others) = values.split_last().expect("a condition has values");
                others.iter().for_each(|&value| self.if_equal(value, then, To::Next));
                self.if_equal(*last, then, To::Allow);
            }
            Condition::AnyBit(index, bits) => {
                self.load(argument(index));
                self.if_any_bit(bits, then, To::Allow);
            }
            Condition::IsOrNotNull(index, value, pointer) => {
                self.load(argument(index));
                self.if_equal(value, then, To::Next);
                self.load(argument(pointer));
                self.if_equal(0, To::Next, then);
                self.load(argument(pointer) + 4);
                self.if_equal(0, To::Allow, then);
            }
        }
    }

    fn returns(&mut self, label: To, action: u32) {
        self.label(label);
        self.push(libc::BPF_RET | libc::BPF_K, action, To::Next, To::Next);
    }

    fn push(&mut self, code: u32, value: u32, then: To, otherwise: To) {
        self.instructions.push((code, value, then, otherwise));
    }

    fn assemble(self) -> Vec<libc::sock_filter> {
        let distance = |here: usize, to: To| match to {
            To::Next => 0,
            to => {
                let label = self.labels.iter().find(|(label, _)| *label == to);
                let (_, there) = label.expect("every label that is used is set");
                u8::try_from(there - here - 1)
                    .expect("the program is short, and jumps lead forward")
            }
        };
        let all = self.instructions.iter().enumerate();
        all.map(|(here, &(code, value, then, otherwise))| libc::sock_filter {
            code: u16::try_from(code).expect("instructions are small"),
            jt: distance(here, then),
            jf: distance(here, otherwise),
            k: value,
        })
        .collect()
    }
}

/// Where the check of a call goes on after this number of conditions.
fn begin(call: i64, checked: usize, level: Level) -> To {
    match call {
        _ if checked < conditions(call, level).len() => To::Condition(call, checked),
        libc::SYS_clone => To::CheckClone,
        libc::SYS_clone3 => To::CheckClone3,
        _ => To::CheckOrigin,
    }
}

fn program(text: &[Range<usize>], magic: u64, level: Level) -> Vec<libc::sock_filter> {
    let mut it = Assembly::default();
    it.load(ARCH);
    it.if_equal(ARCHITECTURE, To::Next, To::Allow);
    it.load(NUMBER);
    it.if_at_least(X32, To::Allow, To::Next);
    let more = if level == Level::Paranoid { PARANOID_CALLS } else { &[] };
    for &(call, _, _) in CALLS.iter().chain(more) {
        it.if_equal(low(call as u64), begin(call, 0, level), To::Next);
    }
    it.if_equal(u32::MAX, To::Allow, To::Allow);
    for &(call, _, _) in CALLS {
        for (index, &condition) in conditions(call, level).iter().enumerate() {
            it.label(To::Condition(call, index));
            it.conditionally(condition, begin(call, index + 1, level));
        }
    }
    // The sixth register may be in use across a `clone`. The kernel ignores the flags' upper half.
    it.label(To::CheckClone);
    it.load(argument(0) + 4);
    it.if_equal(low(magic), To::Allow, To::CheckOrigin);
    it.label(To::CheckClone3);
    it.load(argument(3));
    it.if_equal(low(magic), To::Next, To::CheckOrigin);
    it.load(argument(3) + 4);
    it.if_equal(high(magic), To::Allow, To::CheckOrigin);
    it.label(To::CheckOrigin);
    it.load(argument(5));
    it.if_equal(low(magic), To::Next, To::From(0));
    it.load(argument(5) + 4);
    it.if_equal(high(magic), To::Allow, To::From(0));
    let pieces: Vec<(u32, u32, u32)> = text.iter().flat_map(pieces).collect();
    for (index, (upper, first, last)) in pieces.iter().enumerate() {
        let next = if index + 1 == pieces.len() { To::Allow } else { To::From(index + 1) };
        it.label(To::From(index));
        it.load(POINTER + 4);
        it.if_equal(*upper, To::Next, next);
        it.load(POINTER);
        it.if_at_least(*first, To::Next, next);
        // The instruction pointer is after the call's instruction, so at most at the range's end.
        match last.checked_add(1) {
            Some(beyond) => it.if_at_least(beyond, next, To::Trap),
            None => it.if_equal(*last, To::Trap, To::Trap),
        }
    }
    it.returns(To::Allow, libc::SECCOMP_RET_ALLOW);
    it.returns(To::Trap, libc::SECCOMP_RET_TRAP);
    it.assemble()
}

/// Splits a range into pieces whose addresses share their upper half. Each piece consists of that
/// upper half, and of its first and last lower half.
fn pieces(range: &Range<usize>) -> Vec<(u32, u32, u32)> {
    let (start, last) = (range.start as u64, range.end as u64);
    let piece = |upper: u32| {
        let first = if upper == high(start) { low(start) } else { 0 };
        let last = if upper == high(last) { low(last) } else { u32::MAX };
        (upper, first, last)
    };
    (high(start)..=high(last)).map(piece).collect()
}

fn argument(index: u32) -> u32 {
    ARGUMENTS + 8 * index
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets the program as the kernel does.
    fn interpret(
        program: &[libc::sock_filter],
        call: i64,
        pointer: u64,
        arguments: [u64; 6],
    ) -> u32 {
        let load = |offset: u32| match offset {
            NUMBER => low(call as u64),
            ARCH => ARCHITECTURE,
            POINTER => low(pointer),
            _ if offset == POINTER + 4 => high(pointer),
            _ => {
                let argument = arguments[(offset - ARGUMENTS) as usize / 8];
                if offset % 8 == 0 { low(argument) } else { high(argument) }
            }
        };
        let (mut at, mut value) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[at];
            let jump = |condition: bool| usize::from(if condition { jt } else { jf });
            match u32::from(code) {
                code if code == libc::BPF_RET => return k,
                code if code & 7 == libc::BPF_LD => value = load(k),
                code if code & 0xf0 == libc::BPF_JEQ => at += jump(value == k),
                code if code & 0xf0 == BPF_JSET => at += jump(value & k != 0),
                _ => at += jump(value >= k),
            }
            at += 1;
        }
    }

    #[test]
    fn calls_are_trapped_that_make_descriptors_and_come_from_here_without_the_magic() {
        let (binary, libraries) =
            (0x5500_0000_1000..0x5500_0010_0000, 0x7f12_ffff_0000..0x7f13_0010_0000);
        let magic = 0x1234_5678_9abc_def0;
        let program = program(&[binary, libraries], magic, Level::Normal);
        let is_trapped = |call, pointer, arguments| {
            interpret(&program, call, pointer, arguments) == libc::SECCOMP_RET_TRAP
        };
        let none = [0; 6];
        for here in [0x5500_0000_2000, 0x7f12_ffff_1234, 0x7f13_0000_0001] {
            assert!(is_trapped(libc::SYS_openat, here, none), "{here:x}");
            assert!(is_trapped(libc::SYS_close, here, none), "{here:x}");
            assert!(!is_trapped(libc::SYS_read, here, none), "{here:x}");
            assert!(!is_trapped(libc::SYS_openat, here, [0, 0, 0, 0, 0, magic]), "{here:x}");
            assert!(is_trapped(libc::SYS_openat, here, [0, 0, 0, 0, 0, magic & 0xffff_ffff]));
            let left_over = [0, 0, 0, magic, 0, 0];
            assert!(!is_trapped(libc::SYS_clone3, here, left_over), "{here:x}");
            assert!(is_trapped(libc::SYS_openat, here, left_over), "{here:x}");
            for call in [libc::SYS_clone, libc::SYS_clone3] {
                let flags = libc::CLONE_PIDFD as u64;
                assert!(!is_trapped(call, here, [flags, 0, 0, 0, 0, magic]), "in the handler");
            }
        }
        for elsewhere in [0, 0x5500_0020_0000, 0x5600_0000_2000, 0x7f12_fffe_0000, 0x7f13_0020_0000]
        {
            assert!(!is_trapped(libc::SYS_openat, elsewhere, none), "{elsewhere:x}");
        }
        let fcntl = |command: i32| [3, command as u64, 0, 0, 0, 0];
        let here = 0x5500_0000_2000;
        assert!(is_trapped(libc::SYS_fcntl, here, fcntl(libc::F_DUPFD_CLOEXEC)));
        assert!(!is_trapped(libc::SYS_fcntl, here, fcntl(libc::F_GETFL)));
        let action = |signal: i32, new| [signal as u64, new, 0, 0, 0, 0];
        for (signal, new, is_changed) in [
            (libc::SIGSYS, 0, true),
            (libc::SIGSYS, 8, true),
            (libc::SIGINT, 0, false),
            (libc::SIGINT, 8, true),
            (libc::SIGINT, 1 << 32, true),
        ] {
            let arguments = action(signal, new);
            assert_eq!(is_trapped(libc::SYS_rt_sigaction, here, arguments), is_changed);
        }
    }

    #[test]
    fn calls_that_open_with_some_arguments_only_pass_with_the_others() {
        let here = 0x5500_0000_2000;
        let text = 0x5500_0000_1000..0x5500_0010_0000;
        let magic = 0x1234_5678_9abc_def0;
        let program = program(&[text], magic, Level::Normal);
        let is_trapped = |call, arguments: [u64; 3]| {
            let [first, second, third] = arguments;
            let arguments = [first, second, third, third, 0, 0];
            interpret(&program, call, here, arguments) == libc::SECCOMP_RET_TRAP
        };
        let minus_one = u64::from(u32::MAX);
        let thread = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
        for (call, opening, other) in [
            (libc::SYS_ioctl, [3, 0x5441, 0], [3, libc::FIONBIO, 0]),
            (libc::SYS_ioctl, [3, 0xff0a, 0], [3, libc::TIOCGWINSZ, 0]),
            (libc::SYS_getsockopt, [3, 1, 77], [3, 1, libc::SO_ERROR as u64]),
            (libc::SYS_getsockopt, [3, 1, 77], [3, libc::IPPROTO_TCP as u64, 77]),
            (libc::SYS_fcntl, [3, libc::F_DUPFD as u64, 0], [3, libc::F_SETFL as u64, 0]),
            (libc::SYS_signalfd, [minus_one, 0, 0], [3, 0, 0]),
            (libc::SYS_signalfd4, [minus_one, 0, 0], [0, 0, 0]),
            (libc::SYS_landlock_create_ruleset, [1, 8, 0], [0, 0, 1]),
            (libc::SYS_bpf, [0, 0, 0], [1, 0, 0]),
            (libc::SYS_bpf, [36, 0, 0], [2, 0, 0]),
            (libc::SYS_seccomp, [1, 8, 0], [1, 0, 0]),
            (libc::SYS_seccomp, [1, 8 | 1, 0], [0, 8, 0]),
            (libc::SYS_clone, [thread, 0, 0], [libc::SIGCHLD as u64, 0, 0]),
            (libc::SYS_clone, [libc::CLONE_PIDFD as u64, 0, 0], [libc::CLONE_VM as u64, 0, 0]),
            (libc::SYS_clone, [thread, 0, 0], [thread | magic << 32, 0, 0]),
            (libc::SYS_clone3, [0, 0, 0], [0, 0, magic]),
        ] {
            assert!(is_trapped(call, opening), "{call} {opening:x?}");
            assert!(!is_trapped(call, other), "{call} {other:x?}");
        }
    }

    #[test]
    fn the_paranoid_level_traps_reads_and_writes_and_all_of_fcntl() {
        let (here, text) = (0x5500_0000_2000, 0x5500_0000_1000..0x5500_0010_0000);
        let libraries = 0x7f12_ffff_0000..0x7f13_0010_0000;
        for (level, expected) in
            [(Level::Normal, libc::SECCOMP_RET_ALLOW), (Level::Paranoid, libc::SECCOMP_RET_TRAP)]
        {
            let program = program(&[text.clone(), libraries.clone()], 1 << 32 | 1, level);
            let set_flags = [3, libc::F_SETFL as u64, 0, 0, 0, 0];
            for (call, arguments) in
                [(libc::SYS_read, [3; 6]), (libc::SYS_sendto, [3; 6]), (libc::SYS_fcntl, set_flags)]
            {
                assert_eq!(interpret(&program, call, here, arguments), expected, "{call}");
            }
        }
    }

    #[test]
    fn code_of_files_is_found_and_neighbours_are_one_range() {
        let maps = "\
            55aa00000000-55aa00001000 r--p 00000000 00:1f 1 /a/test\n\
            55aa00001000-55aa00005000 r-xp 00001000 00:1f 1 /a/test\n\
            7f0000000000-7f0000010000 r-xp 00000000 00:1f 2 /lib/libc.so.6\n\
            7f0000020000-7f0000030000 r-xp 00000000 00:1f 3 /lib/libgcc_s.so.1\n\
            7f0000040000-7f0000050000 rwxp 00000000 00:00 0 \n\
            7fff00000000-7fff00001000 r-xp 00000000 00:00 0 [vdso]\n";
        assert_eq!(
            text_in(maps),
            [0x55aa_0000_1000..0x55aa_0000_5000, 0x7f00_0000_0000..0x7f00_0003_0000]
        );
    }
}
