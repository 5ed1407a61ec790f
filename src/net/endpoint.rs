//! Addresses as people write them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::sys::escape;

/// An address as people write it: `127.0.0.1:3000`, `[::1]:3000`, `localhost:3000`, `unix:/run/echo`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A host and a port; port 0 takes a free one.
    Inet(String),
    /// A path in the file system.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("`unix:` needs a path, as in `unix:/run/echo`".into()),
            Some(path) => Ok(Endpoint::Unix(path.into())),
            None => {
                let has_port = text
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                if has_port {
                    Ok(Endpoint::Inet(text.into()))
                } else {
                    Err("expected ADDRESS:PORT, [IPv6]:PORT or unix:PATH".into())
                }
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Inet(address) => f.write_str(&escape::text(address)),
            Endpoint::Unix(path) => write!(f, "unix:{}", escape::path(path)),
        }
    }
}
