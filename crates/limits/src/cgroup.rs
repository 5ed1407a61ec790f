//! The control groups of this process: the directories that hold their limits.
//!
//! A mount point with a space in its name is not found.

use std::fs;
use std::path::{Path, PathBuf};

/// The directories whose limits of `controller`, such as `pids`, apply to this process; empty if they
/// cannot be found.
pub(crate) fn dirs(controller: &str) -> Vec<PathBuf> {
    let [groups, mounts] = ["cgroup", "mountinfo"]
        .map(|name| fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default());
    controller_dirs(&groups, &mounts, controller)
}

/// The directories whose limits of a controller, such as `pids`, apply to this process: its group's
/// and those of all mounted ancestors, in version 1 (the controller's hierarchy) and version 2.
///
/// `groups` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`.
fn controller_dirs(groups: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
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
fn group_below(root: &str, group: &str) -> PathBuf {
    match Path::new(group).strip_prefix(root) {
        Ok(below) if !below.starts_with("..") => below.to_path_buf(),
        _ => PathBuf::new(),
    }
}

/// The root and the mount point of a `mountinfo` line, if it shows the requested hierarchy: that of
/// a controller in version 1, or the one of version 2.
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

fn has(list: &str, controller: &str) -> bool {
    list.split(',').any(|word| word == controller)
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
}
