//! A task waits for a client, and the server stops it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use echown::net::Listener;
use echown::ownership::TaskError;
use echown::pool::Pool;

fn serve(listener: &Listener) -> io::Result<()> {
    let (client, _) = listener.accept()?;
    Ok(client.close()?)
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let listener = Arc::new(Listener::bind("127.0.0.1:0")?);
    let theirs = Arc::clone(&listener);
    let given = [listener.resource()];
    let serve = move || serve(&theirs);
    let acceptor = pool.spawn_named("acceptor", given, serve)?;

    // No client comes, and the server stops.
    let outcome = acceptor.cancel();
    assert!(matches!(outcome, Err(TaskError::Cancelled)));
    Ok(())
}
