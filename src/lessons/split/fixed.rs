//! A chat connection: one task reads from the client, another one writes.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::sync::mpsc::channel;

use echown::net::Stream;
use echown::pool::Pool;

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let (server, mut client) = Stream::pair()?;
    let (reading, writing) = server.split()?;
    let (news, queue) = channel::<&[u8]>();

    let replies = news.clone();
    let writer = pool.spawn_named_with("writer", writing, move |output| {
        queue.iter().try_for_each(|line| (&output).write_all(line))
    })?;
    let reader = pool.spawn_named_with("reader", reading, move |reading| {
        for line in BufReader::new(reading).lines() {
            if line? == "ping" {
                replies.send(b"pong\n").map_err(io::Error::other)?;
            }
        }
        io::Result::Ok(())
    })?;

    writeln!(client, "ping")?;
    client.shutdown(Shutdown::Write)?;
    let read = reader.join_flat();
    news.send(b"ann: is anybody here?\n")?;
    drop(news);
    writer.join_flat()?;
    Ok(read?)
}
