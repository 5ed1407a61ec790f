//! The blocking peers: a thread per connection, new or from a pool.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use threadpool::ThreadPool;

use crate::BUFFER_BYTES;

/// The stack size of each thread, equal to echown's.
const STACK_BYTES: usize = 256 * 1024;

/// The pause of accepting after running out of descriptors.
const PAUSE: Duration = Duration::from_millis(10);

/// `std::net`, one new thread per connection.
pub(crate) fn spawned(listener: &TcpListener) {
    accept(listener, |stream| {
        // Without a thread, the connection is closed with the closure that owns it.
        let _ = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || echo(stream));
    });
}

/// The `threadpool` crate, which does not grow automatically: adds a thread whenever all are busy.
/// It panics, and this peer ends, if a thread cannot be started.
pub(crate) fn pooled(listener: &TcpListener) {
    let mut pool = threadpool::Builder::new().num_threads(1).thread_stack_size(STACK_BYTES).build();
    accept(listener, |stream| run(&mut pool, stream));
}

fn run(pool: &mut ThreadPool, stream: TcpStream) {
    // A job counts as active before it stops counting as queued.
    if pool.queued_count() + pool.active_count() >= pool.max_count() {
        pool.set_num_threads(pool.max_count() + 1);
    }
    pool.execute(move || {
        // The result of a connection is ignored.
        let _ = echo(stream);
    });
}

fn accept(listener: &TcpListener, mut serve: impl FnMut(TcpStream)) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => serve(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let received = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        stream.write_all(&buffer[..received])?;
    }
}
