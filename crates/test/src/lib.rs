//! Leak detection for tests: the attribute `#[echown_test::test]`.
//!
//! A test that counts the entries of `/proc/self/fd` is wrong as soon as another test runs in
//! parallel. So the attribute runs its test *alone*: the test starts its own binary again as a
//! child process with only that test selected, and the child compares what is open before and
//! after, by identity and not by number. What is new afterwards was left open by this test, because
//! no other test ran in that process.
//!
//! ```text
//!   test runner ── the test (parent) ──── starts ──> child: the same binary, --exact NAME
//!                        │                             │ what is open?            (before)
//!                        │  <── its output ──────────  │ the test's body, on a thread of its own
//!                        │                             │ what is open?            (after, settled)
//!                        │  <── what is left, and ───  │
//!                        │      how the test ended
//!                     verdict: return, panic as the test did, or fail with a report
//! ```
//!
//! - A test costs one process. On Linux on x86-64 the child records the stack of each call that opens
//!   or closes a descriptor (with a seccomp filter that traps; see `echown_fd::trap`), so one run
//!   finds the verdict and the places. The report goes through memory that both processes map, so
//!   the child has no descriptor of the harness.
//! - A descriptor that was opened while a static was initialised (under a `Once`) belongs to the
//!   process and not to the test. It is not a leak.
//! - If descriptors are left and threads still run, the child waits for them (module `settle`).
//! - Only a test that leaks runs its body again, in the same process, and the report says if the
//!   second execution did not leak. Only a test whose process is aborted runs in a second process.
//! - The child's output is the test's output: it is captured if the runner captures, otherwise
//!   forwarded as it arrives. Panics, results, `#[should_panic]` and `#[ignore]` work as usual.
//! - The verdict is a value, a [`TestReport`](echown_report::TestReport).
//!   `ECHOWN_REPORT=FORMAT:FILE` also writes it to a file; findings that match `ECHOWN_BASELINE` or
//!   `ECHOWN_SUPPRESSIONS` fail no test. See `docs/ci.md`.
//!
//! # Limits
//!
//! - The test must be found under its name in its own binary by the standard runner or by nextest: not
//!   in doctests, nor with `harness = false`. `echown::check` works there.
//! - A test changes the memory of the child; other tests do not see these changes.
//! - A descriptor that was closed again before the end is not a leak, whichever code closed it. A
//!   second close is detected only where calls are recorded, or when it makes the standard library
//!   abort.
//! - epoll, eventfd, timerfd and inotify descriptors share one inode: if the test replaces an
//!   inherited one by another of the same kind under the same number, the change is not detected.
//! - If opening calls cannot be recorded (other systems, no address space randomisation, a kernel
//!   without seccomp), the report contains a note.

mod case;
mod plain;

/// The harness, where the open descriptors of a process can be listed.
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
// Its files are in this folder.
#[path = ""]
mod harness {
    use crate::case;

    mod child;
    mod child_config;
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    mod debug_files;
    mod env_settings;
    mod exec_leaks;
    mod fd_snapshot;
    mod filter;
    mod function_names;
    mod group;
    mod hang;
    mod judge;
    mod locked_file;
    mod message;
    mod misuse;
    pub(super) mod observer;
    mod origin;
    mod parent;
    mod platform;
    mod process_wide;
    mod processes;
    mod progress;
    mod report_map;
    mod report_output;
    mod same_place;
    mod settle;
    mod symbolizer;
    mod symbols;
    mod threads;

    use std::process::Termination;

    /// Starts the child and judges its report, in the runner's process; in the child, runs the test.
    pub(super) fn run<R: Termination + 'static>(
        case: &case::Case,
        body: fn() -> R,
        observer: &'static dyn observer::Observer,
    ) {
        // So that the text is in the binary.
        std::hint::black_box(case.marker);
        match child_config::Role::of_this_process() {
            child_config::Role::Child(config) => child::run(case, config, body, observer),
            child_config::Role::Copy => crate::plain::run(body),
            child_config::Role::Runner => parent::run(case),
        }
    }
}

pub use echown_test_macros::test;

#[doc(hidden)]
pub mod __private {
    //! What [`#[echown_test::test]`](macro@crate::test) expands to, and what the crate `echown` builds its
    //! attribute from. No part of the public interface.

    use std::process::Termination;

    pub use echown_report::Suppression;
    pub use echown_test_macros::test_of_echown;

    pub use crate::case::{Binary, Case, marker};
    use crate::plain;

    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
    pub use on_this_system::*;

    /// Runs a test. In the runner's process it starts the child and judges its report; in the child it
    /// runs the test. Where nothing can be checked, it only runs the test.
    ///
    /// # Panics
    /// The test panicked, or left a descriptor open.
    pub fn run<R: Termination + 'static>(case: &Case, body: fn() -> R) {
        #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
        return run_observed(case, body, &crate::harness::observer::NoRegistry);
        #[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd")))]
        {
            let _ = case;
            plain::run(body);
        }
    }

    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
    mod on_this_system {
        use super::{Case, Termination, plain};
        use crate::harness;
        pub use crate::harness::observer::{Observed, Observer, Outcome};

        /// As [`run`](super::run), with a registry that takes part.
        ///
        /// # Panics
        /// See [`run`](super::run).
        pub fn run_observed<R: Termination + 'static>(
            case: &Case,
            body: fn() -> R,
            observer: &'static dyn Observer,
        ) {
            // Miri starts no processes.
            if cfg!(miri) { plain::run(body) } else { harness::run(case, body, observer) }
        }
    }
}
