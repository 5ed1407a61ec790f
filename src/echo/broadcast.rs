//! Everybody hears everybody: each frame of each client goes to all clients, in one order.
//!
//! ```text
//!  connection (a task) ── owns the reading half; publishes what it reads
//!     └ writer (its child) ── owns the writing half; sends what waits in the client's outbox
//!
//!                          hub: who is connected, and the one order
//!  connection ── frame ──>  ├ outbox ──> writer ──> client
//!  connection ── frame ──>  ├ outbox ──> writer ──> client
//!                           └ outbox ──> writer ──> client
//! ```
//!
//! Who owns a socket that one task reads and everybody writes to? Nobody writes to it but its writer:
//! the others put frames into its outbox (`outbox`), which never waits. So a client that does not read
//! keeps its own writer waiting and nobody else, its reset meets its own two tasks, and the custody
//! table shows both halves with their owners. A frame's bytes are stored once, whoever it goes to.
//!
//! # The end of a connection
//!
//! 1. The client finishes, or is drained: it leaves the hub, the writer sends what waits, hands its
//!    half back to its parent and ends; the parent joins the halves and closes the whole with FIN.
//! 2. The client resets, is silent for too long, or sends what is no frame: the reading task cuts the
//!    outbox and cancels its child.
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
mod outbox;
mod reader;
mod writer;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::plain::timed_out;
use super::{EndReason, House, Memory, Style};
use crate::frame::{Assembler, Budget, Frame, FrameError};
use crate::net::{Stream, WriteHalf};
use crate::ownership::{Failure, Registry};
use crate::pool::{Pool, Promise};
use crate::report::Count;
use crate::seldom::Seldom;
use hub::{Hub, Token, count};
use outbox::Outbox;
pub use outbox::SlowReader;
use reader::End;

/// The longest payload of a frame unless told.
pub const FRAME_MAX_DEFAULT: usize = 16 * 1024 * 1024;

/// The most that waits for one client unless told, in bytes: those of the wire, and 96 for each frame's
/// keeping.
pub const OUTBOX_MAX_DEFAULT: usize = 4 * 1024 * 1024;

/// What a client adds to the memory that all frames share, where memory is limited. Half of that is
/// for frames: the allocator keeps what was given back, in pieces.
const POOLED_BYTES: u64 = 256 * 1024;

/// How long a drained client waits for what others still have to say.
const REST_PATIENCE: Duration = Duration::from_secs(5);

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// mostly earlier.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(30);

/// Sends every frame of every client to all clients, in one order.
pub struct Broadcast {
    frame_max: usize,
    hub: Arc<Hub>,
    house: OnceLock<(Registry, Pool, Budget)>,
    outbox_max: usize,
    bad_frames: Seldom,
    no_threads: Seldom,
}

impl Broadcast {
    /// Takes frames with payloads of so many bytes, and lets so many bytes wait for one client, 96
    /// for each frame's keeping among them.
    #[must_use]
    pub fn new(frame_max: usize, outbox_max: usize, slow_reader: SlowReader) -> Broadcast {
        Broadcast {
            frame_max,
            hub: Arc::new(Hub::new(outbox_max, slow_reader)),
            house: OnceLock::new(),
            outbox_max,
            bad_frames: Seldom::default(),
            no_threads: Seldom::default(),
        }
    }

    /// Logs why a client is closed whose frame is not taken: its author has no other sign of it.
    fn tell_of_bad_frame(&self, peer: &dyn fmt::Display, error: io::Error) -> io::Error {
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
        (token, outbox): (Token, &Arc<Outbox>),
        patience: Option<Duration>,
    ) -> io::Result<Promise<Written>> {
        let give = [writing.resource()];
        let (hub, theirs) = (Arc::clone(&self.hub), Arc::clone(outbox));
        let job = move || writer::run(writing, &hub, token, &theirs, patience);
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

impl Style for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn tasks_per_connection(&self) -> usize {
        2
    }

    /// Frames are shared by all; each client has its own buffer, and a queue of places for those that
    /// wait: 16 bytes at the most for one that counts as `outbox::FRAME_KEEPING_BYTES` and more.
    fn memory(&self) -> Memory {
        let places = self.outbox_max / outbox::FRAME_KEEPING_BYTES * 16;
        let own = reader::BUFFER_BYTES.saturating_add(places) as u64;
        Memory { own, pooled: POOLED_BYTES }
    }

    fn open(&self, house: &House) -> io::Result<()> {
        let budget = house.memory.map_or_else(Budget::default, |bytes| Budget::of(bytes / 2));
        if let Some(bytes) = budget.left() {
            tracing::info!(
                "frames of all clients together may take {} KiB, as a limit of memory leaves it; \
                 with fewer --max-connections it is more",
                bytes / 1024
            );
        }
        let ours = (house.registry.clone(), house.pool.clone(), budget);
        self.house
            .set(ours)
            .map_err(|_| io::Error::other("this style serves another server already"))
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        let Some((registry, pool, budget)) = self.house.get() else {
            return Err(io::Error::other("this style was not opened by a server"));
        };
        let peer = prepare(&stream)?;
        let patience = stream.write_timeout()?;
        let (reading, writing) = stream.split()?;
        let (token, outbox) = self.hub.join(&peer);
        let writer = self.start_writer(pool, &peer, writing, (token, &outbox), patience)?;
        let hub = Arc::clone(&self.hub);
        let mut member = Member { hub, token, outbox, writer: Some(writer) };
        let assembler = Assembler::within(self.frame_max, budget);
        let end = reader::run(&reading, &member.hub, &member.outbox, registry, assembler).map_err(
            |error| match member.give_up() {
                // The writer met it first.
                Some(Ok(Err(earlier))) => earlier,
                _ => timed_out(self.tell_of_bad_frame(&peer, error), EndReason::IdleTimeout),
            },
        )?;
        match end {
            End::Finished | End::Torn => {
                member.hub.leave(token);
            }
            End::Drained => member.rest()?,
            // It had left the hub before it was given up.
            End::GivenUp => {}
        }
        let writing = member.written()?;
        reading.rejoin(writing)?.finish(LAST_WORDS_PATIENCE)?;
        match end {
            End::Torn => Err(EndReason::Protocol.into_error()),
            _ => Ok(()),
        }
    }

    /// One frame is read, to the byte, published, and sent back. The client is no member yet: what
    /// others say until [`serve`](Style::serve) goes on is not for it.
    fn answer_first(&self, stream: &Stream) -> io::Result<bool> {
        let peer = prepare(stream)?;
        let budget = self.house.get().map(|(_, _, budget)| budget.clone()).unwrap_or_default();
        let frame = first_frame(stream, Assembler::within(self.frame_max, &budget))
            .map_err(|error| self.tell_of_bad_frame(&peer, error))?;
        let Some(frame) = frame else { return Ok(false) };
        self.hub.publish(&frame);
        let mut stream = stream;
        stream.write_all(frame.wire())?;
        count(&self.hub.totals.deliveries, 1);
        Ok(true)
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
fn first_frame(mut stream: &Stream, mut assembler: Assembler) -> io::Result<Option<Frame>> {
    const PIECE_MAX: usize = 16 * 1024;
    let mut buffer = super::buffer(PIECE_MAX)?;
    loop {
        let wanted = assembler.missing().min(PIECE_MAX);
        let received = stream.read(&mut buffer[..wanted])?;
        if received == 0 {
            return Ok(None);
        }
        let mut piece = &buffer[..received];
        if let Some(frame) = assembler.take(&mut piece).map_err(reader::no_frame)? {
            return Ok(Some(frame));
        }
    }
}

/// A client that is connected, seen from the task that reads.
struct Member {
    hub: Arc<Hub>,
    token: Token,
    outbox: Arc<Outbox>,
    writer: Option<Promise<Written>>,
}

impl Member {
    /// Listens on until everybody has said what had arrived.
    fn rest(&self) -> io::Result<()> {
        self.hub.rest(self.token);
        if let Some(writer) = &self.writer {
            let has_ended = writer.wait_until(Instant::now() + REST_PATIENCE)?;
            // A writer whose client has gone leaves that to us.
            if !has_ended || self.outbox.is_deserted() {
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
        self.outbox.cut();
        Some(writer.cancel())
    }
}

/// Also when the reading task unwinds.
impl Drop for Member {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broadcast(frames of up to {} bytes, {:?})", self.frame_max, self.hub)
    }
}
