//! Descriptors that live as long as the process, recognised by the stack of their opening: it goes
//! through the initialisation of a static, which happens once, or through a library's own.
//!
//! Only constructs that several threads share are listed. A thread-local (`thread_local!`,
//! `std::cell::OnceCell`, `once_cell::unsync`) ends with its thread, so what it holds is a leak.
//!
//! In release builds the names of inlined functions are unqualified, so a rule compares the source
//! file; without debug information it compares the function.

use echown_report::StackFrame;

use super::origin::crate_of;

/// Why a descriptor belongs to the process and not to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessWide<'a> {
    /// What initialises it: `OnceLock`.
    pub(super) construct: &'static str,
    /// The reason, as the end of a sentence.
    pub(super) reason: &'static str,
    /// The innermost known frame outside of the construct: the code that uses the static.
    pub(super) used_by: Option<&'a StackFrame>,
}

/// A construct that runs its initialisation once per process.
struct Rule {
    construct: &'static str,
    reason: &'static str,
    /// The package of the function, without its version.
    package: &'static str,
    /// The beginnings of the source files, in the folder of the package.
    files: &'static [&'static str],
    /// The beginning of the function's name, which has a path in builds without debug information.
    function: &'static str,
}

const ONCE: &str = "it is opened once and lives as long as the process";

/// In the order in which they are compared. The function of std's `Once` is never inlined, because it
/// is compiled with the standard library, so that it is on each stack through std.
const RULES: &[Rule] = &[
    Rule {
        construct: "Once",
        reason: ONCE,
        package: "std",
        files: &["std/src/sys/sync/once/", "std/src/sys_common/once/"],
        function: "std::sys::sync::once::",
    },
    Rule {
        construct: "once_cell",
        reason: ONCE,
        package: "once_cell",
        files: &["src/imp_"],
        function: "once_cell::imp::",
    },
    Rule {
        construct: "once_cell::race",
        reason: ONCE,
        package: "once_cell",
        files: &["src/race.rs"],
        function: "once_cell::race::",
    },
    Rule {
        construct: "async_lock::OnceCell",
        reason: ONCE,
        package: "async-lock",
        files: &["src/once_cell.rs"],
        function: "async_lock::once_cell::",
    },
    Rule {
        construct: "tokio::sync::OnceCell",
        reason: ONCE,
        package: "tokio",
        files: &["src/sync/once_cell.rs"],
        function: "tokio::sync::once_cell::",
    },
    Rule {
        construct: "parking_lot::Once",
        reason: ONCE,
        package: "parking_lot",
        files: &["src/once.rs"],
        function: "parking_lot::once::",
    },
    Rule {
        construct: "spin::Once",
        reason: ONCE,
        package: "spin",
        files: &["src/once.rs"],
        function: "spin::once::",
    },
    Rule {
        construct: "getrandom",
        reason: "getrandom keeps its random device open for the process",
        package: "getrandom",
        files: &["src/use_file.rs", "src/backends/use_file.rs"],
        function: "getrandom::",
    },
];

/// The constructs that are built on std's `Once`, by the source file of the frames around it.
const BUILT_ON_ONCE: &[(&str, &str, &str)] = &[
    ("std", "std/src/sync/lazy_lock.rs", "LazyLock"),
    ("std", "std/src/sync/once_lock.rs", "OnceLock"),
    ("lazy_static", "src/", "lazy_static"),
    ("tokio", "src/util/once_cell.rs", "Once"),
];

/// The reason why a descriptor that was opened with this stack lives as long as the process; `None`
/// if there is none, so that it is a leak if it is left open. Innermost frame first.
pub(super) fn process_wide(frames: &[StackFrame]) -> Option<ProcessWide<'_>> {
    let find = |(index, frame): (usize, &StackFrame)| {
        let rule = RULES.iter().find(|rule| rule.matches(frame))?;
        Some((index, rule))
    };
    let (index, rule) = frames.iter().enumerate().find_map(find)?;
    let around = &frames[index + 1..];
    let built_on = |frame: &StackFrame| {
        let is_it = |(package, file, _): &&(&str, &str, &str)| is_in(frame, package, &[file]);
        BUILT_ON_ONCE.iter().find(is_it).map(|(_, _, construct)| *construct)
    };
    // The frames of the construct itself: those of the same package, and those around its `Once`.
    let is_inside =
        |frame: &&StackFrame| is_in(frame, "std", &[""]) || is_in(frame, rule.package, &[""]);
    let is_part = |frame: &&StackFrame| {
        is_inside(frame) || built_on(frame).is_some() || named(&frame.function).is_some()
    };
    let parts = around.iter().take_while(is_part).count();
    let by_name = || around.iter().find_map(|frame| named(&frame.function));
    let construct = match rule.construct {
        "Once" => around[..parts].iter().rev().find_map(built_on).or_else(by_name),
        _ => None,
    };
    let used_by = around[parts..].iter().find(|frame| !is_in(frame, "std", &[""]));
    Some(ProcessWide {
        construct: construct.unwrap_or(rule.construct),
        reason: rule.reason,
        used_by,
    })
}

impl Rule {
    fn matches(&self, frame: &StackFrame) -> bool {
        match &frame.file {
            Some(_) => is_in(frame, self.package, self.files),
            // A method's name begins with its type: `<once_cell::sync::Lazy<T> as ...>::deref`.
            None => frame.function.trim_start_matches(['<', '&']).starts_with(self.function),
        }
    }
}

/// Whether the source of a frame is in one of the files of a package. Without debug information, the
/// name of the function tells the crate.
fn is_in(frame: &StackFrame, package: &str, files: &[&str]) -> bool {
    let name = frame.package.as_deref().and_then(|package| package.split(' ').next());
    let is_in_package = match (name, crate_of(&frame.function)) {
        (Some(name), _) => name == package,
        (None, Some("core" | "alloc")) => package == "std" && !frame.is_own,
        (None, name) => !frame.is_own && name == Some(&package.replace('-', "_")),
    };
    let file = frame.file.as_deref().unwrap_or_default();
    is_in_package && files.iter().any(|begin| file.starts_with(begin))
}

/// The construct that a qualified name belongs to.
fn named(function: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 3] = [
        ("std::sync::once_lock::", "OnceLock"),
        ("std::sync::lazy_lock::", "LazyLock"),
        ("lazy_static::", "lazy_static"),
    ];
    NAMES.iter().find(|(part, _)| function.contains(part)).map(|(_, construct)| *construct)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame((package, function, file): (&str, &str, &str)) -> StackFrame {
        StackFrame {
            function: function.into(),
            file: (!file.is_empty()).then(|| file.into()),
            line: 7,
            column: 3,
            is_own: package.is_empty() && !file.is_empty(),
            package: (!package.is_empty()).then(|| package.into()),
            is_guessed: false,
        }
    }

    const OPEN: (&str, &str, &str) = ("std", "open<&str>", "std/src/fs.rs");
    const CALL: (&str, &str, &str) =
        ("std", "<std::sys::sync::once::futex::Once>::call", "std/src/sys/sync/once/futex.rs");
    const TEST: (&str, &str, &str) = ("", "a::test", "tests/a.rs");

    /// The construct and the user of a stack, with the test outermost.
    fn found(stack: &[(&str, &str, &str)]) -> Option<(&'static str, String)> {
        let frames: Vec<StackFrame> = stack.iter().copied().chain([TEST]).map(frame).collect();
        let found = process_wide(&frames)?;
        Some((found.construct, found.used_by.map(ToString::to_string).unwrap_or_default()))
    }

    #[test]
    fn the_statics_of_the_standard_library_are_named() {
        let lazy = "std/src/sync/lazy_lock.rs";
        let once_lock = "std/src/sync/once_lock.rs";
        let once = "std/src/sync/once.rs";
        for (construct, inside, outside) in [
            ("LazyLock", ("std", "{closure#0}", lazy), ("std", "force", lazy)),
            ("OnceLock", ("std", "{closure#0}", once_lock), ("std", "initialize", once_lock)),
            ("Once", ("std", "{closure#0}", once), ("std", "call_once", once)),
            (
                "lazy_static",
                ("std", "{closure#0}", once),
                ("lazy_static 1.5.1", "get", "src/inline_lazy.rs"),
            ),
        ] {
            let stack = [OPEN, ("", "open", "src/a.rs"), inside, CALL, outside];
            assert_eq!(found(&stack), Some((construct, "tests/a.rs:7:3".into())));
        }
    }

    #[test]
    fn cells_of_other_packages_are_named() {
        for (construct, package, file) in [
            ("once_cell", "once_cell 1.21.4", "src/imp_std.rs"),
            ("once_cell", "once_cell 1.21.4", "src/imp_pl.rs"),
            ("once_cell::race", "once_cell 1.21.4", "src/race.rs"),
            ("async_lock::OnceCell", "async-lock 3.5.0", "src/once_cell.rs"),
            ("tokio::sync::OnceCell", "tokio 1.54.1", "src/sync/once_cell.rs"),
            ("parking_lot::Once", "parking_lot 0.12.5", "src/once.rs"),
            ("spin::Once", "spin 0.9.8", "src/once.rs"),
            ("getrandom", "getrandom 0.2.17", "src/use_file.rs"),
            ("getrandom", "getrandom 0.4.3", "src/backends/use_file.rs"),
        ] {
            let stack = [OPEN, (package, "init", file), (package, "get", "src/lib.rs")];
            assert_eq!(found(&stack), Some((construct, "tests/a.rs:7:3".into())), "{package}");
        }
    }

    #[test]
    fn without_debug_information_functions_are_compared() {
        for (construct, function) in [
            ("Once", "<std::sys::sync::once::futex::Once>::call"),
            ("Once", "std::sys::sync::once::queue::Once::call"),
            ("once_cell", "once_cell::imp::initialize_or_wait"),
            ("once_cell::race", "once_cell::race::once_box::OnceBox<T>::init"),
            ("spin::Once", "spin::once::Once<T,R>::try_call_once_slow"),
        ] {
            assert_eq!(found(&[("", function, "")]).map(|it| it.0), Some(construct));
        }
        let initialize = ("", "std::sync::once_lock::OnceLock<T>::initialize", "");
        let call = ("std", "<std::sys::sync::once::futex::Once>::call", "");
        assert_eq!(found(&[call, initialize]).map(|it| it.0), Some("OnceLock"));
        let stack = [
            ("", "rustix::event::epoll::create", ""),
            ("", "core::ops::function::FnOnce::call_once", ""),
            ("", "<std::sys::sync::once::futex::Once>::call", ""),
            ("", "std::sync::once_lock::OnceLock<T>::get_or_init", ""),
            ("", "async_io::reactor::Reactor::get", ""),
        ];
        assert_eq!(found(&stack), Some(("OnceLock", "async_io::reactor::Reactor::get".into())));
        let lazy_static = [call, ("", "lazy_static::lazy::Lazy<T>::get", ""), ("", "app::f", "")];
        assert_eq!(found(&lazy_static), Some(("lazy_static", "app::f".into())));
        let stack = [
            ("", "<once_cell::imp::OnceCell<T>>::initialize", ""),
            ("", "<once_cell::sync::Lazy<T> as core::ops::deref::Deref>::deref", ""),
            ("", "app::log", ""),
        ];
        assert_eq!(found(&stack), Some(("once_cell", "app::log".into())));
    }

    /// The reactor of async-io, as `smol`, `async-std` and `async-process` have it.
    #[test]
    fn the_reactor_of_async_io_is_a_static() {
        let stack = [
            ("rustix 1.1.6", "create", "src/event/epoll.rs"),
            ("polling 3.11.0", "new", "src/epoll.rs"),
            ("async-io 2.6.0", "{closure#0}", "src/reactor.rs"),
            ("std", "{closure#0}", "std/src/sync/once_lock.rs"),
            CALL,
            ("std", "get_or_init", "std/src/sync/once_lock.rs"),
            ("async-io 2.6.0", "get", "src/reactor.rs"),
        ];
        let expected = ("OnceLock", "async-io 2.6.0 src/reactor.rs:7".into());
        assert_eq!(found(&stack), Some(expected));
    }

    /// `tokio::signal` has a pair of sockets for the process.
    #[test]
    fn the_signal_pipe_of_tokio_is_a_static() {
        let stack = [
            ("mio 1.2.5", "pair", "src/net/uds/stream.rs"),
            ("tokio 1.54.1", "globals_init", "src/signal/registry.rs"),
            ("std", "{closure#0}", "std/src/sync/once_lock.rs"),
            CALL,
            ("std", "get_or_init", "std/src/sync/once_lock.rs"),
            ("tokio 1.54.1", "globals", "src/signal/registry.rs"),
        ];
        let expected = ("OnceLock", "tokio 1.54.1 src/signal/registry.rs:7".into());
        assert_eq!(found(&stack), Some(expected));
    }

    #[test]
    fn what_a_thread_or_a_runtime_owns_is_not_excused() {
        for stack in [
            [("std", "with", "std/src/thread/local.rs"), OPEN],
            [("std", "get_or_init", "core/src/cell/once.rs"), OPEN],
            [("once_cell 1.21.4", "get_or_init", "src/lib.rs"), OPEN],
            [("tokio 1.54.1", "new", "src/runtime/io/driver.rs"), OPEN],
            [("polling 3.11.0", "new", "src/epoll.rs"), OPEN],
            [("rayon-core 1.13.0", "join", "src/join/mod.rs"), OPEN],
            [("", "app::once_cell::imp", "src/once.rs"), OPEN],
            [("", "std::thread::local::LocalKey<T>::with", ""), OPEN],
            [("", "app::getrandom::open", ""), OPEN],
            [("", "core::ptr::drop_in_place<once_cell::imp::Guard>", ""), OPEN],
        ] {
            assert_eq!(found(&stack), None, "{stack:?}");
        }
    }
}
