//! A server that accepts clients in a task. It ends after one client.

use std::error::Error;
use std::io;

use echown::net::{Address, Listener, Stream};
use echown::pool::{Pool, Promise};

type Server = Promise<io::Result<()>>;

fn accept_all(listener: Listener) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept()?;
        client.close()?;
    }
}

fn start(pool: &Pool) -> Result<(Address, Server), Box<dyn Error>> {
    let listener = Listener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = pool.spawn_named_with("acceptor", listener, accept_all)?;
    Ok((address, server))
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let (address, server) = start(&pool)?;
    Stream::connect(address)?.close()?;
    drop(server);
    Ok(())
}
