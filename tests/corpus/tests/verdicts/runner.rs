//! Other features of test runners: panics, results, exits.

use std::fs::File;
use std::mem::forget;

//~ passes
#[echown::test]
#[should_panic]
fn an_expected_panic() {
    panic!("as it should");
}

//~ passes
#[should_panic(expected = "part of")]
#[echown::test]
fn a_panic_with_the_expected_text() {
    panic!("a {} the text", "part of");
}

//~ fails | panic did not contain expected string | another text
#[echown::test]
#[should_panic(expected = "the text")]
fn a_panic_with_another_text() {
    panic!("another {}", "text");
}

//~ fails | did not panic as expected
#[echown::test]
#[should_panic]
fn an_expected_panic_that_does_not_occur() {}

//~ fails | did not panic as expected | it does not count as a leak of the test
#[echown::test]
#[should_panic]
fn an_expected_panic_that_does_not_occur_and_a_lazy_static() {
    downstream::clean::lazy_static();
}

//~ fails | left 1 descriptor open | /etc/passwd | fails by not panicking
#[echown::test]
#[should_panic]
fn an_expected_panic_and_a_leak() {
    forget(File::open("/etc/passwd"));
    panic!("as it should");
}

//~ fails | left 1 descriptor open | /etc/passwd
#[echown::test]
#[cfg_attr(unix, should_panic(expected = "as it"))]
fn a_conditional_panic_and_a_leak() {
    forget(File::open("/etc/passwd"));
    panic!("as it should");
}

//~ fails | panicked at tests/verdicts/runner.rs: | its own text 7 | also left 1 descriptor open, which is not judged
#[echown::test]
fn an_unexpected_panic() {
    forget(File::open("/etc/passwd"));
    panic!("its own text {}", 7);
}

//~ fails | assertion `left == right` failed | left: 1
#[echown::test]
fn an_assertion() {
    assert_eq!(1, 2);
}

//~ passes
#[echown::test]
fn a_result() -> Result<(), String> {
    Ok(())
}

//~ fails | Error: "its own error"
#[echown::test]
fn a_result_that_is_an_error() -> Result<(), String> {
    Err("its own error".into())
}

//~ fails | left 1 descriptor open
#[echown::test]
fn a_result_and_a_leak() -> std::io::Result<()> {
    forget(File::open("/etc/passwd")?);
    Ok(())
}

//~ passes
#[echown::test]
fn an_exit_code() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}

//~ ignored
#[echown::test]
#[ignore]
fn an_ignored_test() {
    panic!("it was run");
}

#[echown::test]
#[cfg(any())]
fn a_test_for_another_system() {
    a_function_of_another_system();
}

//~ fails | process-exited: test | exited with code 3 before it returned
#[echown::test]
fn an_exit() {
    std::process::exit(3);
}

//~ fails | process-exited: test | signal 6 (SIGABRT) | its last words
#[echown::test]
fn an_abort() {
    println!("its last words");
    std::process::abort();
}

//~ fails | process-exited: test | signal 11 (SIGSEGV)
#[echown::test]
fn a_signal() {
    unsafe { libc::raise(libc::SIGSEGV) };
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    unsafe { libc::raise(libc::SIGSEGV) };
}

//~ passes | on standard output: é | on standard error
#[echown::test]
fn what_it_prints() {
    println!("on standard output: é");
    eprintln!("on standard error");
}

//~ passes | Some("runner::the_name_of_its_thread")
#[echown::test]
fn the_name_of_its_thread() {
    println!("{:?}", std::thread::current().name());
}

mod r#type {
    //~ fails | left 1 descriptor open
    #[echown::test]
    fn r#match() {
        super::forget(super::File::open("/etc/passwd"));
    }
}
