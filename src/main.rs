//! The program `echown`; see `echown --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    echown::cli::main()
}
