//! Sending: straight to the kernel in the connection's own task, through a bounded queue from others.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use echown::echo::callback::{MsgReceiver, MsgSender, Notifier, QUEUE_BYTES, SocketManager, Taken};
use echown::ownership;
use echown::pool::Pool;
use echown::test;

use super::recorder::{Heard, Notes, Recorder, Senders, devour, in_clean_lab, listen, listening};
use super::{assert_is_over, dial, reset};
use crate::common::{
    DEADLINE, Fixture, assert_cancelled, lock, refusal, wait_for, wait_until, wait_until_still,
};

/// Tells by a channel.
struct Tells(Mutex<Sender<()>>);

impl Notifier for Tells {
    fn on_writable(&self) {
        let _ = lock(&self.0).send(());
    }
}

/// A recorder that hands its senders out, shared, with word of their notifiers.
fn generous() -> (Recorder, Notes, mpsc::Receiver<(MsgSender, mpsc::Receiver<()>)>) {
    let (out, senders) = mpsc::channel();
    let out = Mutex::new(out);
    let (recorder, notes) = Recorder::new(move |connection, sender| {
        sender.share()?;
        sender.share()?;
        let (told, hear) = mpsc::channel();
        let _ = lock(&out).send((sender, hear));
        connection.start_with(devour, Tells(Mutex::new(told)))
    });
    (recorder, notes, senders)
}

/// Something in which a lost, doubled or moved byte shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

#[test]
fn a_shared_sender_is_any_tasks_and_its_drop_flushes_and_ends_the_writing() {
    in_clean_lab(|lab| {
        let (recorder, notes, senders) = generous();
        let (manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        let (sender, _) = senders.recv_timeout(DEADLINE).expect("it is connected");
        notes.assert_next(&[Heard::Connect(1)]);
        let bytes = pattern(3 * QUEUE_BYTES);
        let sent = bytes.clone();
        let writer = lab.spawn("somebody", [], move || {
            for part in sent.chunks(1000) {
                sender.send(part)?;
            }
            io::Result::Ok(())
        });
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("the end, and no reset");
        assert!(heard == bytes, "{} of {} bytes", heard.len(), bytes.len());
        writer.join().expect("it ends well").expect("all was sent");
        // The reading goes on: a half-closed connection is one.
        notes.assert_silence();
        client.write_all(b"still heard").expect("it reads");
        drop(client);
        notes.assert_next(&[Heard::RemoteClose(1), Heard::Close(1)]);
        drop(manager);
    });
}

#[test]
fn a_connection_stays_until_its_shared_sender_goes_though_the_peer_has_finished() {
    in_clean_lab(|lab| {
        let (recorder, notes, senders) = generous();
        let (manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        let (sender, _) = senders.recv_timeout(DEADLINE).expect("it is connected");
        client.shutdown(std::net::Shutdown::Write).expect("it is connected");
        notes.assert_next(&[Heard::Connect(1), Heard::RemoteClose(1)]);
        notes.assert_silence();
        sender.send(b"an afterthought").expect("the peer still reads");
        drop(sender);
        let mut heard = String::new();
        client.read_to_string(&mut heard).expect("the end, and no reset");
        assert_eq!(heard, "an afterthought");
        notes.assert_next(&[Heard::Close(1)]);
        drop(manager);
    });
}

#[test]
fn what_is_sent_arrives_without_a_flush() {
    in_clean_lab(|lab| {
        let (recorder, notes, senders) = generous();
        let (_manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        let (sender, _) = senders.recv_timeout(DEADLINE).expect("it is connected");
        let mut byte = [0];
        for n in 0..100_u8 {
            sender.send(&[n]).expect("it is connected");
            client.read_exact(&mut byte).expect("it arrives");
            assert_eq!(byte, [n]);
        }
        sender.flush().expect("all is sent");
        drop(sender);
    });
}

#[test]
fn a_peer_that_never_reads_is_bounded_and_blocks_the_sender() {
    in_clean_lab(|lab| {
        let (recorder, notes, senders) = generous();
        let (manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        let (sender, told) = senders.recv_timeout(DEADLINE).expect("it is connected");
        let sender = Arc::new(sender);
        let block = pattern(QUEUE_BYTES);
        // Until the kernel takes nothing, and then until the queue does not.
        let mut queued = 0;
        wait_until_still("the queue to be full", || {
            queued += sender.try_send(&block).expect("it is connected");
            queued
        });
        assert_eq!(sender.try_send(b"x").expect("it is connected"), 0, "there is no room");
        assert_eq!(sender.send_some(b"x").expect("it is connected"), Taken::Pending);
        assert!(told.try_recv().is_err());
        // A task that sends all the same waits, and can be cancelled.
        let theirs = Arc::clone(&sender);
        let waiting = lab.spawn("waiting", [], move || {
            let error = theirs.send(b"x").expect_err("it is cancelled");
            assert_eq!(refusal::<(), _>(Err(error)).kind(), ownership::ErrorKind::Cancelled);
        });
        wait_until("it to wait", || {
            let tasks = lab.registry.snapshot().tasks;
            tasks.iter().any(|task| &*task.task.name == "waiting")
        });
        assert_cancelled(waiting.cancel());
        // The peer reads, and the pending sender is notified.
        let mut heard = vec![0; queued];
        client.read_exact(&mut heard).expect("all that was taken arrives");
        assert!(heard.chunks(1).zip(block.iter().cycle()).take(1000).all(|(a, b)| a[0] == *b));
        told.recv_timeout(DEADLINE).expect("there is room");
        assert_eq!(sender.send_some(b"xyz").expect("there is room"), Taken::All);
        drop((sender, manager));
    });
}

#[test]
fn sending_to_a_lost_peer_is_an_error_and_the_connection_gets_one_close() {
    in_clean_lab(|lab| {
        let (recorder, notes, senders) = generous();
        let (manager, address) = listening(lab, recorder, &notes);
        for id in 1..=20 {
            let client = dial(address);
            let (sender, _) = senders.recv_timeout(DEADLINE).expect("it is connected");
            notes.assert_next(&[Heard::Connect(id)]);
            reset(client);
            let error = wait_for("sending to fail", || sender.send(&[0; 1000]).err());
            assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
            notes.assert_next(&[Heard::Close(id)]);
        }
        drop(manager);
        assert_eq!(notes.rest(), []);
    });
}

#[test]
fn a_sender_that_is_not_shared_is_refused_to_other_tasks_before_the_system_call() {
    let lab = Fixture::new();
    lab.root(|| {
        let senders = Senders::default();
        let theirs = senders.clone();
        let (recorder, notes) = Recorder::new(move |connection, sender| {
            theirs.put(sender);
            connection.start(devour)
        });
        let (manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        notes.assert_next(&[Heard::Connect(1)]);
        wait_until("the sender", || senders.of(1).is_some());
        let sender = senders.of(1).expect("it is there");
        senders.erase(1);
        let attempts = [
            sender.send(b"stolen"),
            sender.try_send(b"stolen").map(drop),
            sender.send_some(b"stolen").map(drop),
            sender.flush(),
            sender.share(),
        ];
        for attempt in attempts {
            assert_eq!(refusal(attempt).kind(), ownership::ErrorKind::NotOwner);
        }
        // Dropped here it ends the connection: only its own task could end the writing.
        drop(sender);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("the end, and no reset");
        assert!(heard.is_empty());
        notes.assert_next(&[Heard::RemoteClose(1), Heard::Close(1)]);
        drop(manager);
    });
    assert_eq!(lab.codes(), ["not-owner"; 5]);
    lab.assert_all_closed();
}

#[test]
fn a_sender_dropped_in_its_own_task_ends_writing_and_reading_continues() {
    in_clean_lab(|lab| {
        let (heard, hear) = mpsc::channel();
        let heard = Mutex::new(heard);
        let (recorder, notes) = Recorder::new(move |connection, sender| {
            sender.send(b"all there is")?;
            drop(sender);
            let heard = lock(&heard).clone();
            connection.start(move |message: &[u8]| {
                let _ = heard.send(message.to_vec());
                Ok(Taken::All)
            })
        });
        let (_manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        let mut said = String::new();
        client.read_to_string(&mut said).expect("the end, and no reset");
        assert_eq!(said, "all there is");
        client.write_all(b"still heard").expect("it reads");
        assert_eq!(hear.recv_timeout(DEADLINE).expect("it is heard"), b"still heard");
        notes.assert_next(&[Heard::Connect(1)]);
        notes.assert_silence();
        drop(client);
        notes.assert_next(&[Heard::RemoteClose(1), Heard::Close(1)]);
    });
}

/// Sends back as much as there is room for, and continues when it is woken.
struct Partial(Senders, u64);

impl MsgReceiver for Partial {
    fn on_message(&self, message: &[u8]) -> io::Result<Taken> {
        let sender = self.0.of(self.1).expect("it is there until the end");
        sender.send_some(message)
    }
}

struct Wakes(echown::echo::callback::MsgWaker, Mutex<Sender<()>>);

impl Notifier for Wakes {
    fn on_writable(&self) {
        let _ = lock(&self.1).send(());
        self.0.wake();
    }
}

/// Sends much and reads nothing until then: the echo is pending, direct or through the queue, and
/// what comes back is exact.
#[track_caller]
fn assert_pends_and_continues(is_shared: bool) {
    let lab = Fixture::new();
    lab.root(|| {
        let senders = Senders::default();
        let theirs = senders.clone();
        let (told, hear) = mpsc::channel();
        let told = Mutex::new(told);
        let (recorder, notes) = Recorder::new(move |connection, sender| {
            if is_shared {
                sender.share()?;
            }
            let (waker, id) = (connection.waker(), connection.label().id);
            theirs.put(sender);
            let told = Mutex::new(lock(&told).clone());
            connection.start_with(Partial(theirs.clone(), id), Wakes(waker, told))
        });
        let (manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        let sent = pattern(16 * 1024 * 1024);
        let mut writing = client.try_clone().expect("it can be cloned");
        let bytes = sent.clone();
        let writer = std::thread::spawn(move || {
            writing.write_all(&bytes)?;
            writing.shutdown(std::net::Shutdown::Write)
        });
        // Nothing is read until both directions are full.
        let unread = || rustix::io::ioctl_fionread(&client).expect("it is a socket");
        wait_until("something to come back", || unread() > 0);
        wait_until_still("both directions to be full", unread);
        let mut back = vec![0; sent.len()];
        client.read_exact(&mut back).expect("all comes back");
        assert!(back == sent);
        writer.join().expect("no panic").expect("all was taken");
        notes.assert_next(&[Heard::Connect(1), Heard::RemoteClose(1)]);
        assert!(hear.try_iter().count() > 0, "it was never pending");
        senders.erase(1);
        if is_shared {
            assert_is_over(&mut client);
        }
        notes.assert_next(&[Heard::Close(1)]);
        drop(manager);
    });
    if is_shared {
        lab.assert_clean();
    }
    lab.assert_all_closed();
}

#[test]
fn an_echo_of_partial_sends_is_pending_and_goes_on_straight_to_the_kernel() {
    assert_pends_and_continues(false);
}

#[test]
fn an_echo_of_partial_sends_is_pending_and_goes_on_through_the_queue() {
    assert_pends_and_continues(true);
}

#[test]
fn a_notifier_that_would_wait_for_its_own_writer_is_refused() {
    in_clean_lab(|lab| {
        let senders = Senders::default();
        let theirs = senders.clone();
        let (told, hear) = mpsc::channel();
        let told = Mutex::new(told);
        struct Waits(Senders, Mutex<Sender<ErrorKind>>);
        impl Notifier for Waits {
            fn on_writable(&self) {
                let sender = self.0.of(1).expect("it is there");
                let _ = lock(&self.1).send(sender.flush().expect_err("refused").kind());
            }
        }
        let (recorder, notes) = Recorder::new(move |connection, sender| {
            sender.share()?;
            theirs.put(sender);
            let told = Mutex::new(lock(&told).clone());
            connection.start_with(devour, Waits(theirs.clone(), told))
        });
        let (_manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        notes.assert_next(&[Heard::Connect(1)]);
        wait_until("the sender", || senders.of(1).is_some());
        let sender = senders.of(1).expect("it is there");
        let (full, is_full) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            is_full.recv().expect("the sender fills the queue");
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).map(|_| ())
        });
        while sender.send_some(&[0; 65536]).expect("it is connected") != Taken::Pending {}
        full.send(()).expect("the reader waits");
        assert_eq!(hear.recv_timeout(DEADLINE), Ok(ErrorKind::WouldBlock));
        senders.erase(1);
        drop(sender);
        reader.join().expect("no panic").expect("the end");
    });
}

/// Shares its sender when it is called, in the middle of the task's reading.
struct Shares(Senders, Mutex<Sender<io::Result<()>>>);

impl Notifier for Shares {
    fn on_writable(&self) {
        let sender = self.0.of(1).expect("it is there");
        let _ = lock(&self.1).send(sender.share());
    }
}

#[test]
fn a_notifier_may_share_its_sender_while_the_connection_is_read() {
    in_clean_lab(|lab| {
        let senders = Senders::default();
        let theirs = senders.clone();
        let (told, hear) = mpsc::channel();
        let told = Mutex::new(told);
        let (recorder, notes) = Recorder::new(move |connection, sender| {
            // Until the kernel takes no more: the notifier is called when the client reads.
            while sender.send_some(&[0; 65536])? != Taken::Pending {}
            theirs.put(sender);
            let told = Mutex::new(lock(&told).clone());
            connection.start_with(devour, Shares(theirs.clone(), told))
        });
        let (_manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        notes.assert_next(&[Heard::Connect(1)]);
        let reader = std::thread::spawn(move || {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).map(|_| heard)
        });
        hear.recv_timeout(DEADLINE).expect("there is room").expect("there is a thread");
        // Shared: this task may use it.
        senders.of(1).expect("it is there").send(b"the last").expect("it is connected");
        senders.erase(1);
        let heard = reader.join().expect("no panic").expect("the end, and no reset");
        assert!(heard.ends_with(b"the last"));
    });
}

#[test]
fn a_sender_that_gets_no_thread_is_not_shared_and_still_sends() {
    in_clean_lab(|lab| {
        let (told, hear) = mpsc::channel();
        let told = Mutex::new(told);
        let (recorder, notes) = Recorder::new(move |connection, sender| {
            let _ = lock(&told).send(sender.share().map_err(|error| error.to_string()));
            sender.send(b"as before")?;
            connection.close();
            Ok(())
        });
        // The manager, its listener and the connection.
        let pool = Pool::builder().registry(&lab.registry).limit(3).build();
        let manager = SocketManager::new(recorder, &pool).expect("there is a thread for it");
        let mut client = dial(listen(&manager, &notes));
        let error = hear.recv_timeout(DEADLINE).expect("it tries").expect_err("there is no thread");
        assert!(error.contains("limit of 3 threads are busy"), "{error}");
        let mut heard = String::new();
        client.read_to_string(&mut heard).expect("the end, and no reset");
        assert_eq!(heard, "as before");
    });
}
