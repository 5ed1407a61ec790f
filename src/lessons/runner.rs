//! Runs a lesson's program in this process, in a registry of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use echown_learn::text::COLUMNS;
use echown_learn::{End, Finding, Lesson, Run, Variant};

use super::order::with_starts_at_first_steps;
use crate::events::timeline::Timeline;
use crate::events::{Kind, svg, text};
use crate::ownership::{Registry, Report, TaskError, TaskLabel};
use crate::pool::thread;
use crate::report::{Code, Colours, Sources};

/// How long a program may run. Those that end do so within milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The events of a run, at most. Lessons have some dozens.
const EVENTS_MAX: usize = 4096;

/// The name of a program's file.
fn file_of(variant: Variant) -> &'static str {
    match variant {
        Variant::Broken => "broken.rs",
        Variant::Fixed => "fixed.rs",
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
    let mut subscription = registry.subscribe(EVENTS_MAX);
    let run = program.run;
    let entered = registry.enter();
    let promise = thread::spawn_named("main", [], move || run().map_err(|error| error.to_string()));
    drop(entered);
    let mut unjoined = Vec::new();
    let (end, state) = match promise {
        Err(error) => (End::Failed(error.to_string()), None),
        Ok(promise) => match promise.wait_until(Instant::now() + TIME_LIMIT) {
            Ok(false) => {
                let state = registry.snapshot().to_string();
                // The process ends with it.
                std::mem::forget(promise);
                (End::Hung(TIME_LIMIT.as_secs()), Some(state))
            }
            Ok(true) | Err(_) => {
                let outcome = promise.join();
                if let Err(TaskError::UnjoinedChildren(left)) = &outcome {
                    unjoined.extend(left.children.iter().map(unjoined_child));
                }
                (end(outcome), None)
            }
        },
    };
    let place = place(lesson, variant);
    let shown = |text: String| without_runner(&text.replace(&place, file_of(variant)));
    let sources = Sources::of_texts([(place.clone(), program.text)]);
    let reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
    let finding = |report: &Report| Finding {
        code: report.code().to_string(),
        text: shown(report.render(&sources, Colours::Never)),
    };
    let mut findings: Vec<Finding> = reports.iter().map(finding).collect();
    findings.extend(unjoined);
    let end = match end {
        // The rest of an error about a leak is in its report.
        End::Failed(error) if !findings.is_empty() => {
            End::Failed(shown(error.lines().next().unwrap_or_default().to_owned()))
        }
        End::Failed(error) => End::Failed(shown(error)),
        End::Panicked(message) => End::Panicked(shown(message)),
        End::Returned | End::Hung(_) => end,
    };
    // `live` only separates the state at the beginning, which is empty.
    let mut lines = subscription.next_lines(EVENTS_MAX);
    lines.retain(|line| line.event != Kind::Live);
    // Before a picture cuts them to its width.
    for message in lines.iter_mut().filter_map(|line| line.message.as_mut()) {
        *message = shown(std::mem::take(message));
    }
    let mut timeline = Timeline::of(&with_starts_at_first_steps(lines));
    timeline.program = Some(format!("{}, {}", lesson.name, file_of(variant)).into());
    let has_lanes = !timeline.lanes.is_empty();
    let options = text::Options { columns: COLUMNS, ascii: !is_utf8_locale() };
    let in_order = svg::Options { axis: svg::Axis::Order, ..svg::Options::default() };
    Run {
        end,
        findings,
        state: state.map(shown),
        timeline: has_lanes.then(|| shown(text::render(&timeline, &options))),
        picture: has_lanes.then(|| shown(svg::render(&timeline, &in_order))),
    }
}

/// Whether the terminal shows more than ASCII, as its locale says.
fn is_utf8_locale() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names.into_iter().filter_map(|name| std::env::var(name).ok());
    let locale = locale.into_iter().find(|locale| !locale.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

/// A text without the places at which this file started the program: they are not in its listing.
fn without_runner(text: &str) -> String {
    let place = format!("at {}:", file!());
    let mut parts = text.split(&*place);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let words = without.trim_end().trim_end_matches("spawned").trim_end();
        without.truncate(words.trim_end_matches(',').len());
        without += part.trim_start_matches(|sign: char| sign.is_ascii_digit() || sign == ':');
    }
    without
}

/// How the program itself ended: what it leaked or left is among the findings.
fn end(outcome: Result<Result<(), String>, TaskError<Result<(), String>>>) -> End {
    match outcome {
        Ok(Ok(())) => End::Returned,
        Ok(Err(error)) => End::Failed(error),
        Err(TaskError::Leaked(result, _)) => end(Ok(result)),
        Err(TaskError::UnjoinedChildren(left)) => end(Ok(left.value)),
        Err(TaskError::Panicked(panic)) => End::Panicked(panic.message().to_owned()),
        Err(error) => End::Failed(error.to_string()),
    }
}

/// The finding about a child that was left. Its task is all that is known of it.
fn unjoined_child(task: &TaskLabel) -> Finding {
    let code = Code::UnjoinedTask;
    let help = code.explanation().help;
    let text = format!("error[{code}]: left {task} unjoined\n   |\n   = help: {help}");
    Finding { code: code.to_string(), text }
}

/// The path of a program as the compiler was given it, which is in its sites.
fn place(lesson: &Lesson, variant: Variant) -> String {
    let folder = Path::new(file!()).parent().unwrap_or(Path::new(""));
    let folder = folder.join(lesson.name.replace('-', "_"));
    folder.join(file_of(variant)).display().to_string()
}
