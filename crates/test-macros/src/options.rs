//! The options of the attribute.

use std::fmt;
use std::iter::Peekable;

use proc_macro::token_stream::IntoIter;
use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

use crate::{SyntaxError, kind};

/// The option that this attribute gives itself when another one has made a test of the function.
pub(crate) const REGISTERED: &str = "__registered";

/// The parsed options.
#[derive(Default)]
pub(crate) struct Options {
    ignores: Vec<IgnoreOption>,
    allow_close_inherited: Option<Literal>,
    allow_exec_leaks: Option<Literal>,
    expect_leaks: Option<(Literal, Literal)>,
    report_inherited: bool,
    report_without_cloexec: bool,
    settle_ms: Option<Literal>,
    timeout_ms: Option<Literal>,
    paranoid: bool,
    no_trace: bool,
    no_rerun: bool,
    group: Option<Literal>,
    /// Whether the function is a test without this attribute.
    pub(crate) is_registered: bool,
}

/// A descriptor to ignore, and the reason.
struct IgnoreOption {
    /// The condition of `Suppression`.
    condition: &'static str,
    value: Literal,
    reason: Literal,
}

/// Splits off `tokio::test` from `tokio::test, OPTIONS`, as an attribute. An option's name is one word.
pub(crate) fn split_wrapped(options: TokenStream) -> (TokenStream, TokenStream) {
    let is_sign = |tree: Option<&TokenTree>, wanted: char| matches!(tree, Some(TokenTree::Punct(sign)) if sign.as_char() == wanted);
    let trees: Vec<TokenTree> = options.into_iter().collect();
    if !is_sign(trees.first(), ':') && !is_sign(trees.get(1), ':') {
        return (TokenStream::new(), trees.into_iter().collect());
    }
    let end = trees.iter().position(|tree| is_sign(Some(tree), ',')).unwrap_or(trees.len());
    let path: TokenStream = trees[..end].iter().cloned().collect();
    let attribute = [
        TokenTree::from(Punct::new('#', Spacing::Alone)),
        Group::new(Delimiter::Bracket, path).into(),
    ];
    (attribute.into_iter().collect(), trees.into_iter().skip(end + 1).collect())
}

impl Options {
    pub(crate) fn read(stream: TokenStream) -> Result<Options, SyntaxError> {
        let mut options = Options::default();
        let mut tokens = stream.into_iter().peekable();
        while let Some(tree) = tokens.next() {
            let TokenTree::Ident(word) = tree else {
                return Err(SyntaxError::new(tree.span(), "expected an option's name"));
            };
            options.read_one(&word, &mut tokens)?;
            match tokens.next() {
                None => break,
                Some(TokenTree::Punct(sign)) if sign.as_char() == ',' => {}
                Some(other) => {
                    return Err(SyntaxError::new(
                        other.span(),
                        "expected a comma between two options",
                    ));
                }
            }
        }
        Ok(options)
    }

    fn read_one(
        &mut self,
        word: &Ident,
        tokens: &mut Peekable<IntoIter>,
    ) -> Result<(), SyntaxError> {
        match &*word.to_string() {
            "ignore_path" => {
                let value = string(word, tokens)?;
                let reason = reason(word, tokens)?;
                self.ignores.push(IgnoreOption { condition: "path", value, reason });
            }
            "ignore_kind" => {
                let value = string(word, tokens)?;
                check_kind(&value)?;
                let reason = reason(word, tokens)?;
                self.ignores.push(IgnoreOption { condition: "kind", value, reason });
            }
            "allow_close_inherited" => {
                self.allow_close_inherited = Some(reason(word, tokens)?);
            }
            "allow_exec_leaks" => self.allow_exec_leaks = Some(reason(word, tokens)?),
            "expect_leaks" => {
                let count = number(word, tokens)?;
                self.expect_leaks = Some((count, reason(word, tokens)?));
            }
            "report_without_cloexec" => {
                self.report_without_cloexec = yes_or_no(word, tokens)?;
            }
            "report_inherited" => self.report_inherited = yes_or_no(word, tokens)?,
            "settle_ms" => self.settle_ms = Some(number(word, tokens)?),
            "timeout_ms" => self.timeout_ms = Some(number(word, tokens)?),
            "paranoid" => self.paranoid = yes_or_no(word, tokens)?,
            "no_trace" => self.no_trace = yes_or_no(word, tokens)?,
            "no_rerun" => self.no_rerun = yes_or_no(word, tokens)?,
            "group" => self.group = Some(string(word, tokens)?),
            REGISTERED => self.is_registered = true,
            "because" => {
                let what = "`because` needs an option before it: ignore_path, ignore_kind, \
                            allow_close_inherited, allow_exec_leaks or expect_leaks";
                return Err(SyntaxError::new(word.span(), what));
            }
            other => {
                let what = format!(
                    "unknown option `{other}`; options are ignore_path, ignore_kind, \
                     allow_close_inherited, allow_exec_leaks, expect_leaks (each followed by \
                     because), report_inherited, report_without_cloexec, settle_ms, timeout_ms, \
                     group, paranoid, no_trace and no_rerun"
                );
                return Err(SyntaxError::new(word.span(), what));
            }
        }
        Ok(())
    }
}

/// Formats the fields of `Case` that options set.
struct Fields<'a> {
    options: &'a Options,
    /// The path of `Suppression`.
    path: &'a str,
}

impl Options {
    /// Formats the fields of `Case` that options set; `path` is the path of `Suppression`.
    pub(crate) fn fields<'a>(&'a self, path: &'a str) -> impl fmt::Display + 'a {
        Fields { options: self, path }
    }
}

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { options, path } = self;
        f.write_str("ignores: || ::std::vec![")?;
        for IgnoreOption { condition, value, reason } in &options.ignores {
            write!(f, "{path}::Suppression::because({reason}).{condition}({value}), ")?;
        }
        f.write_str("], expect_leaks: ")?;
        match &options.expect_leaks {
            Some((count, reason)) => {
                write!(f, "::core::option::Option::Some(({count}, {reason}))")?
            }
            None => f.write_str("::core::option::Option::None")?,
        }
        write!(f, ", report_inherited: {}", options.report_inherited)?;
        write!(f, ", report_without_cloexec: {}", options.report_without_cloexec)?;
        for (name, value) in [
            ("allow_close_inherited", &options.allow_close_inherited),
            ("allow_exec_leaks", &options.allow_exec_leaks),
            ("settle_ms", &options.settle_ms),
            ("timeout_ms", &options.timeout_ms),
            ("group", &options.group),
        ] {
            match value {
                Some(value) => write!(f, ", {name}: ::core::option::Option::Some({value})")?,
                None => write!(f, ", {name}: ::core::option::Option::None")?,
            }
        }
        write!(f, ", paranoid: {}, no_trace: {}", options.paranoid, options.no_trace)?;
        write!(f, ", no_rerun: {}", options.no_rerun)
    }
}

fn check_kind(kind: &Literal) -> Result<(), SyntaxError> {
    let text = kind.to_string();
    if kind::ALL.iter().any(|known| text == format!("\"{known}\"")) {
        return Ok(());
    }
    let known = kind::ALL.join("`, `");
    Err(SyntaxError::new(kind.span(), format!("unknown kind {text}; kinds are `{known}`")))
}

/// Parses `, because = "REASON"`.
fn reason(word: &Ident, tokens: &mut Peekable<IntoIter>) -> Result<Literal, SyntaxError> {
    let missing = || {
        let what = format!(
            "`{word}` needs a reason: write `, because = \"...\"` after it; the reason is printed \
             when the option applies"
        );
        SyntaxError::new(word.span(), what)
    };
    match tokens.next() {
        Some(TokenTree::Punct(sign)) if sign.as_char() == ',' => {}
        _ => return Err(missing()),
    }
    match tokens.next() {
        Some(TokenTree::Ident(because)) if because.to_string() == "because" => {
            let reason = string(&because, tokens)?;
            match reason.to_string().trim_matches('"').trim() {
                "" => Err(SyntaxError::new(reason.span(), "`because` must not be empty")),
                _ => Ok(reason),
            }
        }
        _ => Err(missing()),
    }
}

/// Parses `= "TEXT"`.
fn string(word: &Ident, tokens: &mut Peekable<IntoIter>) -> Result<Literal, SyntaxError> {
    let value = value(word, tokens, "\"...\"")?;
    if value.to_string().starts_with(['"', 'r']) {
        return Ok(value);
    }
    Err(SyntaxError::new(value.span(), format!("`{word}` expects a string: `{word} = \"...\"`")))
}

/// Parses `= N`.
fn number(word: &Ident, tokens: &mut Peekable<IntoIter>) -> Result<Literal, SyntaxError> {
    let value = value(word, tokens, "N")?;
    if value.to_string().starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(value);
    }
    Err(SyntaxError::new(value.span(), format!("`{word}` expects a number: `{word} = 1`")))
}

fn value(
    word: &Ident,
    tokens: &mut Peekable<IntoIter>,
    form: &str,
) -> Result<Literal, SyntaxError> {
    let fault = |span: Span| SyntaxError::new(span, format!("write `{word} = {form}`"));
    match tokens.next() {
        Some(TokenTree::Punct(sign)) if sign.as_char() == '=' => {}
        Some(other) => return Err(fault(other.span())),
        None => return Err(fault(word.span())),
    }
    match tokens.next() {
        Some(TokenTree::Literal(literal)) => Ok(literal),
        Some(other) => Err(fault(other.span())),
        None => Err(fault(word.span())),
    }
}

/// Parses nothing, `= true` or `= false`.
fn yes_or_no(word: &Ident, tokens: &mut Peekable<IntoIter>) -> Result<bool, SyntaxError> {
    match tokens.peek() {
        Some(TokenTree::Punct(sign)) if sign.as_char() == '=' => {}
        _ => return Ok(true),
    }
    tokens.next();
    match tokens.next() {
        Some(TokenTree::Ident(value)) if value.to_string() == "true" => Ok(true),
        Some(TokenTree::Ident(value)) if value.to_string() == "false" => Ok(false),
        other => {
            let span = other.map_or(word.span(), |tree| tree.span());
            Err(SyntaxError::new(span, format!("write `{word} = true` or `{word} = false`")))
        }
    }
}
