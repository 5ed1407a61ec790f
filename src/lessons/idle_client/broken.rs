//! A server with one task per client: it serves two clients and stops.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;

use echown::net::Stream;
use echown::pool::Pool;

/// Replies to each line until the client closes the connection.
fn serve(client: Stream) -> io::Result<()> {
    for request in BufReader::new(&client).lines() {
        writeln!(&client, "you said: {}", request?)?;
    }
    Ok(())
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    // The browser opens two connections and uses one.
    let (first, mut browser) = Stream::pair()?;
    let (second, _spare) = Stream::pair()?;
    let tasks = [
        pool.spawn_named_with("client 1", first, serve)?,
        pool.spawn_named_with("client 2", second, serve)?,
    ];
    writeln!(browser, "hello")?;
    browser.shutdown(Shutdown::Write)?;

    // Stop: each task finishes its client.
    for task in tasks {
        task.join_flat()?;
    }
    Ok(())
}
