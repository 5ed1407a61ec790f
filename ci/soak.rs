//! The soak, to be run for minutes: `ci/soak --minutes 5`. What it does is in `tests/soak`, and some
//! seconds of it are among the tests.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/soak/mod.rs"]
mod soak;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Everything that clients, operators and bad luck do to a server, at once and for long; and then the
/// server must have the descriptors, threads and memory that it began with. Exit code 1 when it has
/// not.
#[derive(Parser)]
#[command(name = "ci/soak")]
struct Arguments {
    /// How long, after the warming up.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    minutes: f64,

    /// How long it is warmed up: only then has the allocator what it needs for such a load.
    #[arg(long, value_name = "N", default_value_t = 0.5)]
    warm_up_minutes: f64,

    /// Do what a run with this seed did; taken at random unless given.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// The server.
    #[arg(long, value_name = "FILE")]
    program: std::path::PathBuf,

    /// Given to the server as they are, after `--`: `-- --style staged`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let minutes = |minutes: f64| Duration::from_secs_f64(minutes.max(0.0) * 60.0);
    let outcome = soak::run(&soak::Settings {
        program: arguments.program,
        warm_up: minutes(arguments.warm_up_minutes),
        duration: minutes(arguments.minutes),
        seed,
        arguments: arguments.arguments,
        progress: |line| eprint!("\r\x1b[K{line}"),
    });
    eprintln!();
    println!("{outcome}");
    if outcome.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
