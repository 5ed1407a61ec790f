//! The parser of the annotated function: parses its head and passes its body on.

use std::iter::Peekable;

use proc_macro::token_stream::IntoIter;
use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use crate::attribute::{Attribute, Role};
use crate::{SyntaxError, groups};

/// What the attribute is on.
pub(crate) enum Item {
    /// A function without arguments: it becomes a test.
    Test(Function),
    /// A function with arguments, from which an attribute below makes tests (`#[rstest]`).
    Template(Template),
}

/// A function without arguments.
pub(crate) struct Function {
    pub(crate) name: Ident,
    /// The attributes of the generated test.
    pub(crate) attributes: TokenStream,
    pub(crate) visibility: TokenStream,
    /// The function without visibility, which is nested in the generated test.
    pub(crate) inner: TokenStream,
    /// Conditions, as expressions, under which it is a `#[should_panic]` test.
    pub(crate) should_panic: Vec<TokenStream>,
    /// Whether an attribute of the generated test makes it one already.
    pub(crate) is_test: bool,
    /// Whether the nested function gets a test of its own, which has no name that a runner could use.
    pub(crate) has_inner_test: bool,
    /// Whether it has an ABI of its own, so that it is no `fn()`.
    pub(crate) is_extern: bool,
}

/// A function with arguments: its attributes, and all tokens after them.
pub(crate) struct Template {
    /// Whether what is made of it is a test before this attribute sees it again.
    pub(crate) is_registered: bool,
    pub(crate) attributes: TokenStream,
    pub(crate) rest: TokenStream,
}

impl Item {
    pub(crate) fn read(item: TokenStream) -> Result<Item, SyntaxError> {
        let mut tokens = groups::open_head(item).into_iter().peekable();
        let attributes = Attribute::read_all(&mut tokens)?;
        let rest: Vec<TokenTree> = tokens.collect();
        let mut tokens = rest.iter().cloned().collect::<TokenStream>().into_iter().peekable();
        let visibility = read_visibility(&mut tokens);
        let qualifiers = Qualifiers::read(&mut tokens)?;
        let name = match tokens.next() {
            Some(TokenTree::Ident(name)) => name,
            _ => return Err(SyntaxError::new(Span::call_site(), "expected a function's name")),
        };
        let generics = Lifetimes::read(&mut tokens);
        match tokens.next() {
            Some(TokenTree::Group(arguments))
                if arguments.delimiter() == Delimiter::Parenthesis
                    && arguments.stream().is_empty() => {}
            Some(other) => {
                return template(&attributes, qualifiers.is_async.is_some(), other.span(), rest);
            }
            None => return Err(SyntaxError::new(name.span(), "expected `()` after the name")),
        }
        let rest: Vec<TokenTree> = tokens.collect();
        let head = Head { visibility, qualifiers, name, generics };
        function(attributes, head, rest).map(Item::Test)
    }
}

/// The head of a function without arguments.
struct Head {
    visibility: TokenStream,
    qualifiers: Qualifiers,
    name: Ident,
    generics: TokenStream,
}

fn function(
    attributes: Vec<Attribute>,
    head: Head,
    rest: Vec<TokenTree>,
) -> Result<Function, SyntaxError> {
    let Head { visibility, qualifiers, name, generics } = head;
    let should_panic: Vec<TokenStream> =
        attributes.iter().filter_map(Attribute::should_panic).collect();
    if !should_panic.is_empty() && has_result(&rest) {
        let what = "a `#[should_panic]` test returns nothing: remove the result type, or the \
                    `#[should_panic]`";
        return Err(SyntaxError::new(name.span(), what));
    }
    // An attribute that makes a test of the function, or of which nothing is known but that an async
    // function needs one, stays on the function: the body includes the runtime that it starts.
    let is_inner = |attribute: &Attribute| match attribute.role() {
        Role::Test => true,
        Role::Other => qualifiers.is_async.is_some(),
        Role::Builtin | Role::Registered => false,
    };
    let (inside, outside): (Vec<Attribute>, Vec<Attribute>) =
        attributes.into_iter().partition(is_inner);
    if let (Some(span), []) = (qualifiers.is_async, &inside[..]) {
        let what = "an async test needs a runtime: add the attribute of yours below this one, such as \
                    `#[tokio::test]`, or write `fn` and call `block_on(async { ... })` in it";
        return Err(SyntaxError::new(span, what));
    }
    let is_test = outside.iter().any(|attribute| attribute.role() == Role::Registered);
    let mut inner = TokenStream::new();
    let has_inner_test = !inside.is_empty();
    inner.extend(inside.into_iter().map(Attribute::into_tokens));
    inner.extend(qualifiers.tokens);
    inner.extend([TokenTree::Ident(name.clone())]);
    inner.extend(generics);
    inner.extend([TokenTree::from(Group::new(Delimiter::Parenthesis, TokenStream::new()))]);
    inner.extend(rest);
    Ok(Function {
        name,
        attributes: outside.into_iter().map(Attribute::into_tokens).collect(),
        visibility,
        inner,
        should_panic,
        is_test,
        has_inner_test,
        is_extern: qualifiers.is_extern,
    })
}

/// A function with arguments or generics is no test, but `#[rstest]` and the like make tests of it.
fn template(
    attributes: &[Attribute],
    is_async: bool,
    arguments: Span,
    rest: Vec<TokenTree>,
) -> Result<Item, SyntaxError> {
    let mut others = attributes.iter().filter(|attribute| attribute.role() == Role::Other);
    let Some(other) = others.next() else {
        let what = "a test takes no arguments and has no generics; an attribute that makes tests of \
                    such a function, such as `#[rstest]`, must be below this one";
        return Err(SyntaxError::new(arguments, what));
    };
    // These put a `#[test]` in front of the attributes that they pass on.
    let is_registered = match &*other.name() {
        "quickcheck" => true,
        "test_case" | "test_matrix" => !is_async,
        // smol-macros: `#[apply(test!)]`.
        "apply" => true,
        _ => false,
    };
    Ok(Item::Template(Template {
        is_registered,
        attributes: attributes.iter().cloned().map(Attribute::into_tokens).collect(),
        rest: rest.into_iter().collect(),
    }))
}

/// Whether the tokens between the arguments and the body contain a result type other than `()`.
fn has_result(rest: &[TokenTree]) -> bool {
    let is_unit = |group: &Group| {
        let text = group.to_string();
        text.chars().filter(|it| !it.is_whitespace()).eq(['(', ')'])
    };
    match rest {
        [TokenTree::Punct(dash), TokenTree::Punct(angle), TokenTree::Group(unit), ..]
            if dash.as_char() == '-' && angle.as_char() == '>' =>
        {
            !is_unit(unit)
        }
        [TokenTree::Punct(dash), ..] => dash.as_char() == '-',
        _ => false,
    }
}

/// `<'a, 'b>` after a test's name: the standard attribute accepts lifetimes, but no types.
struct Lifetimes;

impl Lifetimes {
    /// Reads the list; reads nothing if there is none, or if it has other parameters.
    fn read(tokens: &mut Peekable<IntoIter>) -> TokenStream {
        let mut ahead = tokens.clone();
        let mut list = Vec::new();
        let is_sign = |tree: Option<&TokenTree>, wanted: char| matches!(tree, Some(TokenTree::Punct(sign)) if sign.as_char() == wanted);
        if !is_sign(ahead.peek(), '<') {
            return TokenStream::new();
        }
        while let Some(tree) = ahead.next() {
            // Behind the opening bracket and behind each comma begins a parameter.
            let is_start =
                matches!(&tree, TokenTree::Punct(sign) if matches!(sign.as_char(), '<' | ','));
            let is_end = is_sign(Some(&tree), '>');
            list.push(tree);
            if is_end {
                *tokens = ahead;
                return list.into_iter().collect();
            }
            if is_start && !is_sign(ahead.peek(), '\'') && !is_sign(ahead.peek(), '>') {
                break;
            }
        }
        TokenStream::new()
    }
}

fn read_visibility(tokens: &mut Peekable<IntoIter>) -> TokenStream {
    let mut visibility = TokenStream::new();
    if matches!(tokens.peek(), Some(TokenTree::Ident(word)) if word.to_string() == "pub") {
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

/// `const`, `async`, `extern "C"` and finally `fn`.
struct Qualifiers {
    tokens: TokenStream,
    is_async: Option<Span>,
    is_extern: bool,
}

impl Qualifiers {
    fn read(tokens: &mut Peekable<IntoIter>) -> Result<Qualifiers, SyntaxError> {
        let mut read = Qualifiers { tokens: TokenStream::new(), is_async: None, is_extern: false };
        loop {
            match tokens.next() {
                Some(TokenTree::Ident(word)) => {
                    let text = word.to_string();
                    match &*text {
                        "async" => read.is_async = Some(word.span()),
                        "extern" => read.is_extern = true,
                        "fn" | "const" => {}
                        "unsafe" => {
                            let what =
                                "a test cannot be an unsafe function: use an unsafe block inside";
                            return Err(SyntaxError::new(word.span(), what));
                        }
                        _ => {
                            let what = format!("expected a function, found `{text}`");
                            return Err(SyntaxError::new(word.span(), what));
                        }
                    }
                    read.tokens.extend([TokenTree::Ident(word)]);
                    if text == "fn" {
                        return Ok(read);
                    }
                }
                Some(TokenTree::Literal(abi)) => read.tokens.extend([TokenTree::Literal(abi)]),
                Some(other) => return Err(SyntaxError::new(other.span(), "expected a function")),
                None => return Err(SyntaxError::new(Span::call_site(), "expected a function")),
            }
        }
    }
}
