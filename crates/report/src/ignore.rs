//! What a test declares to be no finding, and why.

use echown_fd::kind;

/// What is no finding, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignore {
    /// Something in the path or in an address.
    Path {
        /// A part of it.
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
    /// The reason, if this is about a descriptor of such a kind and such a place.
    #[must_use]
    pub fn covers(&self, kind: &str, places: &[&str]) -> Option<&'static str> {
        let (covers, because) = match *self {
            Ignore::Path { what, because } => {
                (places.iter().any(|place| place.contains(what)), because)
            }
            Ignore::Kind { what: kind::SOCKET, because } => (kind::is_socket(kind), because),
            Ignore::Kind { what, because } => (kind == what, because),
            Ignore::CloseInherited { .. } => return None,
        };
        covers.then_some(because)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_covers_every_kind_of_socket_and_nothing_else() {
        let ignore = Ignore::Kind { what: "socket", because: "a reason" };
        for kind in ["socket", "tcp stream", "udp socket", "unix datagram", "netlink socket"] {
            assert_eq!(ignore.covers(kind, &[]), Some("a reason"), "{kind}");
        }
        for kind in ["pipe", "file", "epoll"] {
            assert_eq!(ignore.covers(kind, &["socket"]), None, "{kind}");
        }
    }

    #[test]
    fn a_path_is_covered_by_a_part_of_it() {
        let ignore = Ignore::Path { what: "/log/", because: "a reason" };
        assert_eq!(ignore.covers("file", &["/var/log/app"]), Some("a reason"));
        assert_eq!(ignore.covers("file", &["/var/lib/app"]), None);
    }
}
