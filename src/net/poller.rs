//! The poller: one thread waits for many streams (`epoll(7)`).
//!
//! For clients with a thousand connections, such as a load generator; the servers here have a thread per
//! connection and do not use it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use echown_fd::kind;
use rustix::event::{PollFd, PollFlags, Timespec, epoll};

use super::deadline::Deadline;
use super::stream::Stream;
use super::syscalls::Syscalls;
use crate::ownership::{Owned, Registry, Site};

/// The maximum number of events per call.
const EVENTS_MAX: usize = 256;

const NANOS_A_MILLI: i64 = 1_000_000;

/// Waits for any of the streams that were added to it.
///
/// It is edge-triggered (`EPOLLET`): after an event, read and write until `WouldBlock`, or until nothing
/// more can be there. It never owns a stream, and the kernel removes a stream that is closed. Cancelling
/// does not wake a task that waits here: wait with a timeout.
///
/// # Examples
/// ```
/// use std::io::Write;
/// use std::time::Duration;
///
/// use echown::net::{Poller, Stream};
/// use echown::ownership::Registry;
///
/// let (ours, mut theirs) = Stream::pair()?;
/// theirs.write_all(b"hello")?;
/// let mut poller = Poller::new_in(Registry::global())?;
/// poller.add(&ours, 7)?;
/// assert!(poller.wait(Duration::from_secs(1))?.eq([7]));
/// assert_eq!(ours.try_read(&mut [0; 16])?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "it is closed when it is dropped"]
pub struct Poller {
    epoll: Owned<OwnedFd>,
    /// The tokens of the latest events. The events themselves may contain pointers, so that a poller which
    /// kept them could not be sent.
    tokens: Vec<u64>,
}

impl Poller {
    /// A new poller, owned by the current task (`epoll_create1(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn new_in(registry: &Registry) -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let epoll = registry.own_fd_as(epoll, kind::EPOLL, None, Site::here())?;
        Ok(Poller { epoll, tokens: Vec::new() })
    }

    /// Adds a stream, in both directions, whose events have this token (`epoll_ctl(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry: the current task must own both.
    #[track_caller]
    pub fn add(&self, stream: &Stream, token: u64) -> io::Result<()> {
        let interests = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(token);
        let mut added = Ok(());
        self.epoll.handle().call(|epoll| {
            added = stream.handle().call(|fd| epoll::add(epoll, fd, data, interests));
            Ok(())
        })?;
        added
    }

    /// Waits for events, at most for `timeout` (`epoll_wait(2)`), and returns the tokens of their streams;
    /// none on a timeout.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = u64>> {
        let mut deadline = Deadline::after(Some(timeout));
        let syscalls = Syscalls::of(self.epoll.handle());
        let tokens = &mut self.tokens;
        self.epoll.handle().call(|epoll| {
            tokens.clear();
            let mut left = deadline.left();
            if left.is_some_and(|left| left.tv_nsec % NANOS_A_MILLI != 0) {
                // `epoll_wait` has a resolution of milliseconds, `ppoll` does not.
                let polled = &mut [PollFd::new(&epoll, PollFlags::IN)];
                if syscalls.poll(polled, left.as_ref())? == 0 {
                    return Ok(());
                }
                left = Some(Timespec::default());
            }
            let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
            let (events, _) = epoll::wait(epoll, &mut buffer[..], left.as_ref())?;
            tokens.extend(events.iter().map(|event| event.data.u64()));
            Ok(())
        })?;
        Ok(self.tokens.iter().copied())
    }
}
