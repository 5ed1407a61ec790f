//! The start of the command: which file it is, and why it could not be run.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::modules::elf::{Elf, Source};
use crate::sys::spawn::{SpawnError, Stage, c_string};

/// The program and its arguments.
#[derive(Clone, Debug)]
pub struct Command {
    /// A path, or a name that is searched in PATH.
    pub program: OsString,
    /// The arguments without the name.
    pub arguments: Vec<OsString>,
}

/// The command could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// There is no such program.
    NotFound,
    /// The program cannot be executed.
    NotExecutable(io::Error),
    /// Processes cannot be traced here: what is missing, and what helps.
    Tracing(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NotFound => f.write_str("no such program"),
            StartError::NotExecutable(error) => write!(f, "{error}"),
            StartError::Tracing(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for StartError {}

impl Command {
    /// The paths to try: the program itself, or each folder of PATH.
    pub(super) fn paths(&self) -> Result<Vec<CString>, StartError> {
        let text = |path: OsString| {
            c_string(path).ok_or_else(|| {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "it contains a zero byte");
                StartError::NotExecutable(error)
            })
        };
        if self.program.is_empty() {
            return Err(StartError::NotFound);
        }
        if self.program.as_bytes().contains(&b'/') {
            return Ok(vec![text(self.program.clone())?]);
        }
        let default = OsString::from("/bin:/usr/bin");
        let folders = env::var_os("PATH").unwrap_or(default);
        env::split_paths(&folders)
            .map(|folder| {
                let folder = if folder.as_os_str().is_empty() { ".".into() } else { folder };
                text(folder.join(&self.program).into_os_string())
            })
            .collect()
    }

    /// The name and the arguments.
    pub(super) fn list(&self) -> Result<Vec<CString>, StartError> {
        let all = std::iter::once(&self.program).chain(&self.arguments);
        all.map(|text| {
            c_string(text.clone()).ok_or_else(|| {
                let reason = "an argument contains a zero byte";
                StartError::NotExecutable(io::Error::new(io::ErrorKind::InvalidInput, reason))
            })
        })
        .collect()
    }
}

/// The options of the leak check of LeakSanitizer.
const LEAK_OPTIONS: &str = "LSAN_OPTIONS";

/// How many bytes of names of a program are searched for the sanitizer.
const SEARCHED_MAX: u64 = 256 << 20;

/// How much is read at a time: less than what the allocator takes from the kernel again for each use.
const PART: usize = 64 << 10;

/// Whether the first of these paths that exists is a program with AddressSanitizer or LeakSanitizer,
/// whose check at the end traces its own threads. It cannot do that when the program is traced already,
/// and makes the program fail.
pub(super) fn has_leak_check(paths: &[CString]) -> bool {
    let path = |path: &CString| PathBuf::from(OsStr::from_bytes(path.to_bytes()));
    let Some(file) = paths.iter().map(path).find(|path| path.is_file()) else { return false };
    let Ok(file) = fs::File::open(file) else { return false };
    Elf::read(&file).is_ok_and(|elf| {
        let mut left = SEARCHED_MAX;
        elf.names.into_iter().any(|range| {
            let length = (range.end - range.start).min(left);
            left -= length;
            names_sanitizer(&file, range.start..range.start + length)
        })
    })
}

/// Whether a part of a file contains the name of a function of the sanitizers.
fn names_sanitizer(file: &(impl Source + ?Sized), range: Range<u64>) -> bool {
    const NAMES: [&[u8]; 2] = [b"__asan_init", b"__lsan_init"];
    let finders = NAMES.map(memchr::memmem::Finder::new);
    let step = PART - NAMES[0].len();
    let mut part = vec![0; PART];
    let mut start = range.start;
    while start < range.end {
        let length = (range.end - start).min(PART as u64) as usize;
        let filled = file.fill(start, &mut part[..length]);
        if filled == 0 {
            return false;
        }
        if finders.iter().any(|finder| finder.find(&part[..filled]).is_some()) {
            return true;
        }
        // A name may lie across the border of two parts.
        start += step as u64;
    }
    false
}

/// The environment of this process. `disables_leak_check` changes it for LeakSanitizer, also where the user
/// has turned its check on: it cannot work.
pub(super) fn environment(disables_leak_check: bool) -> Vec<CString> {
    let mut variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    if disables_leak_check {
        // It counts more than ASAN_OPTIONS, and the last word more than earlier ones.
        let known = variables.iter_mut().find(|(name, _)| name == LEAK_OPTIONS);
        match known {
            Some((_, options)) => options.push(":detect_leaks=0"),
            None => variables.push((LEAK_OPTIONS.into(), "detect_leaks=0".into())),
        }
    }
    let variable = |(name, value): (OsString, OsString)| {
        let mut text = name;
        text.push("=");
        text.push(value);
        c_string(text)
    };
    variables.into_iter().filter_map(variable).collect()
}

/// What a file is that the kernel cannot execute. Shells run such a script themselves.
const NO_PROGRAM: &str = "it is neither a program for this machine nor a script whose first line names \
                          its interpreter, such as `#!/bin/sh`";

/// The error of a failed start.
pub(super) fn explain(failed: SpawnError) -> StartError {
    let SpawnError { stage, error } = failed;
    match stage {
        Stage::Exec if error.kind() == io::ErrorKind::NotFound => StartError::NotFound,
        Stage::Exec if error.raw_os_error() == Some(libc::ENOEXEC) => {
            StartError::NotExecutable(io::Error::new(error.kind(), NO_PROGRAM))
        }
        Stage::Exec => StartError::NotExecutable(error),
        Stage::Fork => StartError::Tracing(format!("failed to start a process: {error}")),
        Stage::Trace => {
            StartError::Tracing(format!("failed to trace a process: {error}; {}", hint()))
        }
        Stage::Privileges => StartError::Tracing(format!(
            "failed to give up new privileges, without which a seccomp filter needs CAP_SYS_ADMIN: {error}"
        )),
        Stage::Filter => StartError::Tracing(format!(
            "failed to install a seccomp filter: {error}; the kernel needs CONFIG_SECCOMP_FILTER, and a \
             container must allow it (`--security-opt seccomp=unconfined`)"
        )),
    }
}

/// What keeps this process from tracing, and what helps.
fn hint() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let tracer = field("TracerPid:").filter(|pid| pid != "0");
    if let Some(tracer) = tracer {
        return format!(
            "process {tracer} traces this one and its children, and a process has one tracer at a time; \
             run echown outside strace, gdb or another `echown run`"
        );
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if matches!(scope.trim(), "2" | "3") {
        return format!(
            "kernel.yama.ptrace_scope is {}; `sysctl kernel.yama.ptrace_scope=1` allows the tracing of \
             one's own children",
            scope.trim()
        );
    }
    if field("Seccomp:").is_some_and(|mode| mode == "2") {
        return String::from(
            "a seccomp filter of the container forbids ptrace; run it with `--cap-add=SYS_PTRACE` or \
             `--security-opt seccomp=unconfined`",
        );
    }
    String::from("a security module may forbid ptrace; run it with `--cap-add=SYS_PTRACE`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sanitizer_is_found_across_the_border_of_two_parts_and_only_in_the_range() {
        for before in [0, 100, PART - 15, PART - 5, PART, 3 * PART - 11] {
            let mut file = vec![0; before];
            file.extend(b"__asan_init and more");
            let end = file.len() as u64;
            assert!(names_sanitizer(&file[..], 0..end), "{before}");
            assert!(!names_sanitizer(&file[..], 0..before as u64 + 10), "{before}");
        }
        assert!(!names_sanitizer(&b"__asan_ini"[..], 0..100));
    }
}
