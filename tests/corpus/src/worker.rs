//! A worker whose queue never ends keeps the socket alive that its last job shared with it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

pub struct Client {
    pub stream: Arc<TcpStream>,
    jobs: Sender<Arc<TcpStream>>,
}

/// The fault: `mem::forget` of one sender that was kept for planned statistics.
pub fn connect(to: std::net::SocketAddr) -> io::Result<Client> {
    let stream = Arc::new(TcpStream::connect(to)?);
    let (jobs, queue): (Sender<Arc<TcpStream>>, Receiver<_>) = channel();
    thread::Builder::new().name("worker".into()).spawn(move || {
        let mut last = None;
        while let Ok(job) = queue.recv() {
            last = Some(job);
        }
        drop(last);
    })?;
    std::mem::forget(jobs.clone());
    Ok(Client { stream, jobs })
}

impl Client {
    pub fn share(&self) {
        let _ = self.jobs.send(Arc::clone(&self.stream));
    }
}
