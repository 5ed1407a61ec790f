//! What the model keeps of long programs and of many processes.

use super::*;

#[test]
fn a_million_descriptors_cost_what_is_open_and_their_places() {
    const LIVE: i32 = 20_000;
    let mut program = Program::start();
    for turn in 0..1_000_000 {
        let number = 3 + turn % LIVE;
        if turn >= LIVE {
            program.close(1, number, 11 + (turn % 5) as u32);
        }
        program.open(1, &[fd(number)], 20 + (turn % 7) as u32);
    }
    assert_eq!(program.model.opened_total(), 1_000_000);
    let size = program.model.size();
    assert_eq!(size.slots, LIVE as usize + 3);
    assert!(size.steps <= 8 * size.slots, "{size:?}");
    assert_eq!(size.sites, 7);
    assert_eq!(size.findings, 0);
    program.end(1);
    assert_eq!(program.model.size().slots, 0);
    assert_eq!(program.findings().len(), 7);
    assert_eq!(program.findings().iter().map(|finding| finding.count).sum::<u64>(), LIVE as u64);
}

#[test]
fn ten_thousand_processes_cost_their_open_descriptors_and_then_nothing() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    for child in 2..10_002 {
        program.fork(1, child);
        program.close(child, 3, 11);
        program.exec(child, "/bin/two", &[0, 1, 2]);
        program.open(child, &[fd(3)], 12);
    }
    let size = program.model.size();
    assert_eq!((size.tasks, size.tables), (10_001, 10_001));
    assert_eq!(size.slots, 4 * 10_001);
    assert_eq!(size.sites, 0, "none was closed");
    for child in 2..10_002 {
        program.end(child);
    }
    let size = program.model.size();
    assert_eq!((size.tasks, size.tables, size.processes), (1, 1, 1));
    assert_eq!((size.slots, size.findings, size.passings), (4, 1, 0));
    let open = &program.findings()[1];
    assert_eq!((open.count, open.processes), (10_000, 10_000));
}

#[test]
fn a_loop_over_all_numbers_costs_nothing() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    for number in 3..100_000 {
        program.close(1, number, 11);
    }
    let size = program.model.size();
    assert_eq!((size.slots, size.findings), (4, 0));
    assert!(size.pending <= 64, "{size:?}");
    program.end(1);
    assert_eq!(program.kinds(), []);
}

#[test]
fn passings_of_many_heirs_are_decided_when_they_end() {
    let mut program = Program::start();
    program.open(1, &[fd(3)], 10);
    for child in 2..1002 {
        program.fork(1, child);
        program.exec(child, "/bin/two", &[0, 1, 2, 3]);
    }
    assert_eq!(program.model.size().passings, 1000);
    for child in 2..1002 {
        program.end(child);
    }
    let size = program.model.size();
    assert_eq!((size.passings, size.findings), (0, 1));
}

#[test]
fn findings_at_ever_new_places_are_limited_and_counted() {
    let mut program = Program::start();
    for turn in 0..5000 {
        program.open(1, &[fd(3)], 1);
        program.close(1, 3, 2);
        program.close(1, 3, 10 + turn);
    }
    program.open(1, &[fd(3)], 1);
    let size = program.model.size();
    assert_eq!(size.findings, 4096);
    assert_eq!(program.model.coverage().dropped, 5000 - 4096);
}

#[test]
fn high_numbers_of_closed_descriptors_are_forgotten() {
    let mut program = Program::start();
    for number in 3..100_000 {
        program.opened(1, "dup2", &[fd(number)], Some(0), 10);
        program.close(1, number, 11);
    }
    assert!(program.model.size().slots <= 3 + (1 << 16));
}
