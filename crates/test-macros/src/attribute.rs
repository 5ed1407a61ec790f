//! The other attributes of an annotated function, and what they mean for the test.

use std::iter::Peekable;

use proc_macro::token_stream::IntoIter;
use proc_macro::{Group, Punct, Span, TokenStream, TokenTree};

use crate::{SyntaxError, groups};

/// An attribute of the function.
#[derive(Clone)]
pub(crate) struct Attribute {
    sign: Punct,
    content: Group,
}

/// What an attribute does to the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It makes the function a test: `#[::core::prelude::v1::test]`, which other macros append.
    Registered,
    /// A macro whose name is `test`, which makes a plain test of the function: `#[tokio::test]`.
    Test,
    /// No macro: `#[should_panic]`, `#[cfg(..)]`.
    Builtin,
    /// Any other one: `#[serial]`, `#[rstest]`.
    Other,
}

/// Attributes of the language that a function can have.
const BUILTIN: &[&str] = &[
    "allow",
    "cfg",
    "cfg_attr",
    "cold",
    "coverage",
    "deny",
    "deprecated",
    "doc",
    "expect",
    "forbid",
    "ignore",
    "inline",
    "must_use",
    "no_mangle",
    "should_panic",
    "track_caller",
    "unsafe",
    "warn",
];

impl Attribute {
    /// Reads the attributes in front of a function.
    pub(crate) fn read_all(tokens: &mut Peekable<IntoIter>) -> Result<Vec<Attribute>, SyntaxError> {
        let mut attributes = Vec::new();
        while let Some(TokenTree::Punct(sign)) = tokens.peek() {
            let sign = sign.clone();
            if sign.as_char() != '#' {
                break;
            }
            tokens.next();
            let Some(TokenTree::Group(content)) = tokens.next() else {
                return Err(SyntaxError::new(sign.span(), "expected an attribute after `#`"));
            };
            let mut opened = Group::new(content.delimiter(), groups::open_first(content.stream()));
            opened.set_span(content.span());
            let attribute = Attribute { sign, content: opened };
            if attribute.path() == ["test"] {
                let what =
                    "remove the `#[test]`: this attribute adds one, and the test would run twice";
                return Err(SyntaxError::new(attribute.span(), what));
            }
            attributes.push(attribute);
        }
        Ok(attributes)
    }

    pub(crate) fn role(&self) -> Role {
        let path = self.path();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match &path[..] {
            ["core" | "std", "prelude", _, "test"] => Role::Registered,
            [.., _, "test"] => Role::Test,
            [name] if BUILTIN.contains(name) => Role::Builtin,
            // Attributes of tools, such as `rustfmt::skip`.
            ["clippy" | "diagnostic" | "rustfmt" | "miri", ..] => Role::Builtin,
            _ => Role::Other,
        }
    }

    /// The last part of its path.
    pub(crate) fn name(&self) -> String {
        self.path().pop().unwrap_or_default()
    }

    /// The condition under which it makes the test a `#[should_panic]` test.
    pub(crate) fn should_panic(&self) -> Option<TokenStream> {
        match &*self.name() {
            "should_panic" => Some("true".parse().unwrap_or_default()),
            "cfg_attr" => conditional(self.arguments()?),
            _ => None,
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.content.span()
    }

    pub(crate) fn into_tokens(self) -> TokenStream {
        TokenStream::from_iter([TokenTree::Punct(self.sign), TokenTree::Group(self.content)])
    }

    fn path(&self) -> Vec<String> {
        let mut path = Vec::new();
        for tree in self.content.stream() {
            match tree {
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(sign) if sign.as_char() == ':' => {}
                _ => break,
            }
        }
        path
    }

    fn arguments(&self) -> Option<Group> {
        self.content.stream().into_iter().find_map(|tree| match tree {
            TokenTree::Group(group) => Some(group),
            _ => None,
        })
    }
}

/// `cfg!(CONDITION)` for `cfg_attr(CONDITION, .., should_panic ..)`.
fn conditional(inside: Group) -> Option<TokenStream> {
    let mut parts: Vec<Vec<TokenTree>> = vec![Vec::new()];
    for tree in inside.stream() {
        match tree {
            TokenTree::Punct(sign) if sign.as_char() == ',' => parts.push(Vec::new()),
            other => parts.last_mut()?.push(other),
        }
    }
    let (condition, attributes) = parts.split_first()?;
    let is_meant = |part: &Vec<TokenTree>| matches!(part.first(), Some(TokenTree::Ident(word)) if word.to_string() == "should_panic");
    attributes.iter().any(is_meant).then(|| {
        let condition: TokenStream = condition.iter().cloned().collect();
        format!("::core::cfg!({condition})").parse().unwrap_or_default()
    })
}
