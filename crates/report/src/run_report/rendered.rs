//! A run's findings as text with the source line that matters most of each, as far as it is available.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::text::{Details, Rest};
use super::{RunFinding, RunReport, Severity};
use crate::annotated::{Colours, WIDTH};
use crate::{Sources, StackFrame};

impl RunReport {
    /// The report as text, with the source line of each finding's main place, as far as `sources` has
    /// it. There is no line break at the end.
    #[must_use]
    pub fn render(&self, sources: &Sources, colours: Colours) -> String {
        let findings = self.findings.iter();
        let findings: String =
            findings.map(|finding| finding.render(sources, colours) + "\n\n").collect();
        format!("{findings}{}", Rest(self))
    }
}

impl RunFinding {
    /// The finding as text, with the source line of its main place, if `sources` has it. There is no
    /// line break at the end.
    #[must_use]
    pub fn render(&self, sources: &Sources, colours: Colours) -> String {
        let renderer = match colours {
            Colours::Never => Renderer::plain(),
            Colours::Always => Renderer::styled(),
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(self.headline()).id(self.code.as_str());
        let group = Group::with_title(title).elements(self.source_line(sources));
        let head = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH).render(&[group]);
        format!("{head}{}", Details(self))
    }

    /// The line of the main place, underlined and labelled with what was done there.
    fn source_line(
        &self,
        sources: &Sources,
    ) -> Option<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let place = self.main_place()?;
        // Paths of dependencies are relative to their package, which is not searched for.
        let StackFrame { file, line, column, .. } =
            place.primary().filter(|frame| frame.is_own).or_else(|| place.own())?;
        let (text, bytes) = sources.underlined(file.as_deref()?, *line, *column)?;
        let what = match self.places.len() {
            1 => place.what.clone(),
            _ => format!("{}. {}", self.main_place + 1, place.what),
        };
        let annotation = AnnotationKind::Primary.span(bytes).label(what);
        let line = usize::try_from(*line).ok()?;
        Some(Snippet::source(text).path(file.as_deref()).line_start(line).annotation(annotation))
    }
}
