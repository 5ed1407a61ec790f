//! A server that accepts clients in a task. It is started and ended.

use std::error::Error;
use std::io;

use echown::net::Listener;
use echown::pool::{Pool, Promise};

type Server = Promise<io::Result<()>>;

fn accept_all(listener: Listener) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept()?;
        client.close()?;
    }
}

fn start(pool: &Pool) -> Result<Server, Box<dyn Error>> {
    let listener = Listener::bind("127.0.0.1:0")?;
    Ok(pool.spawn_named_with("acceptor", listener, accept_all)?)
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let server = start(&pool)?;
    drop(server.cancel());
    Ok(())
}
