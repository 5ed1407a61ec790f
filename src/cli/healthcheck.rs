//! The subcommand `echown healthcheck`: asks a server whether it serves.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::style::StyleName;
use super::units::escaped;
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::client::health::{self, Probe, Target};
use crate::ownership::Registry;

/// Printed below the options.
const NOTES: &str = "\
Limits:
  The check ends after 2 s in total, whatever hangs: the resolver, the
  connection or the reply.
  The check is a client like any other: it takes a place of
  --max-connections, and a server without a free one is not healthy. The
  status address has places of its own.

Exit codes:
  0  healthy; nothing is printed
  1  not healthy; one line on standard error says why
  2  invalid arguments";

/// Ask a server whether it serves, for health checks of containers and service managers.
///
/// For an echo address, sends one line and expects it back (`--style echo` and `callback`), or only
/// connects (`staged` and `broadcast`, where a request would show up in the trace or at other clients).
/// For a status address, given as `http://ADDR/healthz`, expects the response 200; from the first
/// signal to stop on it is 503. The check needs no shell, no other program and no /proc.
#[derive(Args)]
#[command(args_override_self = true, after_long_help = NOTES)]
pub(super) struct HealthcheckArguments {
    /// Address of the server, in the forms of `echown serve --listen`, or of its --status as
    /// `http://ADDR/healthz`; for a Unix socket that is `http://unix:PATH/healthz`. By default the
    /// first address of the variable ECHOWN_SERVE_LISTEN, or the default address of the style.
    #[arg(value_name = "ADDR", value_parser = target)]
    address: Option<Target>,

    /// Style of the server: `echo`, `staged`, `broadcast` or `callback`. By default that of the variable
    /// ECHOWN_SERVE_STYLE, or `echo`.
    #[arg(long, value_name = "STYLE", hide_possible_values = true)]
    style: Option<StyleName>,
}

/// How long the check may take in total.
const TIME: Duration = Duration::from_secs(2);

pub(super) fn run(arguments: &HealthcheckArguments) -> ExitCode {
    let (style, target) = match arguments.server() {
        Ok(server) => server,
        Err(message) => return fail(message, EXIT_USAGE),
    };
    if matches!(target, Target::Status(_)) && arguments.style.is_some() {
        return fail("--style is for an echo address, not for http://", EXIT_USAGE);
    }
    let probe = match style {
        StyleName::Echo | StyleName::Callback => Probe::Exchange,
        StyleName::Staged | StyleName::Broadcast => Probe::Connect,
    };
    let registry = Registry::new();
    let _entered = registry.enter();
    match health::check(&target, probe, TIME) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(format_args!("not healthy: {why}"), EXIT_FAILURE),
    }
}

impl HealthcheckArguments {
    /// The server as the arguments name it, or as the variables do that it was started with: a health
    /// check in a container has the same ones.
    ///
    /// # Errors
    /// The value of a variable is not valid.
    fn server(&self) -> Result<(StyleName, Target), String> {
        let invalid = |name, why: String| format!("invalid value of {name}: {why}");
        let style = match (self.style, variable("ECHOWN_SERVE_STYLE")) {
            (Some(style), _) => style,
            (None, Some(text)) => StyleName::from_str(&text, false)
                .map_err(|why| invalid("ECHOWN_SERVE_STYLE", escaped(why)))?,
            (None, None) => StyleName::Echo,
        };
        let target = match (&self.address, variable("ECHOWN_SERVE_LISTEN")) {
            (Some(target), _) => target.clone(),
            (None, Some(text)) => target(text.split(',').next().unwrap_or_default())
                .map_err(|why| invalid("ECHOWN_SERVE_LISTEN", why))?,
            (None, None) => Target::Echo(style.endpoint()),
        };
        Ok((style, target))
    }
}

/// A variable of the environment; an empty one counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn target(text: &str) -> Result<Target, String> {
    text.parse().map_err(escaped)
}
