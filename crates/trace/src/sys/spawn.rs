//! The start of the traced program: fork, wait for the tracer, install the filter, exec.
//!
//! `std::process::Command` does not fit: it waits until the child has executed its program, and the child
//! must not do that before it is traced.

use std::ffi::{CString, OsString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use super::ptrace;
use crate::filter::Instruction;

/// Where a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A pipe or a process could not be made.
    Fork,
    /// The child cannot be traced.
    Trace,
    /// The process cannot give up new privileges (PR_SET_NO_NEW_PRIVS).
    Privileges,
    /// The filter cannot be installed.
    Filter,
    /// The program cannot be executed.
    Exec,
}

/// A failed start.
#[derive(Debug)]
pub struct SpawnError {
    /// Where it failed.
    pub stage: Stage,
    /// Why.
    pub error: io::Error,
}

/// A child that is traced and runs its program, or will soon report why it could not.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub process: i32,
    /// Whether it gave up new privileges: setuid programs run as its user.
    pub no_new_privileges: bool,
    status: OwnedFd,
}

/// What is executed.
#[derive(Debug)]
pub struct Program {
    /// Paths to try, in this order.
    pub paths: Vec<CString>,
    /// Its arguments, with its name.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Vec<CString>,
    /// A descriptor that the child keeps as this number, without close-on-exec.
    pub keep: Option<(OwnedFd, i32)>,
    /// Whether SIGPIPE ends the program, as by default: Rust ignores it in this process.
    pub resets_sigpipe: bool,
}

/// A text as the kernel wants it; `None` if it contains a zero byte.
#[must_use]
pub fn c_string(text: OsString) -> Option<CString> {
    CString::new(text.into_vec()).ok()
}

/// Starts a program under this filter.
///
/// # Errors
/// Everything up to the fork and the attachment. The rest is in [`Child::failure`].
pub fn spawn(program: &Program, filter: &[Instruction]) -> Result<Child, SpawnError> {
    let failed = |stage| move |error: io::Error| SpawnError { stage, error };
    let (go, mut going) = io::pipe().map_err(failed(Stage::Fork))?;
    let (status, report) = io::pipe().map_err(failed(Stage::Fork))?;
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let arguments = pointers(&program.arguments);
    let environment = pointers(&program.environment);
    let filter = libc::sock_fprog {
        len: filter.len() as u16,
        // The same layout; the kernel only reads it.
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // With this capability a filter needs no NO_NEW_PRIVS, under which sudo fails.
    let no_new_privileges = !may_filter();
    // SAFETY: the child calls only functions that are safe after a fork, and allocates nothing; all that
    // it uses was made above.
    let process = unsafe { libc::fork() };
    if process < 0 {
        return Err(failed(Stage::Fork)(io::Error::last_os_error()));
    }
    if process == 0 {
        // The parent's end, so that the read ends if the parent dies.
        // SAFETY: the child has its own copy of the table, and does not return.
        unsafe { libc::close(going.as_raw_fd()) };
        let plan = ChildPlan {
            go: go.as_raw_fd(),
            report: report.as_raw_fd(),
            no_new_privileges,
            filter: &raw const filter,
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            program,
        };
        plan.run();
    }
    drop((go, report));
    if let Err(error) = ptrace::seize(process) {
        // The child reads the end of the pipe, and exits.
        drop(going);
        // SAFETY: no pointer for the status.
        unsafe { libc::waitpid(process, std::ptr::null_mut(), libc::__WALL) };
        return Err(SpawnError { stage: Stage::Trace, error });
    }
    io::Write::write_all(&mut going, &[1]).map_err(failed(Stage::Fork))?;
    Ok(Child { process, no_new_privileges, status: status.into() })
}

/// Whether a filter can be installed without NO_NEW_PRIVS: CAP_SYS_ADMIN is effective.
fn may_filter() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    effective.is_some_and(|mask| mask & 1 << CAP_SYS_ADMIN != 0)
}

impl Child {
    /// Why the child could not run its program, after it has ended; `None` if it did run it.
    #[must_use]
    pub fn failure(self) -> Option<SpawnError> {
        let mut report = [0; 8];
        let mut status = io::PipeReader::from(self.status);
        status.read_exact(&mut report).ok()?;
        let [stage, error] = [&report[..4], &report[4..]]
            .map(|part| i32::from_ne_bytes([part[0], part[1], part[2], part[3]]));
        let stage = match stage {
            1 => Stage::Privileges,
            2 => Stage::Filter,
            _ => Stage::Exec,
        };
        Some(SpawnError { stage, error: io::Error::from_raw_os_error(error) })
    }
}

/// What the child does, in plain pointers.
struct ChildPlan<'a> {
    go: i32,
    report: i32,
    no_new_privileges: bool,
    filter: *const libc::sock_fprog,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    program: &'a Program,
}

impl ChildPlan<'_> {
    fn run(&self) -> ! {
        let mut byte = 0u8;
        // SAFETY: one byte is written to one byte.
        let told = unsafe { libc::read(self.go, (&raw mut byte).cast(), 1) };
        if told != 1 {
            exit();
        }
        if self.program.resets_sigpipe {
            // SAFETY: a disposition without a handler.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        }
        if let Some((fd, number)) = &self.program.keep {
            // SAFETY: no pointer; the copy has no close-on-exec.
            unsafe { libc::dup2(fd.as_raw_fd(), *number) };
        }
        // SAFETY: the request takes numbers.
        let give_up = || unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        if self.no_new_privileges && give_up() != 0 {
            self.fail(1);
        }
        // SAFETY: the kernel reads the program, whose length is right.
        let done = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, self.filter)
        };
        if done != 0 {
            self.fail(2);
        }
        let mut best = libc::ENOENT;
        for path in &self.program.paths {
            // SAFETY: all three are texts and lists that end with zero.
            unsafe { libc::execve(path.as_ptr(), self.arguments, self.environment) };
            let error = errno();
            // What was found but cannot be executed says more than what is not there.
            if ![libc::ENOENT, libc::ENOTDIR].contains(&error) {
                best = error;
                if error != libc::EACCES {
                    break;
                }
            }
        }
        self.fail_with(3, best);
    }

    fn fail(&self, stage: i32) -> ! {
        self.fail_with(stage, errno())
    }

    fn fail_with(&self, stage: i32, error: i32) -> ! {
        let report = [stage, error];
        // SAFETY: the pointer and the length are those of the array.
        unsafe { libc::write(self.report, (&raw const report).cast(), 8) };
        exit()
    }
}

fn errno() -> i32 {
    // SAFETY: the address is this thread's, and valid.
    unsafe { *libc::__errno_location() }
}

fn exit() -> ! {
    // SAFETY: it runs nothing of this process.
    unsafe { libc::_exit(127) }
}
