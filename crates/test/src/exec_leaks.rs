//! Descriptors that programs inherited by accident, as findings.

use echown_fd::trap::ExecLeak;
use echown_report::{Descriptor, Place, TestFinding, TestVerdict};

use super::fd_snapshot::to_descriptor;
use super::message::ExecLeaked;
use super::symbolizer::Symbolizer;

/// Symbolizes the recorded stacks.
pub(super) fn symbolized(leaks: Vec<ExecLeak>, symbolizer: &Symbolizer) -> Vec<ExecLeaked> {
    let symbolized = |leak: ExecLeak| ExecLeaked {
        descriptor: to_descriptor(leak.number, leak.described),
        opened: symbolizer.place(leak.opened, "opened without close-on-exec by "),
        program: leak.program,
        argument: leak.argument,
        times: leak.times,
    };
    leaks.into_iter().map(symbolized).collect()
}

/// The findings, one for each kind, place and program, and the notes. `because` returns the reason
/// to ignore a descriptor.
pub(super) fn judge(
    leaks: &[ExecLeaked],
    because: impl Fn(&Descriptor) -> Option<String>,
) -> (Vec<TestFinding>, Vec<String>) {
    let (mut findings, mut notes) = (Vec::<TestFinding>::new(), Vec::new());
    for leak in leaks.iter().filter(|leak| !leak.program.is_empty()) {
        let ExecLeaked { descriptor, opened, .. } = leak;
        if let Some(because) = because(descriptor) {
            notes.push(format!("ignored: {descriptor} {}: {because}", inherited_by(leak)));
            continue;
        }
        let message = format!("it was {}", inherited_by(leak));
        let known = findings.iter_mut().find(|known| {
            known.message == message
                && known.places[0].frames == opened.frames
                && known.descriptors[0].kind == descriptor.kind
        });
        match known {
            Some(known) => known.descriptors.push(descriptor.clone()),
            None => findings.push(TestFinding {
                verdict: TestVerdict::ExecLeak,
                message,
                descriptors: vec![descriptor.clone()],
                places: vec![opened.clone()],
                custody: Vec::new(),
            }),
        }
    }
    let is_reported = |place: &Place| findings.iter().any(|it| it.places[0].frames == place.frames);
    let openings = leaks.iter().filter(|leak| leak.program.is_empty());
    notes.extend(openings.filter(|leak| !is_reported(&leak.opened)).map(note));
    (findings, notes)
}

/// The note about an opening without close-on-exec, with its place.
fn note(leak: &ExecLeaked) -> String {
    let place = leak.opened.to_string();
    let place = place.lines().next().unwrap_or_default();
    let others = match leak.times - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    format!("{}{others} was {place}", leak.descriptor)
}

/// `inherited by /usr/bin/true (argv[0] `true`), 3 times`.
fn inherited_by(leak: &ExecLeaked) -> String {
    let mut text = format!("inherited by {}", leak.program);
    if leak.argument != leak.program && !leak.argument.is_empty() {
        text += &format!(" (argv[0] `{}`)", leak.argument);
    }
    if leak.times > 1 {
        text += &format!(", {} times", leak.times);
    }
    text
}

#[cfg(test)]
mod tests {
    use echown_report::StackFrame;

    use super::*;

    fn leak(number: i32, function: &str, program: &str, times: u32) -> ExecLeaked {
        let frame = StackFrame { function: function.to_owned(), ..StackFrame::default() };
        ExecLeaked {
            descriptor: Descriptor { number, kind: "pipe".to_owned(), ..Descriptor::default() },
            opened: Place { frames: vec![frame], ..Place::default() },
            program: program.to_owned(),
            argument: "a".to_owned(),
            times,
        }
    }

    #[test]
    fn both_ends_of_a_pipe_are_one_finding_and_each_program_has_its_own() {
        let leaks = [
            leak(3, "f", "/bin/a", 1),
            leak(4, "f", "/bin/a", 1),
            leak(3, "f", "a", 2),
            leak(5, "g", "/bin/a", 1),
        ];
        let (findings, notes) = judge(&leaks, |_| None);
        let found = findings.iter().map(|it| (it.descriptors.len(), &*it.message));
        let expected = [
            (2, "it was inherited by /bin/a (argv[0] `a`)"),
            (1, "it was inherited by a, 2 times"),
            (1, "it was inherited by /bin/a (argv[0] `a`)"),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert!(notes.is_empty());
    }

    #[test]
    fn an_opening_is_a_note_unless_a_program_inherited_it() {
        let openings = [leak(3, "f", "", 1), leak(4, "g", "", 3), leak(3, "f", "/bin/a", 1)];
        let (findings, notes) = judge(&openings, |_| None);
        assert_eq!(findings.len(), 1);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("pipe fd 4 (and 2 more) was "), "{notes:?}");
    }

    #[test]
    fn an_ignored_one_is_a_note() {
        let because = |it: &Descriptor| (it.number == 3).then(|| "a reason".to_owned());
        let (findings, notes) = judge(&[leak(3, "f", "/b", 1), leak(4, "f", "/b", 1)], because);
        assert_eq!(findings[0].descriptors[0].number, 4);
        assert_eq!(notes, ["ignored: pipe fd 3 inherited by /b (argv[0] `a`): a reason"]);
    }
}
