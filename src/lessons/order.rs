//! The events of a run in an order that does not depend on the scheduler.
//!
//! A child starts at some moment after its parent has spawned it, before or after the parent's next
//! steps, or never if it is cancelled first. A picture that shows this moment would be another one in
//! each run.

use crate::events::{Kind, Line, TaskName};

/// The lines with the start of each task next to the first step that names the task: after it if the
/// task was given something before it started, otherwise before it. The starts of cancelled tasks are
/// left out.
pub(super) fn with_starts_at_first_steps(lines: Vec<Line>) -> Vec<Line> {
    let (mut starts, mut ordered): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.event == Kind::TaskStarted);
    let is_cancelled = |start: &Line| {
        ordered.iter().any(|line| line.event == Kind::TaskCancelled && line.task == start.task)
    };
    starts.retain(|start| !is_cancelled(start));
    starts.sort_by_key(|start| start.task.as_ref().map(|task| task.id));
    for start in starts {
        let is_it = |name: &Option<TaskName>| {
            name.as_ref().map(|name| name.id) == start.task.as_ref().map(|task| task.id)
        };
        let names_it = |line: &Line| is_it(&line.from) || is_it(&line.to) || is_it(&line.task);
        let index = match ordered.iter().position(names_it) {
            Some(first) if ordered[first].event == Kind::Given => first + 1,
            Some(first) => first,
            None => ordered.len(),
        };
        ordered.insert(index, start);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: Kind, from: u64, to: u64) -> Line {
        let task = |id| (id > 0).then(|| TaskName { id, name: "task".into() });
        Line { from: task(from), to: task(to), ..Line::new(event, 0) }
    }

    fn started(id: u64) -> Line {
        Line { task: Some(TaskName { id, name: "task".into() }), ..Line::new(Kind::TaskStarted, 0) }
    }

    #[test]
    fn starts_move_to_the_first_step_that_names_the_task() {
        let steps = [
            line(Kind::Acquired, 0, 1),
            line(Kind::Given, 1, 2),
            line(Kind::Acquired, 0, 1),
            line(Kind::Acquired, 0, 3),
        ];
        let mut late = steps.to_vec();
        late.extend([started(3), started(2), started(1)]);
        let mut early = vec![started(1), started(2), started(3)];
        early.extend(steps.clone());
        let [first, given, second, third] = steps;
        let cancelled = Line { event: Kind::TaskCancelled, ..started(4) };
        late.extend([started(4), cancelled.clone()]);
        early.push(cancelled.clone());
        let expected = [started(1), first, given, started(2), second, started(3), third, cancelled];
        assert_eq!(with_starts_at_first_steps(late), expected);
        assert_eq!(with_starts_at_first_steps(early), expected);
    }
}
