//! The rule that source files do not import each other in a cycle.
//!
//! A path is followed through re-exports to the file that defines the name: `super::Task`, which the
//! parent re-exports from `task.rs`, is an import of `task.rs`. A module and its own children are one
//! unit and may import each other. Tests do not count, and between crates Cargo forbids cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::Faults;
use super::source::{File, Token, sources};

/// A module: the folder of its crate's sources, then the modules on the way. `["src/", "net", "stream"]`.
type Module = Vec<String>;

/// A crate's modules that are files, with the names that each imports or re-exports.
struct Modules {
    files: BTreeMap<Module, &'static File>,
    imports: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
    globs: BTreeMap<Module, Vec<Vec<String>>>,
}

/// How many re-exports a path may pass.
const STEPS_MAX: usize = 16;

#[test]
fn files_import_each_other_in_no_cycle() {
    let mut faults = Faults::because(
        "files do not import each other in a cycle, except a module and its own children: \
         a reader can start at the bottom and never needs a file that comes later",
    );
    let modules = Modules::of_all_crates();
    let edges = modules.edges();
    for knot in knots(&edges) {
        let names = |module: &Module| modules.files[module].name.clone();
        let files: Vec<String> = knot.iter().map(names).collect();
        let ties: Vec<String> = edges
            .iter()
            .filter(|((from, to), _)| knot.contains(from) && knot.contains(to))
            .map(|((from, to), used)| {
                let used: Vec<&str> = used.iter().map(String::as_str).collect();
                format!("\n    {} -> {}: {}", names(from), names(to), used.join(", "))
            })
            .collect();
        faults.add_at(&files[0], 1, format!("a cycle of {} files:{}", files.len(), ties.concat()));
    }
    faults.assert_none();
}

#[test]
fn imports_are_followed_through_re_exports_to_the_file_that_defines_the_name() {
    let modules = Modules::of_all_crates();
    let net: Module = ["src/", "net"].map(String::from).into();
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let found = |text: &str| modules.resolve(&net, &path(text), 0).map(|module| module.join("/"));
    assert_eq!(found("crate::ownership::Promise").as_deref(), Some("src//ownership/promise"));
    assert_eq!(found("super::pool::Pool").as_deref(), Some("src//pool"));
    assert_eq!(found("self::stream::Stream").as_deref(), Some("src//net/stream"));
    assert_eq!(found("std::io::Read"), None);
}

impl Modules {
    fn of_all_crates() -> Modules {
        let mut modules =
            Modules { files: BTreeMap::new(), imports: BTreeMap::new(), globs: BTreeMap::new() };
        let of_libraries = sources().filter(|file| !file.name.ends_with("src/main.rs"));
        for file in of_libraries {
            // A file that is for tests alone has no other tokens.
            if file.tokens.iter().all(|token| token.is_test) && !file.tokens.is_empty() {
                continue;
            }
            modules.files.insert(module_of(file), file);
        }
        for (module, file) in &modules.files {
            let mut named = BTreeMap::new();
            let mut globs = Vec::new();
            for import in imports(&shipped(file)) {
                match import {
                    Import { name: Some(name), path } => drop(named.insert(name, path)),
                    Import { name: None, path } => globs.push(path),
                }
            }
            modules.imports.insert(module.clone(), named);
            modules.globs.insert(module.clone(), globs);
        }
        modules
    }

    /// Which file imports what from which other one.
    fn edges(&self) -> BTreeMap<(Module, Module), BTreeSet<String>> {
        let mut edges: BTreeMap<(Module, Module), BTreeSet<String>> = BTreeMap::new();
        for (module, file) in &self.files {
            let mut paths = self.globs[module].clone();
            paths.extend(self.imports[module].values().cloned());
            let tokens = shipped(file);
            let code = File { name: file.name.clone(), lines: Vec::new(), tokens };
            let written = code.paths_from(&["crate", "super", "self"]);
            paths.extend(written.into_iter().map(|(path, _)| path.at_top_level()));
            for path in paths {
                let Some(target) = self.resolve(module, &path, 0) else { continue };
                let is_family =
                    target[..target.len() - 1] == **module || module[..module.len() - 1] == *target;
                if target != *module && !is_family {
                    let name = path.last().cloned().unwrap_or_default();
                    edges.entry((module.clone(), target)).or_default().insert(name);
                }
            }
        }
        edges
    }

    /// The file that a path leads to, which is written in `module`. `None` for another crate's.
    fn resolve(&self, module: &Module, path: &[String], steps: usize) -> Option<Module> {
        if steps > STEPS_MAX {
            return None;
        }
        let mut here = module.clone();
        for (index, segment) in path.iter().enumerate() {
            let mut below = here.clone();
            below.push(segment.clone());
            match &**segment {
                "crate" => here.truncate(1),
                "self" => {}
                "super" if here.len() > 1 => drop(here.pop()),
                _ if self.files.contains_key(&below) => here = below,
                name => {
                    let rest = &path[index + 1..];
                    return match self.imports[&here].get(name) {
                        // The import itself, which leads out of this file.
                        Some(import) if *import != path[index..] => {
                            let full: Vec<String> = import.iter().chain(rest).cloned().collect();
                            self.resolve(&here, &full, steps + 1)
                        }
                        _ => self.by_glob(&here, name, steps).or(match index {
                            // The first word is neither a module nor imported: another crate, or an
                            // item of this file.
                            0 => None,
                            _ => Some(here),
                        }),
                    };
                }
            }
        }
        Some(here)
    }

    /// The file of a name that a module has by a glob import.
    fn by_glob(&self, module: &Module, name: &str, steps: usize) -> Option<Module> {
        self.globs[module].iter().find_map(|glob| {
            let target = self.resolve(module, glob, steps + 1)?;
            let import = self.imports[&target].get(name)?;
            self.resolve(&target, import, steps + 1)
        })
    }
}

fn module_of(file: &File) -> Module {
    let (folder, path) = file.name.split_once("src/").expect("sources lie below `src`");
    let mut module = vec![format!("{folder}src/")];
    let path = path.trim_end_matches(".rs");
    if path != "lib" {
        module.extend(path.split('/').map(str::to_owned));
    }
    module
}

/// The tokens that are built without tests.
fn shipped(file: &File) -> Vec<Token> {
    let is_shipped = |token: &&Token| !token.is_test && !token.is_in_attribute;
    file.tokens.iter().filter(is_shipped).cloned().collect()
}

/// One name of a `use`, or a glob.
struct Import {
    name: Option<String>,
    path: Vec<String>,
}

/// What the `use` items outside of inline modules and functions import.
fn imports(tokens: &[Token]) -> Vec<Import> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].is("use") && tokens[at].depth == 0 {
            at = tree(tokens, at + 1, Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one tree of a `use` from its first token. Returns where it ends.
fn tree(tokens: &[Token], mut at: usize, mut path: Vec<String>, found: &mut Vec<Import>) -> usize {
    loop {
        let token = &tokens[at];
        match &*token.text {
            "{" => {
                at += 1;
                while !tokens[at].is("}") {
                    at = tree(tokens, at, path.clone(), found);
                    at += usize::from(tokens[at].is(","));
                }
                return at + 1;
            }
            "*" => {
                found.push(Import { name: None, path });
                return at + 1;
            }
            ":" => at += 1,
            "as" => {
                let name = Some(tokens[at + 1].text.clone());
                found.push(Import { name, path });
                return at + 2;
            }
            "," | "}" | ";" => {
                let name = path.last().filter(|last| **last != "self").cloned();
                // `use a::{self}` has the name of `a`.
                let name = name.or_else(|| path.iter().rev().nth(1).cloned());
                found.push(Import { name, path });
                return at;
            }
            word => {
                path.push(word.to_owned());
                at += 1;
            }
        }
    }
}

/// The sets of more than one file that import each other, directly or not.
fn knots(edges: &BTreeMap<(Module, Module), BTreeSet<String>>) -> Vec<BTreeSet<Module>> {
    let mut imports: BTreeMap<&Module, Vec<&Module>> = BTreeMap::new();
    let mut importers: BTreeMap<&Module, Vec<&Module>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        imports.entry(from).or_default().push(to);
        importers.entry(to).or_default().push(from);
    }
    let mut knots: Vec<BTreeSet<Module>> = Vec::new();
    for module in imports.keys() {
        if knots.iter().any(|knot| knot.contains(*module)) {
            continue;
        }
        let below = reached(module, &imports);
        let knot: BTreeSet<Module> =
            below.intersection(&reached(module, &importers)).map(|it| (*it).clone()).collect();
        if knot.len() > 1 {
            knots.push(knot);
        }
    }
    knots
}

/// What is reached from a file by one step or more.
fn reached<'a>(
    start: &'a Module,
    steps: &BTreeMap<&'a Module, Vec<&'a Module>>,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next = vec![start];
    while let Some(module) = next.pop() {
        for far in steps.get(module).into_iter().flatten() {
            if reached.insert(*far) {
                next.push(far);
            }
        }
    }
    reached
}
