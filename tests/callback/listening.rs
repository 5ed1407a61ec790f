//! Listeners of a manager: errors, cancellation, and accepting without descriptors.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};

use super::recorder::{Heard, Recorder, connect, in_clean_lab, listen, listening, manager};
use super::{dial, exchange};
use crate::common::reserved::Reserved;
use crate::common::{DEADLINE, Fixture, assert_success, in_own_process, lock};
use echown::echo::callback::Taken;
use echown::test;

#[test]
fn listening_twice_on_one_address_calls_the_listen_error_and_nothing_else() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::devouring();
        let (manager, address) = listening(lab, recorder, &notes);
        manager.listen_on_addr(&address.to_string()).expect("that is an address");
        notes.assert_next(&[Heard::ListenError(ErrorKind::AddrInUse)]);
        // The first one is as it was.
        let client = dial(address);
        notes.assert_next(&[Heard::Connect(1)]);
        drop(client);
        notes.assert_next(&[Heard::RemoteClose(1), Heard::Close(1)]);
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
}

#[test]
fn an_address_that_is_not_this_machines_is_a_listen_error() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::devouring();
        let manager = manager(lab, recorder);
        // An address for documentation only (RFC 5737): no machine has it.
        manager.listen_on_addr("192.0.2.1:0").expect("that is an address");
        notes.assert_next(&[Heard::ListenError(ErrorKind::AddrNotAvailable)]);
    });
}

#[test]
fn a_cancelled_listener_is_gone_when_the_call_returns_and_its_connections_go_on() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::echoing();
        let manager = manager(lab, recorder);
        let reserved = Reserved::new();
        let address = reserved.address();
        manager.listen_on_addr(&address.to_string()).expect("that is an address");
        notes.assert_next(&[Heard::Listen(address)]);
        let mut client = dial(address);
        notes.assert_next(&[Heard::Connect(1)]);
        for round in 0..3 {
            manager.cancel_listen_on_addr(&address.to_string()).expect("it is listened on");
            TcpStream::connect(address).expect_err("nobody listens any more");
            let again = manager.cancel_listen_on_addr(&address.to_string());
            assert_eq!(again.unwrap_err().kind(), ErrorKind::NotFound, "round {round}");
            exchange(&mut client, b"still here");
            manager.listen_on_addr(&address.to_string()).expect("that is an address");
            notes.assert_next(&[Heard::Listen(address)]);
        }
        let second = dial(address);
        notes.assert_next(&[Heard::Connect(2)]);
        drop((client, second));
    });
}

#[test]
fn a_manager_out_of_descriptors_accepts_again_when_there_are_some() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let output = in_own_process(crate::test_name!(), || {
        let lab = Fixture::new();
        lab.root(|| {
            let (recorder, notes) = Recorder::echoing();
            let manager = manager(lab, recorder);
            let address = listen(&manager, &notes);
            let mut inside = dial(address);
            notes.assert_next(&[Heard::Connect(1)]);
            let few = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
            setrlimit(Resource::Nofile, few).expect("a limit can be lowered");
            let nothing = || std::fs::File::open("/dev/null").ok();
            let mut taken: Vec<_> = std::iter::from_fn(nothing).collect();
            drop(taken.pop());
            // It takes the last one, and cannot be accepted.
            let mut outside = dial(address);
            notes.assert_silence();
            connect(&manager, address);
            assert!(matches!(notes.next(), Heard::ConnectError(to, _) if to == address));
            exchange(&mut inside, b"unharmed");
            taken.clear();
            notes.assert_next(&[Heard::Connect(2)]);
            exchange(&mut outside, b"served at last");
        });
        lab.assert_clean();
    });
    assert_success(&output);
}

#[test]
fn seven_connections_over_three_ports_say_something_both_ways() {
    in_clean_lab(|lab| {
        let (heard, hear) = mpsc::channel();
        let heard = Mutex::new(heard);
        let (recorder, notes) = Recorder::new(move |connection, sender| {
            sender.send(b"hello")?;
            let heard = lock(&heard).clone();
            connection.start(move |message: &[u8]| {
                let _ = heard.send(message.to_vec());
                Ok(Taken::All)
            })
        });
        let manager = manager(lab, recorder);
        let ports: Vec<SocketAddr> = (0..3).map(|_| listen(&manager, &notes)).collect();
        for n in 0..7 {
            connect(&manager, ports[n % 3]);
        }
        // Each of them has two ends, and each end says it.
        let mut bytes = Vec::new();
        while bytes.len() < 7 * 2 * 5 {
            bytes.extend(hear.recv_timeout(DEADLINE).expect("somebody says hello"));
        }
        assert_eq!(bytes, b"hello".repeat(14));
        drop(manager);
        let heard = notes.rest();
        let count = |is: fn(&Heard) -> bool| heard.iter().filter(|heard| is(heard)).count();
        assert_eq!(count(|heard| matches!(heard, Heard::Connect(_))), 14);
        assert_eq!(count(|heard| matches!(heard, Heard::Close(_))), 14);
    });
}
