//! A test's findings as text.

use std::fmt;

use super::{Descriptor, TestFinding, TestReport, TestVerdict};
use crate::Plural;

/// The maximum number of descriptors of one place that are described; the rest are only listed by
/// number.
const DESCRIBED_MAX: usize = 5;

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, alike) in self.findings.chunk_by(TestHeadline::is_shared).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let verdict = alike[0].verdict;
            write!(f, "{verdict}: test `{}` {}", self.test, TestHeadline(alike))?;
            alike.iter().try_for_each(|finding| finding.fmt(f))?;
            write!(f, "\n  help: {}", verdict.help())?;
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}

/// A headline for findings that share one: what happened, in one line, after the test's name.
struct TestHeadline<'a>(&'a [TestFinding]);

impl TestHeadline<'_> {
    fn is_shared(one: &TestFinding, next: &TestFinding) -> bool {
        let counts =
            |finding: &TestFinding| !finding.descriptors.is_empty() && !finding.is_misuse();
        one.verdict == next.verdict && counts(one) && counts(next)
    }
}

impl fmt::Display for TestHeadline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finding = &self.0[0];
        let count: usize = self.0.iter().map(|finding| finding.descriptors.len()).sum();
        let count = Plural(count as u64, "descriptor");
        match finding.verdict {
            TestVerdict::Leak if finding.descriptors.is_empty() => f.write_str(&finding.message),
            TestVerdict::Leak => write!(f, "left {count} open"),
            TestVerdict::ClosedInherited if finding.descriptors.is_empty() => {
                f.write_str(&finding.message)
            }
            TestVerdict::ClosedInherited => write!(f, "closed {count} that its process inherited"),
            TestVerdict::ExecLeak => write!(f, "leaked {count} into a program that it started"),
            TestVerdict::InheritedFd => write!(f, "inherited {count}"),
            TestVerdict::ProcessExited
            | TestVerdict::DoubleClose
            | TestVerdict::UseAfterClose
            | TestVerdict::OverwrittenFd
            | TestVerdict::Hang
            | TestVerdict::UnjoinedTask
            | TestVerdict::LeakCount => f.write_str(&finding.message),
        }
    }
}

impl TestFinding {
    /// Whether a number was misused. Each such finding has a headline of its own.
    fn is_misuse(&self) -> bool {
        matches!(
            self.verdict,
            TestVerdict::DoubleClose | TestVerdict::UseAfterClose | TestVerdict::OverwrittenFd
        )
    }
}

impl fmt::Display for TestFinding {
    /// Writes the details below the headline. Each line begins with a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headline of a misuse names its descriptor.
        let described = if self.is_misuse() { &[] } else { &self.descriptors[..] };
        for descriptor in described.iter().take(DESCRIBED_MAX) {
            write!(f, "\n  {descriptor}")?;
        }
        if described.len() > DESCRIBED_MAX {
            f.write_str("\n  and fd")?;
            for descriptor in &described[DESCRIBED_MAX..] {
                write!(f, " {}", descriptor.number)?;
            }
        }
        let says_it_already = matches!(
            self.verdict,
            TestVerdict::ProcessExited
                | TestVerdict::Hang
                | TestVerdict::UnjoinedTask
                | TestVerdict::LeakCount
        ) || described.is_empty();
        if !self.message.is_empty() && !says_it_already {
            write!(f, "\n    {}", self.message)?;
        }
        for place in &self.places {
            write!(f, "\n    {place}")?;
        }
        for step in &self.custody {
            write!(f, "\n    {step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fd {}", self.kind, self.number)?;
        match (&self.local, &self.peer, &self.path) {
            (Some(local), Some(peer), _) => write!(f, ", {local} <-> {peer}")?,
            (Some(local), None, _) => write!(f, ", {local}")?,
            (None, Some(peer), _) => write!(f, ", to {peer}")?,
            (None, None, Some(path)) => write!(f, ", {path}")?,
            (None, None, None) => {}
        }
        for fact in &self.facts {
            write!(f, ", {fact}")?;
        }
        Ok(())
    }
}
