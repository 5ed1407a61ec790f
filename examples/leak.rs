//! A leaked connection, and the report that names its owner and its history.
//!
//! A session keeps its stream alive in a reference cycle: its task ends, but the handle is never
//! dropped. A plain program would leak the descriptor; this one closes it and prints
//!
//! ```text
//! task 2 `session` ended and still owned a unix stream:
//!   acquired by task 1 `main` at examples/leak.rs:50:30
//!   given task 1 `main` -> task 2 `session` at examples/leak.rs:52:21
//! task 2 `session` leaked, as its outcome says
//! the peer reads 0 bytes: the stream was closed all the same
//! 1 leak, 0 violations, 0 replaced fds, 0 failed finalizers, 0 still open
//! ```

use std::error::Error;
use std::io::Read;
use std::sync::{Arc, Mutex};

use echown::net::Stream;
use echown::ownership::{Registry, Report, TaskError};
use echown::pool::Pool;

struct Session {
    _stream: Stream,
    /// The mistake: a session that keeps itself alive.
    itself: Mutex<Option<Arc<Session>>>,
}

fn session(stream: Stream) {
    let session = Arc::new(Session { _stream: stream, itself: Mutex::default() });
    *session.itself.lock().unwrap() = Some(Arc::clone(&session));
}

/// The report without thread ids and ages, which differ from run to run; `{report}` has them all.
fn show(report: &Report) {
    let Report::Leak(leak) = report else { return println!("{report}") };
    for resource in &leak.resources {
        println!("{} ended and still owned a {}:", leak.task, resource.kind);
        for step in &resource.custody {
            let step = step.to_string();
            println!("  {}", step.rsplit_once(", ").map_or(&*step, |(step, _age)| step));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::builder().sink(show).build();
    let _entered = registry.enter();
    let pool = Pool::builder().registry(&registry).build();
    let (stream, mut peer) = Stream::pair()?;

    let task = pool.spawn_named_with("session", stream, session)?;
    match task.join() {
        Err(TaskError::Leaked((), leak)) => println!("{} leaked, as its outcome says", leak.task),
        other => other?,
    }

    let bytes = peer.read(&mut [0])?;
    println!("the peer reads {bytes} bytes: the stream was closed all the same");
    peer.close()?;
    println!("{}", registry.finish());
    Ok(())
}
