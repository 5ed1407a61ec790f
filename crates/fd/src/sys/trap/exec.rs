//! Descriptors that cross an `exec`: open in a child process, without close-on-exec, and not passed
//! on purpose.
//!
//! Between fork and exec, the handler runs in the child. At `execve` it adds these descriptors to a
//! log in memory that all processes share. If the call returns, it failed, and the descriptors are
//! removed again.
//!
//! Passed on purpose are: numbers that the code chose (`dup2`, `dup3`), numbers whose flag was
//! cleared with F_SETFD, and numbers that the
//! program's arguments or variables name. What a child that shares its
//! parent's memory opens itself is not recorded: `posix_spawn` does that only on request.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use crate::escape;

use super::super::fd::link_target;
use super::super::open::{self, Described};
use super::calls::Effect;
use super::history::NUMBERS_MAX;
use super::magic::repeat;
use super::process::{self, Process};
use super::program::{PATH_MAX, Program, Text, read_link};
use super::recorded_kind;
use super::stacks::Trace;
use super::table::TABLE;

/// The maximum number of entries. Equal ones, for example of a loop that starts programs, are one.
const ENTRIES_MAX: usize = 128;

const WORDS: usize = NUMBERS_MAX / 64;

/// One descriptor and the program that inherited it.
#[derive(Clone, Copy)]
pub(super) struct Crossing {
    pub(super) number: RawFd,
    pub(super) opened: Trace,
    /// The path of the program, as it was given.
    pub(super) program: Text<PATH_MAX>,
    /// The first argument.
    pub(super) argument: Text<64>,
    /// Where the descriptor's link in `/proc` leads.
    pub(super) link: Text<PATH_MAX>,
    /// The file's type, as in `stat`.
    pub(super) mode: u32,
    /// A socket's family and type, and whether it listens.
    pub(super) socket: [libc::c_int; 3],
}

/// Shared by all processes. An entry belongs to the process that takes its index until it is ready.
struct Log {
    /// The index of the next free entry; from `ENTRIES_MAX` on, the log is full.
    next: AtomicUsize,
    entries: [Entry; ENTRIES_MAX],
}

struct Entry {
    is_ready: AtomicBool,
    /// How often it happened, with calls that are being made.
    count: AtomicU32,
    crossing: UnsafeCell<MaybeUninit<Crossing>>,
}

/// The log. Null before `set_up`.
static LOG: AtomicPtr<Log> = AtomicPtr::new(null_mut());

/// Whether openings without close-on-exec are entered, too.
static HAS_OPENINGS: AtomicBool = AtomicBool::new(false);

/// The maximum number of openings in the log.
const OPENINGS_MAX: usize = ENTRIES_MAX / 2;

/// Enters openings without close-on-exec from now on, each as a crossing without a program.
pub(super) fn record_openings() {
    // ord: Relaxed; it is called before the trap is installed.
    HAS_OPENINGS.store(true, Ordering::Relaxed);
}

/// Enters an opening, if that is requested and the descriptor can be inherited.
pub(super) fn opened(number: RawFd, trace: &Trace) {
    // ord: Relaxed; see `record_openings`.
    if HAS_OPENINGS.load(Ordering::Relaxed) && number > 2 && is_inheritable(number as usize) {
        let no_program = Program::of(libc::SYS_execve, [0; 5]);
        add(&described(number, *trace, &no_program));
    }
}

/// Makes the log. Without it, nothing is recorded.
pub(super) fn set_up() {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let size = size_of::<Log>();
    // SAFETY: a new mapping at an address that the kernel chooses; it is never unmapped. Its memory
    // is zero, which is a valid log, and aligned to a page.
    let log = unsafe { libc::mmap(null_mut(), size, access, flags, -1, 0) };
    if log != libc::MAP_FAILED {
        // ord: Relaxed; it is read only under the filter, which this thread installs later, and
        // other threads are started after that.
        LOG.store(log.cast(), Ordering::Relaxed);
    }
}

fn log() -> Option<&'static Log> {
    // ord: Relaxed; see `set_up`.
    let log = LOG.load(Ordering::Relaxed);
    // SAFETY: null, or the mapping, which is never unmapped.
    unsafe { log.as_ref() }
}

/// The entries that are ready, with their indices and crossings.
fn ready() -> impl Iterator<Item = (usize, &'static Entry, &'static Crossing)> {
    // The entries behind the last one are not read: their pages have no memory yet.
    let used = |log: &'static Log| {
        // ord: Relaxed; an entry that is added meanwhile need not be found.
        let next = log.next.load(Ordering::Relaxed);
        &log.entries[..next.min(ENTRIES_MAX)]
    };
    log().map_or(&[][..], used).iter().enumerate().filter_map(|(index, entry)| {
        // ord: Acquire; partner: the Release in `add`. Makes the crossing visible.
        let is_ready = entry.is_ready.load(Ordering::Acquire);
        // SAFETY: it is ready, so it was written and does not change any more.
        is_ready.then(|| (index, entry, unsafe { (*entry.crossing.get()).assume_init_ref() }))
    })
}

/// The crossings so far, each with its count.
pub(super) fn crossings() -> Vec<(Crossing, u32)> {
    let mut found: Vec<(Crossing, u32)> = Vec::new();
    for (_, entry, crossing) in ready() {
        // ord: Relaxed; a number.
        let count = entry.count.load(Ordering::Relaxed);
        match found.iter_mut().find(|(known, _)| known.is_like(crossing)) {
            Some((_, known)) => *known += count,
            None if count > 0 => found.push((*crossing, count)),
            None => {}
        }
    }
    found
}

impl Crossing {
    /// Describes the descriptor: as it is now if it is still open in this process, or else by what
    /// the child recorded.
    pub(super) fn describe(&self) -> Described {
        let link = escape::bytes(self.link.bytes());
        if link_target(self.number).as_deref() == Some(&*link) {
            return open::describe(self.number);
        }
        Described {
            kind: recorded_kind::kind_of(self.mode, self.socket, &link),
            path: link.starts_with('/').then(|| link.into_owned()),
            ..Described::default()
        }
    }

    /// Whether no program inherited it yet; see `record_openings`.
    fn is_opening(&self) -> bool {
        self.program.bytes().is_empty()
    }

    /// Whether both are of one place and program and, if there is a program, of one number.
    fn is_like(&self, other: &Crossing) -> bool {
        (self.number == other.number || self.is_opening())
            && self.program.is(other.program.bytes())
            && self.opened.addresses() == other.opened.addresses()
    }
}

/// Makes the call that executes a program, and records what crosses it.
pub(super) fn execute(
    call: i64,
    arguments: [u64; 5],
    process: Process,
    make: impl FnOnce() -> i64,
) -> i64 {
    let mut entered = [0_u64; ENTRIES_MAX / 64];
    if matches!(process, Process::Forked | Process::SharesMemory) {
        enter(&Program::of(call, arguments), process, &mut entered);
    }
    let result = make();
    // It failed.
    for (_, entry, _) in ready().filter(|(index, ..)| has(&entered, *index)) {
        // ord: Relaxed; a number.
        entry.count.fetch_sub(1, Ordering::Relaxed);
    }
    result
}

/// Adds what this process would pass to the log.
fn enter(program: &Program, process: Process, entered: &mut [u64]) {
    let mut numbers = [0_u64; WORDS];
    TABLE.with(|table| table.inheritable(|number| insert(&mut numbers, number)));
    if process == Process::SharesMemory {
        exclude_adjusted(&mut numbers);
    }
    let mut is_executable = None;
    for number in (3..NUMBERS_MAX).filter(|&number| has(&numbers, number)) {
        let crosses = is_inheritable(number)
            && *is_executable.get_or_insert_with(|| program.is_executable())
            && !program.knows(number as RawFd);
        let opened = || TABLE.with(|table| table.opened(number as RawFd)).flatten();
        if let Some(opened) = crosses.then(opened).flatten() {
            let crossing = described(number as RawFd, opened, program);
            if let Some(index) = add(&crossing) {
                insert(entered, index);
            }
        }
    }
}

/// Whether the number is open in this process, and its flag is not set.
fn is_inheritable(number: usize) -> bool {
    let arguments = [number as u64, libc::F_GETFD as u64, 0, 0, 0];
    // SAFETY: F_GETFD accesses no memory.
    let flags = unsafe { repeat(libc::SYS_fcntl, arguments) };
    flags >= 0 && flags & i64::from(libc::FD_CLOEXEC) == 0
}

fn described(number: RawFd, opened: Trace, program: &Program) -> Crossing {
    let mut crossing = Crossing {
        number,
        opened,
        program: Text::EMPTY,
        argument: Text::EMPTY,
        link: Text::EMPTY,
        mode: 0,
        socket: [0; 3],
    };
    let path = program.path(&mut crossing.link);
    crossing.program.set(path);
    crossing.argument.set(program.first_argument());
    read_link(number, &mut crossing.link);
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    let arguments = [number as u64, stat.as_mut_ptr() as u64, 0, 0, 0];
    // SAFETY: the kernel writes one `stat`; all zero is a valid one, too.
    crossing.mode = unsafe {
        repeat(libc::SYS_fstat, arguments);
        stat.assume_init().st_mode
    };
    let options = [libc::SO_DOMAIN, libc::SO_TYPE, libc::SO_ACCEPTCONN];
    for (option, value) in options.into_iter().zip(&mut crossing.socket) {
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        let (value, length) = (&raw mut *value as u64, &raw mut length as u64);
        let arguments = [number as u64, libc::SOL_SOCKET as u64, option as u64, value, length];
        // SAFETY: the kernel writes one integer and its length, or nothing if this is no socket.
        unsafe { repeat(libc::SYS_getsockopt, arguments) };
    }
    crossing
}

/// Adds a crossing to the log, or counts it in the entry that it is like. Returns the entry's
/// index, unless the log is full.
fn add(crossing: &Crossing) -> Option<usize> {
    if let Some((index, entry, _)) = ready().find(|(_, _, known)| known.is_like(crossing)) {
        // ord: Relaxed; a number.
        entry.count.fetch_add(1, Ordering::Relaxed);
        return Some(index);
    }
    let log = log()?;
    // ord: Relaxed; the limit need not be exact.
    if crossing.is_opening() && log.next.load(Ordering::Relaxed) >= OPENINGS_MAX {
        return None;
    }
    // ord: Relaxed; each value is taken once, and nothing else depends on it.
    let index = log.next.fetch_add(1, Ordering::Relaxed);
    let entry = log.entries.get(index)?;
    // SAFETY: the index was taken once, by this process, and others read the entry only when it is
    // ready.
    unsafe { (*entry.crossing.get()).write(*crossing) };
    // ord: Relaxed; made visible by the next store.
    entry.count.store(1, Ordering::Relaxed);
    // ord: Release; partner: the Acquire in `ready`.
    entry.is_ready.store(true, Ordering::Release);
    Some(index)
}

/// The numbers that a child which shares this memory has opened or passed on purpose. Such a child
/// uses the thread-locals of the thread that started it, which waits meanwhile.
struct Adjusted {
    process: Cell<i64>,
    numbers: [Cell<u64>; WORDS],
}

thread_local! {
    static ADJUSTED: Adjusted =
        const { Adjusted { process: Cell::new(0), numbers: [const { Cell::new(0) }; WORDS] } };
}

/// Records a call that was made in a child which shares this memory.
pub(super) fn adjust(effect: Effect, arguments: [u64; 5], result: i64) {
    if result < 0 {
        return;
    }
    match effect {
        Effect::Replaces => adjusted(arguments[1] as u32 as usize),
        Effect::OpensOrQueries if arguments[1] as i32 == libc::F_GETFD => {}
        Effect::OpensOrQueries if arguments[1] as i32 == libc::F_SETFD => {
            adjusted(arguments[0] as u32 as usize);
        }
        Effect::Opens | Effect::OpensOrQueries => adjusted(result as usize),
        Effect::OpensInto(argument) => {
            // SAFETY: the call succeeded, so the kernel has written a number there.
            adjusted(unsafe { (arguments[argument] as *const u32).read_unaligned() } as usize);
        }
        Effect::OpensPair(argument) => {
            // SAFETY: the call succeeded, so the kernel has written two numbers there.
            let pair = unsafe { (arguments[argument] as *const [u32; 2]).read_unaligned() };
            pair.iter().for_each(|&number| adjusted(number as usize));
        }
        _ => {}
    }
}

fn adjusted(number: usize) {
    ADJUSTED.with(|all| {
        let process = process::this();
        if all.process.replace(process) != process {
            all.numbers.iter().for_each(|word| word.set(0));
        }
        if let Some(word) = all.numbers.get(number / 64) {
            word.set(word.get() | 1 << (number % 64));
        }
    });
}

fn exclude_adjusted(numbers: &mut [u64; WORDS]) {
    ADJUSTED.with(|all| {
        if all.process.get() == process::this() {
            let adjusted = all.numbers.iter().map(Cell::get);
            numbers.iter_mut().zip(adjusted).for_each(|(word, adjusted)| *word &= !adjusted);
        }
    });
}

fn insert(set: &mut [u64], index: usize) {
    if let Some(word) = set.get_mut(index / 64) {
        *word |= 1 << (index % 64);
    }
}

fn has(set: &[u64], index: usize) -> bool {
    set[index / 64] & 1 << (index % 64) != 0
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn crossing(number: RawFd, program: &str) -> Crossing {
        let opened = Trace::new(libc::SYS_dup, 1, [0; 16]);
        let mut crossing = Crossing {
            number,
            opened,
            program: Text::EMPTY,
            argument: Text::EMPTY,
            link: Text::EMPTY,
            mode: 0,
            socket: [0; 3],
        };
        crossing.program.set(program.as_bytes());
        crossing
    }

    #[test]
    fn the_log_counts_equal_crossings_and_forgets_failed_calls() {
        set_up();
        let both = [crossing(5, "/bin/a"), crossing(5, "/bin/b")];
        let indices = both.each_ref().map(|one| add(one).expect("the log is empty"));
        assert_ne!(indices[0], indices[1]);
        assert_eq!(add(&both[0]), Some(indices[0]));
        let entry = &log().expect("it was made").entries[indices[1]];
        // ord: Relaxed; one thread.
        entry.count.fetch_sub(1, Ordering::Relaxed);
        let found = crossings();
        assert_eq!(found.len(), 1, "the other call failed");
        assert_eq!((found[0].0.program.bytes(), found[0].1), (&b"/bin/a"[..], 2));
        for number in 0..2 * ENTRIES_MAX as RawFd {
            add(&crossing(number, "/bin/c"));
        }
        assert_eq!(crossings().len(), ENTRIES_MAX - 1, "a full log takes no more");
        assert_eq!(add(&crossing(9, "")), None, "openings leave room for programs");
    }

    #[test]
    fn a_closed_descriptor_is_described_like_an_open_one() {
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let (stream, _) = UnixStream::pair().expect("a pair");
        let (pipe, _) = rustix::pipe::pipe().expect("a pipe");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let file = |path: &str| OwnedFd::from(File::open(path).expect("it exists"));
        // SAFETY: the call returns a new descriptor, which nothing else owns.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        let all: [OwnedFd; 10] = [
            file("/dev/ptmx"),
            socket().into(),
            stream.into(),
            pipe,
            listener.into(),
            file("/etc/passwd"),
            file("/etc"),
            file("/dev/null"),
            file("/proc/self/ns/net"),
            event,
        ];
        let program = Program::of(libc::SYS_execve, [0; 5]);
        for fd in all {
            let opened = Trace::new(libc::SYS_dup, 1, [0; 16]);
            let crossing = described(fd.as_raw_fd(), opened, &program);
            let open = crossing.describe();
            drop(fd);
            let closed = crossing.describe();
            assert_eq!(closed.kind, open.kind);
            assert_eq!(closed.path.is_some(), open.path.is_some_and(|it| it.starts_with('/')));
        }
    }

    #[test]
    fn adjustments_belong_to_one_child() {
        let mut numbers = [u64::MAX; WORDS];
        adjust(Effect::Replaces, [4, 7, 0, 0, 0], 7);
        adjust(Effect::OpensOrQueries, [9, libc::F_SETFD as u64, 0, 0, 0], 0);
        adjust(Effect::OpensOrQueries, [9, libc::F_GETFD as u64, 0, 0, 0], 1);
        adjust(Effect::Opens, [0; 5], -i64::from(libc::ENOENT));
        exclude_adjusted(&mut numbers);
        assert!((0..NUMBERS_MAX).all(|number| has(&numbers, number) != [7, 9].contains(&number)));
        ADJUSTED.with(|all| all.process.set(-1));
        adjusted(70);
        let mut numbers = [u64::MAX; WORDS];
        exclude_adjusted(&mut numbers);
        assert!(has(&numbers, 7) && !has(&numbers, 70), "another child");
    }
}
