//! A callback that records its calls and does what the test says, and helpers around it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use echown::echo::callback::{
    ConnCallback, Connection, ConnectionLabel, MsgSender, SocketManager, Taken,
};

use crate::common::{DEADLINE, Fixture, lock};

/// What a callback heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Listen(SocketAddr),
    ListenError(io::ErrorKind),
    Connect(u64),
    ConnectError(SocketAddr, io::ErrorKind),
    RemoteClose(u64),
    Close(u64),
}

/// Each connection's sender, by its number. In a place of its own: a receiver that held its sender
/// would be a cycle.
#[derive(Clone, Default)]
pub struct Senders(Arc<Mutex<HashMap<u64, Arc<MsgSender>>>>);

impl Senders {
    pub fn put(&self, sender: MsgSender) {
        lock(&self.0).insert(sender.connection().id, Arc::new(sender));
    }

    pub fn of(&self, id: u64) -> Option<Arc<MsgSender>> {
        lock(&self.0).get(&id).cloned()
    }

    /// Drops it, if it is there.
    pub fn erase(&self, id: u64) {
        let erased = lock(&self.0).remove(&id);
        drop(erased);
    }
}

type OnConnect = Box<dyn Fn(Connection, MsgSender) -> io::Result<()> + Send + Sync>;

/// Writes down what it hears; what it does with a connection is the test's.
pub struct Recorder {
    heard: Mutex<Sender<Heard>>,
    on_connect: OnConnect,
    senders: Senders,
}

/// The other end of a recorder's notes.
pub struct Notes(pub Receiver<Heard>);

impl Recorder {
    pub fn new(
        on_connect: impl Fn(Connection, MsgSender) -> io::Result<()> + Send + Sync + 'static,
    ) -> (Recorder, Notes) {
        let (heard, notes) = channel();
        let on_connect = Box::new(on_connect);
        let senders = Senders::default();
        (Recorder { heard: Mutex::new(heard), on_connect, senders }, Notes(notes))
    }

    /// A recorder whose connections take everything and answer nothing.
    pub fn devouring() -> (Recorder, Notes) {
        Recorder::new(|connection, _| connection.start(devour))
    }

    /// A recorder that sends back what it receives.
    pub fn echoing() -> (Recorder, Notes) {
        let senders = Senders::default();
        let theirs = senders.clone();
        let (mut recorder, notes) = Recorder::new(move |connection, sender| {
            theirs.put(sender);
            let (senders, id) = (theirs.clone(), connection.label().id);
            connection.start(move |message: &[u8]| {
                senders.of(id).expect("it is there until the end").send(message)?;
                Ok(Taken::All)
            })
        });
        recorder.senders = senders;
        (recorder, notes)
    }

    fn hears(&self, heard: Heard) {
        // A test that is over doesn't read any more.
        let _ = lock(&self.heard).send(heard);
    }
}

impl ConnCallback for Recorder {
    fn on_connect(&self, connection: Connection, sender: MsgSender) -> io::Result<()> {
        self.hears(Heard::Connect(connection.label().id));
        (self.on_connect)(connection, sender)
    }

    fn on_remote_close(&self, connection: &ConnectionLabel) -> io::Result<()> {
        self.senders.erase(connection.id);
        self.hears(Heard::RemoteClose(connection.id));
        Ok(())
    }

    fn on_connection_close(&self, connection: &ConnectionLabel) {
        self.senders.erase(connection.id);
        self.hears(Heard::Close(connection.id));
    }

    fn on_listen(&self, _asked: SocketAddr, actual: SocketAddr) {
        self.hears(Heard::Listen(actual));
    }

    fn on_listen_error(&self, _address: SocketAddr, error: &io::Error) {
        self.hears(Heard::ListenError(error.kind()));
    }

    fn on_connect_error(&self, address: SocketAddr, error: &io::Error) {
        self.hears(Heard::ConnectError(address, error.kind()));
    }
}

impl Notes {
    /// What is heard next.
    #[track_caller]
    pub fn next(&self) -> Heard {
        self.0.recv_timeout(DEADLINE).expect("something is heard")
    }

    /// Asserts that these are the next notes.
    #[track_caller]
    pub fn assert_next(&self, expected: &[Heard]) {
        for heard in expected {
            assert_eq!(&self.next(), heard);
        }
    }

    /// What was heard and not asked for yet. Complete once the manager is gone.
    pub fn rest(&self) -> Vec<Heard> {
        self.0.try_iter().collect()
    }

    /// Asserts that there is no note for a moment.
    #[track_caller]
    pub fn assert_silence(&self) {
        let moment = Duration::from_millis(50);
        assert_eq!(self.0.recv_timeout(moment), Err(RecvTimeoutError::Timeout));
    }
}

/// Listens on a free port, and returns the address.
#[track_caller]
pub fn listen(manager: &SocketManager, notes: &Notes) -> SocketAddr {
    manager.listen_on_addr("127.0.0.1:0").expect("that is an address");
    match notes.next() {
        Heard::Listen(address) => address,
        other => panic!("expected to listen, got {other:?}"),
    }
}

/// Connects without delay.
#[track_caller]
pub fn connect(manager: &SocketManager, address: SocketAddr) {
    let address = address.to_string();
    manager.connect_to_addr(&address, Duration::ZERO).expect("that is an address");
}

/// Takes everything and keeps nothing.
pub fn devour(_message: &[u8]) -> io::Result<Taken> {
    Ok(Taken::All)
}

/// Runs a test as a root task in a registry of its own, which has to be clean afterwards.
#[track_caller]
pub fn in_clean_lab(test: impl FnOnce(&'static Fixture)) {
    let lab = Fixture::new();
    lab.root(|| test(lab));
    lab.assert_clean();
}

/// A manager that listens on a free port, and the address.
#[track_caller]
pub fn listening(
    lab: &Fixture,
    recorder: impl ConnCallback,
    notes: &Notes,
) -> (SocketManager, SocketAddr) {
    let manager = manager(lab, recorder);
    let address = listen(&manager, notes);
    (manager, address)
}

/// A manager on the fixture's pool.
#[track_caller]
pub fn manager(lab: &Fixture, recorder: impl ConnCallback) -> SocketManager {
    SocketManager::new(recorder, &lab.pool()).expect("there is a thread for it")
}
