//! The options of the checker.

use clap::Args;
use clap::builder::TypedValueParser;

use crate::cli::suppression_arguments::SuppressionArguments;
use crate::cli::units::one_of;
use crate::ownership::{Level, Policy};

/// Options of the checker.
#[derive(Args)]
#[command(next_help_heading = "Checker")]
pub(super) struct CheckArguments {
    /// Level of the ownership checker: `off` (no checks, no reports), `on`, or `full` (adds backtraces
    /// and checks the identity of a descriptor at every operation).
    #[arg(long, value_name = "LEVEL", default_value_t = Level::On,
        value_parser = one_of::<Level>(&["off", "on", "full"]))]
    pub(super) ownership: Level,

    /// Policy for leaks: `ignore`, `warn`, `fail` (exit code 23) or `abort`.
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Warn, value_parser = policy())]
    pub(super) on_leak: Policy,

    /// Policy for other violations; same values.
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Warn, value_parser = policy())]
    pub(super) on_violation: Policy,

    #[command(flatten)]
    pub(super) suppressions: SuppressionArguments,
}

fn policy() -> impl TypedValueParser<Value = Policy> {
    one_of(&["ignore", "warn", "fail", "abort"])
}
