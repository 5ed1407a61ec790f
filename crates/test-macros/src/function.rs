//! The parser of the annotated function: parses its head and passes its body on.

use std::iter::Peekable;

use proc_macro::token_stream::IntoIter;
use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use crate::SyntaxError;

/// The annotated function.
pub(crate) struct Function {
    pub(crate) name: Ident,
    /// All its attributes; they stay on the generated test.
    pub(crate) attributes: TokenStream,
    pub(crate) visibility: TokenStream,
    /// The function without attributes and visibility, which is nested in the generated test.
    pub(crate) inner: TokenStream,
    /// Conditions, as expressions, under which it is a `#[should_panic]` test.
    pub(crate) should_panic: Vec<TokenStream>,
}

impl Function {
    pub(crate) fn read(item: TokenStream) -> Result<Function, SyntaxError> {
        let mut tokens = item.into_iter().peekable();
        let (mut attributes, mut should_panic) = (TokenStream::new(), Vec::new());
        while is_sign(tokens.peek(), '#') {
            attributes.extend(tokens.next());
            let Some(TokenTree::Group(attribute)) = tokens.next() else {
                return Err(SyntaxError::new(Span::call_site(), "expected an attribute after `#`"));
            };
            should_panic.extend(read_attribute(&attribute)?);
            attributes.extend([TokenTree::Group(attribute)]);
        }
        let visibility = read_visibility(&mut tokens);
        let qualifiers = read_qualifiers(&mut tokens)?;
        let name = match tokens.next() {
            Some(TokenTree::Ident(name)) => name,
            _ => return Err(SyntaxError::new(Span::call_site(), "expected a function's name")),
        };
        match tokens.next() {
            Some(TokenTree::Group(arguments))
                if arguments.delimiter() == Delimiter::Parenthesis
                    && arguments.stream().is_empty() => {}
            Some(other) => {
                let what = "a test takes no arguments and has no generics";
                return Err(SyntaxError::new(other.span(), what));
            }
            None => return Err(SyntaxError::new(name.span(), "expected `()` after the name")),
        }
        let rest: Vec<TokenTree> = tokens.collect();
        let answers = rest.len() > 1;
        if answers && !should_panic.is_empty() {
            let what = "a `#[should_panic]` test returns nothing: remove the result type, or the \
                        `#[should_panic]`";
            return Err(SyntaxError::new(name.span(), what));
        }
        let mut inner = qualifiers;
        inner.extend([
            TokenTree::Ident(name.clone()),
            Group::new(Delimiter::Parenthesis, TokenStream::new()).into(),
        ]);
        inner.extend(rest);
        Ok(Function { name, attributes, visibility, inner, should_panic })
    }
}

/// Returns the condition under which an attribute makes the test a `#[should_panic]` test.
fn read_attribute(attribute: &Group) -> Result<Option<TokenStream>, SyntaxError> {
    let trees: Vec<TokenTree> = attribute.stream().into_iter().collect();
    match &trees[..] {
        [TokenTree::Ident(word), ..] if word.to_string() == "should_panic" => {
            Ok(Some("true".parse().unwrap_or_default()))
        }
        [TokenTree::Ident(word), TokenTree::Group(inside)] if word.to_string() == "cfg_attr" => {
            Ok(conditional(inside))
        }
        [TokenTree::Ident(word)] if word.to_string() == "test" => {
            let what =
                "remove the `#[test]`: this attribute adds one, and the test would run twice";
            Err(SyntaxError::new(word.span(), what))
        }
        _ => Ok(None),
    }
}

/// `cfg!(CONDITION)` for `cfg_attr(CONDITION, .., should_panic ..)`.
fn conditional(inside: &Group) -> Option<TokenStream> {
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

fn read_visibility(tokens: &mut Peekable<IntoIter>) -> TokenStream {
    let mut visibility = TokenStream::new();
    if is_word(tokens.peek(), "pub") {
        visibility.extend(tokens.next());
        match tokens.peek() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
                visibility.extend(tokens.next());
            }
            _ => {}
        }
    }
    visibility
}

/// Parses `const`, `unsafe`, `extern "C"` and finally `fn`.
fn read_qualifiers(tokens: &mut Peekable<IntoIter>) -> Result<TokenStream, SyntaxError> {
    let mut qualifiers = TokenStream::new();
    loop {
        match tokens.next() {
            Some(TokenTree::Ident(word)) => {
                let text = word.to_string();
                match &*text {
                    "async" => {
                        let what = "an async test needs a runtime: write `fn` and call `block_on(async \
                                    { ... })` of your runtime in it; the descriptors of the runtime \
                                    are then checked, too";
                        return Err(SyntaxError::new(word.span(), what));
                    }
                    "unsafe" => {
                        let what =
                            "a test cannot be an unsafe function: use an unsafe block inside";
                        return Err(SyntaxError::new(word.span(), what));
                    }
                    "fn" | "const" | "extern" => qualifiers.extend([TokenTree::Ident(word)]),
                    _ => {
                        let what = format!("expected a function, found `{text}`");
                        return Err(SyntaxError::new(word.span(), what));
                    }
                }
                if text == "fn" {
                    return Ok(qualifiers);
                }
            }
            Some(TokenTree::Literal(abi)) => qualifiers.extend([TokenTree::Literal(abi)]),
            Some(other) => return Err(SyntaxError::new(other.span(), "expected a function")),
            None => return Err(SyntaxError::new(Span::call_site(), "expected a function")),
        }
    }
}

fn is_sign(tree: Option<&TokenTree>, sign: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn is_word(tree: Option<&TokenTree>, word: &str) -> bool {
    matches!(tree, Some(TokenTree::Ident(ident)) if ident.to_string() == word)
}
