//! A connection of the server to itself: through its pool and its handler, or parked with those of clients,
//! but outside of its limits and counts.
//!
//! The failure story: a thread that only feeds a watchdog feeds it just as well when every other thread is
//! blocked, and the manager never restarts the server. So an exchange like a client's comes first.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use super::Server;
use crate::echo::SharedHandler;
use crate::net::Stream;
use crate::ownership::{Give, Resource};
use crate::pool::{Pool, Promise};

/// The name of the probe's task.
const NAME: &str = "watchdog probe";

/// Connects a server to itself. All calls are made by one task.
pub(crate) struct Prober {
    pool: Pool,
    handler: SharedHandler,
    /// The server's end of an earlier exchange that was given up.
    given_up: Option<Promise<io::Result<()>>>,
    /// Those of acceptors that park connections, until they drain.
    lots: Vec<LotProbe>,
}

/// The client's end of a connection that is parked in a lot.
struct LotProbe {
    stream: Stream,
    /// The part of the reply that is missing.
    awaited: Vec<u8>,
}

impl Server {
    /// Returns what connects this server to itself, while it serves. To be called once.
    #[must_use]
    pub(crate) fn prober(&mut self) -> Prober {
        let mut prober = Prober::new(&self.pool, &self.handler);
        let streams = self.bound.iter_mut().flat_map(|address| std::mem::take(&mut address.probes));
        prober.lots.extend(streams.map(|stream| LotProbe { stream, awaited: Vec::new() }));
        prober
    }
}

impl Prober {
    fn new(pool: &Pool, handler: &SharedHandler) -> Prober {
        Prober { pool: pool.clone(), handler: handler.clone(), given_up: None, lots: Vec::new() }
    }

    /// Exchanges a message with the handler: with the workers of every lot, or over a socket pair of its own.
    ///
    /// # Errors
    /// Why there was no complete reply before `deadline`.
    pub(crate) fn exchange(&mut self, deadline: Instant) -> Result<(), String> {
        let message = self.handler.probe_message();
        let mut failed = None;
        self.lots.retain_mut(|lot| match lot.exchange(&message, deadline) {
            Ok(()) => true,
            // The acceptor drains. Its connections have tasks of the pool at most.
            Err(error) if is_closed(&error) => false,
            Err(error) => {
                failed.get_or_insert(error);
                true
            }
        });
        match failed {
            Some(error) => Err(error.to_string()),
            None if self.lots.is_empty() => self.exchange_with_task(&message, deadline),
            None => Ok(()),
        }
    }

    fn exchange_with_task(&mut self, message: &[u8], deadline: Instant) -> Result<(), String> {
        if let Some(earlier) = self.given_up.take() {
            if !earlier.has_ended() {
                self.given_up = Some(earlier);
                return Err("an earlier exchange has not ended".into());
            }
            // Its failure was returned when it was given up.
            drop(earlier.join());
        }
        let (ours, theirs) = Stream::pair().map_err(|error| error.to_string())?;
        let handler = self.handler.clone();
        let serve = move |theirs| handler.serve_probe(theirs);
        let served = self.pool.spawn_named_with(NAME, theirs, serve);
        let served = served.map_err(|error| error.to_string())?;
        let mut result = exchange(ours, message, deadline).map_err(|error| error.to_string());
        // The connection is closed now, so that the handler ends, unless it hangs elsewhere.
        if result.is_err() || !served.wait_until(deadline).unwrap_or(false) {
            result = result.and(Err("the handler did not end in time".into()));
            // Fails only in another task than the parent.
            let _ = served.request_cancel();
            self.given_up = Some(served);
            return result;
        }
        match served.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    }
}

impl Give for Prober {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.lots.iter().for_each(|lot| lot.stream.list(resources));
    }
}

impl LotProbe {
    /// Sends the message, unless the reply to an earlier one is missing, and expects it back.
    fn exchange(&mut self, message: &[u8], deadline: Instant) -> io::Result<()> {
        if self.awaited.is_empty() {
            // It fits into the buffer of the kernel.
            self.stream.write_all(message)?;
            self.awaited.extend_from_slice(message);
        }
        let mut piece = [0; 64];
        while !self.awaited.is_empty() {
            wait_for_reply(&self.stream, deadline)?;
            let received = self.stream.read(&mut piece)?;
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !self.awaited.starts_with(&piece[..received]) {
                let text = "the reply is not the message";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.awaited.drain(..received);
        }
        Ok(())
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind())
}

fn wait_for_reply(stream: &Stream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if stream.wait_readable(Some(left))? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "there was no reply in time"))
}

/// The client's side: sends the message and the end, and expects both back.
fn exchange(mut stream: Stream, message: &[u8], deadline: Instant) -> io::Result<()> {
    // It fits into the buffer of the kernel.
    stream.write_all(message)?;
    stream.shutdown(Shutdown::Write)?;
    let mut reply = Vec::with_capacity(message.len());
    let mut piece = [0; 64];
    loop {
        wait_for_reply(&stream, deadline)?;
        match stream.read(&mut piece)? {
            0 => break,
            received => reply.extend_from_slice(&piece[..received]),
        }
        if reply.len() > message.len() {
            break;
        }
    }
    stream.close()?;
    if reply == message {
        Ok(())
    } else {
        let text = format!("the reply has {} of {} bytes", reply.len(), message.len());
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::echo::{Handler, Plain};
    use crate::ownership::Registry;

    /// Longer than any exchange of these tests takes.
    const LONG: Duration = Duration::from_secs(60);

    /// Hangs while the mutex is locked.
    struct Hanging(Mutex<()>);

    impl Handler for Hanging {
        fn name(&self) -> &'static str {
            "hanging"
        }

        fn serve(&self, stream: Stream) -> io::Result<()> {
            drop(self.0.lock());
            Plain.serve(stream)
        }
    }

    fn prober(handler: Arc<dyn Handler>, threads: usize) -> (Registry, Prober) {
        let registry = Registry::new();
        let pool = Pool::builder().registry(&registry).limit(threads).build();
        let prober = Prober::new(&pool, &handler);
        (registry, prober)
    }

    #[test]
    fn a_handler_that_hangs_fails_every_exchange_until_it_continues() {
        let handler = Arc::new(Hanging(Mutex::new(())));
        let (registry, mut prober) = prober(handler.clone(), 4);
        let _entered = registry.enter();
        let hang = handler.0.lock().unwrap();
        let soon = || Instant::now() + Duration::from_millis(10);
        assert_eq!(prober.exchange(soon()), Err("there was no reply in time".into()));
        assert_eq!(prober.exchange(soon()), Err("an earlier exchange has not ended".into()));
        drop(hang);
        let given_up = prober.given_up.as_ref().unwrap();
        assert_eq!(given_up.wait_until(Instant::now() + LONG).ok(), Some(true));
        assert_eq!(prober.exchange(Instant::now() + LONG), Ok(()));
    }

    #[test]
    fn a_pool_without_a_thread_fails_the_exchange_at_once() {
        let (registry, mut prober) = prober(Arc::new(Plain), 1);
        let _entered = registry.enter();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let busy = prober.pool.spawn([], move || stopped.recv().is_err()).unwrap();
        let error = prober.exchange(Instant::now() + LONG).unwrap_err();
        assert!(error.contains("thread"), "{error}");
        drop(stop);
        busy.join().unwrap();
        // The thread may not be idle yet.
        let until = Instant::now() + LONG;
        while prober.exchange(until) != Ok(()) {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
    }

    /// Serves in turns, and hangs in them while the mutex is locked.
    #[cfg(target_os = "linux")]
    struct HangingTurns(Mutex<()>);

    #[cfg(target_os = "linux")]
    impl Handler for HangingTurns {
        fn name(&self) -> &'static str {
            "hanging"
        }

        fn serve(&self, stream: Stream) -> io::Result<()> {
            Plain.serve(stream)
        }

        fn turns(&self) -> Option<&dyn crate::echo::Turns> {
            Some(self)
        }
    }

    #[cfg(target_os = "linux")]
    impl crate::echo::Turns for HangingTurns {
        fn turn(&self, stream: &Stream, buffer: &mut [u8]) -> io::Result<crate::echo::Turn> {
            drop(self.0.lock());
            Plain.turns().expect("it has turns").turn(stream, buffer)
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_worker_that_hangs_fails_every_exchange_until_it_continues() {
        use std::num::NonZeroUsize;

        use crate::server::{Control, Planned, Reserved, ServerSettings};

        for workers in [1, 2] {
            let handler = Arc::new(HangingTurns(Mutex::new(())));
            let registry = Registry::new();
            let _entered = registry.enter();
            let settings =
                ServerSettings { park: NonZeroUsize::new(workers), ..ServerSettings::default() };
            let planned = vec![Planned::bound("127.0.0.1:0".parse().unwrap())];
            let reserved = Reserved { probes: 1, ..Reserved::default() };
            let mut server =
                Server::bind_planned(&registry, planned, settings, handler.clone(), reserved)
                    .unwrap();
            let (prober, control) = (server.prober(), server.control());
            assert_eq!(prober.lots.len(), 1);
            let exchanges = move |mut prober: Prober| {
                let long = || Instant::now() + LONG;
                let soon = || Instant::now() + Duration::from_millis(10);
                let first = prober.exchange(long());
                let hang = handler.0.lock().unwrap();
                let hung = [prober.exchange(soon()), prober.exchange(soon())];
                drop(hang);
                let later = [prober.exchange(long()), prober.exchange(long())];
                control.send(Control::Drain);
                // Until the acceptor ends the connection, and with a task of the pool afterwards.
                while !prober.lots.is_empty() {
                    assert_eq!(prober.exchange(long()), Ok(()));
                }
                (first, hung, later)
            };
            let task = crate::thread::spawn_named_with("prober", prober, exchanges).unwrap();
            let summary = server.serve().unwrap();
            let (first, hung, later) = task.join().unwrap();
            let late = Err("there was no reply in time".to_owned());
            assert_eq!((first, hung), (Ok(()), [late.clone(), late]), "{workers}");
            assert_eq!(later, [Ok(()), Ok(())], "{workers}");
            assert_eq!((summary.connections, summary.leaks, summary.aborted), (0, 0, 0));
        }
    }
}
