//! What a status server shows: a running program or a recording.

use std::io;
use std::sync::Arc;

use super::access::Resource;
use super::metrics::MetricsFormat;
use crate::events::{Kind, Line};
use crate::ownership::{Registry, Report, Subscription};

/// Events that wait for a viewer, at most: those of half a second at the highest rate that a viewer gets.
/// At 100 bytes each they take 800 KiB. More are counted as lost.
const QUEUE_CAPACITY: usize = 8 * 1024;

/// Lines that are taken at once, which become one message: 15,000 a second. A viewer cannot show more,
/// and writing lines costs the program's processors about 3 us each.
const BATCH: usize = 1500;

type Snapshot = Box<dyn Fn() -> String + Send + Sync>;
type Health = Box<dyn Fn() -> bool + Send + Sync>;
type Metrics = Box<dyn Fn(MetricsFormat) -> String + Send + Sync>;
type Begin = Box<dyn Fn() -> io::Result<Box<dyn Lines>> + Send + Sync>;

/// Something to show. Clients' tasks use it at the same time.
pub(crate) struct Source {
    /// The state right now, as one JSON document.
    pub(super) snapshot: Option<Snapshot>,
    /// Whether the program serves, and is not about to stop.
    pub(super) health: Option<Health>,
    /// The program's numbers.
    pub(super) metrics: Option<Metrics>,
    /// Begins a stream of events, in the task of the client.
    pub(super) begin: Begin,
}

/// A stream of JSON lines.
pub(crate) trait Lines {
    /// Appends the next lines, without line ends. Does not wait for any.
    fn next(&mut self, lines: &mut Vec<String>) -> Next;

    /// The last line, if the server stops before the stream has ended.
    fn end(&self) -> String;
}

/// What comes after some lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// More lines, at once.
    More,
    /// Nothing for now.
    Later,
    /// Nothing more.
    Ended,
}

/// Renders a report as text.
pub(crate) type Render = Arc<dyn Fn(&Report) -> String + Send + Sync>;

impl Source {
    /// A running program, with its name and arguments.
    pub(crate) fn live(registry: &Registry, program: String, render: Render) -> Source {
        let registry = registry.clone();
        let shown = registry.clone();
        let begin = move || {
            let render = Arc::clone(&render);
            let subscription = registry.subscribe(QUEUE_CAPACITY);
            let subscription = subscription.render_reports(move |report| render(report));
            let header = Some(subscription.header(&program));
            Ok(Box::new(LiveLines { subscription, header, lost: 0 }) as Box<dyn Lines>)
        };
        Source {
            snapshot: Some(Box::new(move || shown.snapshot().to_json())),
            health: None,
            metrics: None,
            begin: Box::new(begin),
        }
    }

    /// Also reports whether the program serves.
    pub(crate) fn with_health(self, health: impl Fn() -> bool + Send + Sync + 'static) -> Source {
        Source { health: Some(Box::new(health)), ..self }
    }

    /// Also serves the program's numbers.
    pub(crate) fn with_metrics(
        self,
        metrics: impl Fn(MetricsFormat) -> String + Send + Sync + 'static,
    ) -> Source {
        Source { metrics: Some(Box::new(metrics)), ..self }
    }

    /// What can be served of it.
    pub(super) fn resources(&self) -> Vec<Resource> {
        let has = |resource: &Resource| match resource {
            Resource::Page | Resource::Events => true,
            Resource::Snapshot => self.snapshot.is_some(),
            Resource::Health => self.health.is_some(),
            Resource::Metrics => self.metrics.is_some(),
        };
        Resource::ALL.into_iter().filter(has).collect()
    }
}

/// What happens in a registry.
struct LiveLines {
    subscription: Subscription,
    header: Option<Line>,
    /// How many events were lost so far.
    lost: u64,
}

impl Lines for LiveLines {
    fn next(&mut self, lines: &mut Vec<String>) -> Next {
        lines.extend(self.header.take().as_ref().map(Line::to_json));
        let new = self.subscription.next_lines(BATCH);
        for line in &new {
            if line.event == Kind::Lost {
                self.lost += line.count.unwrap_or_default();
            }
            lines.push(line.to_json());
        }
        // The state at the beginning comes at once, and then the rate is limited.
        let is_past = new.last().is_some_and(|line| line.replayed == Some(true));
        if is_past { Next::More } else { Next::Later }
    }

    fn end(&self) -> String {
        let mut end = self.subscription.end("finished");
        end.lost = Some(self.lost);
        end.to_json()
    }
}
