//! Listening and connecting: the tasks in which connections come into being.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::life::Life;
use super::manager::Works;
use super::office::{ListenerId, Office, Owed};
use crate::net::{Address, KeepAlive, Listener, PipeReader, Stream};
use crate::ownership::task;
use crate::ownership::{Error, TaskError, TaskLabel};
use crate::pool::Orphans;

/// How long accepting pauses when the process is out of descriptors, threads or memory: long enough
/// not to spin, short enough that a client hardly notices.
const PAUSE: Duration = Duration::from_millis(50);

/// How one connection went, as its task tells.
type Went = io::Result<()>;

/// A listener's life: until it is stopped, and then until its last connection is over.
pub(super) fn listen(
    works: &Arc<Works>,
    office: &Office,
    id: ListenerId,
    asked: SocketAddr,
    stop: &PipeReader,
    owed: Arc<Owed>,
) {
    let connections: Orphans<Went> = Orphans::reaped_by(&works.registry, |task, outcome| {
        settle(task, outcome);
    });
    match open(works, asked) {
        Ok((listener, actual)) => {
            office.listens_on(id, actual);
            owed.settle();
            office.tell(|callback| callback.on_listen(asked, actual));
            accept(works, &listener, stop, &connections);
            drop(listener);
            office.listener_is_over(id);
        }
        Err(error) => {
            office.listener_is_over(id);
            owed.fails(error);
            drop(owed);
        }
    }
    // Cancelled: those that are left end with this task.
    while let Ok(Some(_)) = connections.get() {}
}

fn open(works: &Works, asked: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    // What is sent is all there is, as in the server's own listeners.
    let options = Listener::options().registry(&works.registry).nodelay(true);
    let listener = options.keep_alive(Some(KeepAlive::DEFAULT)).bind(asked)?;
    let actual = listener.local_addr()?.inet().unwrap_or(asked);
    Ok((listener, actual))
}

fn accept(works: &Arc<Works>, listener: &Listener, stop: &PipeReader, connections: &Orphans<Went>) {
    let mut is_pausing = false;
    loop {
        let trouble = match listener.accept_or_stop(stop) {
            Ok(None) => return,
            Ok(Some((stream, peer))) => serve(works, stream, &peer, connections).err(),
            // Cancelled, which is the end; another refusal: there is no listener any more.
            Err(error) if Error::in_io(&error).is_some() => return,
            Err(error) => Some(error.to_string()),
        };
        let Some(trouble) = trouble else {
            is_pausing = false;
            continue;
        };
        if !std::mem::replace(&mut is_pausing, true) {
            tracing::warn!("accept paused, retrying in {PAUSE:?}: {trouble}");
        }
        // The order to stop ends the pause.
        if !matches!(stop.wait_readable(PAUSE), Ok(false)) {
            return;
        }
    }
}

/// Starts a task for a connection, or closes it at once.
///
/// # Errors
/// No thread could be had: which limit it was.
fn serve(
    works: &Arc<Works>,
    stream: Stream,
    peer: &Address,
    connections: &Orphans<Went>,
) -> Result<(), String> {
    let give = [stream.resource()];
    let theirs = Arc::clone(works);
    let job = move || Life::begin(&theirs, stream)?.run();
    let spawned = works.pool.spawn_named(&format!("callback {peer}"), give, job);
    let child = spawned.map_err(|refused| refused.to_string())?;
    connections.adopt(child).map_err(|refused| refused.to_string())
}

/// Connects after a delay, and serves the connection in the same task.
pub(super) fn connect(works: &Works, address: SocketAddr, delay: Duration, owed: Arc<Owed>) {
    let me = task::current(&works.registry);
    let begun = match Instant::now().checked_add(delay) {
        Some(deadline) => {
            me.wait_until(|| me.is_cancelled(), Some(deadline));
            Stream::connect_in(&works.registry, address).and_then(|stream| {
                stream.set_keep_alive(Some(KeepAlive::DEFAULT))?;
                Life::begin(works, stream)
            })
        }
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the delay is beyond all time")),
    };
    match begun {
        Ok(life) => {
            owed.settle();
            drop(owed);
            settle(&me.label(), Ok(life.run()));
        }
        // Then the manager is, and that is what is said.
        Err(_) if me.is_cancelled() => {}
        Err(error) => owed.fails(error),
    }
}

/// Says how a connection ended. Its report, if it left something behind, has been delivered.
fn settle(task: &TaskLabel, outcome: Result<Went, TaskError<Went>>) {
    match outcome {
        Ok(Ok(())) | Err(TaskError::Cancelled | TaskError::Leaked(..)) => {}
        Ok(Err(error)) => tracing::debug!(%task, "ended: {error}"),
        Err(failure) => tracing::error!(%task, "{failure}"),
    }
}
