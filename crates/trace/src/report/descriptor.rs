//! The descriptor of a finding: its kind and what it refers to.

use echown_fd::{escape, kind};
use echown_report::Descriptor;

use crate::finding::Finding;

/// The descriptor as its process had it, if it was open at some time.
pub(super) fn described(finding: &Finding) -> Option<Descriptor> {
    if let Some(details) = &finding.details {
        let details = details.as_ref().clone();
        return Some(Descriptor {
            number: finding.number,
            kind: details.kind.to_owned(),
            local: details.local,
            peer: details.peer,
            path: details.path,
            facts: details.facts,
        });
    }
    let opening = finding.opening.as_ref()?;
    Some(Descriptor {
        number: finding.number,
        kind: kind_of(&opening.link, opening.call).to_owned(),
        path: (!opening.link.is_empty()).then(|| link(&opening.link)),
        ..Descriptor::default()
    })
}

/// A link of `/proc/PID/fd`, escaped.
pub(super) fn link(link: &str) -> String {
    escape::bytes(link.as_bytes()).into_owned()
}

/// The kind of a descriptor, from its link, or else from the call that created it.
pub(super) fn kind_of(link: &str, call: &str) -> &'static str {
    if let Some(name) = link.strip_prefix("anon_inode:") {
        let name = name.trim_start_matches('[');
        let known = kind::BY_LINK.iter().find(|(start, _)| name.starts_with(start));
        return known.map_or(kind::ANONYMOUS_INODE, |(_, kind)| *kind);
    }
    match link.split_once(":[") {
        Some(("socket", _)) => return kind::SOCKET,
        Some(("pipe", _)) => return kind::PIPE,
        Some((name, _)) if !name.starts_with('/') => return kind::NAMESPACE,
        _ => {}
    }
    match link {
        "" => match call {
            "socket" | "socketpair" | "accept" | "accept4" => kind::SOCKET,
            "pipe" | "pipe2" => kind::PIPE,
            "epoll_create" | "epoll_create1" => kind::EPOLL,
            "eventfd" | "eventfd2" => kind::EVENTFD,
            "timerfd_create" => kind::TIMERFD,
            "memfd_create" => kind::MEMFD,
            "open" | "openat" | "openat2" | "creat" => kind::FILE,
            _ => "descriptor",
        },
        link if link.starts_with("/memfd:") => kind::MEMFD,
        link if link.starts_with("/dev/pts/") => kind::PTY_SLAVE,
        link if link.starts_with("/dev/") && !link.starts_with("/dev/shm/") => kind::DEVICE,
        _ => kind::FILE,
    }
}
