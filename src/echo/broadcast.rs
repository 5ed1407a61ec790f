//! The broadcast handler: sends each frame of each client to all clients, in one order.
//!
//! ```text
//!  connection (a task) ── owns the read half; publishes the frames that it reads
//!     └ writer (its child) ── owns the write half; sends the client's queue
//!
//!                          hub: the connected clients, and the order of frames
//!  connection ── frame ──>  ├ queue ──> writer ──> client
//!  connection ── frame ──>  ├ queue ──> writer ──> client
//!                           └ queue ──> writer ──> client
//! ```
//!
//! Which task owns a socket that one task reads and all others write to? Only its writer writes to it: the
//! others push frames into its queue (`send_queue`), which never waits. So a client that does not read
//! delays only its own writer, its reset reaches only its own two tasks, and the custody table shows both
//! halves with their owners. A frame's bytes are stored once, independent of the number of receivers.
//!
//! # The end of a connection
//!
//! 1. The client finishes, or is drained: it leaves the hub, the writer sends what is queued, transfers
//!    its half to its parent and ends; the parent joins the halves and closes the stream with FIN.
//! 2. The client resets, is idle for too long, or sends an invalid frame: the reading task aborts the
//!    queue and cancels its child.
//! 3. The client has closed without reading, and the writer gets the reset first: the writer ends, and
//!    the reading task publishes what had arrived before it ends too.
//! 4. The client reads nothing for too long, or its queue is full: the writer shuts down both directions,
//!    which ends the reading too. Input that was not read yet is lost.
//!
//! In a drain no client leaves before every client has published what had arrived: all of them receive it.
//!
//! # Limits
//!
//! A frame that is incomplete at the start of a drain is completed if its rest fits into the receive window
//! that the peer knows: Linux announces no more room after a socket's read side was shut down. A longer
//! rest arrives with the peer's window probes, with pauses; after a pause of one second it is given up.
//!
//! Where the memory of the process is limited, all frames together have a limit as well: a client whose
//! frame exceeds it is closed, even if its own frame is short.
//!
//! Two threads per client. There is no history: a client receives only frames that are published
//! while it is connected.

mod hub;
mod reader;
mod send_queue;
mod writer;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::exchange::timed_out;
use super::{ChaosTarget, EndReason, Handler, ServerContext};
use crate::frame::{Frame, FrameBudget, FrameDecoder, FrameError};
use crate::net::{Stream, WriteHalf};
use crate::ownership::{Registry, TaskError};
use crate::pool::{Pool, Promise};
use crate::rate_limited_log::RateLimited;
use crate::report::Plural;
use hub::{Hub, MemberToken, count};
use reader::ReadEnd;
use send_queue::SendQueue;
pub(crate) use send_queue::SlowReader;

/// The default maximum payload of a frame, in bytes.
pub(crate) const FRAME_MAX_DEFAULT: usize = 16 * 1024 * 1024;

/// The default size of a client's send queue in bytes: bytes on the wire, and 96 bytes of overhead
/// per frame.
pub(crate) const SEND_QUEUE_MAX_DEFAULT: usize = 4 * 1024 * 1024;

/// The memory that a client adds to the shared budget of frames, if memory is limited. Half of that
/// is for frames: the allocator keeps freed memory in pieces.
const POOLED_BYTES: u64 = 256 * 1024;

/// How long a drained client waits for frames of others.
const DRAIN_LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// usually earlier.
const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A [`Handler`] that sends every frame of every client to all clients, in one order.
pub(crate) struct Broadcast {
    frame_max: usize,
    hub: Arc<Hub>,
    context: OnceLock<(Registry, Pool, FrameBudget)>,
    send_queue_max: usize,
    bad_frames: RateLimited,
    no_threads: RateLimited,
}

impl Broadcast {
    /// Accepts frames with payloads of at most `frame_max` bytes, and queues at most `send_queue_max` bytes
    /// for one client, including 96 bytes of overhead per frame.
    #[must_use]
    pub(crate) fn new(
        frame_max: usize,
        send_queue_max: usize,
        slow_reader: SlowReader,
    ) -> Broadcast {
        Broadcast {
            frame_max,
            hub: Arc::new(Hub::new(send_queue_max, slow_reader)),
            context: OnceLock::new(),
            send_queue_max,
            bad_frames: RateLimited::default(),
            no_threads: RateLimited::default(),
        }
    }

    /// Logs why a client with an invalid frame is closed: the client itself sees no reason.
    fn log_bad_frame(&self, peer: &dyn fmt::Display, error: io::Error) -> io::Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<FrameError>()) {
            Some(FrameError::TooLong { .. }) => {
                self.bad_frames.warn(format_args!("{peer} disconnected: {error} (--max-frame)"));
            }
            Some(FrameError::NoMemory { .. }) => {
                self.bad_frames.warn(format_args!("{peer} disconnected: {error}"));
            }
            None => {}
        }
        error
    }

    /// Serves a connection as a member of this hub.
    fn serve_in(&self, hub: &Arc<Hub>, stream: Stream) -> io::Result<()> {
        let Some((registry, pool, budget)) = self.context.get() else {
            return Err(io::Error::other("this handler was not opened by a server"));
        };
        let peer = prepare(&stream)?;
        let timeout = stream.write_timeout()?;
        let (reading, writing) = stream.split()?;
        let (token, queue) = hub.join(&peer);
        let writer = self.start_writer(hub, pool, &peer, writing, (token, &queue), timeout)?;
        let hub = Arc::clone(hub);
        let mut client = ConnectedClient { hub, token, queue, writer: Some(writer) };
        let decoder = FrameDecoder::within(self.frame_max, budget);
        let end = reader::run(&reading, &client.hub, &client.queue, registry, decoder).map_err(
            |error| match client.cancel_writer() {
                // The writer got the error first.
                Some(Ok(Err(earlier))) => earlier,
                _ => timed_out(self.log_bad_frame(&peer, error), EndReason::IdleTimeout),
            },
        )?;
        match end {
            ReadEnd::Finished | ReadEnd::MidFrame => {
                client.hub.leave(token);
            }
            ReadEnd::Drained => client.receive_until_drained()?,
            // The writer has already left the hub.
            ReadEnd::QueueAborted => {}
        }
        let writing = client.join_writer()?;
        reading.rejoin(writing)?.shutdown_write(FINAL_SEND_TIMEOUT)?;
        match end {
            ReadEnd::MidFrame => Err(EndReason::Protocol.into_error()),
            _ => Ok(()),
        }
    }

    /// Starts the task that owns the write half.
    fn start_writer(
        &self,
        hub: &Arc<Hub>,
        pool: &Pool,
        peer: &str,
        writing: WriteHalf,
        (token, queue): (MemberToken, &Arc<SendQueue>),
        timeout: Option<Duration>,
    ) -> io::Result<Promise<WriterResult>> {
        let (writer_hub, writer_queue) = (Arc::clone(hub), Arc::clone(queue));
        let job = move |writing| writer::run(writing, &writer_hub, token, &writer_queue, timeout);
        pool.spawn_named_with(&format!("writer of {peer}"), writing, job).map_err(|error| {
            self.no_threads
                .warn(format_args!("{peer} disconnected, failed to start its writer: {error}"));
            let text = error.to_string();
            // The error contains the half, which is released when it is dropped.
            drop(error);
            hub.leave(token);
            io::Error::new(io::ErrorKind::OutOfMemory, text)
        })
    }
}

/// The write half, or the error that ended the writing.
type WriterResult = io::Result<WriteHalf>;

impl Handler for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn tasks_per_connection(&self) -> usize {
        2
    }

    /// Frames are shared; each client has its own read buffer, and a queue whose entries take 16 bytes
    /// each, where an entry counts as `send_queue::FRAME_OVERHEAD_BYTES` or more.
    fn memory(&self) -> u64 {
        let places = self.send_queue_max / send_queue::FRAME_OVERHEAD_BYTES * 16;
        reader::BUFFER_BYTES.saturating_add(places) as u64
    }

    fn pooled_memory(&self) -> u64 {
        POOLED_BYTES
    }

    fn open(&self, context: &ServerContext) -> io::Result<()> {
        let budget = context
            .memory
            .map_or_else(FrameBudget::default, |bytes| FrameBudget::limited(bytes / 2));
        if let Some(bytes) = budget.left() {
            tracing::info!(
                "frames of all clients together may take {} KiB, as a limit of memory leaves it; \
                 with fewer --max-connections it is more",
                bytes / 1024
            );
        }
        let context = (context.registry.clone(), context.pool.clone(), budget);
        self.context
            .set(context)
            .map_err(|_| io::Error::other("this handler already serves another server"))
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        self.serve_in(&self.hub, stream)
    }

    /// Is the only member of a hub of its own, so that no client gets its frame. Like every client, it first
    /// waits for the hub of all.
    fn serve_probe(&self, stream: Stream) -> io::Result<()> {
        self.serve_in(&Arc::new(self.hub.new_empty()), stream)
    }

    fn probe_message(&self) -> Vec<u8> {
        Frame::new(b"echown watchdog").wire().to_vec()
    }

    fn close(&self) {
        let totals = &self.hub.totals;
        // ord: Relaxed; every task that counted has ended.
        let [frames, deliveries, slow, dropped, stale_lookups] = [
            &totals.frames,
            &totals.deliveries,
            &totals.slow,
            &totals.dropped,
            &totals.stale_lookups,
        ]
        .map(|total| total.load(Ordering::Relaxed));
        tracing::info!(
            "broadcast: {} in, {} out, {} disconnected, {} dropped, {} of disconnected clients",
            Plural(frames, "frame"),
            Plural(deliveries, "frame"),
            Plural(slow, "slow reader"),
            Plural(dropped, "frame"),
            Plural(stale_lookups, "look-up")
        );
    }
}

impl ChaosTarget for Broadcast {
    /// Reads exactly one frame, publishes it, and sends it back. The client has not joined the hub
    /// yet: it does not receive the frames of others until [`serve`](Handler::serve) continues.
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

/// Disables Nagle's algorithm and returns the peer's name.
fn prepare(stream: &Stream) -> io::Result<String> {
    let peer = stream.peer_addr()?;
    if peer.inet().is_some() {
        // Otherwise the second of two small segments would wait for the acknowledgement of the first,
        // which the peer's system delays by about 40 ms.
        stream.set_nodelay(true)?;
    }
    Ok(peer.to_string())
}

/// Reads one frame and no byte of the next; `None` if the peer finishes before a frame is complete.
fn first_frame(mut stream: &Stream, mut decoder: FrameDecoder) -> io::Result<Option<Frame>> {
    const PIECE_MAX: usize = 16 * 1024;
    let mut buffer = super::exchange::buffer(PIECE_MAX)?;
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

/// A connected client, as its reading task sees it.
struct ConnectedClient {
    hub: Arc<Hub>,
    token: MemberToken,
    queue: Arc<SendQueue>,
    writer: Option<Promise<WriterResult>>,
}

impl ConnectedClient {
    /// Receives frames until every client has published its received input.
    fn receive_until_drained(&self) -> io::Result<()> {
        self.hub.set_receive_only(self.token);
        if let Some(writer) = &self.writer {
            let has_ended = writer.wait_until(Instant::now() + DRAIN_LISTEN_TIMEOUT)?;
            // A writer whose client has gone does not leave the hub itself.
            if !has_ended || self.queue.is_peer_gone() {
                self.hub.leave(self.token);
            }
        }
        Ok(())
    }

    /// Waits until the queue is sent, and returns the write half to this task.
    fn join_writer(&mut self) -> WriterResult {
        let Some(writer) = self.writer.take() else {
            unreachable!("a writer is waited for once");
        };
        match writer.join() {
            Ok(written) => written,
            // This task was cancelled meanwhile, and its child ends before it does.
            Err(TaskError::Refused(writer, error)) => {
                self.writer = Some(writer);
                self.cancel_writer();
                Err(error.into())
            }
            Err(failure) => Err(io::Error::other(failure.to_string())),
        }
    }

    /// Discards the queue and cancels the writer. Returns the writer's result, if it had ended.
    fn cancel_writer(&mut self) -> Option<Result<WriterResult, TaskError<WriterResult>>> {
        let writer = self.writer.take()?;
        self.hub.leave(self.token);
        self.queue.abort();
        Some(writer.cancel())
    }
}

/// Runs also when the reading task unwinds.
impl Drop for ConnectedClient {
    fn drop(&mut self) {
        self.cancel_writer();
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broadcast(frames of up to {} bytes, {:?})", self.frame_max, self.hub)
    }
}
