//! Tests of the table: what is a misuse, and which history it has.

use super::*;

fn from(place: usize) -> Trace {
    let mut trace = Trace::new(libc::SYS_close, 1, [0; 16]);
    trace.push(place);
    trace
}

fn table() -> &'static mut Table {
    Table::new().expect("there is memory")
}

/// A close that succeeds or fails with EBADF in the kernel.
fn close(table: &mut Table, number: RawFd, place: usize, was_open: bool) {
    let closing = table.closes(number, &from(place)).expect("the number is small");
    match was_open {
        true => table.has_closed(number, closing),
        false => table.was_closed(number, closing),
    }
}

/// The misused numbers, with the kinds and places of their events.
fn findings(table: &Table) -> Vec<(Misuse, RawFd, String)> {
    let event = |event: &Event| {
        let place = table.trace(event.call).map_or(0, |trace| trace.addresses()[0]);
        format!("{:?} {place}", event.kind)
    };
    let all = table.findings();
    let all = all.all().iter().map(|finding| {
        let events: Vec<String> = finding.events().iter().map(event).collect();
        (finding.misuse, finding.number, events.join(", "))
    });
    all.collect()
}

fn double(number: RawFd, events: &str) -> (Misuse, RawFd, String) {
    (Misuse::DoubleClose, number, events.to_owned())
}

#[test]
fn a_second_close_of_the_same_opening_names_all_three_places() {
    let table = table();
    table.opens(5, &from(1));
    close(table, 5, 2, true);
    close(table, 5, 3, false);
    assert_eq!(findings(table), [double(5, "Opened 1, Closed 2, ClosedAgain 3")]);
}

#[test]
fn several_closes_of_a_number_are_one_finding() {
    let table = table();
    table.opens(5, &from(1));
    close(table, 5, 2, true);
    close(table, 5, 3, false);
    close(table, 5, 4, false);
    let events = "Opened 1, Closed 2, ClosedAgain 3, ClosedAgain 4";
    assert_eq!(findings(table), [double(5, events)]);
    table.opens(5, &from(1));
    close(table, 5, 2, true);
    close(table, 5, 3, false);
    assert_eq!(findings(table).len(), 2, "the number was opened again");
}

#[test]
fn a_close_after_the_number_was_opened_again_is_no_second_one() {
    let table = table();
    for place in [1, 3] {
        table.opens(5, &from(place));
        close(table, 5, place + 1, true);
    }
    assert!(findings(table).is_empty());
}

#[test]
fn the_history_contains_the_close_that_hit_another_file() {
    let table = table();
    for (opening, closing) in [(1, 2), (3, 4), (5, 6)] {
        table.opens(7, &from(opening));
        close(table, 7, closing, true);
    }
    close(table, 7, 8, false);
    let events = "Opened 1, Closed 2, Opened 3, Closed 4, Opened 5, Closed 6, ClosedAgain 8";
    assert_eq!(findings(table), [double(7, events)]);
}

#[test]
fn a_history_has_the_last_events() {
    let table = table();
    for place in 1..20 {
        table.opens(7, &from(place));
        close(table, 7, 100 + place, true);
    }
    close(table, 7, 8, false);
    let events = &findings(table)[0].2;
    assert!(events.starts_with("Closed 116, Opened 17,"), "{events}");
    assert!(events.ends_with("Closed 119, ClosedAgain 8"), "{events}");
}

#[test]
fn a_loop_that_closes_everything_closes_nothing_twice() {
    let table = table();
    for number in 5..8 {
        table.opens(number, &from(1));
        close(table, number, 2, true);
    }
    table.opens(9, &from(1));
    for number in 3..20 {
        close(table, number, 3, number == 9);
    }
    for number in (3..20).rev().filter(|number| *number != 6) {
        close(table, number, 4, false);
    }
    assert!(findings(table).is_empty());
}

#[test]
fn a_loop_over_closed_numbers_alone_is_a_sweep_if_it_is_long() {
    let table = table();
    for number in 5..45 {
        table.opens(number, &from(1));
        close(table, number, 2, true);
    }
    for number in 5..45 {
        close(table, number, 3, false);
    }
    assert!(findings(table).is_empty());
}

#[test]
fn neighbours_that_one_place_closes_twice_are_no_sweep() {
    let table = table();
    for number in 5..9 {
        table.opens(number, &from(1));
        close(table, number, 2, true);
    }
    for number in 5..9 {
        close(table, number, 2, false);
    }
    assert_eq!(findings(table).len(), 4);
}

#[test]
fn the_close_of_a_number_opened_before_is_kept() {
    let table = table();
    close(table, 1, 7, true);
    table.opens(1, &from(8));
    assert_eq!(table.closed_of_others(1).map(|trace| trace.addresses()[0]), Some(7));
    assert_eq!(table.opened(1).map(|trace| trace.addresses()[0]), Some(8));
    close(table, 9, 7, false);
    assert!(table.closed_of_others(9).is_none(), "it was not open");
}

#[test]
fn a_use_counts_only_while_the_number_is_closed() {
    let table = table();
    table.was_used_closed(5, &from(3));
    table.opens(5, &from(1));
    table.was_used_closed(5, &from(3));
    assert!(findings(table).is_empty());
    close(table, 5, 2, true);
    table.was_used_closed(5, &from(3));
    let events = String::from("Opened 1, Closed 2, Used 3");
    assert_eq!(findings(table), [(Misuse::UseAfterClose, 5, events)]);
}

#[test]
fn equal_stacks_are_stored_once_and_read_as_they_were() {
    let table = table();
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"ab");
    let mut trace = Trace::new(libc::SYS_openat, 77, name);
    (1..=40).for_each(|address| {
        trace.push(address);
    });
    let call = table.stacks.store(&trace);
    assert!(call.is_alike(table.stacks.store(&trace)));
    assert!(!call.is_alike(table.stacks.store(&from(1))));
    let read = table.trace(call).expect("it was stored");
    assert_eq!((read.call(), read.thread()), (libc::SYS_openat, 77));
    assert_eq!(read.thread_name(), "ab");
    assert_eq!(read.addresses(), (1..=32).collect::<Vec<usize>>());
}

#[test]
fn the_last_call_that_sent_the_current_file_is_known() {
    let table = table();
    let sent = |table: &mut Table| table.passed_on(5).map(|trace| trace.addresses()[0]);
    table.passes_on(5, &from(9));
    table.opens(5, &from(1));
    assert_eq!(sent(table), None);
    for place in 2..20 {
        table.passes_on(5, &from(place));
    }
    assert_eq!(sent(table), Some(19));
    assert_eq!(table.history(5).map(|history| history.events().count()), Some(2));
    table.opens(5, &from(1));
    assert_eq!(sent(table), None, "of the file before");
}
