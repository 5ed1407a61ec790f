//! Reads debug information and symbols, in the worker process.

use std::path::Path;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::protocol::{self, Answer, Function, Request};

/// The function that a worker process calls for each request.
pub(super) fn responder() -> impl FnMut(&[u8]) -> Vec<u8> {
    let symbolizer = Symbolizer::builder().enable_auto_reload(false).build();
    move |request| {
        let answer = match Request::decode(request) {
            Some(request) => look_up(&symbolizer, &request),
            None => Err(String::from("the request is damaged")),
        };
        protocol::encode(&answer)
    }
}

fn look_up(symbolizer: &Symbolizer, request: &Request) -> Answer {
    let input = Input::FileOffset(&request.offsets[..]);
    let with_debug = Elf::new(&request.path);
    let found = symbolizer.symbolize(&Source::Elf(with_debug), input);
    let found = found.or_else(|_| {
        // Damaged debug information: the symbols may still be good.
        let mut without = Elf::new(&request.path);
        without.debug_syms = false;
        symbolizer.symbolize(&Source::Elf(without), input)
    });
    let found = found.map_err(|error| error.to_string())?;
    let places = found.into_iter().map(|symbolized| match symbolized {
        Symbolized::Sym(symbol) => functions(&symbol),
        Symbolized::Unknown(_) => Vec::new(),
    });
    Ok(places.collect())
}

/// The inlined functions at an address, innermost first, and the function that contains them.
fn functions(symbol: &Sym<'_>) -> Vec<Function> {
    let inlined = symbol.inlined.iter().rev();
    let inlined = inlined.map(|it| function(&it.name, it.code_info.as_ref()));
    let own = function(&symbol.name, symbol.code_info.as_deref());
    inlined.chain([own]).collect()
}

fn function(name: &str, code: Option<&CodeInfo<'_>>) -> Function {
    let path = code.map(CodeInfo::to_path);
    let file = path.as_deref().map(Path::to_string_lossy).filter(|path| !path.is_empty());
    Function {
        name: name.to_owned(),
        file: file.map(|path| path.into_owned()),
        line: code.and_then(|code| code.line).unwrap_or(0),
        column: code.and_then(|code| code.column).map_or(0, u32::from),
    }
}
