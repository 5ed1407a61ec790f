//! Connects of a manager: failed, delayed, aborted.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::recorder::{Heard, Recorder, connect, in_clean_lab, listening, manager};
use crate::common::reserved::Reserved;
use echown::test;

#[test]
fn a_refused_connect_is_a_connect_error_and_no_connect() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::devouring();
        let manager = manager(lab, recorder);
        let nobody = Reserved::new();
        connect(&manager, nobody.address());
        let refused = Heard::ConnectError(nobody.address(), ErrorKind::ConnectionRefused);
        notes.assert_next(&[refused]);
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
}

#[test]
fn a_connect_with_a_delay_waits_for_it_and_an_abort_meanwhile_is_a_connect_error() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::devouring();
        let (manager, address) = listening(lab, recorder, &notes);
        let delay = Duration::from_millis(100);
        let since = Instant::now();
        manager.connect_to_addr(&address.to_string(), delay).expect("that is an address");
        assert!(matches!(notes.next(), Heard::Connect(_)));
        assert!(since.elapsed() >= delay, "after {:?}", since.elapsed());
        assert!(matches!(notes.next(), Heard::Connect(_)), "the other end");

        let never = Duration::from_secs(3600);
        manager.connect_to_addr(&address.to_string(), never).expect("that is an address");
        manager.abort(true);
        let rest = notes.rest();
        let error = Heard::ConnectError(address, ErrorKind::NotConnected);
        assert_eq!(rest.iter().filter(|heard| **heard == error).count(), 1, "{rest:?}");
        assert!(!rest.iter().any(|heard| matches!(heard, Heard::Connect(_))), "{rest:?}");
    });
}

#[test]
fn a_connect_that_is_aborted_at_any_moment_has_exactly_one_answer() {
    in_clean_lab(|lab| {
        let listener = crate::common::listener();
        let address = listener.local_addr().expect("it is bound");
        for round in 0..100 {
            let (recorder, notes) = Recorder::devouring();
            let manager = manager(lab, recorder);
            connect(&manager, address);
            // Earlier and later, before it is begun and after it stands.
            for _ in 0..round * 20 {
                std::hint::spin_loop();
            }
            manager.abort(true);
            match &notes.rest()[..] {
                [Heard::ConnectError(to, ErrorKind::NotConnected)] => assert_eq!(*to, address),
                [Heard::Connect(1), Heard::Close(1)] => {}
                other => panic!("{other:?}"),
            }
        }
    });
}
