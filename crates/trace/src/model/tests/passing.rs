//! Descriptors that other programs inherit.

use super::*;
use crate::finding::{Doubt, Severity};

/// Process 1 opens 3, and a child runs a program that has it.
fn inherited(prepare: impl FnOnce(&mut Program)) -> Program {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.fork(1, 2);
    prepare(&mut program);
    program.exec(2, "/bin/two", &[0, 1, 2, 3]);
    program
}

fn exec_leaks(program: &Program) -> Vec<Severity> {
    let findings = program.findings();
    let leaks = findings.iter().filter(|finding| finding.kind == Kind::ExecLeak);
    leaks.map(|finding| finding.severity).collect()
}

#[test]
fn an_unused_inherited_descriptor_is_a_leak_of_its_opener() {
    let mut program = inherited(|_| {});
    program.end(2);
    program.close(1, 3, 11);
    let findings = program.findings();
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.kind, finding.severity), (Kind::ExecLeak, Severity::Error));
    assert_eq!((finding.process.pid, finding.number), (1, 3));
    assert_eq!(finding.opening.as_ref().unwrap().stack, StackId(10));
    assert_eq!(finding.heirs.len(), 1);
    assert_eq!((finding.heirs[0].pid, &*finding.heirs[0].program), (2, "/bin/two"));
}

#[test]
fn many_heirs_of_one_place_are_one_finding() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    for child in 2..12 {
        program.fork(1, child);
        program.exec(child, "/bin/two", &[0, 1, 2, 3]);
        program.end(child);
    }
    program.close(1, 3, 11);
    let findings = program.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].count, findings[0].heirs.len()), (10, Finding::HEIRS_MAX));
}

#[test]
fn a_descriptor_that_the_heir_or_its_descendants_use_is_no_leak() {
    let uses: [fn(&mut Program); 6] = [
        |program| program.close(2, 3, 20),
        |program| program.opened(2, "dup", &[fd(4)], Some(3), 20),
        |program| program.event(2, What::CloexecSet { number: 3, is_set: true }),
        |program| program.event(2, What::Used { number: 3 }),
        |program| {
            let (call, fds, stack) = ("accept4", vec![cloexec(4)], StackId(20));
            let opened = Opened { call, fds, duplicate_of: None, used: Some(3), stack };
            program.event(2, What::Opened(opened));
        },
        |program| {
            program.fork(2, 3);
            program.exec(3, "/bin/three", &[0, 1, 2, 3]);
            program.close(3, 3, 20);
        },
    ];
    for (index, use_it) in uses.into_iter().enumerate() {
        let mut program = inherited(|_| {});
        assert!(program.model.wants_use(Tid(2), 3));
        use_it(&mut program);
        assert!(!program.model.wants_use(Tid(2), 3));
        assert_eq!(exec_leaks(&program), [], "use {index}");
    }
}

#[test]
fn a_descriptor_of_which_the_heir_is_notified_is_no_leak() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.fork(1, 2);
    program.exec_told(2, "/bin/two", &[0, 1, 2, 3], [&[3], &[]]);
    program.end(2);
    assert_eq!(exec_leaks(&program), []);
    // A wrapper that passes it on, such as `env`.
    let mut program = inherited(|_| {});
    program.exec_told(2, "/bin/three", &[0, 1, 2, 3], [&[3], &[]]);
    program.end(2);
    assert_eq!(exec_leaks(&program), []);
}

#[test]
fn a_leak_of_a_number_that_occurs_in_the_arguments_is_a_note() {
    let mut program = Program::start();
    program.open(1, &[fd(3), fd(4)], 10);
    program.fork(1, 2);
    program.exec_told(2, "/bin/sleep", &[0, 1, 2, 3], [&[], &[3]]);
    program.end(2);
    assert_eq!(exec_leaks(&program), [Severity::Note]);
    let findings = program.findings();
    let leak = findings.iter().find(|finding| finding.kind == Kind::ExecLeak).unwrap();
    assert_eq!(leak.doubt, Some(Doubt::NumberOccurs));
    // A number in the arguments of a later program says nothing about the first one.
    let mut program = inherited(|_| {});
    program.exec_told(2, "/bin/sleep", &[0, 1, 2, 3], [&[], &[3]]);
    program.end(2);
    assert_eq!(exec_leaks(&program), [Severity::Error]);
}

#[test]
fn a_leak_into_a_program_of_the_same_name_is_a_note() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.fork(1, 2);
    program.exec(2, "/usr/lib/one/one", &[0, 1, 2, 3]);
    program.end(2);
    assert_eq!(exec_leaks(&program), [Severity::Note]);
}

#[test]
fn a_leak_of_the_perf_map_of_the_process_itself_is_a_note() {
    for (map, severity) in
        [("/tmp/perf-1.map", Severity::Note), ("/tmp/perf-2.map", Severity::Error)]
    {
        let mut program = Program::start();
        program.open(1, &[OpenFd { link: map.into(), ..fd(3) }], 10);
        program.fork(1, 2);
        program.exec(2, "/bin/two", &[0, 1, 2, 3]);
        program.end(2);
        assert_eq!(exec_leaks(&program), [severity], "{map}");
    }
}

#[test]
fn a_descriptor_that_was_made_inheritable_is_no_leak() {
    let mut program = Program::start();
    program.open(1, &[cloexec(3), fd(4)], 10);
    program.event(1, What::CloexecSet { number: 3, is_set: false });
    program.event(1, What::CloexecSet { number: 4, is_set: false });
    program.fork(1, 2);
    program.exec(2, "/bin/two", &[0, 1, 2, 3, 4]);
    program.end(2);
    assert_eq!(exec_leaks(&program), []);
}

#[test]
fn what_a_forked_child_prepares_before_its_exec_is_no_leak() {
    let mut program = Program::start();
    program.open(1, &[cloexec(3)], 10);
    program.fork(1, 2);
    program.opened(2, "dup2", &[fd(5)], Some(3), 20);
    program.open(2, &[fd(4)], 21);
    program.exec(2, "/bin/two", &[0, 1, 2, 4, 5]);
    program.end(2);
    assert_eq!(exec_leaks(&program), []);
}

#[test]
fn a_fork_without_an_exec_is_no_leak() {
    let mut program = Program::start();
    program.opened(1, "socket", &[fd(3)], None, 10);
    for worker in 2..6 {
        program.fork(1, worker);
        program.opened(worker, "accept4", &[cloexec(4)], None, 20);
        program.close(worker, 4, 21);
        program.end(worker);
    }
    program.close(1, 3, 11);
    assert_eq!(program.kinds(), []);
}

#[test]
fn redirections_of_shells_and_descriptors_of_the_first_program_are_no_leaks() {
    let mut program = Program::default();
    let open = vec![fd(0), fd(1), fd(2), fd(9)];
    program.event(1, What::Started { program: "/usr/bin/dash".into(), open });
    program.open(1, &[fd(3)], 10);
    program.fork(1, 2);
    program.exec(2, "/bin/two", &[0, 1, 2, 3, 9]);
    program.end(2);
    assert_eq!(exec_leaks(&program), []);
}

#[test]
fn a_second_number_of_a_given_file_and_an_own_descriptor_are_only_notes() {
    let mut program = Program::start();
    program.opened(1, "pipe", &[fd(3), fd(4)], None, 10);
    program.fork(1, 2);
    program.opened(2, "dup2", &[fd(1)], Some(4), 20);
    program.close(2, 3, 21);
    program.exec(2, "/bin/two", &[0, 1, 2, 4]);
    program.end(2);
    assert_eq!(exec_leaks(&program), [Severity::Note]);
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.exec(1, "/bin/one", &[0, 1, 2, 3]);
    program.end(1);
    assert_eq!(exec_leaks(&program), [Severity::Note]);
}

#[test]
fn a_leak_of_a_process_that_still_runs_is_found_at_the_end_of_the_trace() {
    let program = inherited(|_| {});
    assert_eq!(program.model.findings(), []);
    assert_eq!(exec_leaks(&program), [Severity::Error]);
}
