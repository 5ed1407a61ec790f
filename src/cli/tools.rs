//! The subcommands that a server does not need; the feature `cli` adds them to `serve`.

use std::process::ExitCode;

use clap::Subcommand;

#[cfg(target_os = "linux")]
use super::bench;
#[cfg(not(target_vendor = "apple"))]
use super::learn;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use super::run;
use super::{client, completions, man, picture, unchecked, view};

#[derive(Subcommand)]
pub(super) enum Tool {
    Client(Box<client::ClientArguments>),
    #[cfg(target_os = "linux")]
    Bench(Box<bench::BenchArguments>),
    Completions(completions::CompletionsArguments),
    #[cfg(not(target_vendor = "apple"))]
    Learn(learn::LearnArguments),
    Man(man::ManArguments),
    Picture(picture::PictureArguments),
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Run(Box<run::RunArguments>),
    Unchecked(unchecked::UncheckedArguments),
    View(view::ViewArguments),
}

pub(super) fn run(tool: &Tool) -> ExitCode {
    match tool {
        Tool::Client(arguments) => client::run(arguments),
        #[cfg(target_os = "linux")]
        Tool::Bench(arguments) => bench::run(arguments),
        Tool::Completions(arguments) => completions::run(arguments),
        #[cfg(not(target_vendor = "apple"))]
        Tool::Learn(arguments) => learn::run(arguments),
        Tool::Man(arguments) => man::run(arguments),
        Tool::Picture(arguments) => picture::run(arguments),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Tool::Run(arguments) => run::run(arguments),
        Tool::Unchecked(arguments) => unchecked::run(arguments),
        Tool::View(arguments) => view::run(arguments),
    }
}
