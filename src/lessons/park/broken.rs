//! A connection that waits is parked; a free worker claims it for a turn.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;

use echown::net::Stream;
use echown::ownership::{Lot, Unparked};
use echown::thread;

/// Claims a connection that has input, and replies.
fn turn(mut client: &Stream, lot: &Lot) -> io::Result<()> {
    let mut request = [0; 16];
    let mut is_ours = client.unpark(lot)? == Unparked::Claimed;
    while is_ours {
        let len = client.read(&mut request)?;
        is_ours = !client.park(lot)?;
        client.write_all(&request[..len])?;
    }
    Ok(())
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let lot = Lot::new();
    let mut outcome = Ok(());
    let (client, mut browser) = Stream::pair()?;
    let client = Arc::new(client);
    client.park(&lot)?;
    for worker in ["worker 1", "worker 2"] {
        write!(browser, "hello, {worker}")?;
        let (client, lot) = (Arc::clone(&client), lot.clone());
        let job = move || turn(&client, &lot);
        let turn = thread::spawn_named(worker, [], job)?;
        // An error ends the turn, not the server.
        outcome = outcome.and(turn.join_flat());
    }
    client.unpark(&lot)?;
    Ok(outcome?)
}
