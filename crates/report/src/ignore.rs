//! Findings that a test declares as expected, with a reason.

use echown_fd::kind;

/// A rule for expected findings, with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignore {
    /// A descriptor whose path or address contains `what`.
    Path {
        /// A part of the path or address.
        what: &'static str,
        /// Printed when it is used.
        because: &'static str,
    },
    /// Descriptors of one kind.
    Kind {
        /// The kind, or `socket` for all sockets.
        what: &'static str,
        /// Printed when it is used.
        because: &'static str,
    },
    /// Closing descriptors that the process inherited.
    CloseInherited {
        /// Printed when it is used.
        because: &'static str,
    },
}

impl Ignore {
    /// The reason, if the rule matches a descriptor of this kind at this place.
    #[must_use]
    pub fn reason(&self, kind: &str, places: &[&str]) -> Option<&'static str> {
        let (matches, because) = match *self {
            Ignore::Path { what, because } => {
                (places.iter().any(|place| place.contains(what)), because)
            }
            Ignore::Kind { what: kind::SOCKET, because } => (kind::is_socket(kind), because),
            Ignore::Kind { what, because } => (kind == what, because),
            Ignore::CloseInherited { .. } => return None,
        };
        matches.then_some(because)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_matches_every_kind_of_socket_and_nothing_else() {
        let ignore = Ignore::Kind { what: "socket", because: "a reason" };
        for kind in ["socket", "tcp stream", "udp socket", "unix datagram", "netlink socket"] {
            assert_eq!(ignore.reason(kind, &[]), Some("a reason"), "{kind}");
        }
        for kind in ["pipe", "file", "epoll"] {
            assert_eq!(ignore.reason(kind, &["socket"]), None, "{kind}");
        }
    }

    #[test]
    fn a_path_matches_by_a_part_of_it() {
        let ignore = Ignore::Path { what: "/log/", because: "a reason" };
        assert_eq!(ignore.reason("file", &["/var/log/app"]), Some("a reason"));
        assert_eq!(ignore.reason("file", &["/var/lib/app"]), None);
    }
}
