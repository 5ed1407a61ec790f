//! The option `--fail-on`: which findings fail the run.

use echown_report::{Code, RunFinding, RunReport};

/// Codes of notes: what they say is often intended, so that only their own names make them fail.
const NOTES: [Code; 2] = [Code::OverwrittenFd, Code::OpenAtExit];

/// Which findings fail the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FailOn {
    /// All but notes.
    Any,
    /// None.
    None,
    /// Those of these codes.
    Codes(Vec<Code>),
}

impl FailOn {
    /// Makes these findings of a report errors, and others warnings.
    pub(super) fn apply(&self, report: &mut RunReport) {
        report.set_failing(|code| match self {
            FailOn::Any => !NOTES.contains(&code),
            FailOn::None => false,
            FailOn::Codes(codes) => codes.contains(&code),
        });
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
