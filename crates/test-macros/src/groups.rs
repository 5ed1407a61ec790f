//! Groups without delimiters: what a `macro_rules` macro has matched as `$visibility:vis`, `$item:item` or
//! `$meta:meta`, and passes on as one token.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// The tokens of a function, without such groups up to its name. Types stay as they are.
pub(crate) fn open_head(item: TokenStream) -> TokenStream {
    let mut head = Vec::new();
    let mut rest = item.into_iter();
    while let Some(tree) = rest.next() {
        match tree {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                rest = group.stream().into_iter().chain(rest).collect::<TokenStream>().into_iter();
            }
            TokenTree::Ident(word) if word.to_string() == "fn" => {
                head.push(TokenTree::Ident(word));
                break;
            }
            other => head.push(other),
        }
    }
    head.into_iter().chain(rest).collect()
}

/// The tokens of an attribute, without such a group around its beginning.
pub(crate) fn open_first(content: TokenStream) -> TokenStream {
    let mut trees = content.into_iter();
    match trees.next() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::None => {
            open_first(group.stream().into_iter().chain(trees).collect())
        }
        first => first.into_iter().chain(trees).collect(),
    }
}
