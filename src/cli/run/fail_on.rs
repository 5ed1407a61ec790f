//! The option `--fail-on`: which findings fail the run.

use echown_report::{Code, RunFinding, RunReport, Severity};

/// Codes that have only notes. What a note says is often intended, so that it fails only if its code is one
/// of these and is named: `exec-leak` does not select notes about programs that work together.
const NOTES: [Code; 2] = [Code::OverwrittenFd, Code::OpenAtExit];

/// Which findings fail the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FailOn {
    /// All errors and warnings, and no notes.
    Any,
    /// None.
    None,
    /// Those of these codes: errors and warnings, and notes only of codes that have nothing else.
    Codes(Vec<Code>),
}

impl FailOn {
    /// Makes these findings of a report errors, and others warnings.
    pub(super) fn apply(&self, report: &mut RunReport) {
        report.set_failing(|code, severity| self.selects(code, severity == Severity::Note));
    }

    /// Whether a note can fail.
    pub(super) fn selects_notes(&self) -> bool {
        NOTES.iter().any(|code| self.selects(*code, true))
    }

    fn selects(&self, code: Code, is_note: bool) -> bool {
        match self {
            FailOn::Any => !is_note,
            FailOn::None => false,
            FailOn::Codes(codes) => codes.contains(&code) && (!is_note || NOTES.contains(&code)),
        }
    }
}

/// Parses the value: `any`, `none`, or codes with commas between them.
pub(super) fn parse(text: &str) -> Result<FailOn, String> {
    match text {
        "any" => return Ok(FailOn::Any),
        "none" => return Ok(FailOn::None),
        _ => {}
    }
    let code = |word: &str| RunFinding::CODES.iter().copied().find(|code| code.as_str() == word);
    let codes = text.split(',').map(|word| code(word).ok_or_else(expected));
    codes.collect::<Result<_, _>>().map(FailOn::Codes)
}

fn expected() -> String {
    let codes: Vec<&str> = RunFinding::CODES.iter().map(|code| code.as_str()).collect();
    format!("expected `any`, `none`, or codes with commas between them: {}", codes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_fails_only_by_the_name_of_a_code_that_has_nothing_else() {
        let codes = |text| parse(text).expect("it is valid");
        for (text, code, warning, note) in [
            ("any", Code::NotOpen, true, false),
            ("any", Code::OpenAtExit, true, false),
            ("none", Code::DoubleClose, false, false),
            ("not-open,exec-leak", Code::NotOpen, true, false),
            ("not-open,exec-leak", Code::ExecLeak, true, false),
            ("not-open,exec-leak", Code::OpenAtExit, false, false),
            ("leak,open-at-exit", Code::OpenAtExit, true, true),
        ] {
            let fail_on = codes(text);
            let selected = [false, true].map(|is_note| fail_on.selects(code, is_note));
            assert_eq!(selected, [warning, note], "{text}: {code}");
        }
        assert!(codes("leak,open-at-exit").selects_notes());
        assert!(!codes("any").selects_notes());
    }

    #[test]
    fn words_and_codes_are_accepted_and_others_are_named() {
        assert_eq!(parse("any"), Ok(FailOn::Any));
        assert_eq!(parse("none"), Ok(FailOn::None));
        let both = FailOn::Codes(vec![Code::Leak, Code::DoubleClose]);
        assert_eq!(parse("leak,double-close"), Ok(both));
        for wrong in ["", "leak,", "leak, double-close", "any,leak", "hang"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.starts_with("expected `any`, `none`, or codes"), "{error}");
            assert!(error.contains("double-close, use-after-close, exec-leak, leak"), "{error}");
        }
    }
}
