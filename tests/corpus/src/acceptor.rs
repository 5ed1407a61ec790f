//! An endless accept loop, and a thread that is not joined.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

/// The fault: the thread keeps the listener indefinitely, and is never joined.
pub fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("acceptor".into()).spawn(move || {
        for stream in listener.incoming() {
            // Accepted connections are opened and closed all the time.
            drop(stream);
        }
    })?;
    Ok(address)
}

/// The fault: the watcher reads its file until the process exits. Returns when it has started.
pub fn watch(path: &'static str) {
    let (begun, wait) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let file = std::fs::File::open(path);
        let _ = begun.send(());
        loop {
            thread::park();
            let _ = file.as_ref().map(|file| file.metadata());
        }
    });
    let _ = wait.recv();
}
