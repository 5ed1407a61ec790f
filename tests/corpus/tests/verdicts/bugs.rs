//! Twenty small faults, and the level on which each is found.
//!
//! | fault | test |
//! |---|---|
//! | leak by a thread, on an error path, in a cycle, in a registry of clones | `leaks` |
//! | leak of a socketpair's half, of an epoll, of a received descriptor | `leaks` |
//! | leak after a panic | below |
//! | double close of a number, of a copied pair, with a number used twice | `closes` |
//! | exec leak | `exec` |
//! | use of a number after the close | `closes` |
//! | two owners; two owners with a reuse, whose victim stays open | below; the second on the paranoid level |
//! | stale write, stale read, stale send | below, on the paranoid level |
//! | close under a blocked read, `dup2` over a live descriptor | below, on the paranoid level |
//! | write after a hand-over | not found: only an owner for each descriptor tells |

use downstream::bugs;

//~ fails | left 1 descriptor open | @opened by open
#[echown::test]
fn a_panic_before_the_close() {
    bugs::a_panic_before_the_close();
}

//~ fails | double-close: test | closed memfd fd | twice | @closed again by close at
#[echown::test]
fn two_owners() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test closed memfd fd 3 twice is seen on Linux on x86-64 only");
    }
    bugs::two_owners();
}

//~ fails | double-close: test | closed memfd fd | twice | left 1 descriptor open | @in downstream::bugs::two_owners_with_a_reuse (src/bugs.rs:47)
#[echown::test(paranoid)]
fn two_owners_with_a_reuse() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test closed memfd fd 3 twice left 1 descriptor open is seen on Linux on x86-64 only");
    }
    assert!(bugs::two_owners_with_a_reuse(), "the victim is unharmed");
}

//~ fails | use-after-close: test | used memfd fd | after it was closed | @used by write at src/bugs.rs:
#[echown::test(paranoid)]
fn a_stale_write() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("use-after-close: test used memfd fd 3 after it was closed is seen on Linux on x86-64 only");
    }
    assert_eq!(bugs::stale_write(), 0, "the victim is unharmed");
}

//~ fails | use-after-close: test | used memfd fd | after it was closed | @used by read at src/bugs.rs:
#[echown::test(paranoid)]
fn a_stale_read() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("use-after-close: test used memfd fd 3 after it was closed is seen on Linux on x86-64 only");
    }
    assert_eq!(bugs::stale_read(), "secret", "the victim is unharmed");
}

//~ fails | use-after-close: test | used udp socket fd | after it was closed | @used by sendto at src/bugs.rs:
#[echown::test(paranoid)]
fn a_stale_send() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("use-after-close: test used udp socket fd 3 after it was closed is seen on Linux on x86-64 only");
    }
    bugs::stale_send();
}

//~ fails | use-after-close: test | closed pipe fd | while a thread waited for input on it | @in use by read at src/bugs.rs: | @closed by close at src/bugs.rs:
#[echown::test(paranoid)]
fn a_close_under_a_blocked_read() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("use-after-close: test closed pipe fd 3 while a thread waited for input on it is seen on Linux on x86-64 only");
    }
    bugs::close_under_a_blocked_read();
}

//~ fails | overwritten-fd: test | replaced memfd fd | which was open | @closed by dup2 at src/bugs.rs:
#[echown::test(paranoid)]
fn dup2_over_a_live_descriptor() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("overwritten-fd: test replaced memfd fd 3, which was open is seen on Linux on x86-64 only");
    }
    bugs::dup2_over_a_live_descriptor();
}

// A limit: as long as the descriptor is open, nothing shows that the writer does not own it.
//~ passes
#[echown::test(paranoid)]
fn a_write_after_the_hand_over() {
    bugs::write_after_hand_over();
}

//~ passes
#[echown::test(paranoid)]
fn churn_on_the_paranoid_level() {
    bugs::churn();
}

//~ passes
#[echown::test(paranoid)]
fn asking_on_the_paranoid_level() {
    downstream::closes::ask_after_close_of_one();
}

//~ passes
#[echown::test(paranoid, allow_close_inherited, because = "it closes everything")]
fn a_sweep_on_the_paranoid_level() {
    bugs::churn();
    downstream::closes::sweep(3, 1024);
}
