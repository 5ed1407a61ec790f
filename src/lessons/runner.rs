//! Runs a lesson's program in this process, in a registry of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use echown_learn::{End, Finding, Lesson, Run};

use crate::ownership::{Registry, Report, TaskError};
use crate::pool::thread;
use crate::report::{Colours, Sources};

/// How long a program may run. Those that end do so within milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// One of the two programs of a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The program with the bug.
    Broken,
    /// The program without it.
    Fixed,
}

impl Variant {
    /// The name of its file.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Variant::Broken => "broken.rs",
            Variant::Fixed => "fixed.rs",
        }
    }
}

/// Runs a program. If it does not end in time, it still runs when this returns: the caller ends the
/// process.
pub(crate) fn run_here(lesson: &'static Lesson, variant: Variant) -> Run {
    let reports = Arc::new(Mutex::new(Vec::<Report>::new()));
    let sink = Arc::clone(&reports);
    let registry = Registry::builder()
        .sink(move |report| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push(report.clone());
        })
        .build();
    let program = match variant {
        Variant::Broken => &lesson.broken,
        Variant::Fixed => &lesson.fixed,
    };
    let run = program.run;
    let entered = registry.enter();
    let promise = thread::spawn_named("main", [], move || run().map_err(|error| error.to_string()));
    drop(entered);
    let (end, state) = match promise {
        Err(error) => (End::Failed(error.to_string()), None),
        Ok(promise) => match promise.wait_until(Instant::now() + TIME_LIMIT) {
            Ok(false) => {
                let state = registry.snapshot().to_string();
                // The process ends with it.
                std::mem::forget(promise);
                (End::Hung(TIME_LIMIT.as_secs()), Some(state))
            }
            Ok(true) | Err(_) => (end(promise.join()), None),
        },
    };
    let place = place(lesson, variant);
    let shown = |text: String| text.replace(&place, variant.file());
    let sources = Sources::of_texts([(place.clone(), program.text)]);
    let reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
    let finding = |report: &Report| Finding {
        code: report.code().to_string(),
        text: shown(report.render(&sources, Colours::Never)),
    };
    let end = match end {
        // The reports say the rest.
        End::Failed(error) if !reports.is_empty() => {
            End::Failed(error.lines().next().unwrap_or_default().to_owned())
        }
        End::Failed(error) => End::Failed(shown(error)),
        End::Panicked(message) => End::Panicked(shown(message)),
        End::Returned | End::Hung(_) => end,
    };
    Run { end, findings: reports.iter().map(finding).collect(), state: state.map(shown) }
}

fn end(outcome: Result<Result<(), String>, TaskError<Result<(), String>>>) -> End {
    match outcome {
        Ok(Ok(())) => End::Returned,
        Ok(Err(error)) => End::Failed(error),
        Err(TaskError::Panicked(panic)) => End::Panicked(panic.message().to_owned()),
        Err(error) => End::Failed(error.to_string()),
    }
}

/// The path of a program as the compiler was given it, which is in its sites.
fn place(lesson: &Lesson, variant: Variant) -> String {
    let folder = Path::new(file!()).parent().unwrap_or(Path::new(""));
    let folder = folder.join(lesson.name.replace('-', "_"));
    folder.join(variant.file()).display().to_string()
}
