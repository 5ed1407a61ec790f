//! A timeline as a Mermaid sequence diagram: tasks are participants, hand-overs are messages.
//!
//! # Limits
//!
//! The diagram has no times. It has at most [`PARTICIPANTS_MAX`] participants and [`STEPS_MAX`] steps,
//! and is shorter than the 50,000 characters that Mermaid draws; a last note counts the rest.

use std::fmt::Write as _;

use echown_report::Plural;

use crate::columns::cut;
use crate::line::Kind;
use crate::timeline::{Finding, Lane, Mark, Resource, Timeline};

/// The maximum number of participants.
pub const PARTICIPANTS_MAX: usize = 20;
/// The maximum number of steps.
pub const STEPS_MAX: usize = 200;
/// The maximum number of characters.
const TEXT_MAX: usize = 45_000;
/// The maximum number of characters of a name or of a note.
const LABEL_MAX: usize = 60;

/// The timeline as a diagram.
#[must_use]
pub fn render(timeline: &Timeline) -> String {
    let mut steps = steps(timeline);
    steps.sort_by_key(|step| step.column());
    let participants = participants(timeline, &steps);
    let mut text = "sequenceDiagram\n    accTitle: Who owned which descriptor\n".to_owned();
    // The number of each participant, from 1; 0: it is none.
    let mut numbers = vec![0; timeline.tasks.len()];
    for (index, task) in participants.iter().enumerate() {
        let number = index + 1;
        numbers[*task] = number;
        let name = match &timeline.tasks[*task] {
            task if task.name.is_empty() => format!("task {}", task.id),
            task => escaped(&task.name),
        };
        let _ = writeln!(text, "    participant t{number} as {name}");
    }
    let mut written = 0;
    for step in &steps {
        let line = step.line(&numbers);
        let has_all = step.tasks().all(|task| numbers[task] > 0);
        if has_all && written < STEPS_MAX && text.len() + line.len() < TEXT_MAX {
            text += &line;
            written += 1;
        }
    }
    let missing = (steps.len() - written) as u64 + timeline.omitted;
    if let last @ 1.. = participants.len() {
        let over = if last == 1 { "t1".to_owned() } else { format!("t1,t{last}") };
        if missing > 0 {
            let missing = Plural(missing, "more step");
            let _ = writeln!(text, "    Note over {over}: not shown: {missing}");
        }
        if timeline.lost_count() > 0 {
            let lost = Plural(timeline.lost_count(), "event");
            let _ = writeln!(text, "    Note over {over}: {lost} lost by the recorder");
        }
    } else {
        text += "    participant none as no task owned anything\n";
    }
    text
}

/// What becomes a line.
enum Step<'a> {
    Mark(&'a Lane, &'a Resource, &'a Mark),
    Finding(&'a Finding, usize),
    /// A task that panicked or was cancelled, and how.
    End(usize, u32, &'a str),
}

fn steps(timeline: &Timeline) -> Vec<Step<'_>> {
    let drawn = timeline.tasks_drawn();
    let marks = timeline.resources().flat_map(|(lane, resource)| {
        resource.marks.iter().map(move |mark| Step::Mark(lane, resource, mark))
    });
    // A step without any task has no place.
    let marks = marks.filter(|step| step.tasks().next().is_some());
    let findings = timeline.findings.iter().filter_map(|it| Some(Step::Finding(it, it.task?)));
    let ends = drawn.into_iter().filter_map(|index| match &timeline.tasks[index].end {
        Some((at, how)) if &**how != "returned" => Some(Step::End(index, at.column, how)),
        _ => None,
    });
    marks.chain(findings).chain(ends).collect()
}

/// The tasks of the first steps, in the order in which they appear.
fn participants(timeline: &Timeline, steps: &[Step<'_>]) -> Vec<usize> {
    let mut is_participant = vec![false; timeline.tasks.len()];
    let mut participants = Vec::new();
    for task in steps.iter().flat_map(Step::tasks) {
        if !is_participant[task] && participants.len() < PARTICIPANTS_MAX {
            is_participant[task] = true;
            participants.push(task);
        }
    }
    participants
}

impl Step<'_> {
    fn column(&self) -> u32 {
        match self {
            Step::Mark(_, _, mark) => mark.at.column,
            Step::Finding(finding, _) => finding.at.column,
            Step::End(_, column, _) => *column,
        }
    }

    fn tasks(&self) -> impl Iterator<Item = usize> {
        let (one, other) = match self {
            Step::Mark(_, _, mark) => (mark.from, mark.to),
            Step::Finding(_, task) | Step::End(task, ..) => (Some(*task), None),
        };
        one.into_iter().chain(other)
    }

    /// The line; `numbers` are those of the participants.
    fn line(&self, numbers: &[usize]) -> String {
        match self {
            Step::Finding(finding, task) => {
                let task = numbers[*task];
                let code = finding.code.as_deref().unwrap_or(finding.kind.as_str());
                let note = escaped(&format!("{code}: {}", finding.message));
                // A coloured box around the note.
                format!("    rect rgb(248, 180, 180)\n    Note over t{task}: {note}\n    end\n")
            }
            Step::End(task, _, how) => {
                format!("    Note over t{}: {}\n", numbers[*task], escaped(how))
            }
            Step::Mark(lane, resource, mark) => {
                let what = escaped(&label(lane, resource));
                let verb = verb(mark.kind);
                match (mark.from, mark.to) {
                    (Some(from), Some(to)) => {
                        let (from, to) = (numbers[from], numbers[to]);
                        let arrow = arrow(mark.kind);
                        format!("    t{from}{arrow}t{to}: {verb} {what}\n")
                    }
                    (Some(task), None) | (None, Some(task)) => {
                        let task = numbers[task];
                        let details = match (mark.kind, resource.address()) {
                            (Kind::Acquired, Some(it)) => format!("<br/>{}", escaped(it)),
                            _ => String::new(),
                        };
                        format!("    Note over t{task}: {verb} {what}{details}\n")
                    }
                    (None, None) => String::new(),
                }
            }
        }
    }
}

/// A claim and what comes back are dashed: the receiver acts, or the sender did not want to give it.
fn arrow(kind: Kind) -> &'static str {
    match kind {
        Kind::Claimed | Kind::Unparked | Kind::Inherited | Kind::Returned | Kind::Received => {
            "-->>"
        }
        _ => "->>",
    }
}

fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind::Acquired => "acquires",
        Kind::Given => "gives",
        Kind::Transferred => "transfers",
        Kind::Offered => "offers",
        Kind::Claimed => "claimed",
        Kind::Parked => "parks",
        Kind::Unparked => "unparked",
        Kind::Inherited => "inherited",
        Kind::Returned => "returned",
        Kind::Received => "received",
        Kind::Shared => "shares",
        Kind::HandedOver => "hands over",
        Kind::Split => "splits",
        Kind::Rejoined => "rejoins",
        Kind::Disowned => "disowns",
        Kind::Cancelled => "shuts down",
        _ => "closes",
    }
}

/// `fd 3 (pipe)`.
fn label(lane: &Lane, resource: &Resource) -> String {
    let half = resource.half.as_ref().map(|(_, half)| format!(", {half} half")).unwrap_or_default();
    match lane.number {
        Some(number) => format!("fd {number} ({}{half})", resource.kind),
        None => format!("{}{half}", resource.kind),
    }
}

/// A text in which Mermaid finds no syntax and no markup: what could be some is written as a character
/// code.
fn escaped(text: &str) -> String {
    let text = cut(text, LABEL_MAX);
    let words = text.split(' ').map(|word| {
        let mut escaped = String::new();
        for (index, letter) in word.chars().enumerate() {
            // The word `end` ends a block.
            let is_end = index == 0 && word.eq_ignore_ascii_case("end");
            if (letter.is_alphanumeric() || ".,/()_-".contains(letter)) && !is_end {
                escaped.push(letter);
            } else {
                let _ = write!(escaped, "#{};", u32::from(letter));
            }
        }
        escaped
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_lines::{CHILD, Lines, MAIN, story};

    #[test]
    fn hand_overs_are_messages_and_the_rest_are_notes() {
        let expected = "\
sequenceDiagram
    accTitle: Who owned which descriptor
    participant t1 as main
    participant t2 as child
    Note over t1: acquires fd 3 (pipe)
    Note over t1: acquires fd 4 (pipe)
    t1->>t2: gives fd 3 (pipe)
    Note over t1: offers fd 4 (pipe)
    t1-->>t2: claimed fd 4 (pipe)
    Note over t2: closes fd 3 (pipe)
    Note over t1: acquires fd 3 (pipe)
    Note over t2: closes fd 4 (pipe)
    rect rgb(248, 180, 180)
    Note over t2: leak#58; task 2 #96;child#96; ended
    end
";
        assert_eq!(render(&Timeline::of(&story())), expected);
    }

    #[test]
    fn a_name_cannot_add_a_line_or_markup() {
        let name = "x\n t0->>t1: <script>alert(1)</script>; end %%{init}%% #quot;";
        let mut lines = Lines::new();
        lines.acquired((1, 3), (1, name)).peer = Some(name.to_owned());
        lines.task(Kind::TaskEnded, (1, name)).outcome = Some("end\nend".into());
        lines.leak(&[1], (1, name)).message = Some(name.to_owned());
        let text = render(&Timeline::of(&lines.0));
        assert_eq!(text.lines().count(), 8, "{text}");
        let ours = text.replace("<br/>", "").replace("->>", "").replace("t1: ", "");
        for syntax in ["<", ">", "%", ": ", "script>", " end ", "\\n"] {
            let after = ours.split_once("participant").map_or("", |(_, after)| after);
            assert!(!after.contains(syntax), "{syntax:?} in {text}");
        }
    }

    #[test]
    fn a_long_diagram_counts_what_it_omits() {
        let mut lines = Lines::new();
        lines.acquired((1, 3), MAIN);
        for _ in 0..50_000 {
            lines.step(Kind::Given, (1, 3), MAIN, CHILD);
            lines.step(Kind::Transferred, (1, 3), CHILD, MAIN);
        }
        let text = render(&Timeline::of(&lines.0));
        assert!(text.ends_with("Note over t1,t2: not shown: 99801 more steps\n"), "{text}");
        assert!(text.len() < TEXT_MAX + 1000);
        let mut lines = Lines::new();
        for task in 1..=100 {
            lines.acquired((task, 3), (task, &"long name ".repeat(20)));
        }
        let text = render(&Timeline::of(&lines.0));
        assert_eq!(text.matches("participant ").count(), PARTICIPANTS_MAX);
        assert!(text.contains("not shown: 80 more steps"), "{text}");
    }
}
