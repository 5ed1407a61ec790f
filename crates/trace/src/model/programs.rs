//! Programs whose descriptors mean something else than those of other programs.

/// Shells. A script opens, closes and passes on descriptors by redirections, and may do so twice.
const SHELLS: [&str; 18] = [
    "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "ksh93", "lksh", "mksh", "oksh",
    "posh", "rbash", "rc", "sh", "tcsh", "yash", "zsh",
];

/// Programs that open a descriptor in order that the program that they start inherits it.
const OPENERS_FOR_OTHERS: [&str; 4] = ["flock", "lckdo", "setlock", "systemd-socket-activate"];

/// Whether the program is a shell. Takes the path of its file.
pub(super) fn is_shell(program: &str) -> bool {
    SHELLS.contains(&file_name(program))
}

/// Whether programs inherit this program's descriptors on purpose. Takes the path of its file.
pub(super) fn opens_for_others(program: &str) -> bool {
    is_shell(program) || OPENERS_FOR_OTHERS.contains(&file_name(program))
}

/// Whether a file is one in which node lists the functions of its own process `pid`: its perf map and V8's
/// log. Users ask for them (`--perf-basic-prof`), so that reports name functions, and their program cannot
/// close them.
pub(super) fn is_profile(path: &str, pid: i32) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path == format!("/tmp/perf-{pid}.map")
        || name.starts_with("isolate-0x") && name.ends_with(&format!("-{pid}-v8.log"))
}

/// The last part of a path, without the mark of a deleted file and without the version of a shell
/// (`bash-5.2`).
fn file_name(program: &str) -> &str {
    let program = program.strip_suffix(" (deleted)").unwrap_or(program);
    let name = program.rsplit('/').next().unwrap_or(program);
    match name.split_once(['-', '.']) {
        Some((shell, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => shell,
        _ if name == "busybox.static" => "busybox",
        _ => name.strip_suffix("-static").unwrap_or(name),
    }
}

/// Calls that programs use in order to find out whether a number is open, or that do no harm if it is
/// not. Their EBADF proves no mistake.
const PROBES: [&str; 14] = [
    "dup",
    "dup2",
    "dup3",
    "epoll_ctl",
    "fcntl",
    "fstat",
    "fstatfs",
    "getpeername",
    "getsockname",
    "getsockopt",
    "ioctl",
    "lseek",
    "newfstatat",
    "statx",
];

/// Whether EBADF of this call proves no mistake.
pub(super) fn is_probe(call: &str) -> bool {
    PROBES.contains(&call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_known_by_the_name_of_their_file() {
        for program in [
            "/bin/sh",
            "/usr/bin/dash",
            "/opt/bash-5.2",
            "bash (deleted)",
            "/bin/zsh-5.9",
            "/bin/busybox.static",
            "/bin/bash-static",
        ] {
            assert!(is_shell(program), "{program}");
        }
        for program in ["/usr/bin/ssh", "", "/bin/bashful", "/usr/bin/flock"] {
            assert!(!is_shell(program), "{program}");
        }
        assert!(opens_for_others("/usr/bin/flock"));
    }

    #[test]
    fn a_profile_is_known_by_its_path_and_the_id_of_its_process() {
        assert!(is_profile("/tmp/perf-12.map", 12));
        assert!(is_profile("/work/isolate-0x2e75cca0-12-v8.log", 12));
        for other in [
            "/tmp/perf-13.map",
            "/work/perf-12.map",
            "/tmp/perf-12.map.old",
            "/work/isolate-0x2e75cca0-112-v8.log",
            "/work/isolate-0x2e75cca0-12-v8.log.old",
            "/work/12-v8.log",
            "",
        ] {
            assert!(!is_profile(other, 12), "{other}");
        }
    }
}
