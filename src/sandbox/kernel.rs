//! The system calls of the sandbox, by the crate `landlock`.

use landlock::Access as _;
use landlock::{
    ABI, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath,
    PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
    make_bitflags,
};

use super::outcome::ABI_MIN;
use super::{Access, Applied, Landlock, Rule};

/// The restrictions that the sandbox consists of: [`ABI_MIN`]. Those of later kernels were not tested.
const RESTRICTED: ABI = ABI::V6;

const _: () = assert!(RESTRICTED as u32 == ABI_MIN);

/// Restricts this thread, and all that it will start, to what the rules grant.
pub(super) fn restrict(rules: &[Rule]) -> Applied {
    match try_restrict(rules) {
        Ok(status) => Applied {
            landlock: match status.landlock {
                LandlockStatus::NotEnabled => Landlock::NotEnabled,
                LandlockStatus::NotImplemented => Landlock::Missing,
                LandlockStatus::Available { effective_abi, kernel_abi } => {
                    let known = effective_abi as u32;
                    let newer = kernel_abi.and_then(|abi| u32::try_from(abi).ok());
                    Landlock::Abi(newer.unwrap_or(known))
                }
            },
            no_new_privs: status.no_new_privs,
        },
        Err(error) => {
            Applied { landlock: Landlock::Failed(error.to_string()), no_new_privs: false }
        }
    }
}

fn try_restrict(rules: &[Rule]) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        // The status says afterwards what is missing.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RESTRICTED))?
        .handle_access(AccessNet::from_all(RESTRICTED))?
        .scope(Scope::from_all(RESTRICTED))?
        .create()?;
    for rule in rules {
        // It existed a moment ago. Without its rule, it cannot be used.
        let Ok(place) = PathFd::new(&rule.path) else { continue };
        let mut rights = rights(rule.access);
        if !rule.path.is_dir() {
            rights &= AccessFs::from_file(RESTRICTED);
        }
        ruleset = ruleset.add_rule(PathBeneath::new(place, rights))?;
    }
    ruleset.restrict_self()
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    let write = make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | IoctlDev});
    match access {
        Access::Write => write,
        Access::Replace => write | AccessFs::RemoveFile,
        Access::Remove => AccessFs::RemoveFile.into(),
        Access::Read => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::path::{Path, PathBuf};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("echown-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs `then` in a thread that is restricted; the others of the test binary are not.
    fn restricted(rules: Vec<Rule>, then: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let applied = restrict(&rules);
                assert!(applied.no_new_privs, "{applied:?}");
                if !matches!(applied.landlock, Landlock::Abi(ABI_MIN..)) {
                    eprintln!("skipped: this kernel has not all of landlock: {applied:?}");
                    return;
                }
                then();
            });
            thread.join().unwrap();
        });
    }

    fn is_denied<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == PermissionDenied)
    }

    #[test]
    fn a_restricted_thread_opens_no_connection_and_signals_no_other_process() {
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(bound.local_addr().unwrap()).unwrap();
        let name =
            SocketAddr::from_abstract_name(format!("echown-{}", std::process::id())).unwrap();
        let _listener = UnixListener::bind_addr(&name).unwrap();
        let mut other = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat is on every system");
        let process = rustix::process::Pid::from_child(&other);
        restricted(Vec::new(), || {
            assert!(is_denied(TcpListener::bind("127.0.0.1:0")));
            assert!(is_denied(TcpStream::connect(bound.local_addr().unwrap())));
            bound.accept().expect("a listener that is open accepts");
            assert_eq!(UnixStream::connect_addr(&name).unwrap_err().kind(), PermissionDenied);
            let signal = |process| rustix::process::test_kill_process(process);
            assert_eq!(signal(process), Err(rustix::io::Errno::PERM));
            assert_eq!(signal(rustix::process::getpid()), Ok(()));
        });
        drop((client, other.stdin.take()));
        other.wait().unwrap();
    }

    #[test]
    fn a_restricted_thread_uses_files_only_as_its_rules_grant() {
        let (log, document, other) = (folder("log"), folder("document"), folder("other"));
        for folder in [&log, &document, &other] {
            fs::write(folder.join("old"), "old").unwrap();
        }
        let rules = vec![
            Rule::output(&log.join("file"), Access::Write),
            Rule::output(&document.join("file"), Access::Replace),
            Rule::output(Path::new("/dev/null"), Access::Write),
            Rule::reads("/proc/self"),
        ];
        restricted(rules, || {
            fs::write(log.join("file"), "created").unwrap();
            fs::write(log.join("old"), "truncated").unwrap();
            assert!(is_denied(fs::remove_file(log.join("old"))));
            assert!(is_denied(fs::read(log.join("old"))));
            assert!(is_denied(fs::create_dir(log.join("folder"))));
            fs::write(document.join("file.new"), "new").unwrap();
            fs::rename(document.join("file.new"), document.join("file")).unwrap();
            fs::remove_file(document.join("old")).unwrap();
            assert!(is_denied(fs::write(other.join("file"), "")));
            assert!(is_denied(fs::write(other.join("old"), "")));
            assert!(is_denied(fs::remove_file(other.join("old"))));
            assert!(is_denied(fs::read_dir("/")));
            fs::write("/dev/null", "nothing").unwrap();
            assert!(is_denied(fs::write("/dev/full", "nothing")));
            fs::read("/proc/self/status").unwrap();
            fs::read_dir("/proc/self/task").unwrap();
            let mine = fs::read(format!("/proc/{}/limits", std::process::id()));
            mine.expect("it is the same folder");
            assert!(is_denied(fs::read("/proc/1/limits")));
            assert!(is_denied(std::process::Command::new("/bin/true").status()));
        });
        for folder in [log, document, other] {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
