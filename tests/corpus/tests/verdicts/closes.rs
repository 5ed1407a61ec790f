//! Tests that close a descriptor twice, or one that they do not own.

use downstream::closes;

//~ fails | double-close: test | closed fd | twice | @opened by open | @closed first by close at src/closes.rs: | @closed again by close at src/closes.rs:
#[echown::test(trace_fds)]
fn twice() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test that closed fd twice is seen on Linux on x86-64 only");
    }
    closes::twice();
}

//~ fails | double-close: test | twice | @closed again by close at src/closes.rs: | @in downstream::closes::twice_with_a_reuse (src/closes.rs:27) | @in downstream::closes::twice_with_a_reuse (src/closes.rs:28)
#[echown::test(trace_fds)]
fn twice_with_a_reuse_in_between() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        panic!("double-close: test that closed fd twice is seen on Linux on x86-64 only");
    }
    closes::twice_with_a_reuse();
}

// A limit: without the option, a second close that fails in the kernel is not detected.
//~ passes
#[echown::test]
fn twice_without_the_trace() {
    closes::twice();
}

//~ fails | process-exited: test | signal 6 (SIGABRT) | IO Safety violation | @double-close: test | @closed first by close at src/closes.rs:
#[echown::test]
fn a_raw_close_of_an_owned_file() {
    if !cfg!(debug_assertions) {
        panic!("process-exited: test signal 6 (SIGABRT) IO Safety violation is found with debug assertions");
    }
    closes::a_raw_close_of_an_owned_file();
}

//~ passes
#[echown::test(trace_fds)]
fn closing_all_descriptors_is_not_a_double_close() {
    for number in (0..4).map(|_| closes::open()).collect::<Vec<_>>() {
        closes::close(number);
    }
    closes::sweep(300, 330);
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

//~ fails | closed-inherited: test | closed all descriptors
#[echown::test]
fn everything() {
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}
