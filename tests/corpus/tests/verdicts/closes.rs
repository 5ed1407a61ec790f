//! Tests that close a descriptor twice, or one that they do not own.

use downstream::closes;

//~ fails | double-close: test | closed file fd | twice | @opened by open | @closed first by close at src/closes.rs: | @closed again by close at src/closes.rs:
#[echown::test]
fn twice() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test that closed file fd twice is seen on Linux on x86-64 only");
    }
    closes::twice();
}

//~ fails | double-close: test | twice | @closed again by close at src/closes.rs: | @in downstream::closes::twice_with_a_reuse (src/closes.rs:27) | @in downstream::closes::twice_with_a_reuse (src/closes.rs:28)
#[echown::test]
fn twice_with_a_reuse_in_between() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test that closed fd twice is seen on Linux on x86-64 only");
    }
    closes::twice_with_a_reuse();
}

// A limit: without the trace, a second close that fails in the kernel is not detected.
//~ passes
#[echown::test(no_trace)]
fn twice_without_the_trace() {
    closes::twice();
}

//~ fails | double-close: test | @closed file fd | @closed first by close at src/closes.rs: | IO Safety violation
#[echown::test]
fn a_raw_close_of_an_owned_file() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test, before the IO Safety violation, is seen on Linux on x86-64 only");
    }
    if !cfg!(debug_assertions) {
        eprintln!("an IO Safety violation is found with debug assertions only");
    }
    closes::a_raw_close_of_an_owned_file();
}

//~ passes
#[echown::test]
fn closing_all_descriptors_is_not_a_double_close() {
    for number in (0..4).map(|_| closes::open()).collect::<Vec<_>>() {
        closes::close(number);
    }
    closes::sweep(300, 330);
}

//~ fails | double-close: test | closed pipe fd | twice
#[echown::test]
fn a_pair_of_neighbours() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test closed pipe fd 3 twice closed pipe fd 4 twice is seen on Linux on x86-64 only");
    }
    closes::a_copied_pair();
}

//~ fails | double-close: test | closed file fd | (3 times)
#[echown::test]
fn three_times() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test closed file fd 3 (3 times) is seen on Linux on x86-64 only");
    }
    let number = closes::open();
    (0..3).for_each(|_| closes::close(number));
}

// The second `close(a)` is the fault: it closes `b`.
//~ fails | double-close: test | @in downstream::closes::the_history (src/closes.rs:71) | @in downstream::closes::the_history (src/closes.rs:74) | opened 3 times: the fault may be an earlier close
#[echown::test]
fn the_history_names_the_close_that_hit_another_file() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test opened 3 times: the fault may be an earlier close");
    }
    closes::the_history();
}

//~ fails | use-after-close: test | used file fd | after it was closed | @used by fsync at src/closes.rs: | @used by dup at src/closes.rs:
#[echown::test]
fn a_use_after_the_close() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("use-after-close: test used file fd 3 after it was closed");
    }
    closes::use_after_close();
}

//~ passes
#[echown::test]
fn asking_whether_a_number_is_open_is_no_use() {
    closes::ask_after_close();
}

//~ fails | closed-inherited: test | closed 1 descriptor that its process inherited | fd 1 | and now is closed | @closed by close at src/closes.rs:
#[echown::test]
fn standard_output() {
    closes::standard_output();
}

//~ fails | closed-inherited: test | fd 2 | and now is device fd 2, /dev/null | @closed by dup2 at src/closes.rs:
#[echown::test]
fn a_redirection_that_stays() {
    closes::redirect_and_leave();
}

//~ passes
#[echown::test]
fn everything_above_the_standard_streams() {
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

//~ fails | closed-inherited: test | that its process inherited | fd 0 | fd 1 | fd 2
#[echown::test]
fn everything() {
    unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
}

//~ fails | left 1 descriptor open | /etc/passwd
#[echown::test]
fn everything_and_a_leak() {
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    // Above all numbers that the process may have inherited.
    let file = std::fs::File::open("/etc/passwd").unwrap();
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_DUPFD_CLOEXEC, 600) };
}
