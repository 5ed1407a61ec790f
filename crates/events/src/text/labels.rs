//! Short labels for owners: their names where all fit, their first words, or letters.

use super::cells::{Fit, fits};
use super::{Plot, RowOf};
use crate::columns::cut;
use crate::timeline::{State, Timeline};

/// The longest name of a task in the key.
const KEY_MAX: usize = 70;

/// One label per task.
pub(super) struct Labels {
    labels: Vec<String>,
    /// Whether the labels are the names.
    are_names: bool,
}

impl Labels {
    /// The longest labels of which each fits into every span of its task.
    pub(super) fn choose(timeline: &Timeline, rows: &[RowOf<'_>], plot: &Plot) -> Labels {
        let owners = timeline.tasks_drawn();
        let all_fit = |labels: &[String]| {
            let resources = rows.iter().flat_map(|row| &row.resources);
            resources.into_iter().all(|resource| {
                let last = resource.spans.len().saturating_sub(1);
                resource.spans.iter().enumerate().all(|(index, span)| {
                    let is_open = resource.end.is_none() && index == last;
                    let range = plot.between(span.from, span.to, is_open);
                    span.state != State::Owned
                        || span.owner.is_none_or(|owner| fits(&range, &labels[owner]) != Fit::No)
                })
            })
        };
        let names: Vec<_> = timeline.tasks.iter().map(|task| task.name.to_string()).collect();
        if are_different(&names, &owners) && all_fit(&names) {
            return Labels { labels: names, are_names: true };
        }
        let words: Vec<_> = names
            .iter()
            .map(|name| name.split_whitespace().next().unwrap_or_default().to_owned())
            .collect();
        if are_different(&words, &owners) && all_fit(&words) {
            return Labels { labels: words, are_names: false };
        }
        let mut labels = vec![String::new(); timeline.tasks.len()];
        for (index, task) in owners.into_iter().enumerate() {
            labels[task] = letters(index);
        }
        Labels { labels, are_names: false }
    }

    pub(super) fn of(&self, task: usize) -> &str {
        &self.labels[task]
    }

    /// `B = task 2 `reader``, for each owner; nothing if the labels are the names.
    pub(super) fn key(&self, timeline: &Timeline) -> Vec<String> {
        if self.are_names {
            return Vec::new();
        }
        let drawn = timeline.tasks_drawn().into_iter();
        drawn
            .map(|index| {
                let task = &timeline.tasks[index];
                let name = cut(&task.name, KEY_MAX);
                format!("{} = task {} `{name}`", self.labels[index], task.id)
            })
            .collect()
    }
}

fn are_different(labels: &[String], owners: &[usize]) -> bool {
    let mut labels: Vec<_> = owners.iter().map(|owner| &labels[*owner]).collect();
    labels.sort();
    labels.windows(2).all(|pair| pair[0] != pair[1])
}

/// `A` to `Z`, `AA`, `AB`, and so on.
fn letters(mut index: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'A' + u8::try_from(index % 26).unwrap_or(0)));
        match (index / 26).checked_sub(1) {
            Some(rest) => index = rest,
            None => return letters.into_iter().rev().collect(),
        }
    }
}
