//! Who may read what: the resources, the addresses that they are served on, and the checks of a request.
//!
//! The failure story: paths and addresses of peers are not for other sites, but every page that a
//! browser shows may send requests to `127.0.0.1`. The browser does not let such a page read
//! the response, unless the page's own name suddenly resolves to 127.0.0.1 (DNS rebinding); such a
//! request carries that name in its `Host` header. So three things are checked:
//!
//! - the address, when it is bound: a resource is served on addresses of this machine only, unless it is
//!   public ([`Resource::is_served_at`]);
//! - the `Host` header of each request: a name of this machine, or one that the user allowed;
//! - `Sec-Fetch-Site`, with which browsers mark requests of other sites' pages, so that such a page
//!   cannot occupy the few places for viewers. A link to the page itself is allowed.
//!
//! A public resource contains nothing about a client, a path or a task, so the last two are not checked
//! for it: a scraper or a load balancer uses whatever name or address it was given.
//!
//! # Limits
//!
//! - Every user of this machine can connect to a loopback address. A Unix socket has file permissions.
//! - Everyone who reaches a public resource sees how busy the server is. A firewall decides who does.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use echown_fd::escape;
use echown_report::InputError;

use super::request::Request;
use crate::net::Endpoint;

/// What the status server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Page,
    Events,
    Snapshot,
    Health,
    Metrics,
}

/// From where an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// This machine only: a loopback address or a Unix socket.
    Machine,
    /// Other machines.
    Network,
}

impl Resource {
    pub(super) const ALL: [Resource; 5] =
        [Resource::Page, Resource::Events, Resource::Snapshot, Resource::Health, Resource::Metrics];

    pub(super) fn path(self) -> &'static str {
        match self {
            Resource::Page => "/",
            Resource::Events => "/events",
            Resource::Snapshot => "/snapshot.json",
            Resource::Health => "/healthz",
            Resource::Metrics => "/metrics",
        }
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            Resource::Page => "who owns what, in a browser",
            Resource::Events => "what happens, as JSON lines in server-sent events",
            Resource::Snapshot => "tasks and open descriptors right now, as JSON",
            Resource::Health => "200 while the program serves, 503 when it stops",
            Resource::Metrics => "counters, for Prometheus",
        }
    }

    /// Whether the resource is served at an address with this reach. The only place that decides it.
    pub(super) fn is_served_at(self, reach: Reach) -> bool {
        reach == Reach::Machine || self.is_public()
    }

    /// Whether everyone may read it who can connect.
    pub(super) fn is_public(self) -> bool {
        match self {
            // Paths, addresses of peers, names and places of the program.
            Resource::Page | Resource::Events | Resource::Snapshot => false,
            Resource::Health | Resource::Metrics => true,
        }
    }

    /// Whether a browser may request it for a page of another site, which then does not get it, but
    /// occupies a place.
    fn may_be_linked(self) -> bool {
        self == Resource::Page
    }
}

/// The reach of an endpoint that is to be bound.
///
/// # Errors
/// The host is not known.
pub(super) fn reach(endpoint: &Endpoint) -> io::Result<Reach> {
    let is_of_machine = match endpoint {
        Endpoint::Unix(_) => true,
        Endpoint::All(_) => false,
        Endpoint::Inet(_) => {
            let addresses = endpoint.resolve()?;
            addresses.iter().all(|address| address.ip().to_canonical().is_loopback())
        }
    };
    Ok(if is_of_machine { Reach::Machine } else { Reach::Network })
}

/// Which of the resources that there are may be served at an endpoint, and its reach. `option` is the one
/// that has the endpoint as its value.
///
/// # Errors
/// Why none of them, and what to do.
pub(super) fn check_endpoint(
    endpoint: &Endpoint,
    option: &str,
    mut resources: Vec<Resource>,
) -> Result<(Reach, Vec<Resource>), String> {
    let reach = reach(endpoint).map_err(|error| error.to_string())?;
    resources.retain(|resource| resource.is_served_at(reach));
    if !resources.is_empty() {
        return Ok((reach, resources));
    }
    Err(format!(
        "other machines could connect to it, and the status shows paths and addresses of peers without \
         a password; choose a loopback address or a Unix socket with {option}, as in 127.0.0.1:3001 or \
         unix:PATH, and reach it from elsewhere through `ssh -L` or a reverse proxy with a password"
    ))
}

/// The host names that a request may have, in lower case.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// The names of this machine, the bound host as the user wrote it, and `others`.
    pub(super) fn new(endpoint: &Endpoint, others: &[HostName]) -> Hosts {
        let mut names: Vec<String> = others.iter().map(|host| host.0.clone()).collect();
        if let Endpoint::Inet(address) = endpoint {
            names.extend(host_of(address));
        }
        Hosts(names)
    }

    /// Whether a `Host` header names this server. The port does not count: a tunnel has another one.
    fn contain(&self, header: &str) -> bool {
        let Some(host) = host_of(header) else { return false };
        let ip = host.parse::<IpAddr>();
        host == "localhost"
            || ip.is_ok_and(|ip| match ip {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST,
            })
            || self.0.contains(&host)
    }
}

/// The host of a `Host` header: in lower case, without port, brackets and the dot of a full name.
fn host_of(header: &str) -> Option<String> {
    let (host, rest) = match header.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            (host.parse::<Ipv6Addr>().ok()?.to_string(), rest)
        }
        None => {
            let (host, rest) = header.split_at(header.find(':').unwrap_or(header.len()));
            (host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(), rest)
        }
    };
    let is_port = |rest: &str| {
        rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    (!host.is_empty() && (rest.is_empty() || is_port(rest))).then_some(host)
}

/// A host name that a user allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostName(String);

impl FromStr for HostName {
    type Err = InputError;

    fn from_str(text: &str) -> Result<HostName, InputError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<Ipv6Addr>() {
            return Ok(HostName(ip.to_string()));
        }
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let host = host_of(text).filter(|_| text.bytes().all(is_of_name));
        host.map(HostName).ok_or_else(|| not_a_host(text))
    }
}

fn not_a_host(text: &str) -> InputError {
    InputError::new(format!(
        "`{}` is not a host; expected a name or an IP address without a port, as in \
         `status.example.org`",
        escape::text(text)
    ))
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The host is not a name of this server.
    Host,
    Method,
    NotFound,
    /// A page of another site sent it.
    OtherSite,
}

/// The resource that a request may read.
pub(super) fn check(
    request: &Request,
    hosts: &Hosts,
    served: &[Resource],
) -> Result<Resource, Denied> {
    let resource = served.iter().copied().find(|resource| resource.path() == request.path);
    // Where everything is public, a wrong path is no reason to speak of names.
    let is_public = match resource {
        Some(resource) => resource.is_public(),
        None => served.iter().all(|resource| resource.is_public()),
    };
    if !is_public && !hosts.contain(&request.host) {
        return Err(Denied::Host);
    }
    if !["GET", "HEAD"].contains(&&*request.method) {
        return Err(Denied::Method);
    }
    let resource = resource.ok_or(Denied::NotFound)?;
    // `none`: typed, or a bookmark.
    let is_own =
        request.fetch_site.as_deref().is_none_or(|site| ["same-origin", "none"].contains(&site));
    if is_public || is_own || resource.may_be_linked() {
        Ok(resource)
    } else {
        Err(Denied::OtherSite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("it is valid")
    }

    #[test]
    fn only_loopback_addresses_and_unix_sockets_are_of_this_machine() {
        for own in [
            "127.0.0.1:0",
            "127.8.9.1:80",
            "[::1]:0",
            "3000",
            "unix:/run/status",
            "[::ffff:127.0.0.1]:0",
            "localhost:0",
        ] {
            let all = Resource::ALL.to_vec();
            let served = check_endpoint(&endpoint(own), "--status", all.clone());
            assert_eq!(served, Ok((Reach::Machine, all)), "{own}");
        }
        for other in [":3000", "0.0.0.0:3000", "[::]:3000", "192.0.2.1:3000", "[fe80::1%1]:80"] {
            let all = Resource::ALL.to_vec();
            let served = check_endpoint(&endpoint(other), "--status", all);
            assert_eq!(
                served,
                Ok((Reach::Network, vec![Resource::Health, Resource::Metrics])),
                "{other}"
            );
            let of_recording = vec![Resource::Page, Resource::Events];
            let error = check_endpoint(&endpoint(other), "--listen", of_recording).unwrap_err();
            assert!(error.contains("other machines could connect to it"), "{other}: {error}");
        }
    }

    #[test]
    fn a_host_header_must_name_this_machine_or_an_allowed_host() {
        let others = ["Status.Example.org".parse().unwrap(), "[2001:DB8::1]".parse().unwrap()];
        let hosts = Hosts::new(&endpoint("workstation:0"), &others);
        for own in [
            "localhost",
            "LOCALHOST:3001",
            "localhost.",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]:1",
            "[::1]",
            "status.example.org",
            "STATUS.example.org.:8443",
            "workstation:9",
            "[2001:db8::1]:443",
        ] {
            assert!(hosts.contain(own), "{own}");
        }
        for other in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "128.0.0.1",
            "localhost:80:80",
            "localhost:x",
            "[::1",
            "[::2]",
            "::1",
            "[localhost]",
            "evil.example:80@localhost",
            "user@localhost",
            "0.0.0.0",
            "localhost evil.example",
        ] {
            assert!(!hosts.contain(other), "{other}");
        }
    }

    #[test]
    fn a_host_name_is_a_name_without_port_scheme_and_wildcard() {
        for valid in ["a", "status.example.org", "a_b", "192.0.2.1", "::1", "[::1]"] {
            assert!(valid.parse::<HostName>().is_ok(), "{valid}");
        }
        for invalid in ["", "a:80", "http://a", "*", "*.example.org", "a b", "[::1", "."] {
            assert!(invalid.parse::<HostName>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_request_is_checked_for_host_method_path_and_site_in_this_order() {
        let hosts = Hosts::new(&endpoint("127.0.0.1:0"), &[]);
        let request = |method: &str, path: &str, host: &str, site: Option<&str>| {
            let request = Request {
                method: method.into(),
                path: path.into(),
                host: host.into(),
                fetch_site: site.map(str::to_owned),
                accept: None,
            };
            check(&request, &hosts, &Resource::ALL)
        };
        let site = Some("cross-site");
        assert_eq!(request("POST", "/x", "evil.example", site), Err(Denied::Host));
        assert_eq!(request("POST", "/x", "localhost", site), Err(Denied::Method));
        assert_eq!(request("GET", "/x", "localhost", site), Err(Denied::NotFound));
        assert_eq!(request("GET", "/snapshot.json", "localhost", site), Err(Denied::OtherSite));
        assert_eq!(
            request("GET", "/", "localhost", site),
            Ok(Resource::Page),
            "a link to the page"
        );
        let sibling = Some("same-site");
        assert_eq!(request("GET", "/snapshot.json", "localhost", sibling), Err(Denied::OtherSite));
        for own in [None, Some("none"), Some("same-origin")] {
            let served = request("HEAD", "/snapshot.json", "localhost", own);
            assert_eq!(served, Ok(Resource::Snapshot));
        }
        assert_eq!(request("POST", "/healthz", "10.0.0.1", site), Err(Denied::Method));
        assert_eq!(request("GET", "/healthz", "10.0.0.1", site), Ok(Resource::Health));
    }
}
