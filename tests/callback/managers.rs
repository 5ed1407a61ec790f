//! The beginning and end of a manager, and calls after its end.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use super::recorder::{Heard, Recorder, connect, devour, in_clean_lab, listen, listening, manager};
use super::{assert_is_over, dial};
use crate::common::{DEADLINE, assert_cancelled, lock, wait_until};
use echown::echo::callback::{ConnCallback, Connection, MsgSender, SocketManager};
use echown::ownership;
use echown::pool::Pool;
use echown::test;

#[test]
fn abort_then_join_ends() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::devouring();
        let (manager, address) = listening(lab, recorder, &notes);
        connect(&manager, address);
        manager.abort(false);
        manager.join().expect("nobody cancels us");
    });
}

#[test]
fn after_an_abort_calls_are_refused_and_abort_and_join_can_be_repeated() {
    in_clean_lab(|lab| {
        let (recorder, _notes) = Recorder::devouring();
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
}

#[test]
fn a_bad_address_fails_at_the_call_without_a_callback() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::devouring();
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
}

#[test]
fn a_manager_that_is_dropped_ends_its_connections_with_their_last_callback() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::new(|connection, sender| {
            sender.share()?;
            std::mem::forget(sender);
            connection.start(devour)
        });
        let (manager, address) = listening(lab, recorder, &notes);
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
}

#[test]
fn a_manager_ends_with_the_task_that_made_it() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::devouring();
        let (out, place) = mpsc::channel();
        let maker = lab.spawn("maker", [], move || {
            let manager = Arc::new(manager(lab, recorder));
            let _ = out.send(Arc::clone(&manager));
            let address = listen(&manager, &notes);
            let client = dial(address);
            notes.assert_next(&[Heard::Connect(1)]);
            // It waits for a client that never connects, and is cancelled.
            let refused = manager.join().expect_err("it is not aborted");
            assert_eq!(
                crate::common::refusal::<(), _>(Err(refused)).kind(),
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
}

#[test]
fn a_callback_may_abort_its_manager_and_does_not_wait_for_itself() {
    in_clean_lab(|lab| {
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
    in_clean_lab(|lab| {
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
}
