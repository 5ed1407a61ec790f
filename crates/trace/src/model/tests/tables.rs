//! Which numbers are open.

use super::*;
use crate::event::Gap;

#[test]
fn a_forked_table_is_a_copy_and_a_thread_shares_it() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    program.fork(1, 2);
    program.thread(2, 3);
    program.close(3, 3, 11);
    assert_eq!(program.open_numbers(1), [0, 1, 2, 3]);
    assert_eq!(program.open_numbers(2), [0, 1, 2]);
    assert!(program.model.is_sole_user(Tid(1)));
    assert!(!program.model.is_sole_user(Tid(2)));
    program.event(3, What::Ending { open: None, status: 0 });
    assert!(program.model.is_sole_user(Tid(2)), "a task that ends makes no calls");
    assert_eq!(program.model.lowest_free(Tid(2), 0), Some(3));
    assert_eq!(program.model.lowest_free(Tid(1), 10), Some(10));
    assert_eq!(program.kinds(), [Kind::OpenAtExit]);
}

#[test]
fn an_exec_closes_cloexec_descriptors_and_ends_other_threads() {
    let mut program = Program::start();
    program.open(1, &[fd(3), cloexec(4)], 10);
    program.thread(1, 2);
    let what = What::Executed {
        former: Tid(2),
        program: "/bin/two".into(),
        open: vec![fd(0), fd(1), fd(2), fd(3)],
        mentioned: Vec::new(),
        hinted: Vec::new(),
    };
    program.event(1, what);
    assert_eq!(program.open_numbers(1), [0, 1, 2, 3]);
    assert!(!program.model.is_known(Tid(2)));
    assert_eq!(&*program.model.thread(Tid(1)).unwrap().process.program, "/bin/two");
    program.event(2, What::Ended);
    let coverage = program.model.coverage();
    assert_eq!((coverage.checks, coverage.mismatches.count), (1, 0));
    assert!(coverage.gaps.is_empty(), "{:?}", coverage.gaps);
}

#[test]
fn a_wrong_list_is_counted_and_adopted() {
    let mut program = Program::start();
    program.open(1, &[fd(3), fd(4)], 10);
    program.exec(1, "/bin/two", &[0, 1, 2, 4, 9]);
    assert_eq!(program.open_numbers(1), [0, 1, 2, 4, 9]);
    let coverage = program.model.coverage();
    let differing = coverage.mismatches;
    assert_eq!((coverage.checks, differing.count, coverage.wrong_numbers), (1, 1, 2));
    assert_eq!(&*differing.processes[0].program, "/bin/two");
}

#[test]
fn a_gap_has_the_first_eight_processes_in_which_it_was_found() {
    let mut program = Program::start();
    for child in 2..=20 {
        program.fork(1, child);
        program.event(child, What::CoverageReduced(Gap::IoUring));
        program.event(child, What::CoverageReduced(Gap::IoUring));
    }
    program.event(99, What::CoverageReduced(Gap::IoUring));
    let gap = &program.model.coverage().gaps[&Gap::IoUring];
    assert_eq!(gap.count, 2 * 19 + 1);
    let pids: Vec<i32> = gap.processes.iter().map(|process| process.pid).collect();
    assert_eq!(pids, [2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(&*gap.processes[0].program, "/bin/one");
}

#[test]
fn events_of_unknown_tasks_are_counted_as_missed() {
    let mut program = Program::start();
    program.close(7, 3, 10);
    program.open(7, &[fd(3)], 10);
    program.event(7, What::Ended);
    assert_eq!(program.model.coverage().gaps[&Gap::Missed].count, 2);
    program.exec(7, "/bin/seven", &[0, 5]);
    assert_eq!(program.open_numbers(7), [0, 5]);
}

#[test]
fn the_quarantine_holds_numbers_until_they_are_freed() {
    let mut program = Program::start();
    program.open(1, &[fd(3), fd(4)], 10);
    program.closed(1, 3, None, true, 11);
    program.closed(1, 4, None, true, 11);
    let model = &mut program.model;
    assert_eq!(model.is_open(Tid(1), 3), Some(false));
    assert!(model.is_held(Tid(1), 3));
    assert_eq!((model.oldest_held(Tid(1)), model.held_count(Tid(1))), (Some(3), 2));
    assert_eq!(model.lowest_free(Tid(1), 0), Some(5));
    program.event(1, What::Freed { number: 3 });
    assert_eq!(program.model.lowest_free(Tid(1), 0), Some(3));
    assert_eq!(program.model.oldest_held(Tid(1)), Some(4));
    program.fork(1, 2);
    assert_eq!(program.model.oldest_held(Tid(2)), Some(4));
    program.exec(2, "/bin/two", &[0, 1, 2]);
    assert_eq!(program.model.oldest_held(Tid(2)), None);
}

#[test]
fn the_table_of_an_ended_process_is_forgotten() {
    let mut program = Program::start();
    for child in 2..100 {
        program.fork(1, child);
        program.end(child);
    }
    assert_eq!(program.model.open_total(), 3);
    assert_eq!(program.model.processes().count(), 1);
    assert_eq!(program.model.process_total(), 99);
}
