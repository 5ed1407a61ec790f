//! A sender that several tasks use: a bounded queue, and the task that owns the writing half.
//!
//! The writer waits for its own bell, and in `send(2)`; both wake when it is cancelled. What it has
//! taken out of the queue counts as queued until it is written, so that the bound holds for all that
//! is under way.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, Weak};

use super::connection::{Core, Parts};
use super::sender::Sent;
use super::waiters::{Waiters, lock};
use crate::net::WriteHalf;
use crate::ownership::task::{self, Task};
use crate::ownership::{Registry, TaskId};

/// The most bytes of a shared sender that wait to be sent: some round trips' worth, and little
/// beside what the kernel keeps for a connection.
pub const QUEUE_BYTES: usize = 256 * 1024;

/// What is written at a time; what waits behind it gets its room when it is gone.
const CHUNK_BYTES: usize = 64 * 1024;

/// What the writer and the senders share.
pub(super) struct Outbox {
    registry: Registry,
    queue: Mutex<Queue>,
    /// Those who wait for room, or for all to be sent.
    senders: Waiters,
}

struct Queue {
    bytes: VecDeque<u8>,
    /// Taken out, and not yet written.
    under_way: usize,
    state: State,
    /// A partial send found no room: the notifier is to be told.
    is_awaited: bool,
    /// Rung when there is something to do; `None` before it runs.
    writer: Option<Arc<Task>>,
}

enum State {
    Open,
    /// The sender is gone: what is queued, and then the end.
    Finishing,
    /// Nothing goes out any more, and why.
    Failed(String),
}

impl Queue {
    fn room(&self) -> usize {
        QUEUE_BYTES - self.bytes.len() - self.under_way
    }

    fn is_sent(&self) -> bool {
        self.bytes.is_empty() && self.under_way == 0
    }

    /// Takes what there is room for.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.state {
            State::Open => {}
            State::Finishing => return Err(over("its sender was dropped")),
            State::Failed(why) => return Err(over(why)),
        }
        let taken = bytes.len().min(self.room());
        let no_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        self.bytes.try_reserve(taken).map_err(no_memory)?;
        self.bytes.extend(&bytes[..taken]);
        Ok(taken)
    }
}

pub(super) fn over(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, format!("nothing more is sent: {why}"))
}

impl Outbox {
    pub(super) fn new(registry: &Registry) -> Arc<Outbox> {
        let queue = Queue {
            bytes: VecDeque::new(),
            under_way: 0,
            state: State::Open,
            is_awaited: false,
            writer: None,
        };
        Arc::new(Outbox {
            registry: registry.clone(),
            queue: Mutex::new(queue),
            senders: Waiters::default(),
        })
    }

    /// Queues all of it, waiting for room.
    #[track_caller]
    pub(super) fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let taken = self.try_send(bytes)?;
            bytes = &bytes[taken..];
            if bytes.is_empty() {
                return Ok(());
            }
            self.refuse_the_writer()?;
            self.senders.wait(&self.registry, || {
                let queue = lock(&self.queue);
                queue.room() > 0 || !matches!(queue.state, State::Open)
            })?;
        }
    }

    /// Queues what there is room for.
    pub(super) fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.change(|queue| queue.take(bytes))
    }

    /// Queues what there is room for; where there is none, the notifier will be told.
    pub(super) fn send_some(&self, bytes: &[u8]) -> io::Result<Sent> {
        self.change(|queue| {
            let taken = queue.take(bytes)?;
            if taken == 0 && !bytes.is_empty() {
                queue.is_awaited = true;
                return Ok(Sent::Pending);
            }
            Ok(Sent::Bytes(taken))
        })
    }

    /// Waits until all that was queued is with the kernel.
    #[track_caller]
    pub(super) fn flush(&self) -> io::Result<()> {
        self.refuse_the_writer()?;
        self.senders.wait(&self.registry, || {
            let queue = lock(&self.queue);
            queue.is_sent() || matches!(queue.state, State::Failed(_))
        })?;
        match &lock(&self.queue).state {
            State::Failed(why) => Err(over(why)),
            State::Open | State::Finishing => Ok(()),
        }
    }

    /// The sender is gone.
    pub(super) fn finish(&self) {
        self.change(|queue| {
            if matches!(queue.state, State::Open) {
                queue.state = State::Finishing;
            }
        });
        self.senders.notify();
    }

    /// Nothing is to go out any more. The first reason counts.
    pub(super) fn fail(&self, why: &str) {
        self.change(|queue| {
            if !matches!(queue.state, State::Failed(_)) {
                queue.state = State::Failed(why.to_owned());
                // Memory of a connection that is over; and nobody will ever write it.
                queue.bytes = VecDeque::new();
            }
        });
        self.senders.notify();
    }

    /// Changes the queue, and has the writer look at it.
    fn change<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = lock(&self.queue);
        let was_idle = queue.is_sent();
        let result = change(&mut queue);
        // One that is writing looks by itself.
        let has_news = was_idle || !matches!(queue.state, State::Open);
        let writer = queue.writer.clone().filter(|_| has_news);
        drop(queue);
        if let Some(writer) = writer {
            writer.notify();
        }
        result
    }

    /// A notifier that waits for the queue would wait for itself: it runs in the writer's task.
    fn refuse_the_writer(&self) -> io::Result<()> {
        let me: TaskId = self.registry.current_task().id;
        let is_writer = lock(&self.queue).writer.as_ref().is_some_and(|writer| writer.id() == me);
        if is_writer {
            let text = "a notifier cannot wait for its connection's queue: it is called by the \
                        writer; use `try_send`";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        Ok(())
    }

    /// The writer's life, in the task that owns the half: writes what is queued until the sender is
    /// gone, and then ends the writing.
    pub(super) fn run(&self, half: WriteHalf, core: &Core, parts: &Weak<Parts>) -> io::Result<()> {
        let gone = Gone { outbox: self, core };
        let written = self.write_all(half, parts);
        if let Err(error) = &written {
            self.fail(&error.to_string());
            core.fail(&error.to_string());
        }
        std::mem::forget(gone);
        written
    }

    fn write_all(&self, mut half: WriteHalf, parts: &Weak<Parts>) -> io::Result<()> {
        let me = task::current(&self.registry);
        lock(&self.queue).writer = Some(Arc::clone(&me));
        let mut chunk = Vec::new();
        loop {
            me.wait_until(|| self.has_work() || me.is_cancelled(), None);
            // Cancelled: the half says so.
            half.check()?;
            if !self.take_chunk(&mut chunk) {
                // The peer reads the end after the last byte; a failed queue has said why.
                return Ok(half.release()?);
            }
            half.write_all(&chunk)?;
            let is_awaited = {
                let mut queue = lock(&self.queue);
                queue.under_way = 0;
                std::mem::take(&mut queue.is_awaited)
            };
            self.senders.notify();
            // The parts are gone when nobody holds the connection any more.
            if is_awaited && let Some(parts) = parts.upgrade() {
                parts.notify();
            }
        }
    }

    fn has_work(&self) -> bool {
        let queue = lock(&self.queue);
        !queue.bytes.is_empty() || !matches!(queue.state, State::Open)
    }

    /// Takes what is to be written next; false when nothing will come any more.
    fn take_chunk(&self, chunk: &mut Vec<u8>) -> bool {
        let mut queue = lock(&self.queue);
        let bytes = queue.bytes.len().min(CHUNK_BYTES);
        chunk.clear();
        let (front, back) = queue.bytes.as_slices();
        let from_front = bytes.min(front.len());
        chunk.extend_from_slice(&front[..from_front]);
        chunk.extend_from_slice(&back[..bytes - from_front]);
        queue.bytes.drain(..bytes);
        queue.under_way = bytes;
        bytes > 0
    }
}

/// The writer's task unwinds: whoever waits for it is told.
struct Gone<'a> {
    outbox: &'a Outbox,
    core: &'a Core,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        const WHY: &str = "the writer panicked";
        self.outbox.fail(WHY);
        self.core.fail(WHY);
    }
}
