//! Endpoints: addresses as users write them.
//!
//! The failure story: an invalid address is rejected where it is parsed, with the reason and the accepted
//! forms. [`Endpoint::resolve`] finds out whether a name is known and an interface exists.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use echown_fd::escape;
use echown_report::InputError;

/// An address as users write it.
///
/// # Examples
/// ```
/// use echown::net::Endpoint;
///
/// for text in ["127.0.0.1:3000", "[::1]:3000", "[fe80::1%eth0]:3000", "localhost:3000"] {
///     assert_eq!(text.parse(), Ok(Endpoint::Inet(text.into())));
/// }
/// assert_eq!("3000".parse(), Ok(Endpoint::Inet("127.0.0.1:3000".into())));
/// assert_eq!(":3000".parse(), Ok(Endpoint::All(3000)));
/// assert_eq!("unix:/run/echo".parse(), Ok(Endpoint::Unix("/run/echo".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A host and a port; port 0 takes a free one. The host is a name or a number; an IPv6 address is in
    /// brackets and may have a scope, as the name or the index of a network interface.
    Inet(String),
    /// All addresses of this machine, IPv6 and IPv4, at this port. To connect to: this machine.
    All(u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// The numeric addresses to connect to or to listen on, in the order in which to try them.
    ///
    /// # Errors
    /// `InvalidInput`: not a host with a port, or a Unix socket. Otherwise the resolver's error, with the
    /// name.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let address = match self {
            Endpoint::Inet(address) => address,
            Endpoint::All(port) => {
                let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                return Ok(here.map(|ip| SocketAddr::new(ip, *port)).to_vec());
            }
            Endpoint::Unix(_) => {
                let text = format!("{self} has no internet address");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let (host, port) = host_and_port(address).map_err(invalid)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match (host, port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(io::Error::new(error.kind(), unknown(host, &error))),
        }
    }
}

/// Why a host has no address, and what to do.
fn unknown(host: &str, error: &io::Error) -> String {
    if let Some((_, scope)) = host.split_once('%') {
        return format!(
            "`{scope}` is not a network interface of this machine, or the address is not link-local; \
             `ip link` lists the interfaces"
        );
    }
    let error = error.to_string();
    // The standard library's prefix.
    let cause = error.strip_prefix("failed to lookup address information: ").unwrap_or(&error);
    format!("the host `{host}` has no known address ({cause}); check the name, or give a number")
}

/// The accepted forms, for the end of every error.
const EXPECTED: &str =
    "expected ADDRESS:PORT, [IPv6]:PORT, :PORT (all addresses), PORT or unix:PATH";

impl FromStr for Endpoint {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Endpoint, InputError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(InputError::new("`unix:` needs a path, as in `unix:/run/echo`")),
                path => Ok(Endpoint::Unix(path.into())),
            };
        }
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Endpoint::Inet(format!("{}:{port}", Ipv4Addr::LOCALHOST)));
        }
        match host_and_port(text) {
            Ok(("" | "*", port)) => Ok(Endpoint::All(port)),
            Ok((host, _)) => match why_not_host(host) {
                None => Ok(Endpoint::Inet(text.into())),
                Some(why) => Err(refusal(&why)),
            },
            Err(why) => Err(refusal(&why)),
        }
    }
}

fn refusal(why: &str) -> InputError {
    InputError::new(format!("{}; {EXPECTED}", escape::text(why)))
}

/// Splits an address at the colon before its port; the host keeps its brackets.
///
/// # Errors
/// Which of the two is missing or invalid.
fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.contains('/') {
        return Err(match text.split_once("://") {
            Some((scheme, _)) => format!("an address has no scheme: omit `{scheme}://`"),
            None => format!("the path of a Unix socket is written `unix:{text}`"),
        });
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address is in brackets, as in `[{text}]:3000`"));
    }
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(text) {
        return Err("a port is a number from 0 to 65535".into());
    }
    let host_alone = || format!("the port is missing, as in `{text}:3000`");
    if text.ends_with(']') {
        return Err(host_alone());
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(host_alone)?;
    match port.parse() {
        Ok(port) => Ok((host, port)),
        Err(_) => Err(format!("`{port}` is not a port, which is a number from 0 to 65535")),
    }
}

/// Why this cannot be the host of an address; `None` if only the resolver can tell.
fn why_not_host(host: &str) -> Option<String> {
    if let Some(inner) = host.strip_prefix('[') {
        let (number, scope) = match inner.strip_suffix(']')?.split_once('%') {
            Some((number, scope)) => (number, Some(scope)),
            None => (inner.strip_suffix(']')?, None),
        };
        let is_fine = number.parse::<Ipv6Addr>().is_ok() && scope != Some("");
        return (!is_fine).then(|| format!("`{host}` is not an IPv6 address"));
    }
    if host.contains(':') {
        return Some(format!("an IPv6 address is in brackets, as in `[{host}]:3000`"));
    }
    let looks_numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if looks_numeric && host.parse::<Ipv4Addr>().is_err() {
        return Some(format!("`{host}` is not an IPv4 address"));
    }
    let is_part_of_no_name =
        |it: char| it.is_whitespace() || it.is_control() || "[]%*@".contains(it);
    host.contains(is_part_of_no_name).then(|| format!("`{host}` is not a host"))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Inet(address) => f.write_str(&escape::text(address)),
            Endpoint::All(port) => write!(f, "*:{port}"),
            Endpoint::Unix(path) => write!(f, "unix:{}", escape::path(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_parsed_from_every_accepted_form() {
        let inet = |text: &str| Ok(Endpoint::Inet(text.into()));
        for (text, endpoint) in [
            ("127.0.0.1:0", inet("127.0.0.1:0")),
            ("localhost:3000", inet("localhost:3000")),
            ("[::1]:0", inet("[::1]:0")),
            ("[fe80::1%eth0]:3000", inet("[fe80::1%eth0]:3000")),
            ("[fe80::1%2]:3000", inet("[fe80::1%2]:3000")),
            ("3000", inet("127.0.0.1:3000")),
            (":3000", Ok(Endpoint::All(3000))),
            ("*:3000", Ok(Endpoint::All(3000))),
            ("unix:/run/echo", Ok(Endpoint::Unix("/run/echo".into()))),
        ] {
            assert_eq!(text.parse::<Endpoint>(), endpoint, "{text}");
        }
    }

    #[test]
    fn an_invalid_endpoint_is_rejected_with_the_reason_and_the_accepted_forms() {
        assert!("unix:".parse::<Endpoint>().unwrap_err().to_string().contains("needs a path"));
        for (text, why) in [
            ("", "it is empty"),
            ("localhost", "the port is missing, as in `localhost:3000`"),
            ("[::1]", "the port is missing, as in `[::1]:3000`"),
            ("::1", "an IPv6 address is in brackets, as in `[::1]:3000`"),
            ("::1:3000", "an IPv6 address is in brackets, as in `[::1:3000]:3000`"),
            ("fe80::1%eth0:3000", "an IPv6 address is in brackets, as in `[fe80::1%eth0]:3000`"),
            ("70000", "a port is a number from 0 to 65535"),
            ("127.0.0.1:99999", "`99999` is not a port, which is a number from 0 to 65535"),
            ("127.0.0.1:http", "`http` is not a port, which is a number from 0 to 65535"),
            ("http://localhost:3000", "an address has no scheme: omit `http://`"),
            ("/run/echo", "the path of a Unix socket is written `unix:/run/echo`"),
            ("256.0.0.1:3000", "`256.0.0.1` is not an IPv4 address"),
            ("[*]:3000", "`[*]` is not an IPv6 address"),
            ("[::1%]:3000", "`[::1%]` is not an IPv6 address"),
            ("a b:3000", "`a b` is not a host"),
            (" 127.0.0.1:3000", "` 127.0.0.1` is not a host"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.to_string(), format!("{why}; {EXPECTED}"), "{text}");
        }
    }

    #[test]
    fn a_scope_is_an_interface_by_name_or_index_and_an_unknown_one_is_named() {
        let resolve = |text: &str| text.parse::<Endpoint>().unwrap().resolve();
        let by_index = resolve("[fe80::1%1]:3000").unwrap();
        assert_eq!(by_index[0].to_string(), "[fe80::1%1]:3000");
        let error = resolve("[fe80::1%nosuch0]:3000").unwrap_err().to_string();
        assert!(error.starts_with("`nosuch0` is not a network interface"), "{error}");
        if !std::path::Path::new("/sys/class/net/lo").exists() {
            eprintln!("skipped: there is no interface lo");
            return;
        }
        let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let by_name = resolve("[fe80::1%lo]:3000").unwrap();
        assert_eq!(by_name[0].to_string(), format!("[fe80::1%{}]:3000", index.trim()));
    }
}
