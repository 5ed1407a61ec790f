//! The kernel's limits on the number of threads, as plain numbers.
//!
//! This module only reads; `pool::thread_limit` evaluates the values. A missing or unreadable file
//! is `None`, which is common in a container; the limit then appears as an ordinary error when a
//! thread starts. Exceeding the limit on mappings ends the process, so a default is assumed if it
//! cannot be read, as in an empty root; see [`without_proc`]. Only Linux is supported; on other
//! systems every value is `None`. A mount point with a space in its name is not found.

#[cfg(any(target_os = "linux", target_os = "android", test))]
use std::path::{Path, PathBuf};

/// The limits on the number of threads of this process. `None`: no limit, or unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Soft `RLIMIT_NPROC`: processes and threads of this user, all processes together.
    pub(crate) nproc: Option<u64>,
    /// Whether `RLIMIT_NPROC` is enforced on this process at all; the kernel exempts root.
    pub(crate) nproc_binds: bool,
    /// `kernel.threads-max`: threads in the whole system.
    pub(crate) threads_max: Option<u64>,
    /// `kernel.pid_max`: one more than the highest number; every thread takes a number.
    pub(crate) pid_max: Option<u64>,
    /// The lowest remaining `pids.max` of the process's control group and its ancestors, with the
    /// number of tasks in that group.
    pub(crate) cgroup_pids: Option<(u64, u64)>,
    /// `vm.max_map_count`: memory mappings of this process.
    pub(crate) max_map_count: Option<u64>,
    /// The current number of mappings of this process.
    pub(crate) mappings: Option<u64>,
    /// Cores that this process may run on; the allocator makes mappings per core.
    pub(crate) cores: Option<u64>,
}

/// `vm.max_map_count` if it cannot be read: the kernel's default.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_MAP_COUNT_ASSUMED: u64 = 65_530;

/// The number of mappings if it cannot be counted: more than a program has at startup.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAPPINGS_ASSUMED: u64 = 256;

/// The effect of an unreadable `/proc`, as a sentence for the log; `None` if it can be read.
#[cfg(all(feature = "cli", any(target_os = "linux", target_os = "android")))]
pub(crate) fn without_proc() -> Option<String> {
    let error = std::fs::File::open("/proc/self/maps").err()?;
    Some(format!(
        "failed to read /proc ({error}): limits of control groups and of the system are unknown, \
         vm.max_map_count is taken to be {MAX_MAP_COUNT_ASSUMED}, and descriptors are shown without \
         paths; mount it with `mount -t proc proc /proc`, or set --max-connections"
    ))
}

/// Not needed on this system.
#[cfg(all(feature = "cli", not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn without_proc() -> Option<String> {
    None
}

impl Limits {
    /// Reads the limits: `getrlimit`, `capget` and files below `/proc` and the control groups'
    /// mounts.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn read() -> Limits {
        use rustix::process::{Resource, getrlimit};

        Limits {
            nproc: getrlimit(Resource::Nproc).current,
            nproc_binds: nproc_binds(),
            threads_max: number(Path::new("/proc/sys/kernel/threads-max")),
            pid_max: number(Path::new("/proc/sys/kernel/pid_max")),
            cgroup_pids: cgroup_pids(),
            max_map_count: number(Path::new("/proc/sys/vm/max_map_count"))
                .or(Some(MAX_MAP_COUNT_ASSUMED)),
            mappings: mappings().or(Some(MAPPINGS_ASSUMED)),
            cores: cores(),
        }
    }

    /// No limits are known on this system.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn read() -> Limits {
        Limits::default()
    }
}

/// The current number of mappings and `vm.max_map_count`, if both can be read.
pub(crate) fn mappings_of_max() -> Option<(u64, u64)> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return number(Path::new("/proc/sys/vm/max_map_count")).zip(mappings());
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

/// Whether `RLIMIT_NPROC` is enforced: the rule of `copy_process` in the kernel's `fork.c`.
///
/// Exempt are the real user 0 and processes with `CAP_SYS_RESOURCE` or `CAP_SYS_ADMIN`, all as seen
/// from the initial user namespace. So the limit applies to root in a rootless container.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn nproc_binds() -> bool {
    use rustix::process::getuid;
    use rustix::thread::{CapabilitySet, capabilities};

    // A kernel without user namespaces does not have this file, and only the initial namespace.
    let initial =
        std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| maps_every_user(&map));
    let exempting = CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN;
    let capable = || capabilities(None).is_ok_and(|sets| sets.effective.intersects(exempting));
    !(initial && (getuid().is_root() || capable()))
}

/// Whether a `uid_map` is that of the initial user namespace, which maps every id to itself.
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn maps_every_user(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn cores() -> Option<u64> {
    let cores = std::thread::available_parallelism().ok()?;
    u64::try_from(cores.get()).ok()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn mappings() -> Option<u64> {
    use std::io::Read as _;

    // Read in pieces, because the file has megabytes if there are many threads.
    const PIECE_BYTES: usize = 64 * 1024;
    let mut maps = std::fs::File::open("/proc/self/maps").ok()?;
    let mut piece = super::zeroed::zeroed(PIECE_BYTES)?;
    let mut lines = 0;
    loop {
        match maps.read(&mut piece).ok()? {
            0 => return Some(lines),
            bytes => lines += piece[..bytes].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn cgroup_pids() -> Option<(u64, u64)> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let limits = controller_dirs(&groups, &mounts, "pids").into_iter().filter_map(|dir| {
        let max = number(&dir.join("pids.max"))?;
        Some((max, number(&dir.join("pids.current")).unwrap_or(0)))
    });
    limits.min_by_key(|(max, current)| max.saturating_sub(*current))
}

/// The number in `file`; `None` also for the word "max", which means no limit.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The directories whose limits of a controller, such as `pids`, apply to this process: its group's
/// and those of all mounted ancestors, in version 1 (the controller's hierarchy) and version 2.
///
/// `groups` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`.
#[cfg(any(target_os = "linux", target_os = "android", test))]
pub(super) fn controller_dirs(groups: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version_2 = controllers.is_empty();
        if !version_2 && !has(controllers, controller) {
            continue;
        }
        let version_1 = (!version_2).then_some(controller);
        for (root, point) in mounts.lines().filter_map(|mount| group_mount(mount, version_1)) {
            let below = group_below(root, group);
            let mut dir = Some(below.as_path());
            while let Some(part) = dir {
                dirs.push(Path::new(point).join(part));
                dir = part.parent();
            }
        }
    }
    dirs
}

/// The path of `group` below a mount that shows the hierarchy from `root` on.
///
/// In a container the two may not match: the mount shows the container's own group, while the path
/// is the host's or leads out of a namespace. Then the mount itself is the best guess.
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn group_below(root: &str, group: &str) -> PathBuf {
    match Path::new(group).strip_prefix(root) {
        Ok(below) if !below.starts_with("..") => below.to_path_buf(),
        _ => PathBuf::new(),
    }
}

/// The root and the mount point of a `mountinfo` line, if it shows the requested hierarchy: that of
/// a controller in version 1, or the one of version 2.
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn group_mount<'a>(line: &'a str, version_1: Option<&str>) -> Option<(&'a str, &'a str)> {
    // 36 35 98:0 /root /mount/point options [tags] - type source super-options
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let wanted = match filesystem.next()? {
        "cgroup2" => version_1.is_none(),
        "cgroup" => has(filesystem.nth(1)?, version_1?),
        _ => false,
    };
    wanted.then_some((root, point))
}

#[cfg(any(target_os = "linux", target_os = "android", test))]
fn has(list: &str, controller: &str) -> bool {
    list.split(',').any(|word| word == controller)
}

/// The lowest port that an unprivileged process may listen on.
pub(crate) fn unprivileged_port_min() -> u16 {
    const DEFAULT: u16 = 1024;
    let file = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    file.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT)
}

/// The maximum number of open descriptors of this process (`RLIMIT_NOFILE`); `None` for no limit.
pub(crate) fn descriptors() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn dirs(groups: &str, mounts: &str) -> Vec<String> {
        let dirs = controller_dirs(groups, mounts, "pids");
        dirs.iter().map(|dir| dir.to_string_lossy().trim_end_matches('/').to_owned()).collect()
    }

    #[test]
    fn version_2_asks_the_own_group_and_every_ancestor() {
        assert_eq!(
            dirs("0::/user.slice/shell.scope\n", UNIFIED),
            [
                "/sys/fs/cgroup/user.slice/shell.scope",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup"
            ]
        );
    }

    #[test]
    fn version_1_asks_only_the_hierarchy_with_the_pids_controller() {
        let groups = "8:pids:/app\n4:memory:/elsewhere\n";
        let mounts = "36 31 0:33 / /cg/memory rw - cgroup cgroup rw,memory\n\
                      39 31 0:36 / /cg/pids rw - cgroup cgroup rw,pids\n";
        assert_eq!(dirs(groups, mounts), ["/cg/pids/app", "/cg/pids"]);
        let memory = controller_dirs(groups, mounts, "memory");
        assert_eq!(memory, [Path::new("/cg/memory/elsewhere"), Path::new("/cg/memory/")]);
    }

    #[test]
    fn both_versions_side_by_side_are_both_asked() {
        let mounts = format!("39 31 0:36 / /cg/pids rw - cgroup cgroup rw,pids\n{UNIFIED}");
        assert_eq!(
            dirs("8:pids:/a\n0::/\n", &mounts),
            ["/cg/pids/a", "/cg/pids", "/sys/fs/cgroup"]
        );
    }

    #[test]
    fn a_container_that_mounts_its_own_group_is_asked_there() {
        let mounts = "39 31 0:36 /docker/abc /cg/pids ro - cgroup cgroup rw,pids\n";
        assert_eq!(dirs("8:pids:/docker/abc\n", mounts), ["/cg/pids"]);
        assert_eq!(dirs("8:pids:/docker/abc/inner\n", mounts), ["/cg/pids/inner", "/cg/pids"]);
    }

    #[test]
    fn a_path_that_leads_out_of_the_namespace_falls_back_to_the_mount() {
        assert_eq!(dirs("0::/../sibling\n", UNIFIED), ["/sys/fs/cgroup"]);
        assert_eq!(dirs("garbage\n", UNIFIED), [""; 0]);
    }

    #[test]
    fn only_the_identity_map_is_the_initial_user_namespace() {
        assert!(maps_every_user("         0          0 4294967295\n"));
        assert!(!maps_every_user("         0       1000          1\n"));
        assert!(!maps_every_user("0 1000 1\n1 100000 65536\n"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells_its_system_wide_limits() {
        let limits = Limits::read();
        for (name, value) in [
            ("threads-max", limits.threads_max),
            ("pid_max", limits.pid_max),
            ("max_map_count", limits.max_map_count),
            ("mappings", limits.mappings),
            ("cores", limits.cores),
        ] {
            assert!(value.is_some_and(|value| value > 0), "{name}: {value:?}");
        }
    }
}
