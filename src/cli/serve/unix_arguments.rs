//! The options of Unix sockets: who may connect.

use clap::Args;
use echown_fd::escape;

use crate::bind::SocketAccess;
use crate::net::Endpoint;

/// Where the names of groups are.
const GROUPS: &str = "/etc/group";

/// Options of Unix sockets.
#[derive(Args)]
#[command(next_help_heading = "Unix sockets")]
pub(super) struct UnixArguments {
    /// Permissions of the sockets at `unix:` addresses of --listen and --status, in octal, as in `0660`:
    /// clients need the right to write. They are set before a client can connect. By default the umask
    /// decides: with the usual 0022, only the server's user and root can connect. A socket that a service
    /// manager or another server passes keeps its own.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    unix_mode: Option<u32>,

    /// Group of the sockets at `unix:` addresses, by name (in /etc/group) or number. The server's user
    /// must be a member. Set before a client can connect; combine it with `--unix-mode 0660`.
    #[arg(long, value_name = "GROUP", value_parser = group)]
    unix_group: Option<u32>,
}

impl UnixArguments {
    /// Who may connect to the sockets.
    pub(super) fn access(&self) -> SocketAccess {
        SocketAccess { mode: self.unix_mode, group: self.unix_group }
    }

    /// Checks that the options apply to one of the addresses.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn check<'a>(
        &self,
        mut endpoints: impl Iterator<Item = &'a Endpoint>,
    ) -> Result<(), String> {
        let option = match (self.unix_mode, self.unix_group) {
            (Some(_), _) => "--unix-mode",
            (None, Some(_)) => "--unix-group",
            (None, None) => return Ok(()),
        };
        if endpoints.any(|endpoint| matches!(endpoint, Endpoint::Unix(_))) {
            return Ok(());
        }
        Err(format!(
            "{option} is for `unix:` addresses of --listen and --status, and there is none"
        ))
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| "expected permissions in octal, such as `0660`, at most 0777".into())
}

fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string(GROUPS)
        .map_err(|error| format!("failed to read {GROUPS} ({error}); use the group's number"))?;
    number_of(text, &groups).ok_or_else(|| {
        format!("there is no group `{}` in {GROUPS}; use its number", escape::text(text))
    })
}

/// The number of a group in the text of `/etc/group`.
fn number_of(name: &str, groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_has_permission_bits_only() {
        for (text, expected) in [("0660", 0o660), ("660", 0o660), ("0o600", 0o600), ("0", 0)] {
            assert_eq!(mode(text), Ok(expected), "{text}");
        }
        for text in ["", "0o", "rw", "0680", "+660", "-1", "1777", "07777777777777777777"] {
            assert!(mode(text).unwrap_err().contains("`0660`"), "{text}");
        }
    }

    #[test]
    fn a_group_is_a_number_or_a_name_in_the_list() {
        let groups = "root:x:0:\nweb-data:x:33:www,echo\nbroken\nweb:x:34:\n";
        assert_eq!(number_of("web", groups), Some(34));
        assert_eq!(number_of("web-data", groups), Some(33));
        assert_eq!(number_of("broken", groups), None);
        assert_eq!(number_of("echo", groups), None);
        assert_eq!(group("4711"), Ok(4711));
        assert!(group("no such group").unwrap_err().contains("use its number"));
    }
}
