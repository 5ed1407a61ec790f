//! A session waits for its client, and the server stops it.

use std::error::Error;
use std::io::{self, Read};
use std::sync::Arc;

use echown::net::Stream;
use echown::ownership::TaskError;
use echown::pool::Pool;

fn session(mut socket: &Stream) -> io::Result<usize> {
    socket.read(&mut [0; 64])
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let (socket, _client) = Stream::pair()?;
    let socket = Arc::new(socket);
    let theirs = Arc::clone(&socket);
    let given = [socket.resource()];
    let session = move || session(&theirs);
    let session = pool.spawn_named("session", given, session)?;

    // The client sends nothing, and the server stops.
    let outcome = session.cancel();
    assert!(matches!(outcome, Err(TaskError::Cancelled)));
    Ok(())
}
