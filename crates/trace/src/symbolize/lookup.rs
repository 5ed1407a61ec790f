//! Reads debug information and symbols, in the worker process.

use std::fs::File;
use std::path::Path;

use blazesym::symbolize::source::{Elf as SymbolSource, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use rustc_hash::FxHashMap;

use super::demangle::demangled;
use super::go_table::GoTable;
use super::protocol::{self, Answer, Function, Request};
use crate::modules::elf::{Elf, Source as _};

/// The maximum size of Go's table of functions. That of kubectl has 20 MiB.
const GO_TABLE_MAX: u64 = 256 << 20;

/// The function that a worker process calls for each request.
pub(super) fn responder() -> impl FnMut(&[u8]) -> Vec<u8> {
    let symbolizer =
        Symbolizer::builder().enable_auto_reload(false).enable_demangling(false).build();
    let mut go_programs = FxHashMap::default();
    move |request| {
        let answer = match Request::decode(request) {
            Some(request) => {
                let answer = look_up(&symbolizer, &request);
                let program = || GoProgram::read(&request.path);
                let program = go_programs.entry(request.path.clone()).or_insert_with(program);
                match program {
                    Some(program) => program.complete(&request, answer),
                    None => answer,
                }
            }
            None => Err(String::from("the request is damaged")),
        };
        protocol::encode(&answer)
    }
}

/// A program that Go's compiler made.
struct GoProgram {
    elf: Elf,
    table: GoTable,
}

impl GoProgram {
    fn read(path: &str) -> Option<GoProgram> {
        let file = File::open(path).ok()?;
        let elf = Elf::read(&file).ok()?;
        let (offset, size) = elf.go_table.filter(|(_, size)| *size <= GO_TABLE_MAX)?;
        let table = GoTable::new(file.read(offset, size as usize)?, elf.text)?;
        Some(GoProgram { elf, table })
    }

    /// Adds what only Go's own table has: all, if the program is stripped.
    fn complete(&self, request: &Request, answer: Answer) -> Answer {
        let mut places = answer.unwrap_or_else(|_| vec![Vec::new(); request.offsets.len()]);
        for (functions, offset) in places.iter_mut().zip(&request.offsets) {
            if functions.is_empty() {
                let address = self.elf.address(*offset);
                functions.extend(address.and_then(|address| self.table.find(address)));
            }
        }
        Ok(places)
    }
}

fn look_up(symbolizer: &Symbolizer, request: &Request) -> Answer {
    let input = Input::FileOffset(&request.offsets[..]);
    let with_debug = SymbolSource::new(&request.path);
    let found = symbolizer.symbolize(&Source::Elf(with_debug), input);
    let found = found.or_else(|_| {
        // Damaged debug information: the symbols may still be good.
        let mut without = SymbolSource::new(&request.path);
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
        name: demangled(name),
        file: file.map(|path| path.into_owned()),
        line: code.and_then(|code| code.line).unwrap_or(0),
        column: code.and_then(|code| code.column).map_or(0, u32::from),
    }
}
