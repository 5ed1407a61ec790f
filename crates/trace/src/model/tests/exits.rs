//! Descriptors that are open at the end.

use super::*;
use crate::event::Details;
use crate::finding::{LeakReason, Severity};

fn leak(reason: LeakReason) -> Kind {
    Kind::Leak(reason)
}

#[test]
fn one_open_descriptor_of_a_place_is_a_note_and_two_are_a_leak() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    // One call with two descriptors is one creation.
    program.opened(1, "pipe2", &[fd(4), fd(5)], None, 11);
    program.open(1, &[fd(6)], 12);
    program.open(1, &[fd(7)], 12);
    program.end(1);
    let findings = program.findings();
    let kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [leak(LeakReason::Several), Kind::OpenAtExit, Kind::OpenAtExit]);
    assert_eq!((findings[0].count, findings[0].number), (2, 6));
    assert_eq!(findings[0].severity, Severity::Warning);
    assert_eq!(findings[1].severity, Severity::Note);
}

#[test]
fn one_open_descriptor_in_each_of_two_processes_is_no_leak() {
    let mut program = Program::start();
    for worker in [2, 3] {
        program.fork(1, worker);
        program.open(worker, &[fd(3)], 10);
        program.end(worker);
    }
    let findings = program.findings();
    assert_eq!(program.kinds(), [Kind::OpenAtExit]);
    assert_eq!((findings[0].count, findings[0].processes), (2, 2));
}

#[test]
fn inherited_descriptors_and_standard_ones_are_no_leaks() {
    let mut program = Program::start();
    program.opened(1, "dup2", &[fd(0)], Some(2), 10);
    program.opened(1, "dup2", &[fd(1)], Some(2), 10);
    program.open(1, &[fd(3)], 11);
    program.fork(1, 2);
    program.close(1, 3, 12);
    program.end(2);
    program.end(1);
    assert_eq!(program.kinds(), []);
}

#[test]
fn descriptors_without_stacks_are_not_of_one_place() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 0);
    program.open(1, &[fd(4)], 0);
    program.end(1);
    assert_eq!(program.kinds(), [Kind::OpenAtExit]);
}

#[test]
fn a_descriptor_that_outlives_the_others_of_its_place_is_a_leak() {
    let mut program = Program::start();
    for _ in 0..5 {
        program.open(1, &[fd(3)], 10);
        program.close(1, 3, 11);
    }
    program.open(1, &[fd(3)], 10);
    program.time_ns += 10_000_000;
    assert_eq!(program.kinds(), [Kind::OpenAtExit], "not for long");
    program.time_ns += 200_000_000;
    program.end(1);
    assert_eq!(program.kinds(), [leak(LeakReason::OutlivesOthers)]);
}

#[test]
fn one_of_a_hundred_is_a_leak_even_in_a_short_program() {
    let mut program = Program::start();
    for index in 0..100 {
        program.open(1, &[fd(3)], 10);
        assert!(index == 0 || program.kinds() == [Kind::OpenAtExit], "{index}");
        program.close(1, 3, 11);
    }
    program.open(1, &[fd(3)], 10);
    program.time_ns += 10_000_000;
    assert_eq!(program.kinds(), [Kind::OpenAtExit], "not for ten times as long");
    program.time_ns += 2_000_000;
    program.end(1);
    assert_eq!(program.kinds(), [leak(LeakReason::OutlivesOthers)]);
}

#[test]
fn a_connection_whose_peer_has_closed_is_a_leak() {
    let mut program = Program::start();
    program.opened(1, "accept4", &[fd(3)], None, 10);
    let details = Details {
        kind: echown_fd::kind::TCP_STREAM,
        facts: vec!["close-wait: the peer has closed".into()],
        ..Details::default()
    };
    let mut open = vec![fd(0), fd(1), fd(2), fd(3)];
    open[3].details = Some(Box::new(details.clone()));
    program.event(1, What::Ending { open: Some(open), status: 0 });
    let findings = program.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].kind, leak(LeakReason::CloseWait));
    assert_eq!(findings[0].details.as_deref(), Some(&details));
    assert_eq!(program.model.coverage().mismatches.count, 0);
}
