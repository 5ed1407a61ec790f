//! The public interface as a page, `docs/api.txt`, so that a change of it shows in a review.
//!
//! The page is made from the sources' tokens: each `pub` item with its signature, the implementations of
//! traits for public types, and the definitions and uses of the macros that contain methods. That `pub`
//! means reachable is the compiler's lint `unreachable_pub`. Items of tests and hidden modules are left
//! out.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::source::{File, root, sources};

const PAGE: &str = "docs/api.txt";

/// The packages on the page. `echown::report` is `echown_report`.
const PACKAGES: &[(&str, &str)] = &[("echown", "src/"), ("echown::report", "crates/report/src/")];

/// `ci/pages` writes the page.
#[test]
fn the_page_of_the_public_interface_matches_the_sources() {
    let mut page = String::from(
        "The public interface of echown: every public item with its signature, by module. `ci/pages` writes\n\
         this page. `pub use` names what a module shows under its own path.\n",
    );
    for (package, folder) in PACKAGES {
        let files: Vec<&File> =
            sources().filter(|file| file.name.starts_with(folder) && !file.is_test()).collect();
        let mut known = BTreeSet::new();
        for file in &files {
            known.extend(names(file));
        }
        for file in &files {
            let mut scan = Scan::of(file, &known);
            scan.file();
            if !scan.page.is_empty() {
                let module = file.name.trim_start_matches(folder).trim_end_matches(".rs");
                let module = module.replace('/', "::");
                let path = if module == "lib" { "" } else { &*format!("::{module}") };
                let _ = write!(page, "\n{package}{path}\n{}", scan.page);
            }
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(PAGE), &page).expect("the page can be written");
    }
    let old = fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    let changed = old.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(
        old == page,
        "{PAGE} is out of date, first at {changed:?}; with UPDATE_DOCS=1 this test writes it"
    );
}

/// One file on its way to the page.
struct Scan<'a> {
    text: String,
    tokens: TokenStream,
    /// The public types, and the macros with public methods: only what is done for these is listed.
    known: &'a BTreeSet<String>,
    page: String,
}

/// The tokens of one item.
struct Item<'t> {
    attributes: Vec<&'t TokenTree>,
    is_public: bool,
    /// The keyword: `fn`, `struct`, `use`; empty for other items, such as the use of a macro.
    keyword: String,
    /// From `pub` to the end, without attributes.
    all: &'t [TokenTree],
}

impl<'a> Scan<'a> {
    fn of(file: &File, known: &'a BTreeSet<String>) -> Scan<'a> {
        let text = file.text();
        let tokens = text.parse().expect("it is Rust");
        Scan { text, tokens, known, page: String::new() }
    }

    fn file(&mut self) {
        let trees: Vec<TokenTree> = self.tokens.clone().into_iter().collect();
        self.items(&trees, "");
    }

    fn items(&mut self, trees: &[TokenTree], indent: &str) {
        for item in items(trees) {
            if item.is_hidden() {
                continue;
            }
            let body = item.body();
            match &*item.keyword {
                "impl" => self.implementation(&item, indent),
                "mod" if body.is_empty() => {
                    if item.is_public {
                        self.line(indent, &item, item.all);
                    }
                }
                "mod" => {
                    if item.is_public {
                        self.line(indent, &item, item.head());
                        self.items(&body, &format!("{indent}    "));
                    }
                }
                "macro_rules" if has_methods(body.clone()) => {
                    let _ =
                        writeln!(self.page, "{indent}macro {}", item.name().unwrap_or_default());
                    for tree in &body {
                        // The rules: the bodies are the groups in braces.
                        if let Some(rule) = braces(tree) {
                            self.items(&rule, &format!("{indent}    "));
                        }
                    }
                }
                "" if item.name().is_some_and(|name| self.known.contains(&name)) => {
                    self.line(indent, &item, item.all);
                }
                _ if !item.is_public => {}
                "struct" | "enum" | "trait" | "union" => {
                    self.line(indent, &item, item.head());
                    self.members(&item, &format!("{indent}    "));
                }
                _ => self.line(indent, &item, item.head()),
            }
        }
    }

    /// The public fields of a struct, the variants of an enum, the items of a trait.
    fn members(&mut self, item: &Item<'_>, indent: &str) {
        let body = item.body();
        if item.keyword == "trait" {
            for member in items(&body) {
                self.line(indent, &member, member.head());
            }
            return;
        }
        for member in split(&body) {
            let member = skip_attributes(member);
            let is_public = member.first().is_some_and(|word| is_word(word, "pub"))
                && !matches!(member.get(1), Some(TokenTree::Group(_)));
            if !member.is_empty() && (item.keyword == "enum" || is_public) {
                let _ = writeln!(self.page, "{indent}{}", self.slice(member));
            }
        }
    }

    fn implementation(&mut self, item: &Item<'_>, indent: &str) {
        let head = item.head();
        let of_trait = head.iter().position(|word| is_word(word, "for"));
        let subject = &head[of_trait.map_or(0, |at| at + 1)..];
        let is_known = |tree: &TokenTree| {
            matches!(tree, TokenTree::Ident(word) if self.known.contains(&word.to_string()))
                || matches!(tree, TokenTree::Punct(sign) if sign.as_char() == '$')
        };
        if !subject.iter().any(is_known) {
            return;
        }
        if of_trait.is_some() {
            self.line(indent, item, head);
            return;
        }
        let body = item.body();
        let members: Vec<Item<'_>> =
            items(&body).into_iter().filter(|it| it.is_public && !it.is_hidden()).collect();
        if !members.is_empty() {
            self.line(indent, item, head);
        }
        for member in members {
            self.line(&format!("{indent}    "), &member, member.head());
        }
    }

    fn line(&mut self, indent: &str, item: &Item<'_>, trees: &[TokenTree]) {
        let attributes: String = item
            .attributes
            .iter()
            .filter(|it| ["non_exhaustive", "derive"].iter().any(|word| begins_with(it, word)))
            .map(|it| format!("#{it} ", it = self.slice(std::slice::from_ref(it))))
            .collect();
        // Private fields of a tuple struct are no part of the interface.
        let (trees, fields) = match trees {
            [rest @ .., TokenTree::Group(fields)]
                if item.keyword == "struct" && !fields.to_string().contains("pub ") =>
            {
                (rest, "(..)")
            }
            _ => (trees, ""),
        };
        let _ = writeln!(self.page, "{indent}{attributes}{}{fields}", self.slice(trees));
    }

    /// The source text of these tokens on one line, without comments.
    fn slice(&self, trees: &[TokenTree]) -> String {
        let (Some(first), Some(last)) = (trees.first(), trees.last()) else {
            return String::new();
        };
        let (begin, end) = (first.span().start(), last.span().end());
        let mut text = String::new();
        for (line, number) in self.text.lines().zip(1..).skip(begin.line - 1) {
            if number > end.line {
                break;
            }
            let from = if number == begin.line { begin.column } else { 0 };
            let to = if number == end.line { end.column } else { usize::MAX };
            let part: String = line.chars().take(to).skip(from).collect();
            let part = part.trim();
            if !part.starts_with("//") && !part.is_empty() {
                let separator =
                    if text.is_empty() || text.ends_with(['(', '<']) { "" } else { " " };
                text += separator;
                text += part;
            }
        }
        text.replace(", )", ")").replace(" )", ")").replace(",)", ")").replace(", >", ">")
    }
}

impl Item<'_> {
    /// Without the body.
    fn head(&self) -> &[TokenTree] {
        let value = ["const", "static"].contains(&&*self.keyword);
        let is_end = |tree: &TokenTree| match tree {
            TokenTree::Group(_) => self.keyword != "use" && braces(tree).is_some(),
            TokenTree::Punct(sign) => sign.as_char() == ';' || (value && sign.as_char() == '='),
            _ => false,
        };
        &self.all[..self.all.iter().position(is_end).unwrap_or(self.all.len())]
    }

    /// The content of the body in braces.
    fn body(&self) -> Vec<TokenTree> {
        self.all.last().and_then(braces).unwrap_or_default()
    }

    /// The name after the keyword, or that of the macro.
    fn name(&self) -> Option<String> {
        let is_keyword = |tree: &TokenTree| is_word(tree, &self.keyword);
        let keyword = self.all.iter().position(is_keyword).map_or(0, |at| at + 1);
        self.all[keyword..].iter().find_map(|tree| match tree {
            TokenTree::Ident(word) => Some(word.to_string()),
            _ => None,
        })
    }

    /// Whether it is for tests, or hidden from the documentation.
    fn is_hidden(&self) -> bool {
        self.attributes.iter().any(|attribute| {
            let text = attribute.to_string().replace(' ', "");
            text.starts_with("[cfg(test")
                || text.starts_with("[cfg(all(test")
                || text.starts_with("[cfg(doctest")
                || text.starts_with("[doc(hidden")
        })
    }
}

/// The names of a file's public types, and of its macros that contain methods.
fn names(file: &File) -> Vec<String> {
    let tokens: TokenStream = file.text().parse().expect("it is Rust");
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let is_listed = |item: &Item<'_>| match &*item.keyword {
        "struct" | "enum" | "trait" | "type" => item.is_public,
        "macro_rules" => has_methods(item.body()),
        _ => false,
    };
    items(&trees).iter().filter(|item| is_listed(item)).filter_map(Item::name).collect()
}

/// Splits tokens into items. Inner attributes are left out.
fn items(trees: &[TokenTree]) -> Vec<Item<'_>> {
    const KEYWORDS: &[&str] = &[
        "mod",
        "use",
        "struct",
        "enum",
        "union",
        "trait",
        "type",
        "fn",
        "static",
        "impl",
        "macro_rules",
    ];
    let mut items = Vec::new();
    let mut rest = trees;
    while !rest.is_empty() {
        let begin = skip_attributes(rest);
        let attributes = rest[..rest.len() - begin.len()]
            .iter()
            .filter(|tree| matches!(tree, TokenTree::Group(_)))
            .collect();
        let keyword = begin.iter().find_map(|tree| match tree {
            TokenTree::Ident(word) if KEYWORDS.contains(&&*word.to_string()) => {
                Some(word.to_string())
            }
            // `const` begins a constant, or a function.
            TokenTree::Punct(sign) if [':', '!', ';'].contains(&sign.as_char()) => {
                let is_constant = begin.iter().any(|tree| is_word(tree, "const"));
                Some(if is_constant { "const" } else { "" }.to_owned())
            }
            _ => None,
        });
        let keyword = keyword.unwrap_or_default();
        let is_end = |tree: &TokenTree| match tree {
            TokenTree::Punct(sign) => sign.as_char() == ';',
            _ => !["use", "const", "static"].contains(&&*keyword) && braces(tree).is_some(),
        };
        let len = begin.iter().position(is_end).map_or(begin.len(), |at| at + 1);
        let (all, after) = begin.split_at(len);
        rest = after;
        let is_public = all.first().is_some_and(|word| is_word(word, "pub"))
            && !matches!(all.get(1), Some(TokenTree::Group(_)));
        items.push(Item { attributes, is_public, keyword, all });
    }
    items
}

fn skip_attributes(mut trees: &[TokenTree]) -> &[TokenTree] {
    loop {
        trees = match trees {
            [TokenTree::Punct(sign), TokenTree::Group(_), rest @ ..] if sign.as_char() == '#' => {
                rest
            }
            [TokenTree::Punct(sign), TokenTree::Punct(inner), TokenTree::Group(_), rest @ ..]
                if sign.as_char() == '#' && inner.as_char() == '!' =>
            {
                rest
            }
            _ => return trees,
        };
    }
}

/// Splits at the commas that are not inside of angle brackets.
fn split(trees: &[TokenTree]) -> Vec<&[TokenTree]> {
    let (mut depth, mut begin, mut parts) = (0_u32, 0, Vec::new());
    let mut before = ' ';
    for (at, tree) in trees.iter().enumerate() {
        let sign = match tree {
            TokenTree::Punct(sign) => sign.as_char(),
            _ => ' ',
        };
        match sign {
            '<' => depth += 1,
            '>' if before != '-' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&trees[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
        before = sign;
    }
    parts.push(&trees[begin..]);
    parts
}

/// Whether the rules of a macro contain public methods or implementations.
fn has_methods(body: Vec<TokenTree>) -> bool {
    body.iter().filter_map(braces).any(|rule| rule.iter().any(|tree| is_word(tree, "impl")))
}

fn braces(tree: &TokenTree) -> Option<Vec<TokenTree>> {
    match tree {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
            Some(group.stream().into_iter().collect())
        }
        _ => None,
    }
}

fn is_word(tree: &TokenTree, text: &str) -> bool {
    matches!(tree, TokenTree::Ident(word) if *word == text)
}

fn begins_with(attribute: &TokenTree, text: &str) -> bool {
    match attribute {
        TokenTree::Group(group) => {
            group.stream().into_iter().next().is_some_and(|tree| is_word(&tree, text))
        }
        _ => false,
    }
}
