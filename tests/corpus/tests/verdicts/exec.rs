//! Tests that start programs, which inherit descriptors by accident or on purpose.

use downstream::exec;

//~ fails | exec-leak: test | leaked 1 descriptor into a program that it started | eventfd fd | it was inherited by /usr/bin/true (argv[0] `true`) | opened without close-on-exec by dup at src/exec.rs: | in downstream::exec::copy_of
#[echown::test]
fn a_copy_of_an_eventfd() {
    let event = exec::event();
    let _copy = exec::copy_of(&event);
    exec::start("true").unwrap();
}

//~ fails | exec-leak: test | eventfd fd | it was inherited by /bin/true | opened without close-on-exec by fcntl at src/exec.rs:
#[echown::test]
fn a_copy_made_by_fcntl() {
    let event = exec::event();
    let _copy = exec::copy_by_fcntl(&event);
    exec::start("/bin/true").unwrap();
}

//~ fails | exec-leak: test | leaked 2 descriptors into a program | pipe fd | opened without close-on-exec by pipe2 at src/exec.rs:
#[echown::test]
fn a_pipe_and_posix_spawn() {
    let _pipe = exec::pipe();
    exec::start("true").unwrap();
}

//~ fails | exec-leak: test | leaked 1 descriptor into | unix stream fd | opened without close-on-exec by socket at src/exec.rs: | , 3 times
#[echown::test]
fn a_socket_and_std_by_fork() {
    let _socket = exec::socket();
    for _ in 0..3 {
        exec::start_by_fork("true");
    }
}

//~ fails | exec-leak: test | file fd | /etc/passwd | it was inherited by /bin/true | opened without close-on-exec by openat at src/exec.rs:
#[echown::test]
fn a_file_and_fork() {
    let file = exec::file();
    exec::fork_and_execute(c"/bin/true", || ());
    drop(file);
}

//~ fails | exec-leak: test | file fd | it was inherited by /bin/true
#[echown::test]
fn a_file_and_vfork() {
    let _file = exec::file();
    exec::vfork_and_execute(c"/bin/true");
}

//~ fails | exec-leak: test | leaked 1 descriptor into | file fd | /etc/hostname | opened without close-on-exec by openat at src/exec.rs: | in downstream::exec::worker_process
#[echown::test]
fn a_forked_child_that_opens_and_starts_a_program() {
    exec::worker_process();
}

//~ fails | exec-leak: test | eventfd fd | it was inherited by
#[echown::test]
fn a_thread_that_starts_the_program() {
    let event = exec::event();
    let _copy = exec::copy_of(&event);
    std::thread::spawn(|| exec::start("true").unwrap()).join().unwrap();
}

//~ passes
#[echown::test]
fn standard_streams() {
    assert_eq!(exec::standard_streams(), "");
}

//~ passes
#[echown::test]
fn a_chosen_number() {
    exec::pass_as(&exec::event(), 30);
    exec::pass_as(&exec::event(), 3);
}

//~ passes
#[echown::test]
fn a_flag_cleared_in_the_child() {
    exec::pass_by_flag(exec::event());
}

//~ passes
#[echown::test]
fn a_flag_cleared_in_the_parent() {
    let event = exec::event();
    exec::clear_flag(&event);
    exec::start("true").unwrap();
    exec::fork_and_execute(c"/bin/true", || ());
}

//~ passes
#[echown::test]
fn a_number_in_the_arguments() {
    exec::pass_by_argument(&exec::copy_of(&exec::event()));
}

//~ passes
#[echown::test]
fn a_program_that_does_not_exist() {
    let _copy = exec::copy_of(&exec::event());
    exec::start("/no/such/program").unwrap_err();
    exec::start("no-such-program").unwrap_err();
    exec::start("/etc/passwd").unwrap_err();
}

//~ passes
#[echown::test]
fn a_copy_that_the_child_closes() {
    use std::os::fd::AsRawFd;

    let copy = exec::copy_of(&exec::event());
    exec::fork_and_execute(c"/bin/true", || unsafe {
        libc::close(copy.as_raw_fd());
    });
}

//~ passes
#[echown::test]
fn what_a_program_opens_is_its_own() {
    std::process::Command::new("sh").args(["-c", "exec 9</etc/passwd; true"]).status().unwrap();
}

//~ passes | ignored: eventfd fd | inherited by | issue 12
#[echown::test(allow_exec_leaks, because = "issue 12")]
fn an_allowed_one() {
    let _copy = exec::copy_of(&exec::event());
    exec::start("true").unwrap();
}

// Otherwise the child would be killed at its first call that opens or closes something.
//~ passes
#[echown::test]
fn a_child_without_handlers_is_refused() {
    assert_eq!(exec::clone_without_handlers(), Some(38), "ENOSYS");
}

//~ passes | eventfd fd | was opened without close-on-exec by dup at src/exec.rs:
#[echown::test(report_without_cloexec)]
fn a_copy_without_a_program() {
    drop(exec::copy_of(&exec::event()));
    exec::start("true").unwrap();
}

//~ passes
#[echown::test]
fn an_action_of_posix_spawn() {
    exec::pass_by_action(&exec::event());
    exec::pass_by_action(&exec::copy_of(&exec::event()));
}
