//! The handler of SIGSYS: makes the trapped call, and notes what it did.
//!
//! It runs on the thread that made the call, at the instruction of the call: what it interrupts is
//! known, and is never the middle of something. It allocates nothing and takes no lock but the table's.

use std::arch::asm;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::Mode;
use super::calls::{Deed, deed};
use super::table::{TABLE, Table, Trace};

/// What the filter lets through, as the sixth argument of calls that take at most five.
static MAGIC: AtomicU64 = AtomicU64::new(0);

/// The process that is noted; a child between fork and exec is another one.
static NOTED: AtomicI64 = AtomicI64::new(0);

/// Whether who asks for a number that was closed is told that it is open; see `note`.
static IGNORE_ABORT: AtomicBool = AtomicBool::new(false);

/// The size of the kernel's set of signals.
const SET_BYTES: u64 = 8;

/// SIGSYS in the kernel's set of signals.
const SIGSYS_BIT: u64 = 1 << (libc::SIGSYS - 1);

/// What the kernel calls `sigaction`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Installs the handler, and then what brings calls to it.
///
/// # Errors
/// What `filter` answers, or that the handler cannot be had.
pub(super) fn install(
    mode: Mode,
    filter: impl FnOnce(u64) -> Result<(), String>,
) -> Result<(), String> {
    // Random, so that no program has it in that register by chance; never zero, as many have.
    let magic = RandomState::new().build_hasher().finish() | 1;
    // ord: Relaxed, all three; the filter, without which nobody reads them, comes after them in this
    // thread, and others have it by being started later.
    MAGIC.store(magic, Ordering::Relaxed);
    IGNORE_ABORT.store(mode == Mode::IgnoreAbort, Ordering::Relaxed);
    NOTED.store(i64::from(std::process::id()), Ordering::Relaxed);
    TABLE.set(Table::new());
    // The first unwinding may load tables; it is made here and not in the handler.
    let mut trace = Trace::new(0, 0, [0; 16]);
    unwind(&mut trace, 0);
    // SAFETY: an all-zero `sigaction` is a valid one; the handler is a function of the form that
    // SA_SIGINFO asks for, and lives as long as the process. All signals are blocked in it, so that
    // nothing interrupts it on its thread.
    let answer = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    if answer != 0 {
        return Err(String::from("SIGSYS cannot be handled"));
    }
    never_block();
    filter(magic)
}

/// Takes SIGSYS out of what this thread blocks, and out of the masks of the handlers that there are. What
/// is set from now on goes through `set_mask` and `set_action`.
fn never_block() {
    /// The kernel's signals are numbered up to this.
    const SIGNAL_MAX: u64 = 64;
    let mut action = Action { handler: 0, flags: 0, restorer: 0, mask: SIGSYS_BIT };
    let (set, pointer) = (&raw const action.mask as u64, &raw mut action as u64);
    // SAFETY: the kernel reads the eight bytes of the set, and writes and reads an action of the size
    // that it has here. What is set is what was got, but for the mask.
    unsafe {
        repeat(libc::SYS_rt_sigprocmask, [libc::SIG_UNBLOCK as u64, set, 0, SET_BYTES, 0]);
        for signal in (1..=SIGNAL_MAX).filter(|&signal| signal != libc::SIGSYS as u64) {
            let got = repeat(libc::SYS_rt_sigaction, [signal, 0, pointer, SET_BYTES, 0]);
            let now = (pointer as *const Action).read();
            if got == 0 && now.mask & SIGSYS_BIT != 0 {
                set_action([signal, pointer, 0, SET_BYTES, 0]);
            }
        }
    }
}

/// The registers of a call, by their places in the context.
const ARGUMENTS: [libc::c_int; 5] =
    [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8];

extern "C" fn on_trap(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    /// `SYS_SECCOMP`: the signal comes from a filter, and not from somebody's `kill`.
    const FROM_FILTER: libc::c_int = 1;
    // SAFETY: the kernel hands a handler with SA_SIGINFO these two, alive and its own for the length
    // of the handler; `ucontext_t` is what the second points to. errno is this thread's.
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
    let answer = match deed(call) {
        Some(Deed::Masks) => set_mask(mask.cast(), arguments),
        Some(Deed::Handles) => set_action(arguments),
        Some(deed) if is_noted_process() => {
            let mut trace = Trace::new(call, this_thread(), this_threads_name());
            unwind(&mut trace, pointer);
            note(deed, call, arguments, mask, &trace)
        }
        _ => unmasked(call, arguments, mask),
    };
    context.uc_mcontext.gregs[place(libc::REG_RAX)] = answer;
    *errno = errno_before;
}

/// Makes the call and notes what it did.
fn note(
    deed: Deed,
    call: i64,
    arguments: [u64; 5],
    mask: *mut libc::sigset_t,
    trace: &Trace,
) -> i64 {
    const EBADF: i64 = -(libc::EBADF as i64);
    let number = |argument: u64| argument as u32 as RawFd;
    let before = match deed {
        Deed::Closes => TABLE.with(|table| table.closes(number(arguments[0]), trace)).flatten(),
        _ => None,
    };
    let answer = unmasked(call, arguments, mask);
    if deed == Deed::OpensOrAsks && answer == EBADF && ignores_abort() {
        // The standard library asks this before it closes, and aborts. Told that the number is open, it
        // closes, which fails, and is noted as the second close that it is.
        let was_closed = TABLE.with(|table| table.is_closed(number(arguments[0])));
        return if was_closed == Some(true) { 0 } else { answer };
    }
    TABLE.with(|table| match deed {
        Deed::Closes => {
            if let (EBADF, Some(before)) = (answer, before) {
                table.was_closed(number(arguments[0]), before, trace);
            }
        }
        _ if answer < 0 => {}
        Deed::OpensOrAsks if arguments[1] as i32 == libc::F_GETFD => {}
        Deed::Opens | Deed::OpensOrAsks => table.opens(number(answer as u64), trace),
        Deed::OpensPair(argument) => {
            // SAFETY: the call succeeded, so the kernel has written two numbers there.
            let pair = unsafe { (arguments[argument] as *const [RawFd; 2]).read_unaligned() };
            pair.iter().for_each(|&number| table.opens(number, trace));
        }
        Deed::Replaces => {
            if arguments[0] != arguments[1] {
                table.closes(number(arguments[1]), trace);
            }
            table.opens(number(arguments[1]), trace);
        }
        Deed::ClosesRange => {
            const CLOSE_ON_EXEC_ONLY: u64 = 4;
            if arguments[2] & CLOSE_ON_EXEC_ONLY == 0 {
                table.closes_range(arguments[0] as u32, arguments[1] as u32, trace);
            }
        }
        // SAFETY: the call succeeded, so this is the message that the kernel has filled in.
        Deed::Receives => unsafe { received(arguments[1] as *const libc::msghdr, table, trace) },
        Deed::Masks | Deed::Handles => {}
    });
    answer
}

/// Notes the descriptors that came with a message (SCM_RIGHTS).
///
/// # Safety
/// `message` points to one that `recvmsg` has filled in.
// SAFETY: the promise is the caller's; see above.
unsafe fn received(message: *const libc::msghdr, table: &mut Table, trace: &Trace) {
    // SAFETY: the caller's promise: the control messages lie one after the other within the length
    // that the kernel wrote, which is what these functions walk by, and the numbers of one within its
    // own length.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let one = header.read_unaligned();
            if one.cmsg_level == libc::SOL_SOCKET && one.cmsg_type == libc::SCM_RIGHTS {
                let first = libc::CMSG_DATA(header).cast::<RawFd>();
                let length = one.cmsg_len - (first as usize - header as usize);
                for index in 0..length / size_of::<RawFd>() {
                    table.opens(first.add(index).read_unaligned(), trace);
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// Makes a call with the signals blocked that were so outside, since it may wait for long, and be meant
/// to be interrupted.
fn unmasked(call: i64, arguments: [u64; 5], mask: *mut libc::sigset_t) -> i64 {
    let all = u64::MAX;
    let set = |set: *const u64| {
        let arguments = [libc::SIG_SETMASK as u64, set as u64, 0, SET_BYTES, 0];
        // SAFETY: the kernel reads eight bytes of a set, which both sets that are passed here have.
        unsafe { repeat(libc::SYS_rt_sigprocmask, arguments) };
    };
    set(mask.cast());
    // SAFETY: this is the call that the program wanted to make, with its own arguments: whatever it
    // does is what would have been done without the filter.
    let answer = unsafe { repeat(call, arguments) };
    set(&raw const all);
    answer
}

/// `rt_sigprocmask`, on the mask that is valid outside of the handler: with SIGSYS never blocked.
fn set_mask(mask: *mut u64, [how, new, old, size, _]: [u64; 5]) -> i64 {
    if size != SET_BYTES {
        return -i64::from(libc::EINVAL);
    }
    // SAFETY: `mask` is the context's, whose first eight bytes are the kernel's set; `new` and `old` are
    // null or what the program passed to the kernel for exactly these accesses.
    unsafe {
        let before = mask.read();
        let asked = if new == 0 { None } else { Some((new as *const u64).read_unaligned()) };
        let after = match (asked, how as libc::c_int) {
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

/// `rt_sigaction`, with SIGSYS never blocked in a handler: one that opens or closes anything would be
/// killed. For SIGSYS itself nothing is changed, and the default is answered as the former action.
fn set_action([signal, new, old, size, _]: [u64; 5]) -> i64 {
    const DEFAULT: Action = Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    if signal as libc::c_int == libc::SIGSYS {
        if old != 0 {
            // SAFETY: the program passed it for the kernel to write an action there.
            unsafe { (old as *mut Action).write_unaligned(DEFAULT) };
        }
        return 0;
    }
    let action: Action;
    let mut pointer = new;
    if new != 0 && size == SET_BYTES {
        // SAFETY: the program passed it for the kernel to read an action there.
        let asked = unsafe { (new as *const Action).read_unaligned() };
        action = Action { mask: asked.mask & !SIGSYS_BIT, ..asked };
        pointer = &raw const action as u64;
    }
    // SAFETY: the program's own call, with its own arguments but for the copy of the action, which lives
    // as long as the call.
    unsafe { repeat(libc::SYS_rt_sigaction, [signal, pointer, old, size, 0]) }
}

/// Notes the calls from the trapped instruction outwards. `pointer` is where that returns to: further in
/// there is only this handler.
fn unwind(trace: &mut Trace, pointer: usize) {
    struct Walk<'a> {
        trace: &'a mut Trace,
        pointer: usize,
        is_outside: bool,
    }

    extern "C" fn step(context: *mut Context, walk: *mut libc::c_void) -> libc::c_int {
        /// `_URC_NO_REASON`: on to the next outer call.
        const CONTINUE: libc::c_int = 0;
        /// `_URC_NORMAL_STOP`.
        const STOP: libc::c_int = 4;
        // SAFETY: `context` is the unwinder's for the length of this call, and `walk` is what `unwind`
        // handed to it, which nothing else uses meanwhile.
        let (address, walk) = unsafe { (_Unwind_GetIP(context), &mut *walk.cast::<Walk<'_>>()) };
        walk.is_outside |= address == walk.pointer;
        // The outermost call returns to nowhere.
        let goes_on = !walk.is_outside || (address != 0 && walk.trace.push(address));
        if goes_on { CONTINUE } else { STOP }
    }

    let mut walk = Walk { trace, pointer, is_outside: false };
    // SAFETY: walking a stack reads it and the unwind tables. `step` has the signature that the
    // unwinder calls, does not unwind itself, and gets a pointer that outlives the walk.
    unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
}

/// A frame, as the unwinder shows it.
#[repr(C)]
struct Context {
    _opaque: [u8; 0],
}

// SAFETY: the two functions as the Itanium C++ ABI declares them; the unwinder is the one that the
// standard library links.
unsafe extern "C" {
    fn _Unwind_Backtrace(
        step: extern "C" fn(*mut Context, *mut libc::c_void) -> libc::c_int,
        argument: *mut libc::c_void,
    ) -> libc::c_int;
    fn _Unwind_GetIP(context: *mut Context) -> usize;
}

fn is_noted_process() -> bool {
    // SAFETY: the call takes no arguments and cannot fail.
    let process = unsafe { repeat(libc::SYS_getpid, [0; 5]) };
    // ord: Relaxed; written before there was a filter, see `install`.
    process == NOTED.load(Ordering::Relaxed)
}

fn ignores_abort() -> bool {
    // ord: Relaxed; as in `is_noted_process`.
    IGNORE_ABORT.load(Ordering::Relaxed)
}

fn this_thread() -> u32 {
    // SAFETY: as in `is_noted_process`.
    unsafe { repeat(libc::SYS_gettid, [0; 5]) as u32 }
}

fn this_threads_name() -> [u8; 16] {
    let mut name = [0; 16];
    let arguments = [libc::PR_GET_NAME as u64, &raw mut name as u64, 0, 0, 0];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the length of `name`.
    unsafe { repeat(libc::SYS_prctl, arguments) };
    name
}

/// A system call that the filter lets through.
///
/// # Safety
/// As the call demands of its arguments.
// SAFETY: the promise is the caller's; see above.
unsafe fn repeat(call: i64, arguments: [u64; 5]) -> i64 {
    let answer: i64;
    // ord: Relaxed; see `install`.
    let magic = MAGIC.load(Ordering::Relaxed);
    // SAFETY: the kernel's convention: the number and six arguments in these registers, the answer in
    // rax, rcx and r11 overwritten, the stack left alone. None of the calls that come here takes a
    // sixth argument. What it does to memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") call => answer,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") magic,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}
