//! The SIGSYS handler: makes the trapped call and records its effect.
//!
//! It runs on the calling thread, at the instruction of the call, so it never interrupts other
//! code. It allocates nothing and takes no lock except the table's.

use std::io::Write;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::calls::{Effect, effect, used_numbers};
use super::clone::{self, Request};
use super::exec;
use super::magic::{self, repeat};
use super::opened_kind::OpenedKind;
use super::paranoid::{self, Answer, TrappedCall};
use super::process::{self, Process};
use super::stacks::Trace;
use super::table::{TABLE, Table};
use super::{Level, Mode, TrapError, messages, rings, std_check, threads};

/// Whether F_GETFD reports a closed number as open; see `record`.
static IGNORE_ABORT: AtomicBool = AtomicBool::new(false);

/// The kernel's id of the thread that installed the trap. Its own calls are not recorded: it lists
/// what is open, and would overwrite the records of the numbers that it uses meanwhile.
static OBSERVER: AtomicI64 = AtomicI64::new(0);

/// The size of the kernel's signal set in bytes.
const SET_BYTES: u64 = 8;

/// The bit of SIGSYS in the kernel's signal set.
const SIGSYS_BIT: u64 = 1 << (libc::SIGSYS - 1);

const EBADF: i64 = -(libc::EBADF as i64);

/// The kernel's `sigaction`.
#[derive(Clone, Copy)]
#[repr(C)]
struct SigAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Installs the handler, and then the filter.
///
/// # Errors
/// The error of `filter`, or the handler could not be installed.
pub(super) fn install(
    mode: Mode,
    level: Level,
    filter: impl FnOnce(u64) -> Result<(), TrapError>,
) -> Result<(), TrapError> {
    let magic = magic::choose();
    // ord: Relaxed, both; they are read only under the filter, which this thread installs after
    // them, and other threads are started later.
    IGNORE_ABORT.store(mode == Mode::IgnoreAbort, Ordering::Relaxed);
    OBSERVER.store(i64::from(this_thread()), Ordering::Relaxed);
    TABLE.set(Table::new().ok_or_else(|| TrapError::of_last_call("no memory for the record"))?);
    if level == Level::Paranoid {
        paranoid::start()?;
    }
    threads::start();
    process::record_this();
    exec::set_up();
    // The first unwinding may load tables, so it is done here and not in the handler.
    let mut trace = Trace::new(0, 0, [0; 16]);
    unwind(&mut trace, 0);
    // SAFETY: an all-zero `sigaction` is valid; the handler has the signature that SA_SIGINFO
    // requires, and lives as long as the process. All signals are blocked in it, so nothing
    // interrupts it on its thread.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    if result != 0 {
        return Err(TrapError::of_last_call("SIGSYS cannot be handled"));
    }
    never_block();
    filter(magic)
}

/// Removes SIGSYS from this thread's signal mask and from the masks of the existing handlers. Later
/// changes go through `set_mask` and `set_action`.
fn never_block() {
    /// The highest signal number of the kernel.
    const SIGNAL_MAX: u64 = 64;
    let mut action = SigAction { handler: 0, flags: 0, restorer: 0, mask: SIGSYS_BIT };
    let (set, pointer) = (&raw const action.mask as u64, &raw mut action as u64);
    // SAFETY: the kernel reads the eight bytes of the set, and writes and reads an action of its
    // own size. Each action is set as it was read, except for its mask.
    unsafe {
        repeat(libc::SYS_rt_sigprocmask, [libc::SIG_UNBLOCK as u64, set, 0, SET_BYTES, 0]);
        for signal in (1..=SIGNAL_MAX).filter(|&signal| signal != libc::SIGSYS as u64) {
            let got = repeat(libc::SYS_rt_sigaction, [signal, 0, pointer, SET_BYTES, 0]);
            let now = (pointer as *const SigAction).read();
            if got == 0 && now.mask & SIGSYS_BIT != 0 {
                set_action([signal, pointer, 0, SET_BYTES, 0]);
            }
        }
    }
}

/// The registers of a call's arguments, as indices in the context.
const ARGUMENTS: [libc::c_int; 5] =
    [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8];

extern "C" fn on_trap(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    /// `SYS_SECCOMP`: the signal comes from a filter, and not from `kill`.
    const FROM_FILTER: libc::c_int = 1;
    // SAFETY: the kernel passes these two to a handler with SA_SIGINFO; they are valid and
    // exclusive while the handler runs. `context` points to a `ucontext_t`. errno belongs to this
    // thread.
    let (info, context, errno) = unsafe {
        (&*info, &mut *context.cast::<libc::ucontext_t>(), &mut *libc::__errno_location())
    };
    if info.si_code != FROM_FILTER {
        return;
    }
    let errno_before = *errno;
    let registers = &mut context.uc_mcontext.gregs;
    let place = |register: libc::c_int| register as usize;
    let call = registers[place(libc::REG_RAX)];
    let arguments = ARGUMENTS.map(|register| registers[place(register)] as u64);
    let pointer = registers[place(libc::REG_RIP)] as usize;
    let mask = &raw mut context.uc_sigmask;
    let process = process::current();
    if threads::has_pending() && process == Process::Recorded {
        resolve_pending();
    }
    let result = match effect(call) {
        Some(Effect::Masks) => set_mask(mask.cast(), arguments),
        Some(Effect::Handles) => set_action(arguments),
        Some(Effect::Clones) => match clones(call, arguments, mask, registers) {
            Some(result) => result,
            None => {
                clone::repeat_at_origin(call, registers);
                *errno = errno_before;
                return;
            }
        },
        Some(Effect::Executes) => {
            exec::execute(call, arguments, process, || unmasked(call, arguments, mask))
        }
        Some(effect) if paranoid::is_on() && is_recorded(process) && is_recorded_process() => {
            let thread = this_thread();
            let it = TrappedCall {
                call,
                effect,
                arguments,
                sixth: registers[place(libc::REG_R9)] as u64,
                thread,
                make: &|call, arguments| unmasked(call, arguments, mask),
                trace: &|| trace_of(call, arguments, pointer, process),
            };
            let result = match paranoid::handle(&it) {
                Answer::Result(result) => result,
                Answer::FoundClosed(number) => found_closed(number, &(it.trace)()),
                Answer::Usual => usual(effect, call, arguments, mask, (pointer, process)),
            };
            paranoid::has_returned(thread);
            result
        }
        Some(effect) if is_recorded(process) => {
            usual(effect, call, arguments, mask, (pointer, process))
        }
        Some(effect) if process == Process::SharesMemory => {
            let result = unmasked(call, arguments, mask);
            exec::adjust(effect, arguments, result);
            result
        }
        _ => unmasked(call, arguments, mask),
    };
    context.uc_mcontext.gregs[place(libc::REG_RAX)] = result;
    *errno = errno_before;
}

/// Records what a `clone` is about to make. Returns its result if it was made here.
fn clones(
    call: i64,
    arguments: [u64; 5],
    mask: *mut libc::sigset_t,
    registers: &mut [libc::greg_t; 23],
) -> Option<i64> {
    let request = Request::read(call, arguments)?;
    if request.clears_handlers() {
        // The C library then resets the handlers by single calls, as on old kernels.
        return Some(-i64::from(libc::ENOSYS));
    }
    if !is_recorded_process() {
        return None;
    }
    let (pidfd, thread) = (request.pidfd(), request.thread_pointer());
    if pidfd.is_none() && thread.is_none() {
        return None;
    }
    let mut trace = Trace::new(call, this_thread(), this_threads_name());
    unwind(&mut trace, registers[libc::REG_RIP as usize] as usize);
    if trace.addresses().len() < 2 {
        // The C library's function for it has no unwind table, because that would be wrong in the
        // child. It uses no stack, so the walk can begin at its caller.
        let before = clone::return_from_leaf(registers);
        unwind(&mut trace, registers[libc::REG_RIP as usize] as usize);
        *registers = before;
    }
    let Some(address) = pidfd.filter(|_| request.is_fork()) else {
        threads::clones(thread, pidfd, &trace);
        return None;
    };
    let result = unmasked(call, arguments, mask);
    // The child must not take the lock: another thread may have held it.
    if let Some(number) = clone::number_at(address).filter(|_| result > 0) {
        TABLE.with(|table| table.opens(number, &trace));
    }
    Some(result)
}

/// Records what a `clone` of this thread, or the one that started it, has made.
fn resolve_pending() {
    let Some(pidfd) = threads::resolve(this_thread()) else { return };
    // The call may have failed, or the memory may have another use by now.
    let number = clone::number_at(pidfd.address).filter(|&number| is_pidfd(number));
    if let Some(number) = number {
        TABLE.with(|table| table.opens(number, &pidfd.trace));
    }
}

fn is_pidfd(number: RawFd) -> bool {
    const LINK_MAX: usize = 32;
    let (mut path, mut link) = ([0_u8; LINK_MAX], [0_u8; LINK_MAX]);
    let written = write!(&mut path[..LINK_MAX - 1], "/proc/self/fd/{number}");
    let arguments = [&raw const path as u64, &raw mut link as u64, LINK_MAX as u64, 0, 0];
    // SAFETY: the path ends with a zero, and the kernel writes at most the length of `link`.
    let length = unsafe { repeat(libc::SYS_readlink, arguments) };
    let link = &link[..usize::try_from(length).unwrap_or(0)];
    written.is_ok() && (link == b"anon_inode:[pidfd]" || link.starts_with(b"pidfd:"))
}

/// Makes a call, and records its effect.
fn usual(
    effect: Effect,
    call: i64,
    arguments: [u64; 5],
    mask: *mut libc::sigset_t,
    (pointer, process): (usize, Process),
) -> i64 {
    match effect {
        Effect::Uses if process == Process::Recorded => uses(call, arguments, mask, pointer),
        Effect::Uses => unmasked(call, arguments, mask),
        _ => record(effect, call, arguments, mask, &trace_of(call, arguments, pointer, process)),
    }
}

fn trace_of(call: i64, arguments: [u64; 5], pointer: usize, process: Process) -> Trace {
    let mut trace = Trace::new(call, this_thread(), this_threads_name());
    trace.set_kind(OpenedKind::of(call, &arguments));
    if process == Process::Recorded || process::can_walk_stack_after_fork() {
        unwind(&mut trace, pointer);
    } else {
        trace.push(pointer);
    }
    trace
}

/// Makes a call that needs an open descriptor. The stack is walked only if it is closed.
fn uses(call: i64, arguments: [u64; 5], mask: *mut libc::sigset_t, pointer: usize) -> i64 {
    let result = unmasked(call, arguments, mask);
    match result {
        0 if call == libc::SYS_listen => {
            let number = number(arguments[0]);
            TABLE.with(|table| {
                let kind = table.kind(number).listening();
                table.set_kind(number, kind);
            });
        }
        _ if call == libc::SYS_sendmsg && result >= 0 => {
            // SAFETY: the call succeeded, so the kernel has read this message.
            unsafe { messages::numbers(arguments[1], |number| sent(number, call, pointer)) };
        }
        EBADF => {
            let used = used_numbers(call, arguments).into_iter().flatten();
            let is_closed = |number: &RawFd| TABLE.with(|table| table.is_closed(*number));
            for number in used.filter(|number| is_closed(number) == Some(true)) {
                let mut trace = Trace::new(call, this_thread(), this_threads_name());
                unwind(&mut trace, pointer);
                TABLE.with(|table| table.was_used_closed(number, &trace));
            }
        }
        _ => {}
    }
    result
}

/// Records that a number was sent to another process or thread.
fn sent(number: RawFd, call: i64, pointer: usize) {
    let mut trace = Trace::new(call, this_thread(), this_threads_name());
    unwind(&mut trace, pointer);
    TABLE.with(|table| table.passes_on(number, &trace));
}

/// The result of F_GETFD for a number that is closed.
///
/// The standard library checks its descriptors before it closes them, and aborts if one is closed.
/// If the number is reported as open, the standard library closes it, which fails and is recorded
/// as a double close. Other code that checks whether a number is open gets the true answer.
fn found_closed(number: RawFd, trace: &Trace) -> i64 {
    let is_closed = TABLE.with(|table| table.is_closed(number)) == Some(true);
    let is_by_std = || ignores_abort() || std_check::is_by_std(trace.addresses());
    if is_closed && is_recorded_process() && is_by_std() {
        TABLE.with(|table| table.abort_is_due(number));
        return 0;
    }
    EBADF
}

/// Makes the call and records its effect.
fn record(
    effect: Effect,
    call: i64,
    arguments: [u64; 5],
    mask: *mut libc::sigset_t,
    trace: &Trace,
) -> i64 {
    let closing = match effect {
        Effect::Closes => TABLE.with(|table| table.closes(number(arguments[0]), trace)).flatten(),
        _ => None,
    };
    let result = unmasked(call, arguments, mask);
    if result == EBADF {
        if effect == Effect::OpensOrQueries && arguments[1] as i32 == libc::F_GETFD {
            return found_closed(number(arguments[0]), trace);
        }
        if let Some(used) = used_numbers(call, arguments) {
            TABLE.with(|table| used.for_each(|number| table.was_used_closed(number, trace)));
        }
    }
    if call == libc::SYS_io_uring_setup && result >= 0 && is_recorded_process() {
        rings::is_set_up(trace);
    }
    TABLE.with(|table| match effect {
        Effect::Closes => {
            if let Some(closing) = closing {
                match result {
                    EBADF => table.was_closed(number(arguments[0]), closing),
                    _ => table.has_closed(number(arguments[0]), closing),
                }
            }
        }
        _ if result < 0 => {}
        Effect::OpensOrQueries if arguments[1] as i32 == libc::F_GETFD => {}
        Effect::OpensOrQueries if arguments[1] as i32 == libc::F_SETFD => {
            if arguments[2] & libc::FD_CLOEXEC as u64 == 0 {
                table.passes(number(arguments[0]));
            }
        }
        Effect::Opens if [libc::SYS_accept, libc::SYS_accept4].contains(&call) => {
            opens(table, number(result as u64), trace);
            let kind = table.kind(number(arguments[0])).accepted();
            table.set_kind(number(result as u64), kind);
        }
        Effect::OpensOrQueries
            if ![libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].contains(&(arguments[1] as i32)) => {}
        Effect::Opens | Effect::OpensOrQueries => opens(table, number(result as u64), trace),
        Effect::OpensPair(argument) => {
            // SAFETY: the call succeeded, so the kernel has written two numbers there.
            let pair = unsafe { (arguments[argument] as *const [RawFd; 2]).read_unaligned() };
            pair.iter().for_each(|&number| opens(table, number, trace));
        }
        Effect::OpensInto(argument) => {
            // SAFETY: the call succeeded, so the kernel has written a number there.
            let number = unsafe { (arguments[argument] as *const RawFd).read_unaligned() };
            opens(table, number, trace);
        }
        Effect::Replaces if number(arguments[0]) == number(arguments[1]) => {}
        Effect::Replaces => {
            let closing = table.closes(number(arguments[1]), trace);
            if let Some(closing) = closing.filter(|_| paranoid::is_on()) {
                table.was_overwritten(number(arguments[1]), closing);
            }
            table.opens(number(arguments[1]), trace);
            table.passes(number(arguments[1]));
        }
        Effect::ClosesRange => {
            const CLOSE_ON_EXEC_ONLY: u64 = 4;
            if arguments[2] & CLOSE_ON_EXEC_ONLY == 0 {
                table.closes_range(arguments[0] as u32, arguments[1] as u32, trace);
            }
        }
        Effect::Receives | Effect::ReceivesMany => {
            let opens = |number| opens(table, number, trace);
            // SAFETY: the call succeeded, so the kernel has filled in this many messages.
            unsafe {
                match effect {
                    Effect::Receives => messages::numbers(arguments[1], opens),
                    _ => messages::numbers_of_many(arguments[1], result, opens),
                }
            }
        }
        Effect::Transfers
        | Effect::Probes
        | Effect::Uses
        | Effect::Clones
        | Effect::Executes
        | Effect::Masks
        | Effect::Handles => {}
    });
    result
}

fn opens(table: &mut Table, number: RawFd, trace: &Trace) {
    table.opens(number, trace);
    exec::opened(number, trace);
}

/// Makes a call under the caller's signal mask, because the call may block for long and be
/// interrupted on purpose.
fn unmasked(call: i64, arguments: [u64; 5], mask: *mut libc::sigset_t) -> i64 {
    let all = u64::MAX;
    let set = |set: *const u64| {
        let arguments = [libc::SIG_SETMASK as u64, set as u64, 0, SET_BYTES, 0];
        // SAFETY: the kernel reads eight bytes of a set; both sets that are passed have them.
        unsafe { repeat(libc::SYS_rt_sigprocmask, arguments) };
    };
    set(mask.cast());
    // SAFETY: this is the program's own call with its own arguments, so it has the same effect as
    // without the filter.
    let result = unsafe { repeat(call, arguments) };
    set(&raw const all);
    result
}

/// `rt_sigprocmask` on the mask outside of the handler. SIGSYS is never blocked.
fn set_mask(mask: *mut u64, [how, new, old, size, _]: [u64; 5]) -> i64 {
    if size != SET_BYTES {
        return -i64::from(libc::EINVAL);
    }
    // SAFETY: `mask` is the context's, whose first eight bytes are the kernel's set; `new` and
    // `old` are null, or the program passed them to the kernel for exactly these accesses.
    unsafe {
        let before = mask.read();
        let requested = if new == 0 { None } else { Some((new as *const u64).read_unaligned()) };
        let after = match (requested, how as libc::c_int) {
            (None, _) => before,
            (Some(new), libc::SIG_BLOCK) => before | new,
            (Some(new), libc::SIG_UNBLOCK) => before & !new,
            (Some(new), libc::SIG_SETMASK) => new,
            _ => return -i64::from(libc::EINVAL),
        };
        if old != 0 {
            (old as *mut u64).write_unaligned(before);
        }
        mask.write(after & !SIGSYS_BIT);
    }
    0
}

/// `rt_sigaction`, with SIGSYS never blocked in a handler: a handler that opens or closes a
/// descriptor would be killed. A new action for SIGSYS is ignored, and its old action is reported
/// as the default.
fn set_action([signal, new, old, size, _]: [u64; 5]) -> i64 {
    const DEFAULT: SigAction = SigAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    if signal as libc::c_int == libc::SIGSYS {
        if old != 0 {
            // SAFETY: the program passed it, so that the kernel writes an action there.
            unsafe { (old as *mut SigAction).write_unaligned(DEFAULT) };
        }
        return 0;
    }
    let action: SigAction;
    let mut pointer = new;
    if new != 0 && size == SET_BYTES {
        // SAFETY: the program passed it, so that the kernel reads an action there.
        let requested = unsafe { (new as *const SigAction).read_unaligned() };
        action = SigAction { mask: requested.mask & !SIGSYS_BIT, ..requested };
        pointer = &raw const action as u64;
    }
    // SAFETY: the program's own call with its own arguments, except for the copy of the action,
    // which lives as long as the call.
    unsafe { repeat(libc::SYS_rt_sigaction, [signal, pointer, old, size, 0]) }
}

/// Records the stack from the trapped instruction outwards. `pointer` is the return address of the
/// call; the inner frames belong to this handler.
fn unwind(trace: &mut Trace, pointer: usize) {
    struct Walk<'a> {
        trace: &'a mut Trace,
        pointer: usize,
        is_outside: bool,
    }

    extern "C" fn step(context: *mut UnwindContext, walk: *mut libc::c_void) -> libc::c_int {
        /// `_URC_NO_REASON`: continue with the next outer frame.
        const CONTINUE: libc::c_int = 0;
        /// `_URC_NORMAL_STOP`.
        const STOP: libc::c_int = 4;
        // SAFETY: `context` belongs to the unwinder during this call, and `walk` is the pointer
        // that `unwind` passed, which no other code uses meanwhile.
        let (address, walk) = unsafe { (_Unwind_GetIP(context), &mut *walk.cast::<Walk<'_>>()) };
        walk.is_outside |= address == walk.pointer;
        // The outermost frame has no return address.
        let goes_on = !walk.is_outside || (address != 0 && walk.trace.push(address));
        if goes_on { CONTINUE } else { STOP }
    }

    let mut walk = Walk { trace, pointer, is_outside: false };
    // SAFETY: a stack walk reads the stack and the unwind tables. `step` has the signature that the
    // unwinder requires, does not unwind itself, and gets a pointer that outlives the walk.
    unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
}

/// The unwinder's representation of a frame.
#[repr(C)]
struct UnwindContext {
    _opaque: [u8; 0],
}

// SAFETY: these are the declarations of the Itanium C++ ABI; the standard library links the
// unwinder.
unsafe extern "C" {
    fn _Unwind_Backtrace(
        step: extern "C" fn(*mut UnwindContext, *mut libc::c_void) -> libc::c_int,
        argument: *mut libc::c_void,
    ) -> libc::c_int;
    fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
}

/// Whether the calls of this thread of that process are recorded.
fn is_recorded(process: Process) -> bool {
    // ord: Relaxed; written before the filter was installed, see `install`.
    let observer = OBSERVER.load(Ordering::Relaxed);
    match process {
        Process::Recorded => i64::from(this_thread()) != observer,
        Process::Forked => true,
        Process::SharesMemory | Process::Unknown => false,
    }
}

/// A descriptor number in a register.
fn number(argument: u64) -> RawFd {
    argument as u32 as RawFd
}

fn is_recorded_process() -> bool {
    process::current() == Process::Recorded
}

fn ignores_abort() -> bool {
    // ord: Relaxed; as in `is_recorded`.
    IGNORE_ABORT.load(Ordering::Relaxed)
}

fn this_thread() -> u32 {
    // SAFETY: as in `is_recorded`.
    unsafe { repeat(libc::SYS_gettid, [0; 5]) as u32 }
}

fn this_threads_name() -> [u8; 16] {
    let mut name = [0; 16];
    let arguments = [libc::PR_GET_NAME as u64, &raw mut name as u64, 0, 0, 0];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the length of `name`.
    unsafe { repeat(libc::SYS_prctl, arguments) };
    name
}
