//! The attribute macro `#[echown_test::test]`. Use it through the crate `echown-test`, or as
//! `#[echown::test]` through the crate `echown`, feature `macros`.
//!
//! The macro parses the head of one function and a list of options, and generates one call into the
//! crate that it was used through. It contains no Rust parser: attributes, qualifiers and the body
//! are passed on unchanged, so that new syntax needs no new macro.

mod function;
#[allow(dead_code, reason = "the table is that of echown-fd, and has more than a macro needs")]
mod kind;
mod options;

use function::Function;
use options::Options;
use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// Turns a function into a test that fails if it leaves a descriptor open.
///
/// The test runs alone in a child process, which compares the open descriptors before and after it.
/// Everything else works as with `#[test]`: `#[should_panic]`, `#[ignore]`, `#[cfg]`, results, output.
///
/// Options are separated by commas. Options that hide findings need a reason, `because = "..."`:
///
/// | option | effect |
/// |---|---|
/// | `ignore_path = "PART"` | ignores descriptors with PART in their path or address |
/// | `ignore_kind = "KIND"` | ignores descriptors of this kind: `"epoll"`, `"tcp stream"`, `"socket"` for all sockets ... |
/// | `allow_close_inherited` | allows closing descriptors that the process inherited |
/// | `expect_leaks = N` | expects exactly N leaks; more or fewer fail |
/// | `report_inherited` | reports descriptors that the process inherited |
/// | `settle_ms = N` | how long finishing threads may take (default 1000) |
/// | `timeout_ms = N` | the time after which a hanging test is killed and reported (default 300000) |
/// | `trace_fds` | records openings and closings in the first run, too, which detects double closes (Linux on x86-64) |
/// | `no_rerun` | never runs the test a second time to find the places of its leaks |
///
/// # Examples
/// ```ignore
/// #[echown_test::test]
/// fn replies() { /* std::net, libc, anything */ }
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
        let read = Function::read(item.clone());
        match read.and_then(|function| Ok((Options::read(options)?, function))) {
            Ok((options, function)) => expand(self.path, &options, function),
            // The function is kept, so that a wrong option causes no further errors.
            Err(fault) => [fault.into_compile_error(self.name), item].into_iter().collect(),
        }
    }
}

fn expand(path: &str, options: &Options, function: Function) -> TokenStream {
    let name = &function.name;
    let stays = function.should_panic.iter().map(ToString::to_string).collect::<Vec<_>>();
    let should_panic = if stays.is_empty() { String::from("false") } else { stays.join(" || ") };
    let options = options.fields(path);
    let case = format!(
        "{path}::Case {{ \
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
    let call = format!("{path}::run(&{case}, {name})");
    let call = spanned(parse(&call), name.span());
    let mut body = TokenStream::new();
    body.extend(function.inner);
    body.extend(call);
    let mut out = parse("#[::core::prelude::v1::test]");
    out.extend(function.attributes);
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
