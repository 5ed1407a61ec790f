//! Notes about functions without names, which a just-in-time compiler writes only on request.
//!
//! V8 runs most functions in its interpreter, whose frames belong to the program itself: with
//! `--perf-basic-prof` alone, these have no names either.

use echown_report::StackFrame;

use crate::stack::{Frame, Stacks};

/// The function of V8 that interprets a function of JavaScript.
const V8_INTERPRETER: &str = "Builtins_InterpreterEntryTrampoline";

const OF_NODE: &str = "functions of JavaScript have no names in some stacks: node names them with \
    NODE_OPTIONS=\"--interpreted-frames-native-stack --perf-basic-prof\"";

const OF_OTHERS: &str = "code that a program generated has no names in some stacks: a perf map names \
    it, /tmp/perf-PID.map, if the program can write one";

/// Which notes were made: each is made once.
#[derive(Default)]
pub(super) struct Unnamed {
    of_node: bool,
    of_others: bool,
}

impl Unnamed {
    /// A note about a stack, of which `shown` are the frames with their names. Nothing if it has been
    /// made before, or if the stack has a name of generated code: then the program writes them.
    pub(super) fn note(
        &mut self,
        stacks: &Stacks,
        frames: &[Frame],
        shown: &[StackFrame],
    ) -> Option<&'static str> {
        let (mut is_node, mut has_unnamed) = (false, false);
        for frame in frames {
            match *frame {
                Frame::File { module, .. } => {
                    is_node |=
                        stacks.module_of(module).is_some_and(|module| is_of_node(&module.path));
                }
                Frame::Generated { process, address } => {
                    if stacks.generated(process, address).is_some() {
                        return None;
                    }
                    has_unnamed = true;
                }
                Frame::Script(_) => {}
            }
        }
        let is_interpreted = || shown.iter().any(|frame| frame.function == V8_INTERPRETER);
        let (made, note) = match is_node {
            true if has_unnamed || is_interpreted() => (&mut self.of_node, OF_NODE),
            false if has_unnamed => (&mut self.of_others, OF_OTHERS),
            _ => return None,
        };
        (!std::mem::replace(made, true)).then_some(note)
    }
}

/// Whether code belongs to node: to its program or to its library.
fn is_of_node(path: &str) -> bool {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(name, "node" | "nodejs") || name.starts_with("libnode.so")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Module, ScriptFrame};

    const GENERATED: Frame = Frame::Generated { process: 1, address: 2 };

    /// The notes about a stack that is made twice: code of a program around other frames.
    fn notes(program: &str, function: &str, frames: &[Frame], is_named: bool) -> Vec<&'static str> {
        let mut stacks = Stacks::new();
        let module = Module { identity: (1, 2), modified_ns: 3, path: program.into() };
        let module = stacks.module(module);
        let mut all = vec![Frame::File { module, offset: 4, is_guessed: false }];
        all.extend_from_slice(frames);
        if is_named {
            let name = ScriptFrame { function: "f".into(), file: "a.js".into(), line: 1 };
            stacks.name_generated(1, 2, name);
        }
        let shown = [StackFrame { function: function.into(), ..StackFrame::default() }];
        let mut unnamed = Unnamed::default();
        (0..2).filter_map(|_| unnamed.note(&stacks, &all, &shown)).collect()
    }

    #[test]
    fn functions_of_node_without_names_are_noted_once_with_both_options() {
        assert_eq!(notes("/usr/bin/node", V8_INTERPRETER, &[], false), [OF_NODE]);
        assert_eq!(notes("/usr/bin/node (deleted)", "a", &[GENERATED], false), [OF_NODE]);
        assert_eq!(notes("/usr/lib/libnode.so.108", "a", &[GENERATED], false), [OF_NODE]);
        for option in ["--interpreted-frames-native-stack", "--perf-basic-prof"] {
            assert!(OF_NODE.contains(option));
        }
    }

    #[test]
    fn generated_code_of_other_programs_is_noted_without_options_of_node() {
        assert_eq!(notes("/usr/bin/luajit", "a", &[GENERATED], false), [OF_OTHERS]);
        assert!(!OF_OTHERS.contains("--"));
    }

    #[test]
    fn a_stack_with_names_or_without_generated_code_is_not_noted() {
        assert_eq!(notes("/usr/bin/node", "uv_run", &[], false), [""; 0]);
        assert_eq!(notes("/usr/bin/node", V8_INTERPRETER, &[GENERATED], true), [""; 0]);
        assert_eq!(notes("/usr/bin/luajit", "a", &[GENERATED], true), [""; 0]);
        assert_eq!(notes("/usr/bin/a", "main", &[], false), [""; 0]);
    }
}
