//! The smallest echo server: one task per client, which owns the client's socket.
//!
//! Its structure follows the last program of Miou's tutorial: `echo`, `clean_up`, and a `server`
//! that accepts a client and gives it to its task. Without arguments it listens on 127.0.0.1:3000
//! until it is killed; `echown serve` is the same with limits and a graceful shutdown.
//!
//! ```sh
//! $ cargo run --example echo &
//! $ echo "Hello" | nc -q0 localhost 3000
//! Hello
//! ```
//!
//! The first argument is another address, the second one the number of clients to serve. After
//! `echo 127.0.0.1:3000 2` and two clients it prints
//!
//! ```text
//! 0 leaks, 0 violations, 0 replaced fds, 0 failed finalizers, 0 still open
//! ```

use std::error::Error;
use std::io::{self, Read, Write};

use echown::net::{Listener, Stream};
use echown::ownership::{self, TaskError};
use echown::pool::{Orphans, Pool};

fn echo(mut client: Stream) -> io::Result<()> {
    let mut buffer = [0; 0x100];
    loop {
        let len = client.read(&mut buffer)?;
        if len == 0 {
            return Ok(client.close()?);
        }
        client.write_all(&buffer[..len])?;
    }
}

fn clean_up(outcome: Result<io::Result<()>, TaskError<io::Result<()>>>) {
    match outcome {
        Ok(Ok(())) => {}
        // A client that resets its connection ends only its own task.
        Ok(Err(error)) => eprintln!("a client was lost: {error}"),
        Err(failure) => eprintln!("a task failed: {failure}"),
    }
}

fn server(address: &str, clients: usize) -> Result<(), Box<dyn Error>> {
    let socket = Listener::bind(address)?;
    eprintln!("listening on {}", socket.local_addr()?);
    let pool = Pool::new();
    let orphans = Orphans::new(pool.registry());
    for _ in 0..clients {
        while let Some(outcome) = orphans.take()? {
            clean_up(outcome);
        }
        let (client, _) = socket.accept()?;
        orphans.adopt(pool.spawn_with(client, echo)?)?;
    }
    socket.close()?;
    while let Some(outcome) = orphans.get()? {
        clean_up(outcome);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3000".into());
    let clients = arguments.next().map_or(Ok(usize::MAX), |number| number.parse())?;
    server(&address, clients)?;
    println!("{}", ownership::finish());
    Ok(())
}
