//! Short recordings for the tests of this crate.

use crate::line::{Kind, Line, TaskName};

/// Lines with one microsecond between them.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Vec<Line>);

pub(crate) const MAIN: (u64, &str) = (1, "main");
pub(crate) const CHILD: (u64, &str) = (2, "child");

fn name((id, name): (u64, &str)) -> TaskName {
    TaskName { id, name: name.into() }
}

impl Lines {
    pub(crate) fn new() -> Lines {
        let mut lines = Lines::default();
        lines.push(Kind::Recording).program = Some("a test".to_owned());
        lines
    }

    pub(crate) fn push(&mut self, kind: Kind) -> &mut Line {
        let mut line = Line::new(kind, self.0.len() as u64 * 1000);
        line.process = Some(7);
        self.0.push(line);
        self.0.last_mut().expect("a line was just pushed")
    }

    /// A step of a resource with a number, from one task to another. An id of 0 is no task.
    pub(crate) fn step(
        &mut self,
        kind: Kind,
        (resource, number): (u64, i32),
        from: (u64, &str),
        to: (u64, &str),
    ) -> &mut Line {
        let line = self.push(kind);
        line.resource = Some(resource);
        line.number = Some(number);
        line.kind = Some("pipe".into());
        line.from = (from.0 > 0).then(|| name(from));
        line.to = (to.0 > 0).then(|| name(to));
        line
    }

    pub(crate) fn acquired(&mut self, resource: (u64, i32), by: (u64, &str)) -> &mut Line {
        self.step(Kind::Acquired, resource, (0, ""), by)
    }

    pub(crate) fn ended(&mut self, kind: Kind, resource: (u64, i32), by: (u64, &str)) -> &mut Line {
        self.step(kind, resource, by, (0, ""))
    }

    pub(crate) fn task(&mut self, kind: Kind, task: (u64, &str)) -> &mut Line {
        let line = self.push(kind);
        line.task = Some(name(task));
        line
    }

    pub(crate) fn leak(&mut self, resources: &[u64], task: (u64, &str)) -> &mut Line {
        let line = self.task(Kind::Leaked, task);
        line.code = Some("leak".into());
        line.message = Some(format!("task {} `{}` ended", task.0, task.1));
        line.resources = Some(resources.to_vec());
        line
    }
}

/// A given descriptor, one that is offered and claimed, a leak, and a number that is used again.
pub(crate) fn story() -> Vec<Line> {
    let mut lines = Lines::new();
    lines.task(Kind::TaskStarted, MAIN);
    lines.acquired((1, 3), MAIN).site = Some("src/x.rs:1:5".to_owned());
    lines.acquired((2, 4), MAIN);
    lines.step(Kind::Given, (1, 3), MAIN, CHILD);
    lines.task(Kind::TaskStarted, CHILD).parent = Some(name(MAIN));
    lines.ended(Kind::Offered, (2, 4), MAIN);
    lines.step(Kind::Claimed, (2, 4), MAIN, CHILD);
    lines.ended(Kind::Released, (1, 3), CHILD);
    lines.acquired((3, 3), MAIN);
    lines.task(Kind::TaskEnded, CHILD).outcome = Some("returned".into());
    lines.ended(Kind::Finalized, (2, 4), CHILD);
    lines.leak(&[2], CHILD);
    lines.0
}
