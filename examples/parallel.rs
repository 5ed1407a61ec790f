//! Several servers on one address.
//!
//! Its structure follows the parallel server of Miou's tutorial: one server in a task of its own,
//! and one more per further processor with `parallel`. Each has its own socket on the same address
//! and its own tasks for clients. `echown serve --acceptors N` is the same with limits and a
//! graceful shutdown.
//!
//! ```sh
//! $ cargo run --example parallel &
//! $ echo "Hello" | nc -q0 localhost 3000
//! Hello
//! ```
//!
//! The first argument is another address, the second one the number of clients after which it stops.
//! After `parallel 127.0.0.1:3000 2` and two clients it prints
//!
//! ```text
//! served 2 clients; the servers end: cancelled, as they never end by themselves
//! 0 leaks, 0 violations, 0 replaced fds, 0 failed finalizers, 0 still open
//! ```

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread::available_parallelism;

use echown::net::{Listener, Stream};
use echown::ownership::{self, TaskError};
use echown::pool::{Orphans, Pool};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

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

fn server(pool: &Pool, socket: Listener, served: Sender<()>) -> Outcome {
    let orphans = Orphans::reaped_by(pool.registry(), move |_, outcome| match outcome {
        Ok(Ok(())) | Err(TaskError::Cancelled) => drop(served.send(())),
        lost => eprintln!("a client was lost: {lost:?}"),
    });
    loop {
        let (client, _) = socket.accept()?;
        orphans.adopt(pool.spawn_with(client, echo)?)?;
    }
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3000".into());
    let clients = arguments.next().map_or(Ok(usize::MAX), |number| number.parse())?;
    let processors = available_parallelism()?.get();

    let (pool, (served, serves)) = (Pool::new(), channel());
    let ours = Listener::options().reuse_port(true).bind(address)?;
    let address = ours.local_addr()?;
    eprintln!("{processors} servers on {address}");
    let servers = pool.clone();
    let all = pool.spawn_with(ours, move |ours| {
        let (mine, more) = (servers.clone(), served.clone());
        let one = servers.spawn_with(ours, move |ours| server(&mine, ours, more))?;
        let pool = servers.clone();
        let others = servers.parallel(processors - 1, move |_| {
            let socket = Listener::options().reuse_port(true).bind(&address)?;
            server(&pool, socket, served.clone())
        })?;
        for outcome in others.into_iter().chain([one.join()]) {
            outcome??;
        }
        Outcome::Ok(())
    })?;

    serves.iter().take(clients).for_each(drop);
    println!(
        "served {clients} clients; the servers end: cancelled, as they never end by themselves"
    );
    drop(all.cancel());
    println!("{}", ownership::finish());
    Ok(())
}
