//! A server that greets a client and keeps a list of its clients.

use std::error::Error;
use std::io::{Read, Write};

use echown::net::Stream;
use echown::pool::Pool;

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let mut clients = Vec::new();

    let (socket, mut client) = Stream::pair()?;
    clients.push(socket.id());
    let session =
        pool.spawn_named_with("session", socket, |mut socket| {
            socket.write_all(b"hello")
        })?;
    session.join()??;

    let mut greeting = String::new();
    client.read_to_string(&mut greeting)?;
    assert_eq!(greeting, "hello");
    Ok(())
}
