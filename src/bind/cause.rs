//! Diagnosis of bind errors: the cause, and what to do about it.
//!
//! The failure story: one error code has several causes. Each is looked up at the moment of the failure
//! (which program has the address, which ports are privileged), because it may change later.

use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

use super::Bound;
use super::unix::is_socket;
use crate::net::Endpoint;

/// The maximum length of a Unix socket's path, in bytes.
const UNIX_PATH_MAX_BYTES: usize = 107;

/// The cause of an error and the advice, as the end of a message. `bound` are the addresses that this
/// program already listens on, and `option` is the one that has this endpoint as its value.
pub(crate) fn cause(
    endpoint: &Endpoint,
    error: &io::Error,
    bound: &[Bound<'_>],
    option: &str,
) -> String {
    let known = match endpoint {
        Endpoint::Unix(path) => of_path(path, error, bound, option),
        Endpoint::Inet(_) | Endpoint::All(_) => of_inet(endpoint, error, bound, option),
    };
    known.unwrap_or_else(|| match Errno::from_io_error(error) {
        Some(Errno::MFILE) => {
            let limit = echown_limits::descriptors().unwrap_or_default();
            format!(
                "all descriptors are in use, RLIMIT_NOFILE is {limit}; raise it with `ulimit -n`"
            )
        }
        Some(Errno::NFILE) => "all descriptors of this system are in use; raise the limit with \
                               `sysctl fs.file-max`"
            .into(),
        Some(Errno::PERM | Errno::ACCESS) => format!(
            "forbidden by a rule of this system, such as a seccomp filter; choose another address \
             with {option}"
        ),
        _ => error.to_string(),
    })
}

/// `option` names an address that the program already listens on because of the option `by`.
fn listed_twice(option: &str, by: &str) -> String {
    if option == by {
        return "listed twice; list each address once".into();
    }
    format!("already used by {by}; choose another address with {option}")
}

fn of_path(path: &Path, error: &io::Error, bound: &[Bound<'_>], option: &str) -> Option<String> {
    let another = format!("choose another path with {option}");
    Some(match Errno::from_io_error(error)? {
        Errno::ADDRINUSE => {
            let is_there = |address: &&Bound<'_>| address.file.is_some_and(|file| file.is_at(path));
            if let Some(same) = bound.iter().find(is_there) {
                listed_twice(option, same.option)
            } else if is_socket(path) {
                format!("in use by another program; stop that program or {another}")
            } else {
                format!("a file that is not a socket exists there; remove it or {another}")
            }
        }
        Errno::NOENT => format!("its directory does not exist; create it or {another}"),
        Errno::NOTDIR => format!("its parent is a file, not a directory; {another}"),
        Errno::ROFS => format!("its file system is read-only; {another}"),
        Errno::ACCESS => format!("its directory is not writable; {another}"),
        Errno::NAMETOOLONG => {
            let bytes = path.as_os_str().as_bytes().len();
            format!(
                "a path has at most {UNIX_PATH_MAX_BYTES} bytes, but this one has {bytes}; {another}"
            )
        }
        _ => return None,
    })
}

fn of_inet(
    endpoint: &Endpoint,
    error: &io::Error,
    bound: &[Bound<'_>],
    option: &str,
) -> Option<String> {
    let another = format!("choose another address with {option}");
    let wanted = match endpoint {
        Endpoint::All(port) => vec![SocketAddr::from(([0, 0, 0, 0], *port))],
        _ => endpoint.resolve().unwrap_or_default(),
    };
    Some(match Errno::from_io_error(error)? {
        Errno::ADDRINUSE => match bound.iter().find(|address| overlaps(address, &wanted)) {
            Some(address) if wanted.iter().any(|it| it.to_string() == address.name) => {
                listed_twice(option, address.option)
            }
            Some(Bound { name, .. }) => {
                format!(
                    "it overlaps with {name}, which this server also listens on; list only one of the two"
                )
            }
            None => format!("in use by another program; stop that program or {another}"),
        },
        Errno::ADDRNOTAVAIL => "this machine does not have this address; `ip address` lists those \
                                it has, `:PORT` listens on all"
            .into(),
        Errno::AFNOSUPPORT => format!("this system has no IPv6; {another}"),
        Errno::NODEV => "this machine has no such network interface; `ip link` lists them".into(),
        Errno::INVAL if wanted.iter().any(needs_scope) => "a link-local address needs its network \
                                                           interface, as in `[fe80::1%eth0]:3000`; \
                                                           `ip link` lists them"
            .into(),
        Errno::ACCESS => {
            let privileged = echown_limits::unprivileged_port_min();
            if !wanted.iter().any(|it| (1..privileged).contains(&it.port())) {
                return None;
            }
            format!(
                "ports below {privileged} need the capability CAP_NET_BIND_SERVICE; choose a higher \
                 port with {option}"
            )
        }
        _ => return None,
    })
}

/// Whether one of `wanted` equals the bound address, or one of the two is the unspecified address.
fn overlaps(address: &Bound<'_>, wanted: &[SocketAddr]) -> bool {
    let Ok(had) = address.name.parse::<SocketAddr>() else { return false };
    let is_all = |it: &SocketAddr| it.ip().is_unspecified();
    wanted
        .iter()
        .any(|it| it.port() == had.port() && (it.ip() == had.ip() || is_all(it) || is_all(&had)))
}

fn needs_scope(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(it) if it.ip().is_unicast_link_local() && it.scope_id() == 0)
}
