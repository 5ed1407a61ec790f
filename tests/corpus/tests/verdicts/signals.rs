//! Handlers that block all signals while they run, and open or close something.

use std::sync::Once;

use downstream::signals;

/// In the first run as well.
//~ passes
#[echown::test]
fn a_handler_that_opens_with_all_signals_blocked() {
    signals::handle_by_opening();
    signals::raise(libc::SIGUSR1);
    let blocked = signals::blocked_in_handler_of(libc::SIGUSR1);
    for (signal, is_blocked) in [(libc::SIGUSR2, 1), (libc::SIGINT, 1)] {
        assert_eq!(unsafe { libc::sigismember(&blocked, signal) }, is_blocked, "{signal}");
    }
}

/// Its handler is set before the trace records openings, which begins with the second run.
//~ fails | leak: test | device fd | /dev/null | @opened by open | @at src/signals.rs:
#[echown::test]
fn a_handler_installed_before_leaves_a_descriptor() {
    static SET: Once = Once::new();
    SET.call_once(signals::handle_by_leaving);
    signals::raise(libc::SIGUSR2);
    assert!(signals::left() >= 0);
}
