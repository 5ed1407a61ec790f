//! Callbacks: what a `SocketManager` promises, by its public names.
//!
//! Each test runs as a root task in a registry of its own, which has to be clean afterwards unless
//! the test breaks rules on purpose: every descriptor of the manager's has an owner, and none is left.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use common::reserved::Reserved;
use common::{
    DEADLINE, Fixture, assert_cancelled, assert_success, in_own_process, lock, wait_until,
};
use echown::echo::callback::{
    ConnCallback, Connection, ConnectionLabel, MsgSender, SocketManager, Taken,
};
use echown::ownership;
use echown::pool::Pool;
use echown::test;
use recorder::{Heard, Notes, Recorder, Senders, connect, devour, listen, manager};

mod common;

#[path = "callback/recorder.rs"]
mod recorder;

#[path = "callback/senders.rs"]
mod senders;

#[path = "callback/transfers.rs"]
mod transfers;

// Beginning and end of a manager.

#[test]
fn abort_then_join_ends() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, _| connection.start(devour));
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
        connect(&manager, address);
        manager.abort(false);
        manager.join().expect("nobody cancels us");
    });
    lab.assert_clean();
}

#[test]
fn after_an_abort_calls_are_refused_and_abort_and_join_can_be_repeated() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, _notes) = Recorder::new(|connection, _| connection.start(devour));
        let manager = manager(lab, recorder);
        for _ in 0..3 {
            manager.abort(true);
            manager.join().expect("nobody cancels us");
        }
        let calls = [
            manager.listen_on_addr("127.0.0.1:0"),
            manager.connect_to_addr("127.0.0.1:1", Duration::ZERO),
            manager.cancel_listen_on_addr("127.0.0.1:0"),
        ];
        for call in calls {
            let error = call.expect_err("the manager is gone");
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            assert_eq!(error.to_string(), "the manager was aborted");
        }
    });
    lab.assert_clean();
}

#[test]
fn a_bad_address_fails_at_the_call_without_a_callback() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, _| connection.start(devour));
        let manager = manager(lab, recorder);
        for bad in ["", "nowhere", "127.0.0.1", "127.0.0.1:99999", "256.0.0.1:80"] {
            for call in [
                manager.listen_on_addr(bad),
                manager.connect_to_addr(bad, Duration::ZERO),
                manager.cancel_listen_on_addr(bad),
            ] {
                let error = call.expect_err("that is no address");
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                let expected =
                    format!("`{bad}` is no address, expected one such as 127.0.0.1:3000");
                assert_eq!(error.to_string(), expected);
            }
        }
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
    lab.assert_clean();
}

#[test]
fn a_manager_that_is_dropped_ends_its_connections_with_their_last_callback() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, sender| {
            sender.share()?;
            std::mem::forget(sender);
            connection.start(devour)
        });
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
        let mut clients: Vec<TcpStream> = (0..5).map(|_| dial(address)).collect();
        for _ in &clients {
            assert!(matches!(notes.next(), Heard::Connect(_)));
        }
        drop(manager);
        let mut closed = notes.rest();
        closed.sort_by_key(|heard| format!("{heard:?}"));
        assert_eq!(closed, (1..=5).map(Heard::Close).collect::<Vec<_>>());
        for client in &mut clients {
            assert_is_over(client);
        }
    });
    lab.assert_clean();
}

#[test]
fn a_manager_ends_with_the_task_that_made_it() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, _| connection.start(devour));
        let (out, place) = mpsc::channel();
        let maker = lab.spawn("maker", [], move || {
            let manager = Arc::new(manager(lab, recorder));
            let _ = out.send(Arc::clone(&manager));
            let address = listen(&manager, &notes);
            let client = dial(address);
            notes.assert_next(&[Heard::Connect(1)]);
            // It waits for somebody who never comes, and is cancelled.
            let refused = manager.join().expect_err("it is not aborted");
            assert_eq!(
                common::refusal::<(), _>(Err(refused)).kind(),
                ownership::ErrorKind::Cancelled
            );
            (client, notes)
        });
        let manager = place.recv().expect("it is made");
        wait_until("its connection", || lab.registry.snapshot().tasks.len() >= 5);
        assert_cancelled(maker.cancel());
        manager.join().expect("it is over with its maker");
        drop(manager);
    });
    lab.assert_clean();
}

#[test]
fn a_callback_may_abort_its_manager_and_does_not_wait_for_itself() {
    let lab = Fixture::new();
    lab.root(|| {
        let place: Arc<OnceLock<Arc<SocketManager>>> = Arc::default();
        let its = Arc::clone(&place);
        let (recorder, notes) = Recorder::new(move |connection, _| {
            let manager = its.wait();
            manager.abort(true);
            assert_eq!(manager.join().unwrap_err().kind(), ErrorKind::WouldBlock);
            connection.start(devour)
        });
        let manager = Arc::new(manager(lab, recorder));
        assert!(place.set(Arc::clone(&manager)).is_ok());
        let address = listen(&manager, &notes);
        let mut client = dial(address);
        manager.join().expect("it was aborted");
        notes.assert_next(&[Heard::Connect(1), Heard::Close(1)]);
        assert_is_over(&mut client);
    });
    lab.assert_clean();
}

#[test]
fn a_missing_thread_is_a_listen_or_connect_error_and_its_callback_may_abort() {
    struct Aborts(Arc<OnceLock<Arc<SocketManager>>>, Mutex<mpsc::Sender<String>>);
    impl ConnCallback for Aborts {
        fn on_connect(&self, _: Connection, _: MsgSender) -> io::Result<()> {
            unreachable!("there is no thread for it")
        }
        fn on_listen_error(&self, _: SocketAddr, error: &io::Error) {
            let _ = lock(&self.1).send(error.to_string());
        }
        fn on_connect_error(&self, _: SocketAddr, error: &io::Error) {
            // In the task that would have to end.
            self.0.wait().abort(true);
            let _ = lock(&self.1).send(error.to_string());
        }
    }
    let lab = Fixture::new();
    lab.root(|| {
        let pool = Pool::builder().registry(&lab.registry).limit(1).build();
        let place: Arc<OnceLock<Arc<SocketManager>>> = Arc::default();
        let (heard, hear) = mpsc::channel();
        let callback = Aborts(Arc::clone(&place), Mutex::new(heard));
        let manager = Arc::new(SocketManager::new(callback, &pool).expect("there is one thread"));
        assert!(place.set(Arc::clone(&manager)).is_ok());
        manager.listen_on_addr("127.0.0.1:0").expect("that is an address");
        manager.connect_to_addr("127.0.0.1:1", Duration::ZERO).expect("that is an address");
        for _ in 0..2 {
            let error = hear.recv_timeout(DEADLINE).expect("it cannot");
            assert!(error.contains("limit of 1 thread are busy"), "{error}");
        }
        manager.join().expect("it was aborted");
        let refused = SocketManager::new(Recorder::echoing().0, &Pool::builder().limit(0).build());
        assert!(refused.expect_err("there is no thread").to_string().contains("are busy"));
    });
    lab.assert_clean();
}

// Listening.

#[test]
fn listening_twice_on_one_address_calls_the_listen_error_and_nothing_else() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, _| connection.start(devour));
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
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
    lab.assert_clean();
}

#[test]
fn an_address_that_is_not_this_machines_is_a_listen_error() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, _| connection.start(devour));
        let manager = manager(lab, recorder);
        // For documentation only: nobody has it.
        manager.listen_on_addr("192.0.2.1:0").expect("that is an address");
        notes.assert_next(&[Heard::ListenError(ErrorKind::AddrNotAvailable)]);
    });
    lab.assert_clean();
}

#[test]
fn a_cancelled_listener_is_gone_when_the_call_returns_and_its_connections_go_on() {
    let lab = Fixture::new();
    lab.root(|| {
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
    lab.assert_clean();
}

#[test]
fn a_manager_out_of_descriptors_accepts_again_when_there_are_some() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let output = in_own_process(test_name!(), || {
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
            // It takes the last one; nobody can accept it.
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
    let lab = Fixture::new();
    lab.root(|| {
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
    lab.assert_clean();
}

// Connecting.

#[test]
fn a_refused_connect_is_a_connect_error_and_no_connect() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, _| connection.start(devour));
        let manager = manager(lab, recorder);
        let nobody = Reserved::new();
        connect(&manager, nobody.address());
        let refused = Heard::ConnectError(nobody.address(), ErrorKind::ConnectionRefused);
        notes.assert_next(&[refused]);
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
    lab.assert_clean();
}

#[test]
fn a_connect_with_a_delay_waits_for_it_and_an_abort_meanwhile_is_a_connect_error() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, _| connection.start(devour));
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
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
    lab.assert_clean();
}

#[test]
fn a_connect_that_is_aborted_at_any_moment_has_exactly_one_answer() {
    let lab = Fixture::new();
    lab.root(|| {
        let listener = common::listener();
        let address = listener.local_addr().expect("it is bound");
        for round in 0..100 {
            let (recorder, notes) = Recorder::new(|connection, _| connection.start(devour));
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
    lab.assert_clean();
}

// The life of a connection.

#[test]
fn a_callback_that_fails_at_any_stage_gives_connect_and_close_in_order() {
    let lab = Fixture::new();
    lab.root(|| {
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
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
        for id in 1..=3 {
            let mut client = dial(address);
            let _ = client.write_all(b"something");
            notes.assert_next(&[Heard::Connect(id), Heard::Close(id)]);
            assert_is_over(&mut client);
        }
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
    lab.assert_clean();
}

/// Panics wherever it is told to.
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
    let lab = Fixture::new();
    lab.root(|| {
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
    lab.assert_clean();
}

#[test]
fn the_remote_close_comes_once_after_the_last_message_and_before_the_close() {
    let lab = Fixture::new();
    lab.root(|| {
        let (heard, hear) = mpsc::channel();
        let heard = Mutex::new(heard);
        let (recorder, notes) = Recorder::new(move |connection, _| {
            let heard = lock(&heard).clone();
            connection.start(move |message: &[u8]| {
                let _ = heard.send(message.len());
                Ok(Taken::Some(1))
            })
        });
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
        let mut client = dial(address);
        client.write_all(&[7; 1000]).expect("it is read");
        drop(client);
        notes.assert_next(&[Heard::Connect(1), Heard::RemoteClose(1), Heard::Close(1)]);
        // One byte of each was taken, and the rest came again.
        assert_eq!(hear.try_iter().count(), 1000);
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
    lab.assert_clean();
}

#[test]
fn a_connection_that_is_closed_or_dropped_unstarted_ends() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, sender| {
            sender.send(b"bye")?;
            if connection.label().id == 1 {
                connection.close()
            } else {
                drop(connection)
            }
            Ok(())
        });
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
        for id in 1..=2 {
            let mut client = dial(address);
            let mut heard = String::new();
            client.read_to_string(&mut heard).expect("the end, not a reset");
            assert_eq!(heard, "bye");
            notes.assert_next(&[Heard::Connect(id), Heard::Close(id)]);
        }
    });
    lab.assert_clean();
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
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
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
        wait_until("the leak", || lab.registry.verdict().leaks == 1);
        drop(sender);
    });
    assert_eq!(lab.codes(), ["leak"], "the sender kept the socket, in this task's hands");
    lab.assert_all_closed();
}

#[test]
fn a_pending_receiver_is_resumed_by_any_task_and_loses_nothing() {
    let lab = Fixture::new();
    lab.root(|| {
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
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
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
    lab.assert_clean();
}

#[test]
fn a_wake_that_comes_before_the_receiver_says_pending_is_not_lost() {
    let lab = Fixture::new();
    lab.root(|| {
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
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
        let mut client = dial(address);
        client.write_all(b"twice").expect("there is room");
        assert_eq!(hear.recv_timeout(DEADLINE).expect("it is asked again"), b"twice");
    });
    lab.assert_clean();
}

#[test]
fn a_reset_is_noticed_while_the_receiver_is_pending() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) =
            Recorder::new(|connection, _| connection.start(|_: &[u8]| Ok(Taken::Pending)));
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
        let mut client = dial(address);
        client.write_all(b"never taken").expect("there is room");
        notes.assert_next(&[Heard::Connect(1)]);
        reset(client);
        notes.assert_next(&[Heard::Close(1)]);
        drop(manager);
    });
    lab.assert_clean();
}

#[test]
fn a_receiver_that_takes_nothing_without_a_word_or_too_much_is_an_error_of_its_own() {
    let lab = Fixture::new();
    lab.root(|| {
        let (recorder, notes) = Recorder::new(|connection, _| {
            let taken = if connection.label().id == 1 { 0 } else { 1000 };
            connection.start(move |_: &[u8]| Ok(Taken::Some(taken)))
        });
        let manager = manager(lab, recorder);
        let address = listen(&manager, &notes);
        for id in 1..=2 {
            let mut client = dial(address);
            client.write_all(b"ten bytes!").expect("there is room");
            notes.assert_next(&[Heard::Connect(id), Heard::Close(id)]);
        }
    });
    lab.assert_clean();
}

// What the tests are made of.

fn dial(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("it is listened on");
    client.set_read_timeout(Some(DEADLINE)).expect("it is no zero");
    client.set_write_timeout(Some(DEADLINE)).expect("it is no zero");
    client
}

/// Closes with a reset.
fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("it is open");
}

/// Attests that the other end has closed, in whichever way.
#[track_caller]
fn assert_is_over(client: &mut TcpStream) {
    let read = client.read(&mut [0; 100]);
    let is_over = match &read {
        Ok(bytes) => *bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(is_over, "{read:?}");
}

#[track_caller]
fn exchange(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).expect("it is read");
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).expect("it is answered");
    assert_eq!(back, bytes);
}
