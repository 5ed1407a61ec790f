//! The attribute macro `#[echown_test::test]`. Use it through the crate `echown-test`, or as
//! `#[echown::test]` through the crate `echown`, feature `macros`.
//!
//! The macro parses the head of one function and a list of options, and generates one call into the
//! crate that it was used through. It contains no Rust parser: attributes, qualifiers and the body
//! are passed on unchanged, so that new syntax needs no new macro.

mod attribute;
mod function;
mod groups;
#[allow(dead_code, reason = "the table is that of echown-fd, and has more than a macro needs")]
mod kind;
mod options;

use function::{Function, Item, Template};
use options::Options;
use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// Turns a function into a test that fails if it leaves a descriptor open.
///
/// The test runs alone in a child process, which compares the open descriptors before and after it.
/// Everything else works as with `#[test]`: `#[should_panic]`, `#[ignore]`, `#[cfg]`, results, output.
///
/// Put it above the attributes of other crates: `#[tokio::test]`, `#[rstest]`, `#[test_case]` ...
/// `#[echown_test::test(tokio::test)]` is short for it and `#[tokio::test]` below it.
///
/// Options are separated by commas. Options that hide findings need a reason, `because = "..."`:
///
/// | option | effect |
/// |---|---|
/// | `ignore_path = "PART"` | ignores descriptors with PART in their path or address |
/// | `ignore_kind = "KIND"` | ignores descriptors of this kind: `"epoll"`, `"tcp stream"`, `"socket"` for all sockets ... |
/// | `allow_close_inherited` | allows closing descriptors that the process inherited |
/// | `allow_exec_leaks` | allows programs to inherit descriptors without close-on-exec |
/// | `expect_leaks = N` | expects exactly N leaks; more or fewer fail |
/// | `report_inherited` | reports descriptors that the process inherited |
/// | `report_without_cloexec` | notes openings without close-on-exec |
/// | `settle_ms = N` | how long finishing threads may take (default 1000) |
/// | `timeout_ms = N` | the time after which a hanging test is killed and reported (default 300000) |
/// | `group = "NAME"` | tests of one group do not run at the same time |
/// | `paranoid` | keeps closed descriptors occupied, and also checks reads and writes |
/// | `no_trace` | does not record openings and closings, so that reports have no places |
/// | `no_rerun` | never runs the body a second time |
///
/// # Examples
/// ```ignore
/// #[echown_test::test]
/// fn replies() { /* std::net, libc, anything */ }
///
/// #[echown_test::test]
/// #[tokio::test]
/// async fn replies_too() { /* ... */ }
///
/// #[echown_test::test(ignore_path = "/var/log/app", because = "the logger lives as long as the process")]
/// fn logs() { /* ... */ }
/// ```
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    MacroOrigin { name: "echown_test::test", path: "::echown_test::__private" }
        .attribute(options, item)
}

/// The same attribute, exported by `echown`: a crate that depends only on `echown` has no path to
/// `echown_test`, and echown's registry takes part.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn test_of_echown(options: TokenStream, item: TokenStream) -> TokenStream {
    MacroOrigin { name: "echown::test", path: "::echown::__private" }.attribute(options, item)
}

/// The crate that the attribute was used through.
struct MacroOrigin {
    /// The attribute's path for messages.
    name: &'static str,
    /// The path of `Case`, `Binary`, `Suppression` and `run` for the generated code.
    path: &'static str,
}

impl MacroOrigin {
    fn attribute(&self, options: TokenStream, item: TokenStream) -> TokenStream {
        let (wrapped, options) = options::split_wrapped(options);
        let item: TokenStream = wrapped.into_iter().chain(item).collect();
        let expanded = || {
            let read = Item::read(item.clone())?;
            let options_of_test = Options::read(options.clone())?;
            Ok(match read {
                Item::Test(function) => expand(self.path, &options_of_test, function),
                Item::Template(template) => self.append(&options, template),
            })
        };
        // The function is kept, so that a wrong option causes no further errors.
        expanded().unwrap_or_else(|fault: SyntaxError| {
            [fault.into_compile_error(self.name), item.clone()].into_iter().collect()
        })
    }

    /// Moves the attribute below the others, which make tests of the function and pass it on to each.
    fn append(&self, options: &TokenStream, template: Template) -> TokenStream {
        let mut out = template.attributes;
        let mut inside = TokenStream::new();
        if template.is_registered {
            inside.extend(parse(options::REGISTERED));
            inside.extend([TokenTree::from(Punct::new(',', Spacing::Alone))]);
        }
        inside.extend(options.clone());
        let mut this = parse(&format!("::{}", self.name));
        this.extend([TokenTree::from(Group::new(Delimiter::Parenthesis, inside))]);
        out.extend([
            TokenTree::from(Punct::new('#', Spacing::Alone)),
            Group::new(Delimiter::Bracket, this).into(),
        ]);
        out.extend(template.rest);
        out
    }
}

fn expand(path: &str, options: &Options, function: Function) -> TokenStream {
    let name = &function.name;
    let stays = function.should_panic.iter().map(ToString::to_string).collect::<Vec<_>>();
    let should_panic = if stays.is_empty() { String::from("false") } else { stays.join(" || ") };
    let is_test = function.is_test || options.is_registered;
    let options = options.fields(path);
    let case = format!(
        "{path}::Case {{ \
            marker: const {{ {path}::marker(::core::concat!(\"echown-test-case:\", ::core::module_path!(), \
                \"::\", ::core::stringify!({name}), \";\")) }}, \
            module: ::core::module_path!(), \
            function: ::core::stringify!({name}), \
            file: ::core::file!(), \
            line: ::core::line!(), \
            package: ::core::option_env!(\"CARGO_MANIFEST_DIR\"), \
            binary: {path}::Binary {{ \
                package: ::core::option_env!(\"CARGO_PKG_NAME\"), \
                program: ::core::option_env!(\"CARGO_BIN_NAME\"), \
                is_integration: ::core::option_env!(\"CARGO_TARGET_TMPDIR\").is_some(), \
            }}, \
            should_panic: {should_panic}, \
            {options} \
        }}"
    );
    let body = if function.is_extern { format!("|| {name}()") } else { name.to_string() };
    let call = spanned(parse(&format!("{path}::run(&{case}, {body})")), name.span());
    let mut body = TokenStream::new();
    body.extend(function.inner);
    body.extend(call);
    let mut out = function.attributes;
    // The last one, as macros expect that are above this one or come from an attribute's expansion.
    if !is_test {
        out.extend(parse("#[::core::prelude::v1::test]"));
    }
    if function.has_inner_test {
        out.extend(parse("#[allow(unnameable_test_items)]"));
    }
    out.extend(function.visibility);
    out.extend([
        TokenTree::Ident(Ident::new("fn", Span::call_site())),
        TokenTree::Ident(name.clone()),
        TokenTree::Group(Group::new(Delimiter::Parenthesis, TokenStream::new())),
        TokenTree::Group(Group::new(Delimiter::Brace, body)),
    ]);
    out
}

fn parse(text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|error| {
        panic!("failed to parse the code that the attribute generated: {error}")
    })
}

/// Sets all spans, so that compiler errors point at the user's code.
fn spanned(stream: TokenStream, span: Span) -> TokenStream {
    let at_span = |mut tree: TokenTree| {
        if let TokenTree::Group(group) = &tree {
            tree = Group::new(group.delimiter(), spanned(group.stream(), span)).into();
        }
        tree.set_span(span.resolved_at(Span::call_site()));
        tree
    };
    stream.into_iter().map(at_span).collect()
}

/// An error message and its span.
struct SyntaxError {
    span: Span,
    what: String,
}

impl SyntaxError {
    fn new(span: Span, what: impl Into<String>) -> SyntaxError {
        SyntaxError { span, what: what.into() }
    }

    fn into_compile_error(self, attribute: &str) -> TokenStream {
        let message = Literal::string(&format!("#[{attribute}]: {}", self.what));
        let mut tokens = vec![
            TokenTree::Ident(Ident::new("compile_error", self.span)),
            Punct::new('!', Spacing::Alone).into(),
            Group::new(Delimiter::Parenthesis, TokenTree::from(message).into()).into(),
            Punct::new(';', Spacing::Alone).into(),
        ];
        tokens.iter_mut().for_each(|tree| tree.set_span(self.span));
        tokens.into_iter().collect()
    }
}
