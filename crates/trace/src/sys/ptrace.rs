//! ptrace and waitpid.
//!
//! The statuses of `waitpid` stay raw, because a real-time signal does not fit the types of the common
//! wrappers.

use std::io;

/// The events that stop a task. The tracees are killed when the tracer dies: under a filter whose tracer
/// is gone, every followed call fails with ENOSYS.
const OPTIONS: i32 = libc::PTRACE_O_EXITKILL
    | libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEEXIT;

/// The registers of a stopped task.
#[derive(Clone, Copy, Debug)]
pub struct Registers(libc::user_regs_struct);

impl Registers {
    /// The arguments of the call.
    #[must_use]
    pub fn arguments(&self) -> [u64; 6] {
        let it = &self.0;
        [it.rdi, it.rsi, it.rdx, it.r10, it.r8, it.r9]
    }

    /// The result of the call: a negative error number for a failure.
    #[must_use]
    pub fn result(&self) -> i64 {
        self.0.rax as i64
    }

    /// The number of the call.
    #[must_use]
    pub fn call(&self) -> i64 {
        self.0.orig_rax as i64
    }

    /// Address of the instruction.
    #[must_use]
    pub fn ip(&self) -> u64 {
        self.0.rip
    }

    /// The stack pointer.
    #[must_use]
    pub fn sp(&self) -> u64 {
        self.0.rsp
    }

    /// The frame pointer, if the code uses one.
    #[must_use]
    pub fn bp(&self) -> u64 {
        self.0.rbp
    }

    /// Makes it another call.
    pub fn set_call(&mut self, number: i64, arguments: [u64; 3]) {
        self.0.orig_rax = number as u64;
        [self.0.rdi, self.0.rsi, self.0.rdx] = arguments;
    }

    /// Skips the call, which returns this.
    pub fn skip_with(&mut self, result: i64) {
        self.0.orig_rax = u64::MAX;
        self.0.rax = result as u64;
    }

    /// Changes the result after the call.
    pub fn set_result(&mut self, result: i64) {
        self.0.rax = result as u64;
    }

    /// After the call: makes the task enter the call again, with the registers that it had before.
    pub fn repeat(&self, number: i64) -> Registers {
        let mut registers = *self;
        registers.0.rax = number as u64;
        registers.0.rip -= 2; // the instruction `syscall`
        registers
    }
}

/// A stop at the beginning of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallStop {
    /// What the filter says about it.
    pub message: u32,
    /// The arguments.
    pub arguments: [u64; 6],
    /// Address of the instruction.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
}

/// `struct ptrace_syscall_info` of the kernel, with the part for a stop by a filter.
#[repr(C)]
#[derive(Default)]
struct SyscallInfo {
    op: u8,
    reserved: u8,
    flags: u16,
    architecture: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    number: u64,
    arguments: [u64; 6],
    message: u32,
    reserved_2: u32,
}

/// PTRACE_GET_SYSCALL_INFO, which is not in libc for musl. The type of requests depends on the C library.
const GET_SYSCALL_INFO: u16 = 0x420e;

/// PTRACE_SYSCALL_INFO_SECCOMP
const INFO_SECCOMP: u8 = 3;

/// How a task is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Until the next event.
    Run,
    /// Until the end of the call.
    ToExit,
    /// It stays in its group stop, and wakes up at SIGCONT.
    Listen,
}

/// Attaches to a child of this process without stopping it.
///
/// # Errors
/// EPERM if the process is traced already, or this process may not trace it.
pub fn seize(process: i32) -> io::Result<()> {
    // SAFETY: the request takes no pointer.
    let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, 0usize, OPTIONS as usize) };
    result(done)
}

/// Continues a stopped task with this signal, 0 for none.
///
/// # Errors
/// ESRCH if the task was killed in the meantime.
pub fn resume(task: i32, how: Resume, signal: i32) -> io::Result<()> {
    let request = match how {
        Resume::Run => libc::PTRACE_CONT,
        Resume::ToExit => libc::PTRACE_SYSCALL,
        Resume::Listen => libc::PTRACE_LISTEN,
    };
    // SAFETY: the request takes no pointer.
    result(unsafe { libc::ptrace(request, task, 0usize, signal as usize) })
}

/// The message of the event that stopped the task.
///
/// # Errors
/// ESRCH if the task was killed in the meantime.
pub fn event_message(task: i32) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one number of this type.
    result(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, task, 0usize, &raw mut message) })?;
    Ok(message)
}

/// The call that a task is about to make, which is stopped by the filter. Since Linux 5.3 it takes one
/// system call in place of two for the message and all registers.
///
/// # Errors
/// ESRCH if the task was killed in the meantime; EINVAL if another event stopped it.
pub fn call_stop(task: i32) -> io::Result<CallStop> {
    let mut info = SyscallInfo::default();
    let size = size_of::<SyscallInfo>();
    // SAFETY: the kernel writes at most `size` bytes, integers only, to the value.
    let written = unsafe { libc::ptrace(GET_SYSCALL_INFO as _, task, size, &raw mut info) };
    match result(written) {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => return call_stop_of_old(task),
        done => done?,
    }
    if info.op != INFO_SECCOMP {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(CallStop {
        message: info.message,
        arguments: info.arguments,
        ip: info.instruction_pointer,
        sp: info.stack_pointer,
    })
}

/// The same on a kernel that does not know the request.
fn call_stop_of_old(task: i32) -> io::Result<CallStop> {
    let message = event_message(task)? as u32;
    let registers = registers(task)?;
    let (arguments, ip, sp) = (registers.arguments(), registers.ip(), registers.sp());
    Ok(CallStop { message, arguments, ip, sp })
}

/// The registers of a stopped task.
///
/// # Errors
/// ESRCH if the task was killed in the meantime.
pub fn registers(task: i32) -> io::Result<Registers> {
    // SAFETY: the type consists of integers, for which zero is a value.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one value of this type.
    result(unsafe { libc::ptrace(libc::PTRACE_GETREGS, task, 0usize, &raw mut registers) })?;
    Ok(Registers(registers))
}

/// Sets the registers of a stopped task.
///
/// # Errors
/// ESRCH if the task was killed in the meantime.
pub fn set_registers(task: i32, registers: &Registers) -> io::Result<()> {
    // SAFETY: the kernel reads one value of this type.
    result(unsafe { libc::ptrace(libc::PTRACE_SETREGS, task, 0usize, &raw const registers.0) })
}

/// Waits for the next change of a traced task: its id and its raw status. `Interrupted` when the timer
/// ran out.
///
/// # Errors
/// ECHILD if there is none any more.
pub fn wait() -> io::Result<(i32, i32)> {
    let mut status = 0;
    // SAFETY: the kernel writes one status.
    let task = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
    if task < 0 { Err(io::Error::last_os_error()) } else { Ok((task, status)) }
}

fn result(done: libc::c_long) -> io::Result<()> {
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
