//! The life of a connection: the order of its callbacks, pending receivers, resets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use super::recorder::{
    Heard, Notes, Recorder, Senders, devour, in_clean_lab, listen, listening, manager,
};
use super::{assert_is_over, dial, exchange, reset};
use crate::common::{DEADLINE, Fixture, lock, wait_until};
use echown::echo::callback::{ConnCallback, Connection, ConnectionLabel, MsgSender, Taken};
use echown::test;

#[test]
fn a_callback_that_fails_at_any_stage_gives_connect_and_close_in_order() {
    in_clean_lab(|lab| {
        let stage = AtomicUsize::new(0);
        let (recorder, notes) = Recorder::new(move |connection, _sender| {
            match stage.fetch_add(1, Ordering::Relaxed) {
                0 => return Err(io::Error::other("before start")),
                1 => {
                    connection.start(devour)?;
                    return Err(io::Error::other("after start"));
                }
                _ => connection.start(|_: &[u8]| Err(io::Error::other("in on_message")))?,
            }
            Ok(())
        });
        let (manager, address) = listening(lab, recorder, &notes);
        for id in 1..=3 {
            let mut client = dial(address);
            let _ = client.write_all(b"something");
            notes.assert_next(&[Heard::Connect(id), Heard::Close(id)]);
            assert_is_over(&mut client);
        }
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
}

/// Panics in each of its callbacks, one for each connection.
struct Panicky(Mutex<mpsc::Sender<Heard>>, Senders);

impl ConnCallback for Panicky {
    fn on_connect(&self, connection: Connection, sender: MsgSender) -> io::Result<()> {
        let id = connection.label().id;
        let _ = lock(&self.0).send(Heard::Connect(id));
        assert_ne!(id, 1, "in on_connect");
        self.1.put(sender);
        let senders = self.1.clone();
        connection.start(move |message: &[u8]| {
            assert_ne!(id, 2, "in on_message");
            senders.of(id).expect("it is there until the end").send(message)?;
            Ok(Taken::All)
        })
    }

    fn on_remote_close(&self, connection: &ConnectionLabel) -> io::Result<()> {
        let _ = lock(&self.0).send(Heard::RemoteClose(connection.id));
        assert_ne!(connection.id, 3, "in on_remote_close");
        Ok(())
    }

    fn on_connection_close(&self, connection: &ConnectionLabel) {
        self.1.erase(connection.id);
        let _ = lock(&self.0).send(Heard::Close(connection.id));
        assert_ne!(connection.id, 4, "in on_connection_close");
    }

    fn on_listen(&self, _asked: SocketAddr, actual: SocketAddr) {
        let _ = lock(&self.0).send(Heard::Listen(actual));
        panic!("in on_listen");
    }
}

#[test]
fn a_callback_that_panics_closes_its_connection_and_no_other() {
    in_clean_lab(|lab| {
        let (heard, notes) = mpsc::channel();
        let notes = Notes(notes);
        let manager = manager(lab, Panicky(Mutex::new(heard), Senders::default()));
        let address = listen(&manager, &notes);
        let on_connect = dial(address);
        notes.assert_next(&[Heard::Connect(1), Heard::Close(1)]);
        let mut on_message = dial(address);
        on_message.write_all(b"x").expect("it is read");
        notes.assert_next(&[Heard::Connect(2), Heard::Close(2)]);
        let on_remote_close = dial(address);
        notes.assert_next(&[Heard::Connect(3)]);
        drop(on_remote_close);
        notes.assert_next(&[Heard::RemoteClose(3), Heard::Close(3)]);
        let on_close = dial(address);
        notes.assert_next(&[Heard::Connect(4)]);
        let mut innocent = dial(address);
        notes.assert_next(&[Heard::Connect(5)]);
        drop(on_close);
        notes.assert_next(&[Heard::RemoteClose(4), Heard::Close(4)]);
        assert_is_over(&mut on_message);
        exchange(&mut innocent, b"unharmed");
        drop((on_connect, innocent));
        notes.assert_next(&[Heard::RemoteClose(5), Heard::Close(5)]);
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
}

#[test]
fn the_remote_close_comes_once_after_the_last_message_and_before_the_close() {
    in_clean_lab(|lab| {
        let (heard, hear) = mpsc::channel();
        let heard = Mutex::new(heard);
        let (recorder, notes) = Recorder::new(move |connection, _| {
            let heard = lock(&heard).clone();
            connection.start(move |message: &[u8]| {
                let _ = heard.send(message.len());
                Ok(Taken::Some(1))
            })
        });
        let (manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        client.write_all(&[7; 1000]).expect("it is read");
        drop(client);
        notes.assert_next(&[Heard::Connect(1), Heard::RemoteClose(1), Heard::Close(1)]);
        // One byte of each was taken, and the rest came again.
        assert_eq!(hear.try_iter().count(), 1000);
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
}

#[test]
fn a_connection_that_is_closed_or_dropped_unstarted_ends() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::new(|connection, sender| {
            sender.send(b"bye")?;
            if connection.label().id == 1 {
                connection.close()
            } else {
                drop(connection)
            }
            Ok(())
        });
        let (_manager, address) = listening(lab, recorder, &notes);
        for id in 1..=2 {
            let mut client = dial(address);
            let mut heard = String::new();
            client.read_to_string(&mut heard).expect("the end, not a reset");
            assert_eq!(heard, "bye");
            notes.assert_next(&[Heard::Connect(id), Heard::Close(id)]);
        }
    });
}

#[test]
fn a_connection_may_be_started_later_by_another_task() {
    let lab = Fixture::new();
    lab.root(|| {
        let (out, connections) = mpsc::channel();
        let out = Mutex::new(out);
        let (recorder, notes) = Recorder::new(move |connection, sender| {
            let _ = lock(&out).send((connection, sender));
            Ok(())
        });
        let (_manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        client.write_all(b"early").expect("it waits");
        notes.assert_next(&[Heard::Connect(1)]);
        let (connection, sender) = connections.recv_timeout(DEADLINE).expect("it is handed over");
        notes.assert_silence();
        let (heard, hear) = mpsc::channel();
        let start = connection.start(move |message: &[u8]| {
            let _ = heard.send(message.to_vec());
            Ok(Taken::All)
        });
        start.expect("it is not over");
        assert_eq!(hear.recv_timeout(DEADLINE).expect("it is read"), b"early");
        client.shutdown(Shutdown::Write).expect("it is connected");
        notes.assert_next(&[Heard::RemoteClose(1)]);
        // A sender that is its task's own and was taken away: the connection has ended, and says so.
        notes.assert_next(&[Heard::Close(1)]);
        wait_until("the leak", || lab.registry.summary().leaks == 1);
        drop(sender);
    });
    assert_eq!(lab.codes(), ["leak"], "the sender kept the socket, in this task's hands");
    lab.assert_all_closed();
}

#[test]
fn a_pending_receiver_is_resumed_by_any_task_and_loses_nothing() {
    in_clean_lab(|lab| {
        let (out, wakers) = mpsc::channel();
        let out = Mutex::new(out);
        let (heard, hear) = mpsc::channel();
        let heard = Mutex::new(heard);
        let (recorder, notes) = Recorder::new(move |connection, _| {
            let (waker, out, heard) =
                (connection.waker(), lock(&out).clone(), lock(&heard).clone());
            let asked = AtomicUsize::new(0);
            let _ = out.send(waker);
            connection.start(move |message: &[u8]| {
                // Every other time it cannot.
                if asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                    let _ = heard.send(Vec::new());
                    return Ok(Taken::Pending);
                }
                let _ = heard.send(message.to_vec());
                Ok(Taken::All)
            })
        });
        let (_manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        let waker = wakers.recv_timeout(DEADLINE).expect("it is connected");
        for n in 0..20_u8 {
            client.write_all(&[n; 3]).expect("there is room");
            assert!(hear.recv_timeout(DEADLINE).expect("it is asked").is_empty());
            waker.wake();
            assert_eq!(hear.recv_timeout(DEADLINE).expect("it is asked again"), [n; 3]);
        }
        drop(client);
        notes.assert_next(&[Heard::Connect(1), Heard::RemoteClose(1), Heard::Close(1)]);
        waker.wake();
        // It keeps nothing.
        wait_until("the connection to be gone", || format!("{waker:?}").contains("gone"));
    });
}

#[test]
fn a_wake_that_comes_before_the_receiver_says_pending_is_not_lost() {
    in_clean_lab(|lab| {
        let (heard, hear) = mpsc::channel();
        let heard = Mutex::new(heard);
        let (recorder, notes) = Recorder::new(move |connection, _| {
            let (waker, heard) = (connection.waker(), lock(&heard).clone());
            let asked = AtomicUsize::new(0);
            connection.start(move |message: &[u8]| {
                if asked.fetch_add(1, Ordering::Relaxed) == 0 {
                    waker.wake();
                    return Ok(Taken::Pending);
                }
                let _ = heard.send(message.to_vec());
                Ok(Taken::All)
            })
        });
        let (_manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        client.write_all(b"twice").expect("there is room");
        assert_eq!(hear.recv_timeout(DEADLINE).expect("it is asked again"), b"twice");
    });
}

#[test]
fn a_reset_is_noticed_while_the_receiver_is_pending() {
    in_clean_lab(|lab| {
        let (recorder, notes) =
            Recorder::new(|connection, _| connection.start(|_: &[u8]| Ok(Taken::Pending)));
        let (manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        client.write_all(b"never taken").expect("there is room");
        notes.assert_next(&[Heard::Connect(1)]);
        reset(client);
        notes.assert_next(&[Heard::Close(1)]);
        drop(manager);
    });
}

#[test]
fn a_receiver_that_takes_nothing_without_a_word_or_too_much_is_an_error_of_its_own() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::new(|connection, _| {
            let taken = if connection.label().id == 1 { 0 } else { 1000 };
            connection.start(move |_: &[u8]| Ok(Taken::Some(taken)))
        });
        let (_manager, address) = listening(lab, recorder, &notes);
        for id in 1..=2 {
            let mut client = dial(address);
            client.write_all(b"ten bytes!").expect("there is room");
            notes.assert_next(&[Heard::Connect(id), Heard::Close(id)]);
        }
    });
}
