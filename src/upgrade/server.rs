//! The old process's side: the upgrade socket, its accept loop, and one upgrade at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::old::{HandOver, HasBegun, Old};
use super::protocol::{Channel, Message};
use super::{session, trust};
use crate::bind::{self, Bound, Listening, Planned, Purpose, SocketFile};
use crate::net::{self, AcceptBackoff, Endpoint, Listener, Peer, PipeReader, PipeWriter, Stream};
use crate::ownership::{Error, Give, Promise, Registry, Resource, TaskError};
use crate::pool::{Orphans, Pool};

/// The length of the kernel's queue of processes that connect.
const BACKLOG: u32 = 16;

/// How long an upgrade may take to say goodbye when the server stops.
const STOP_TIME: Duration = Duration::from_millis(500);

/// The descriptors of the upgrade server: listener, both ends of the stop pipe, and the processes that are
/// connected.
pub(crate) const DESCRIPTORS: u64 = 3 + THREADS as u64;

/// The threads that it starts: the acceptor, the upgrade, and failed ones whose threads are about to end.
pub(crate) const THREADS: usize = 4;

/// An upgrade server whose socket is open and that does not accept yet.
pub(crate) struct UpgradeServer {
    pool: Pool,
    listener: Listener,
    listening: Listening,
    file: Option<SocketFile>,
    stop: (PipeReader, PipeWriter),
}

impl UpgradeServer {
    /// Listens on the socket, or on the one that was received.
    ///
    /// # Errors
    /// The message for the user.
    #[track_caller]
    pub(crate) fn bind(
        registry: &Registry,
        path: &Path,
        planned: Planned,
        bound: &[Bound<'_>],
        option: &str,
    ) -> Result<UpgradeServer, String> {
        let _entered = registry.enter();
        let endpoint = Endpoint::Unix(path.into());
        let failed = |why: String| format!("failed to listen on {endpoint} ({option}): {why}");
        trust::check_folder(path).map_err(failed)?;
        let options = Listener::options().backlog(BACKLOG).mode(0o600);
        let (mut listeners, file) = bind::listen(planned, &options)
            .map_err(|error| failed(bind::cause(&endpoint, &error, bound, option)))?;
        let listener = listeners.swap_remove(0);
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let stop = net::pipe().map_err(|error| failed(error.to_string()))?;
        let listening = Listening {
            purpose: Purpose::Upgrade,
            endpoint: endpoint.clone(),
            address,
            listeners: vec![listener.resource()],
            file: file.as_ref().map(SocketFile::keeper),
        };
        let pool = Pool::builder().registry(registry).limit(THREADS).keep_idle(1);
        let pool = pool.thread_name("upgrade").build();
        Ok(UpgradeServer { pool, listener, listening, file, stop })
    }

    /// The file that is removed at exit.
    pub(crate) fn socket_file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// Its own socket.
    pub(crate) fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Starts to accept. `addresses` are those of the other parts of the program. Returns a pipe that stops
    /// it when it is closed.
    ///
    /// # Errors
    /// No thread can be started.
    #[track_caller]
    pub(crate) fn start(
        self,
        mut addresses: Vec<Listening>,
        hand_over: HandOver,
        has_begun: HasBegun,
    ) -> Result<(RunningUpgrade, PipeWriter), String> {
        let (reader, writer) = self.stop;
        addresses.push(self.listening);
        let old = Arc::new(Old::new(addresses, hand_over, has_begun));
        let acceptor =
            Acceptor { listener: self.listener, stop: reader, pool: self.pool.clone(), old };
        match self.pool.spawn_named_with("upgrade acceptor", acceptor, Acceptor::run) {
            Ok(acceptor) => Ok((RunningUpgrade { acceptor, file: self.file }, writer)),
            Err(error) => Err(format!("failed to listen for upgrades: {error}")),
        }
    }
}

/// An upgrade server that accepts.
#[must_use = "it serves until its stop pipe is closed"]
pub(crate) struct RunningUpgrade {
    acceptor: Promise<()>,
    file: Option<SocketFile>,
}

impl RunningUpgrade {
    /// Waits for its end. Its stop pipe is closed.
    pub(crate) fn join(self) {
        drop(self.file);
        match self.acceptor.join() {
            Ok(()) => {}
            Err(TaskError::Refused(acceptor, error)) => {
                tracing::error!("the upgrade acceptor was not joined: {error}");
                // Its task still runs; it cannot be joined any more.
                std::mem::forget(acceptor);
            }
            Err(failure) => tracing::error!("the upgrade acceptor failed: {failure}"),
        }
    }
}

/// The accept loop; everything with an owner is given to its task.
struct Acceptor {
    listener: Listener,
    stop: PipeReader,
    pool: Pool,
    old: Arc<Old>,
}

impl Give for Acceptor {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.listener.list(resources);
        self.stop.list(resources);
    }
}

impl Acceptor {
    /// Accepts until it is stopped, then ends the upgrade in progress.
    fn run(self) {
        let upgrades: Orphans<()> = Orphans::reaped_by(self.pool.registry(), |task, outcome| {
            if let Err(failure) = outcome {
                tracing::error!(%task, "{failure}");
            }
        });
        let mut backoff = AcceptBackoff::default();
        while !self.is_stopped() {
            let pause = match self.listener.accept_or_stop(&self.stop) {
                Ok(None) => break,
                Ok(Some((stream, _))) => {
                    match self.start(&upgrades, stream) {
                        Ok(()) => backoff.record_success(),
                        Err(why) => tracing::warn!("an upgrade was refused: {why}"),
                    }
                    continue;
                }
                Err(error) if Error::in_io(&error).is_some() => break,
                Err(error) => backoff.record_failure(&error),
            };
            // An error means the same as the end: it is noticed by the next accept.
            let _ = self.stop.wait_readable(pause);
        }
        self.old.stop();
        drop(self.listener);
        self.old.close();
        // What has arrived is still read, such as a `ready`; then comes the end of the stream.
        let ended = upgrades.drain().and_then(|()| upgrades.wait_until(Instant::now() + STOP_TIME));
        if !ended.unwrap_or(false)
            && let Err(error) = upgrades.cancel()
        {
            tracing::error!("{error}");
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.wait_readable(Duration::ZERO).unwrap_or(true)
    }

    /// Starts an upgrade, or refuses it.
    ///
    /// # Errors
    /// Why not, as the other process has read it.
    fn start(&self, upgrades: &Orphans<()>, stream: Stream) -> Result<(), String> {
        let peer = match checked(&stream) {
            Ok(peer) => peer,
            Err(why) => return refuse(stream, why),
        };
        let process = peer.process;
        let upgrade = match self.old.begin(process) {
            Ok(upgrade) => upgrade,
            Err(other) => {
                let why = format!("another upgrade is in progress, by process {other}");
                return refuse(stream, why);
            }
        };
        let job = move |stream| session::run(stream, upgrade).log(process);
        match self.pool.spawn_named_with(&format!("upgrade {process}"), stream, job) {
            Ok(promise) => {
                if let Err(refused) = upgrades.adopt(promise) {
                    // Only a task other than the parent is rejected, and this task is the parent.
                    tracing::error!("{refused}");
                }
                Ok(())
            }
            // The error contains the stream, which closes when it is dropped.
            Err(error) => Err(error.to_string()),
        }
    }
}

fn checked(stream: &Stream) -> Result<Peer, String> {
    let peer = stream.peer().map_err(|error: io::Error| error.to_string())?;
    trust::check_user(peer).map(|()| peer)
}

/// Says why not, and closes the connection.
fn refuse(stream: Stream, why: String) -> Result<(), String> {
    // The kernel's buffer has room for it.
    let _ = Channel::new(stream).send(&Message::Refused { reason: why.clone(), is_ending: false });
    Err(why)
}
