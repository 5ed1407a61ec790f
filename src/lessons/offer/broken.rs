//! An acceptor sends its clients to a worker through a channel.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::sync::mpsc::{Receiver, channel};

use echown::net::Stream;
use echown::ownership::Offer;
use echown::pool::Pool;

/// Reads a number and replies with its double.
fn serve(client: Stream) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&client).read_line(&mut line)?;
    let number: u32 = line.trim().parse().map_err(io::Error::other)?;
    writeln!(&client, "{}", number * 2)
}

fn work(queue: Receiver<Offer<Stream>>) -> io::Result<()> {
    for offer in queue {
        serve(offer.claim()?)?;
    }
    Ok(())
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let (sender, queue) = channel();
    let mut clients = Vec::new();
    for request in ["21", "many", "4"] {
        let (accepted, mut client) = Stream::pair()?;
        writeln!(client, "{request}")?;
        clients.push(client);
        sender.send(accepted.offer()?)?;
    }
    drop(sender);
    Pool::new().spawn_named("worker", [], || work(queue))?.join_flat()?;
    Ok(())
}
