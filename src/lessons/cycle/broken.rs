//! An HTTP client that keeps its connections open to use them again.

use std::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex};

use echown::net::Stream;

/// The connections that are idle.
#[derive(Default)]
struct Agent {
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    stream: Stream,
    agent: Arc<Agent>,
}

impl Connection {
    /// Returns the connection to its agent after a response.
    fn finish(self) {
        let agent = Arc::clone(&self.agent);
        agent.idle.lock().expect("no panic").push(self);
    }
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let (stream, _server) = Stream::pair()?;
    let agent = Arc::new(Agent::default());
    let mut used = Connection { stream, agent: Arc::clone(&agent) };
    used.stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    used.finish();
    Ok(())
}
