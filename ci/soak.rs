//! The soak test as a program, to run for minutes: `ci/soak --minutes 5`. `tests/soak` implements
//! it, and the tests include some seconds of it.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/soak/mod.rs"]
mod soak;

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser;

/// Runs clients, operator actions and faults against a server at once, then checks that the server
/// has as many descriptors and threads and as much memory as at the start. Exit code 1 if it has
/// not.
#[derive(Parser)]
#[command(name = "ci/soak")]
struct Arguments {
    /// Minutes to run, after the warm-up.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    minutes: f64,

    /// Minutes of warm-up, after which the allocator has the memory for such a load.
    #[arg(long, value_name = "N", default_value_t = 0.5)]
    warm_up_minutes: f64,

    /// Repeat the actions of a run with this seed; random by default.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// The server.
    #[arg(long, value_name = "FILE")]
    program: std::path::PathBuf,

    /// Options for the server, after `--`: `-- --style staged`.
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
        progress: show_progress,
    });
    if stderr().is_terminal() {
        eprintln!();
    }
    println!("{outcome}");
    if outcome.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Rewrites one line on a terminal. Anywhere else, such as in a log, writes one line in thirty.
fn show_progress(line: &str) {
    static LINES: AtomicU32 = AtomicU32::new(0);
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
    // ord: Relaxed; one thread counts.
    } else if LINES.fetch_add(1, Ordering::Relaxed).is_multiple_of(30) {
        eprintln!("{line}");
    }
}
