//! A server that greets a client and keeps a list of its clients.

use std::error::Error;
use std::io::{Read, Write};
use std::sync::Arc;

use echown::net::Stream;
use echown::pool::Pool;

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let mut clients = Vec::new();

    let (socket, mut client) = Stream::pair()?;
    let socket = Arc::new(socket);
    clients.push(Arc::clone(&socket));
    let session =
        pool.spawn_named("session", [socket.resource()], move || {
            (&*socket).write_all(b"hello")
        })?;
    session.join()??;

    let mut greeting = String::new();
    client.read_to_string(&mut greeting)?;
    assert_eq!(greeting, "hello");
    Ok(())
}
