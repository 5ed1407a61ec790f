//! The words of a finding: what the process did, step by step.

use echown_report::Plural;

use super::descriptor::{kind_of, link};
use crate::finding::{Doubt, Finding, Kind, LeakReason, Opening, Step, StepKind, Thread};
use crate::stack::StackId;

/// One numbered place of a report.
pub(super) struct StepText<'a> {
    pub(super) what: String,
    pub(super) thread: &'a Thread,
    pub(super) stack: StackId,
}

/// What the process did, in one line that continues its name.
pub(super) fn message(finding: &Finding, count: u64) -> String {
    let number = finding.number;
    match finding.kind {
        Kind::DoubleClose if finding.reused_from.is_some() => {
            format!("closed fd {number} a second time, when the number was in use again")
        }
        Kind::DoubleClose => format!("closed fd {number} a second time"),
        Kind::UseAfterClose => {
            let call = finding.usage.as_ref().map_or("a call", |usage| usage.call);
            format!("used fd {number} after its close: {call} got EBADF")
        }
        Kind::NotOpen => match (&finding.usage, finding.closes.last()) {
            (Some(usage), _) => {
                format!("called {} with fd {number}, which is not open", usage.call)
            }
            (None, Some(closing)) => {
                format!("called {} with fd {number}, which is not open", closing.call)
            }
            (None, None) => format!("used fd {number}, which is not open"),
        },
        Kind::ExecLeak => {
            let mut heirs: Vec<String> = Vec::new();
            for heir in finding.heirs.iter().map(|heir| super::process(heir).to_string()) {
                if !heirs.contains(&heir) {
                    heirs.push(heir);
                }
            }
            match heirs.is_empty() {
                true => format!("leaked fd {number} into a program that it executed"),
                false => format!("leaked fd {number} into {}", heirs.join(", ")),
            }
        }
        Kind::Leak(LeakReason::Several) if count > 1 => {
            format!("ended with {} open that one place opened", Plural(count, "descriptor"))
        }
        Kind::Leak(LeakReason::Several) => format!("ended with fd {number} open"),
        Kind::Leak(LeakReason::OutlivesOthers) => {
            format!("ended with fd {number} open; others from the same place were closed soon")
        }
        Kind::Leak(LeakReason::CloseWait) => {
            format!("ended with fd {number} open, a connection that its peer had closed")
        }
        Kind::Overwritten => format!("replaced fd {number} while it was open"),
        Kind::OpenAtExit if count > 1 => {
            format!("ended with {} open", Plural(count, "descriptor"))
        }
        Kind::OpenAtExit => format!("ended with fd {number} open"),
    }
}

/// What happened, in plain sentences, where the places alone do not say it.
pub(super) fn story(finding: &Finding) -> Vec<String> {
    if finding.kind == Kind::ExecLeak {
        return vec![of_exec_leak(finding.doubt).to_owned()];
    }
    if finding.is_certain {
        return vec![
            "The quarantine held the number after the close, so no other file was affected."
                .to_owned(),
        ];
    }
    let (Some(opening), [first, stale, _]) = (&finding.opening, &finding.closes[..]) else {
        return Vec::new();
    };
    if finding.reused_from.is_none() {
        return Vec::new();
    }
    let (number, kind) = (finding.number, kind_of(&opening.link, opening.call));
    let pid = finding.process.pid;
    let name = |thread: &Thread| super::place::thread(thread, pid);
    let (closer, again) = (name(&first.thread), name(&stale.thread));
    let twice = match closer == again {
        true => format!("Thread {closer} closed fd {number} twice"),
        false => format!("Thread {closer} closed fd {number}, and thread {again} closed it again"),
    };
    let opener = match name(&opening.thread) {
        opener if opener == again => "the same thread".to_owned(),
        opener => format!("thread {opener}"),
    };
    vec![
        format!("{twice}. In between, {opener} opened a {kind} that got the same number."),
        format!("The second close closed that {kind}, so the close that belongs to it failed."),
    ]
}

fn of_exec_leak(doubt: Option<Doubt>) -> &'static str {
    match doubt {
        None => {
            "It was opened without close-on-exec. The other program does not use it, and was not \
             passed its number."
        }
        Some(Doubt::SameProcess) => {
            "It was opened without close-on-exec. The other program does not use it. It is a note, \
             because the process opened it and runs the other program without a fork: it may be \
             meant for that."
        }
        Some(Doubt::SameProgram) => {
            "It was opened without close-on-exec. The other program does not use it. It is a note, \
             because both programs have the same name."
        }
        Some(Doubt::GivenFile) => {
            "It was opened without close-on-exec. The other program does not use it. It is a note, \
             because that program was given another descriptor of the same open file."
        }
        Some(Doubt::Profile) => {
            "It was opened without close-on-exec. The other program does not use it. It is a note, \
             because it is a profile that the runtime keeps open."
        }
        Some(Doubt::NumberOccurs) => {
            "It was opened without close-on-exec. The other program does not use it. It is a note, \
             because its number occurs in the arguments or the environment, which may name it."
        }
    }
}

/// The places in order of time, and the index of the one that matters most.
pub(super) fn steps(finding: &Finding) -> (Vec<StepText<'_>>, usize) {
    let mut steps: Vec<StepText<'_>> = Vec::new();
    if let (Some(before), Some(opening), [first, stale, last]) =
        (&finding.reused_from, &finding.opening, &finding.closes[..])
    {
        steps.push(opened(before, "first descriptor"));
        steps.push(step("first descriptor closed".into(), &first.thread, first.stack));
        steps.push(opened(opening, "second descriptor"));
        let what = "second descriptor closed by mistake".into();
        steps.push(step(what, &stale.thread, stale.stack));
        let what = "second descriptor closed again (EBADF)".into();
        steps.push(step(what, &last.thread, last.stack));
        return (steps, 3);
    }
    if let Some(opening) = &finding.opening {
        steps.push(opened(opening, ""));
    }
    // Without a use, the last close is the call that failed.
    let failed = match (finding.kind, &finding.usage) {
        (Kind::NotOpen, None) => finding.closes.len().checked_sub(1),
        _ => None,
    };
    for (index, closing) in finding.closes.iter().enumerate() {
        let by = if closing.call == "close" { "" } else { &format!(" by {}", closing.call) };
        let what = match index {
            index if Some(index) == failed => format!("{} got EBADF", closing.call),
            0 => format!("closed{by}"),
            _ => format!("closed again{by} (EBADF)"),
        };
        steps.push(step(what, &closing.thread, closing.stack));
    }
    if let Some(usage) = &finding.usage {
        let what = format!("{} got EBADF", usage.call);
        steps.push(step(what, &usage.thread, usage.stack));
    }
    if let Some(new) = &finding.replaced_by {
        steps.push(step(format!("replaced by {}", new.call), &new.thread, new.stack));
    }
    let main = match finding.kind {
        Kind::ExecLeak | Kind::Leak(_) | Kind::OpenAtExit => 0,
        _ => steps.len().saturating_sub(1),
    };
    (steps, main)
}

fn step(what: String, thread: &Thread, stack: StackId) -> StepText<'_> {
    StepText { what, thread, stack }
}

/// The opening of a descriptor, `name` if there are several.
fn opened<'a>(opening: &'a Opening, name: &str) -> StepText<'a> {
    let name = match (name, &*opening.link) {
        ("", _) => String::new(),
        (name, "") => format!("{name} "),
        (name, path) => format!("{name} ({}) ", link(path)),
    };
    let what = match opening.call {
        Opening::UNKNOWN => format!("{name}open before the first call that was seen"),
        call => format!("{name}opened by {call}"),
    };
    step(what, &opening.thread, opening.stack)
}

/// A step of a number's history.
pub(super) fn of_step(step: &Step) -> String {
    let call = match step.call {
        "" => "a call",
        call => call,
    };
    match step.what {
        StepKind::Opened => format!("opened by {call}"),
        StepKind::Closed if call == "close" => "closed".to_owned(),
        StepKind::Closed => format!("closed by {call}"),
        StepKind::Replaced => format!("replaced by {call}"),
        StepKind::CloexecSet => "close-on-exec set".to_owned(),
        StepKind::CloexecCleared => "close-on-exec cleared".to_owned(),
        StepKind::Executed => "inherited by a program that was executed".to_owned(),
        StepKind::CloseFailed => "close failed (EBADF)".to_owned(),
        StepKind::UseFailed => format!("{call} failed (EBADF)"),
        StepKind::FoundOpen => "found open without a call that opened it".to_owned(),
    }
}
