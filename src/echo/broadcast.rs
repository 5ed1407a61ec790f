//! Everybody hears everybody: each frame of each client goes to all clients, in one order.
//!
//! ```text
//!  connection (a task) ── owns the reading half; publishes what it reads
//!     └ writer (its child) ── owns the writing half; sends what waits in the client's queue
//!
//!                          hub: who is connected, and the one order
//!  connection ── frame ──>  ├ queue ──> writer ──> client
//!  connection ── frame ──>  ├ queue ──> writer ──> client
//!                           └ queue ──> writer ──> client
//! ```
//!
//! Who owns a socket that one task reads and everybody writes to? Nobody writes to it but its writer:
//! the others put frames into its queue (`queue`), which never waits. So a client that does not read
//! keeps its own writer waiting and nobody else, its reset meets its own two tasks, and the custody
//! table shows both halves with their owners. A frame's bytes are stored once, whoever it goes to.
//!
//! # The end of a connection
//!
//! 1. The client finishes, or is drained: it leaves the hub, the writer sends what waits, hands its
//!    half back to its parent and ends; the parent joins the halves and closes the whole with FIN.
//! 2. The client resets, is silent for too long, or sends what is no frame: the reading task cuts the
//!    queue and cancels its child.
//! 3. The client has closed without reading, and the writer meets the reset of that first: the writer
//!    ends, and the reading task publishes what had arrived before it does.
//! 4. The client takes nothing for too long, or too much waits for it: the writer hangs up, which ends
//!    the reading too. What had arrived and was not read is lost, with all that it would still say.
//!
//! In a drain nobody leaves before everybody has said what had arrived: all of them hear it.
//!
//! # Limits
//!
//! A frame that is begun when a drain comes is completed if its rest fits into the receive window that
//! the peer knows of: Linux announces no new room after a socket's reading was shut down. A longer rest
//! comes by the peer's probes, with pauses; after a second's pause it is given up.
//!
//! Where the memory of the process is limited, all frames together have a limit as well: a client
//! whose frame comes to it is closed, however short its own frame is.
//!
//! Two threads per client. What a client misses is not kept for it: it hears what is published from
//! the moment that it is connected.

mod hub;
mod reader;
mod send_queue;
mod writer;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::plain::timed_out;
use super::{ChaosTarget, EndReason, Handler, Memory, ServerContext};
use crate::frame::{Frame, FrameBudget, FrameDecoder, FrameError};
use crate::net::{Stream, WriteHalf};
use crate::ownership::{Failure, Registry};
use crate::pool::{Pool, Promise};
use crate::rate_limited_log::RateLimited;
use crate::report::Count;
use hub::{Hub, Token, count};
use reader::ReadEnd;
use send_queue::SendQueue;
pub use send_queue::SlowReader;

/// The longest payload of a frame unless told.
pub const FRAME_MAX_DEFAULT: usize = 16 * 1024 * 1024;

/// The most that waits for one client unless told, in bytes: those of the wire, and 96 for each frame's
/// keeping.
pub const SEND_QUEUE_MAX_DEFAULT: usize = 4 * 1024 * 1024;

/// What a client adds to the memory that all frames share, where memory is limited. Half of that is
/// for frames: the allocator keeps what was given back, in pieces.
const POOLED_BYTES: u64 = 256 * 1024;

/// How long a drained client waits for what others still have to say.
const DRAIN_LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// mostly earlier.
const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends every frame of every client to all clients, in one order.
pub struct Broadcast {
    frame_max: usize,
    hub: Arc<Hub>,
    context: OnceLock<(Registry, Pool, FrameBudget)>,
    send_queue_max: usize,
    bad_frames: RateLimited,
    no_threads: RateLimited,
}

impl Broadcast {
    /// Takes frames with payloads of so many bytes, and lets so many bytes wait for one client, 96
    /// for each frame's keeping among them.
    #[must_use]
    pub fn new(frame_max: usize, send_queue_max: usize, slow_reader: SlowReader) -> Broadcast {
        Broadcast {
            frame_max,
            hub: Arc::new(Hub::new(send_queue_max, slow_reader)),
            context: OnceLock::new(),
            send_queue_max,
            bad_frames: RateLimited::default(),
            no_threads: RateLimited::default(),
        }
    }

    /// Logs why a client is closed whose frame is not taken: its author has no other sign of it.
    fn log_bad_frame(&self, peer: &dyn fmt::Display, error: io::Error) -> io::Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<FrameError>()) {
            Some(FrameError::TooLong { .. }) => {
                self.bad_frames.warn(format_args!("{peer} is closed: {error} (--max-frame)"));
            }
            Some(FrameError::NoMemory { .. }) => {
                self.bad_frames.warn(format_args!("{peer} is closed: {error}"));
            }
            None => {}
        }
        error
    }

    /// Gives the writing half to a task of its own.
    fn start_writer(
        &self,
        pool: &Pool,
        peer: &str,
        writing: WriteHalf,
        (token, queue): (Token, &Arc<SendQueue>),
        timeout: Option<Duration>,
    ) -> io::Result<Promise<Written>> {
        let give = [writing.resource()];
        let (hub, theirs) = (Arc::clone(&self.hub), Arc::clone(queue));
        let job = move || writer::run(writing, &hub, token, &theirs, timeout);
        pool.spawn_named(&format!("writer of {peer}"), give, job).map_err(|error| {
            self.no_threads.warn(format_args!("{peer} is closed, no writer for it: {error}"));
            let text = error.to_string();
            // The half comes back in the job, and is released as that is dropped.
            drop(error.into_job());
            self.hub.leave(token);
            io::Error::new(io::ErrorKind::OutOfMemory, text)
        })
    }
}

/// The writing half again, or what ended the writing.
type Written = io::Result<WriteHalf>;

impl Handler for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn tasks_per_connection(&self) -> usize {
        2
    }

    /// Frames are shared by all; each client has its own buffer, and a queue of places for those that
    /// wait: 16 bytes at the most for one that counts as `send_queue::FRAME_OVERHEAD_BYTES` and more.
    fn memory(&self) -> Memory {
        let places = self.send_queue_max / send_queue::FRAME_OVERHEAD_BYTES * 16;
        let own = reader::BUFFER_BYTES.saturating_add(places) as u64;
        Memory { own, pooled: POOLED_BYTES }
    }

    fn open(&self, context: &ServerContext) -> io::Result<()> {
        let budget =
            context.memory.map_or_else(FrameBudget::default, |bytes| FrameBudget::of(bytes / 2));
        if let Some(bytes) = budget.left() {
            tracing::info!(
                "frames of all clients together may take {} KiB, as a limit of memory leaves it; \
                 with fewer --max-connections it is more",
                bytes / 1024
            );
        }
        let ours = (context.registry.clone(), context.pool.clone(), budget);
        self.context
            .set(ours)
            .map_err(|_| io::Error::other("this style serves another server already"))
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        let Some((registry, pool, budget)) = self.context.get() else {
            return Err(io::Error::other("this style was not opened by a server"));
        };
        let peer = prepare(&stream)?;
        let timeout = stream.write_timeout()?;
        let (reading, writing) = stream.split()?;
        let (token, queue) = self.hub.join(&peer);
        let writer = self.start_writer(pool, &peer, writing, (token, &queue), timeout)?;
        let hub = Arc::clone(&self.hub);
        let mut client = ConnectedClient { hub, token, queue, writer: Some(writer) };
        let decoder = FrameDecoder::within(self.frame_max, budget);
        let end = reader::run(&reading, &client.hub, &client.queue, registry, decoder).map_err(
            |error| match client.give_up() {
                // The writer met it first.
                Some(Ok(Err(earlier))) => earlier,
                _ => timed_out(self.log_bad_frame(&peer, error), EndReason::IdleTimeout),
            },
        )?;
        match end {
            ReadEnd::Finished | ReadEnd::MidFrame => {
                client.hub.leave(token);
            }
            ReadEnd::Drained => client.rest()?,
            // It had left the hub before it was given up.
            ReadEnd::GivenUp => {}
        }
        let writing = client.written()?;
        reading.rejoin(writing)?.shutdown_write(FINAL_SEND_TIMEOUT)?;
        match end {
            ReadEnd::MidFrame => Err(EndReason::Protocol.into_error()),
            _ => Ok(()),
        }
    }

    fn close(&self) {
        let totals = &self.hub.totals;
        // ord: Relaxed; every task that counted has ended.
        let [frames, deliveries, slow, dropped, gone] =
            [&totals.frames, &totals.deliveries, &totals.slow, &totals.dropped, &totals.gone]
                .map(|total| total.load(Ordering::Relaxed));
        tracing::info!(
            "broadcast: {} in, {} out, {} disconnected, {} dropped, {} of clients that had gone",
            Count(frames, "frame"),
            Count(deliveries, "frame"),
            Count(slow, "slow reader"),
            Count(dropped, "frame"),
            Count(gone, "look-up")
        );
    }
}

impl ChaosTarget for Broadcast {
    /// One frame is read, to the byte, published, and sent back. The client is no client yet: what
    /// others say until [`serve`](Handler::serve) goes on is not for it.
    fn echo_first(&self, stream: &Stream) -> io::Result<bool> {
        let peer = prepare(stream)?;
        let budget = self.context.get().map(|(_, _, budget)| budget.clone()).unwrap_or_default();
        let frame = first_frame(stream, FrameDecoder::within(self.frame_max, &budget))
            .map_err(|error| self.log_bad_frame(&peer, error))?;
        let Some(frame) = frame else { return Ok(false) };
        self.hub.publish(&frame);
        let mut stream = stream;
        stream.write_all(frame.wire())?;
        count(&self.hub.totals.deliveries, 1);
        Ok(true)
    }
}

/// Has small frames sent at once, and answers the peer's name.
fn prepare(stream: &Stream) -> io::Result<String> {
    let peer = stream.peer_addr()?;
    if peer.inet().is_some() {
        // Two small segments in a row would otherwise wait for the first one's acknowledgement,
        // which the peer's system delays by some 40 ms.
        stream.set_nodelay(true)?;
    }
    Ok(peer.to_string())
}

/// Reads one frame and not a byte of the next; `None` when the peer has finished before a frame was
/// complete.
fn first_frame(mut stream: &Stream, mut decoder: FrameDecoder) -> io::Result<Option<Frame>> {
    const PIECE_MAX: usize = 16 * 1024;
    let mut buffer = super::buffer(PIECE_MAX)?;
    loop {
        let wanted = decoder.missing().min(PIECE_MAX);
        let received = stream.read(&mut buffer[..wanted])?;
        if received == 0 {
            return Ok(None);
        }
        let mut piece = &buffer[..received];
        if let Some(frame) = decoder.take(&mut piece).map_err(reader::frame_error)? {
            return Ok(Some(frame));
        }
    }
}

/// A client that is connected, seen from the task that reads.
struct ConnectedClient {
    hub: Arc<Hub>,
    token: Token,
    queue: Arc<SendQueue>,
    writer: Option<Promise<Written>>,
}

impl ConnectedClient {
    /// Listens on until everybody has said what had arrived.
    fn rest(&self) -> io::Result<()> {
        self.hub.rest(self.token);
        if let Some(writer) = &self.writer {
            let has_ended = writer.wait_until(Instant::now() + DRAIN_LISTEN_TIMEOUT)?;
            // A writer whose client has gone leaves that to us.
            if !has_ended || self.queue.is_peer_gone() {
                self.hub.leave(self.token);
            }
        }
        Ok(())
    }

    /// Waits until all that waits is sent. The writing half is ours again.
    fn written(&mut self) -> Written {
        let Some(writer) = self.writer.take() else {
            unreachable!("a writer is waited for once");
        };
        match writer.join() {
            Ok(written) => written,
            // This task was cancelled meanwhile, and its child ends before it does.
            Err(Failure::Refused(writer, error)) => {
                self.writer = Some(writer);
                self.give_up();
                Err(error.into())
            }
            Err(failure) => Err(io::Error::other(failure.to_string())),
        }
    }

    /// Throws away what waits, and ends the writer. How it had ended, if it had.
    fn give_up(&mut self) -> Option<Result<Written, Failure<Written>>> {
        let writer = self.writer.take()?;
        self.hub.leave(self.token);
        self.queue.abort();
        Some(writer.cancel())
    }
}

/// Also when the reading task unwinds.
impl Drop for ConnectedClient {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broadcast(frames of up to {} bytes, {:?})", self.frame_max, self.hub)
    }
}
