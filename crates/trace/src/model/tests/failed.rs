//! Calls that got EBADF.

use super::*;
use crate::finding::{Severity, Step, StepKind};

#[test]
fn a_second_close_names_the_opening_and_both_closes() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.close(1, 3, 11);
    program.close(1, 3, 12);
    program.event(1, What::Named { name: "later".into() });
    let findings = program.findings();
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.kind, finding.severity), (Kind::DoubleClose, Severity::Error));
    assert_eq!(finding.opening.as_ref().unwrap().stack, StackId(10));
    let stacks: Vec<u32> = finding.closes.iter().map(|closing| closing.stack.0).collect();
    assert_eq!(stacks, [11, 12]);
    let steps: Vec<StepKind> = finding.history.iter().map(|step| step.what).collect();
    assert_eq!(steps, [StepKind::Opened, StepKind::Closed, StepKind::CloseFailed]);
    assert_eq!(&*finding.process.name, "one");
}

#[test]
fn the_close_of_a_reused_number_is_described_in_three_parts() {
    let mut program = Program::start();
    program.thread(1, 2);
    program.open(1, &[fd(3)], 10);
    program.close(1, 3, 11);
    program.open(2, &[fd(3)], 20);
    // The stale close hits the descriptor of thread 2, which then closes nothing.
    program.close(1, 3, 12);
    program.close(2, 3, 21);
    let findings = program.findings();
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(finding.kind, Kind::DoubleClose);
    assert_eq!(finding.opening.as_ref().unwrap().stack, StackId(20));
    assert_eq!(finding.reused_from.as_ref().unwrap().stack, StackId(10));
    let stacks: Vec<u32> = finding.closes.iter().map(|closing| closing.stack.0).collect();
    assert_eq!(stacks, [11, 12, 21]);
}

/// Thread 1 closes the descriptor of thread 2 by mistake, and then others use the number.
fn closed_by_mistake(between: impl FnOnce(&mut Program)) -> Program {
    let mut program = Program::start();
    program.thread(1, 2);
    program.thread(1, 3);
    program.open(1, &[fd(3)], 10);
    program.close(1, 3, 11);
    program.open(2, &[fd(3)], 20);
    program.close(1, 3, 12);
    between(&mut program);
    program.close(2, 3, 21);
    program
}

#[test]
fn what_used_the_number_in_between_does_not_hide_who_closed_it_by_mistake() {
    let perror = |program: &mut Program| {
        program.opened(2, "dup", &[fd(3)], Some(2), 30);
        program.close(2, 3, 31);
    };
    let other = |program: &mut Program| {
        program.open(3, &[fd(3)], 30);
        program.close(3, 3, 31);
    };
    let both = |program: &mut Program| {
        perror(program);
        other(program);
    };
    let betweens: [&dyn Fn(&mut Program); 3] = [&perror, &other, &both];
    for (index, between) in betweens.into_iter().enumerate() {
        let program = closed_by_mistake(between);
        let findings = program.findings();
        let [finding] = &findings[..] else { panic!("{index}: {findings:?}") };
        assert_eq!(finding.opening.as_ref().unwrap().stack, StackId(20), "{index}");
        assert_eq!(finding.reused_from.as_ref().unwrap().stack, StackId(10), "{index}");
        let stacks: Vec<u32> = finding.closes.iter().map(|closing| closing.stack.0).collect();
        assert_eq!(stacks, [11, 12, 21], "{index}");
        let is_in_history = |step: &Step| step.stack == StackId(31);
        assert!(finding.history.iter().any(is_in_history), "{index}");
    }
}

#[test]
fn a_second_close_is_of_what_the_thread_closed_before_and_not_of_anothers_pair() {
    for (opener, pairs) in [(1, 1), (2, 1), (1, 2)] {
        let mut program = Program::start();
        program.thread(1, 2);
        program.thread(1, 3);
        program.open(opener, &[fd(3)], 10);
        program.close(2, 3, 11);
        for _ in 0..pairs {
            program.open(3, &[fd(3)], 30);
            program.close(3, 3, 31);
        }
        program.close(2, 3, 12);
        let findings = program.findings();
        let [finding] = &findings[..] else { panic!("{opener} {pairs}: {findings:?}") };
        assert_eq!(finding.opening.as_ref().unwrap().stack, StackId(10), "{opener} {pairs}");
        let stacks: Vec<u32> = finding.closes.iter().map(|closing| closing.stack.0).collect();
        assert_eq!(stacks, [11, 12], "{opener} {pairs}");
    }
}

#[test]
fn anothers_pair_does_not_hide_the_first_close_of_a_stale_one() {
    let mut program = Program::start();
    program.thread(1, 2);
    program.thread(1, 3);
    program.open(1, &[fd(3)], 10);
    program.close(2, 3, 11);
    program.open(1, &[fd(3)], 30);
    program.close(1, 3, 31);
    program.open(3, &[fd(3)], 20);
    program.close(2, 3, 12);
    program.close(3, 3, 21);
    let findings = program.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].reused_from.as_ref().unwrap().stack, StackId(10));
    let stacks: Vec<u32> = findings[0].closes.iter().map(|closing| closing.stack.0).collect();
    assert_eq!(stacks, [11, 12, 21]);
}

#[test]
fn a_second_close_after_the_one_that_answers_a_mistake_is_of_the_last_descriptor() {
    let mut program = closed_by_mistake(|_| {});
    program.open(2, &[fd(3)], 40);
    program.close(2, 3, 41);
    program.close(2, 3, 42);
    let openings: Vec<u32> =
        program.findings().iter().map(|f| f.opening.as_ref().unwrap().stack.0).collect();
    assert_eq!(openings, [20, 40]);
}

#[test]
fn a_second_close_is_of_the_last_descriptor_where_threads_pass_them_on() {
    let mut program = Program::start();
    program.thread(1, 2);
    for _ in 0..3 {
        program.opened(1, "accept4", &[fd(3)], None, 10);
        program.close(2, 3, 20);
    }
    program.open(1, &[fd(3)], 11);
    program.close(1, 3, 12);
    program.close(1, 3, 13);
    let findings = program.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].opening.as_ref().unwrap().stack, StackId(11));
}

#[test]
fn equal_double_closes_are_one_finding_with_a_count() {
    let mut program = Program::start();
    for _ in 0..5 {
        program.open(1, &[fd(3)], 10);
        program.close(1, 3, 11);
        program.close(1, 3, 12);
    }
    let findings = program.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].count, findings[0].processes), (5, 1));
    assert_eq!(findings[0].history.len(), 3);
}

#[test]
fn a_history_has_the_last_eight_steps() {
    let mut program = Program::start();
    for _ in 0..20 {
        program.open(1, &[fd(3)], 10);
        program.close(1, 3, 11);
    }
    program.close(1, 3, 12);
    let finding = &program.findings()[0];
    assert_eq!(finding.history.len(), 8);
    assert_eq!(finding.history[7].what, StepKind::CloseFailed);
    assert_eq!(finding.history[6].what, StepKind::Closed);
}

#[test]
fn a_close_in_each_process_after_a_fork_is_no_double_close() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.fork(1, 2);
    program.close(1, 3, 11);
    program.close(2, 3, 12);
    program.end(2);
    program.end(1);
    assert_eq!(program.kinds(), []);
}

#[test]
fn a_close_before_the_fork_makes_no_double_close_in_the_child() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.close(1, 3, 11);
    program.fork(1, 2);
    program.close(2, 3, 12);
    program.end(2);
    let findings = program.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].kind, findings[0].severity), (Kind::NotOpen, Severity::Warning));
}

#[test]
fn another_program_does_not_answer_for_closes_before_its_exec() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.close(1, 3, 11);
    program.exec(1, "/bin/two", &[0, 1, 2]);
    program.close(1, 3, 12);
    program.end(1);
    let findings = program.findings();
    assert_eq!(findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::NotOpen]);
    assert!(findings[0].opening.is_none());
}

#[test]
fn a_loop_over_all_numbers_is_no_finding_in_either_direction() {
    for numbers in [(3..20).collect::<Vec<_>>(), (3..20).rev().collect()] {
        let mut program = Program::start();
        program.open(1, &[fd(3), fd(4), fd(5)], 10);
        program.close(1, 4, 11);
        for number in numbers {
            if number != 7 {
                program.close(1, number, 12);
            }
        }
        program.end(1);
        assert_eq!(program.kinds(), []);
    }
}

#[test]
fn a_forked_child_may_close_a_few_numbers_in_a_loop() {
    let mut program = Program::start();
    program.open(1, &[fd(3), fd(4), fd(5)], 10);
    program.close(1, 4, 11);
    program.close(1, 5, 11);
    program.fork(1, 2);
    for number in 3..6 {
        program.close(2, number, 12);
    }
    program.exec(2, "/bin/two", &[0, 1, 2]);
    program.close(1, 3, 13);
    assert_eq!(program.kinds(), []);
}

#[test]
fn a_cleanup_that_runs_twice_is_a_double_close_of_each_descriptor() {
    for count in [2, 9, 20] {
        let mut program = Program::start();
        for number in 3..3 + count {
            program.open(1, &[fd(number)], 10);
        }
        for _ in 0..2 {
            for number in 3..3 + count {
                program.close(1, number, 12);
            }
        }
        program.end(1);
        let findings = program.findings();
        assert_eq!(findings.len(), 1, "{count}");
        assert_eq!((findings[0].kind, findings[0].count), (Kind::DoubleClose, count as u64));
    }
}

#[test]
fn a_close_after_a_sweep_is_only_a_warning() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    for number in 3..20 {
        program.close(1, number, 12);
    }
    program.close(1, 3, 13);
    program.open(1, &[fd(3)], 10);
    let stack = StackId(14);
    program.event(1, What::ClosedRange { first: 3, last: u32::MAX, sets_cloexec: false, stack });
    program.close(1, 3, 15);
    program.end(1);
    assert_eq!(program.kinds(), [Kind::NotOpen, Kind::NotOpen]);
}

#[test]
fn the_close_of_a_number_that_no_descriptor_can_have_is_no_finding() {
    for number in [-1, i32::MIN, i32::MAX, i32::MAX - 63] {
        let mut program = Program::start();
        program.closed(1, number, Some(EBADF), false, 10);
        program.event(1, What::UsedClosed { call: "read", number, stack: StackId(11) });
        program.end(1);
        assert_eq!(program.kinds(), [], "{number}");
    }
    let mut program = Program::start();
    program.closed(1, i32::MAX - 64, Some(EBADF), false, 10);
    program.end(1);
    assert_eq!(program.kinds(), [Kind::NotOpen]);
}

#[test]
fn a_read_after_the_close_is_a_mistake_and_a_check_of_the_number_is_none() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.close(1, 3, 11);
    program.event(1, What::UsedClosed { call: "read", number: 3, stack: StackId(12) });
    program.event(1, What::UsedClosed { call: "fcntl", number: 3, stack: StackId(13) });
    program.event(1, What::UsedClosed { call: "read", number: 9, stack: StackId(14) });
    program.end(1);
    let severities: Vec<_> =
        program.findings().iter().map(|finding| (finding.kind, finding.severity)).collect();
    assert_eq!(
        severities,
        [
            (Kind::UseAfterClose, Severity::Error),
            (Kind::NotOpen, Severity::Warning),
            (Kind::NotOpen, Severity::Note),
        ]
    );
}

#[test]
fn a_close_that_was_interrupted_has_closed_the_number() {
    const EINTR: i32 = 4;
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.closed(1, 3, Some(EINTR), false, 11);
    assert_eq!(program.open_numbers(1), [0, 1, 2]);
    program.close(1, 3, 11);
    program.end(1);
    assert_eq!(program.kinds(), [Kind::DoubleClose]);
}

#[test]
fn a_shell_may_close_a_redirection_twice_but_not_its_pipes() {
    let mut program = Program::default();
    program.started("/usr/bin/bash");
    program.open(1, &[fd(3)], 10);
    program.close(1, 3, 11);
    program.close(1, 3, 11);
    program.event(1, What::UsedClosed { call: "dup2", number: 3, stack: StackId(12) });
    program.close(1, 7, 11);
    assert_eq!(program.kinds(), []);
    program.opened(1, "pipe", &[fd(3), fd(4)], None, 20);
    program.close(1, 3, 21);
    program.close(1, 4, 21);
    program.close(1, 3, 22);
    program.end(1);
    assert_eq!(program.kinds(), [Kind::DoubleClose]);
}

#[test]
fn the_quarantine_makes_a_second_close_certain() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.closed(1, 3, None, true, 11);
    program.closed(1, 3, None, true, 12);
    program.event(1, What::UsedClosed { call: "write", number: 3, stack: StackId(13) });
    program.end(1);
    let findings = program.findings();
    let found: Vec<_> = findings.iter().map(|f| (f.kind, f.is_certain)).collect();
    assert_eq!(found, [(Kind::DoubleClose, true), (Kind::UseAfterClose, true)]);
}

#[test]
fn a_duplicate_over_a_live_descriptor_is_a_note_with_both_places() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.open(1, &[fd(4)], 11);
    program.opened(1, "dup2", &[fd(4)], Some(3), 12);
    program.opened(1, "dup2", &[fd(1)], Some(3), 13);
    program.opened(1, "dup2", &[fd(3)], Some(3), 14);
    // The number refers to the same file as before.
    program.opened(1, "dup2", &[fd(4)], Some(3), 15);
    program.fork(1, 2);
    program.opened(2, "dup2", &[fd(4)], Some(0), 16);
    let findings = program.model.findings();
    let [finding] = findings else { panic!("{findings:?}") };
    assert_eq!((finding.kind, finding.severity), (Kind::Overwritten, Severity::Note));
    assert_eq!(finding.opening.as_ref().unwrap().stack, StackId(11));
    assert_eq!(finding.replaced_by.as_ref().unwrap().stack, StackId(12));
    program.close(1, 4, 17);
    program.close(1, 4, 18);
    assert_eq!(program.findings()[0].kind, Kind::DoubleClose);
}
