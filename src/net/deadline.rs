//! Deadlines for blocking calls, so that a signal does not restart a timeout.
//!
//! The failure story: a signal interrupts a blocking call (`EINTR`), and the call is repeated with its
//! full timeout. Where signals arrive more often than that, from a profiler or a timer, the timeout never
//! passes: an idle client keeps its thread, and a drain never ends.
//!
//! `poll(2)` gets the time that is left ([`Deadline`]). For `recv(2)` and `send(2)` the socket itself has
//! the timeout (`SO_RCVTIMEO`, `SO_SNDTIMEO`), so the first call waits there. Only an interrupted call
//! waits for the rest in `poll(2)` ([`with_timeout`]), which has to know when the wait began:
//!
//! - A read usually waits. If the socket may have a timeout, the clock is read before the call.
//! - A write usually finds room, and servers have a write timeout by default. So it is first tried
//!   without waiting, and the clock is read if that fails: a write that does not wait costs no more.
//!
//! # Limits
//!
//! If the timeout is set without this crate, on a descriptor that it already owns, the time counts from
//! the first interruption.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use echown_fd::fd::Direction;
use echown_fd::timeout::socket_timeout;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

use super::syscalls::Syscalls;
use crate::faults::Waits;
use crate::ownership::Managed;
use crate::ownership::handle::Handle;

/// The deadline of a wait that may have to be repeated.
pub(super) struct Deadline {
    /// For the first call, which need not read the clock again.
    whole: Option<Duration>,
    at: Option<Instant>,
}

impl Deadline {
    /// A deadline this far from now; none for `None`, and beyond the clock's range.
    pub(super) fn after(timeout: Option<Duration>) -> Deadline {
        let at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Deadline { whole: at.and(timeout), at }
    }

    /// The time left, for the next `poll(2)`; `None`: no limit.
    pub(super) fn left(&mut self) -> Option<Timespec> {
        let rest = |at: Instant| at.saturating_duration_since(Instant::now());
        let left = self.whole.take().or_else(|| self.at.map(rest));
        left.and_then(|left| Timespec::try_from(left).ok())
    }
}

/// Makes a call that is limited by the socket's own timeout, in total, even if signals interrupt it.
#[inline]
#[track_caller]
pub(super) fn with_timeout<C: Managed, R>(
    handle: &Handle<C>,
    which: Timeout,
    waits: Waits,
    mut call: impl FnMut(BorrowedFd<'_>, Waits) -> rustix::io::Result<R>,
) -> io::Result<R> {
    if waits == Waits::No {
        return handle.call(|fd| call(fd, Waits::No));
    }
    let may_time_out = handle.record().may_time_out(direction(which));
    let mut began = (may_time_out && which == Timeout::Recv).then(Instant::now);
    let mut is_first = true;
    handle.call(|fd| {
        if !std::mem::take(&mut is_first) {
            let began = *began.get_or_insert_with(Instant::now);
            return resume(Syscalls::of(handle), fd, which, began, &mut call);
        }
        if may_time_out && which == Timeout::Send {
            match call(fd, Waits::No) {
                Err(Errno::AGAIN) => began = Some(Instant::now()),
                result => return result,
            }
        }
        call(fd, Waits::Yes)
    })
}

/// Continues an interrupted call.
#[cold]
fn resume<R>(
    syscalls: Syscalls<'_>,
    fd: BorrowedFd<'_>,
    which: Timeout,
    began: Instant,
    call: &mut impl FnMut(BorrowedFd<'_>, Waits) -> rustix::io::Result<R>,
) -> rustix::io::Result<R> {
    let timeout = socket_timeout(fd, which)?;
    let (Some(timeout), true) = (timeout, is_blocking(fd)?) else {
        return call(fd, Waits::Yes);
    };
    let events = match which {
        Timeout::Recv => PollFlags::IN,
        Timeout::Send => PollFlags::OUT,
    };
    loop {
        let left = timeout.saturating_sub(began.elapsed());
        match call(fd, Waits::No) {
            Err(Errno::AGAIN) if !left.is_zero() => {}
            // Without time left, `EAGAIN` is also the result of a timeout.
            result => return result,
        }
        syscalls.poll(&mut [PollFd::new(&fd, events)], Timespec::try_from(left).ok().as_ref())?;
    }
}

fn is_blocking(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(!rustix::fs::fcntl_getfl(fd)?.contains(OFlags::NONBLOCK))
}

/// Sets the socket's timeout of calls (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
#[track_caller]
pub(super) fn set_timeout<C: Managed>(
    handle: &Handle<C>,
    which: Timeout,
    timeout: Option<Duration>,
) -> io::Result<()> {
    handle.call(|fd| sockopt::set_socket_timeout(fd, which, timeout))?;
    handle.record().set_may_time_out(direction(which), timeout.is_some());
    Ok(())
}

fn direction(which: Timeout) -> Direction {
    match which {
        Timeout::Recv => Direction::Read,
        Timeout::Send => Direction::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Listener, Stream, UdpSocket};

    const TIMEOUT: Duration = Duration::from_millis(20);

    /// How many calls are made if the first is interrupted after its timeout has passed.
    fn calls(stream: &Stream) -> usize {
        let mut calls = 0;
        let result = with_timeout(stream.handle(), Timeout::Recv, Waits::Yes, |_, waits| {
            calls += 1;
            if waits == Waits::Yes {
                std::thread::sleep(TIMEOUT);
                return Err(Errno::INTR);
            }
            Err::<(), _>(Errno::AGAIN)
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        calls
    }

    #[test]
    fn the_time_counts_from_before_the_call() {
        let (stream, _other) = Stream::pair().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        assert_eq!(calls(&stream), 2, "nothing is left to be waited for");
    }

    #[test]
    fn an_unknown_timeout_counts_from_the_first_interruption() {
        let (stream, _other) = Stream::pair().unwrap();
        let set =
            |fd: BorrowedFd<'_>| sockopt::set_socket_timeout(fd, Timeout::Recv, Some(TIMEOUT));
        stream.handle().call(set).unwrap();
        assert!(calls(&stream) > 2);
    }

    #[test]
    fn a_write_that_finds_room_is_one_call_and_one_that_does_not_waits_in_the_second() {
        let (stream, _other) = Stream::pair().unwrap();
        let made = |result: rustix::io::Result<()>| {
            let mut made = Vec::new();
            let outcome = with_timeout(stream.handle(), Timeout::Send, Waits::Yes, |_, waits| {
                made.push(waits);
                if waits == Waits::No { result } else { Ok(()) }
            });
            outcome.unwrap();
            made
        };
        assert_eq!(made(Ok(())), [Waits::Yes], "without a timeout it may wait at once");
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        assert_eq!(made(Ok(())), [Waits::No]);
        assert_eq!(made(Err(Errno::AGAIN)), [Waits::No, Waits::Yes]);
    }

    /// Whether reads and writes read the clock first.
    fn known<C: Managed>(handle: &Handle<C>) -> (bool, bool) {
        let of = |which| handle.record().may_time_out(direction(which));
        (of(Timeout::Recv), of(Timeout::Send))
    }

    #[test]
    fn the_clock_is_read_only_for_a_socket_that_may_have_a_timeout() {
        let some = Some(Duration::from_secs(1));
        let plain = Listener::bind("127.0.0.1:0").unwrap();
        let timed = Listener::options().write_timeout(some).bind("127.0.0.1:0").unwrap();
        for (listener, expected) in [(&plain, (false, false)), (&timed, (false, true))] {
            let client = Stream::connect_to(&listener.local_addr().unwrap()).unwrap();
            assert_eq!(known(client.handle()), (false, false));
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(known(accepted.handle()), expected, "it inherits its listener's");
        }
        let (stream, _other) = Stream::pair().unwrap();
        assert_eq!(known(stream.handle()), (false, false));
        stream.set_read_timeout(some).unwrap();
        assert_eq!(known(stream.handle()), (true, false));

        let (reading, writing) = stream.split().unwrap();
        assert_eq!(known(reading.handle()), (true, false));
        reading.set_read_timeout(None).unwrap();
        writing.set_write_timeout(some).unwrap();
        let stream = reading.rejoin(writing).unwrap();
        assert_eq!(known(stream.handle()), (false, true));
        stream.set_write_timeout(None).unwrap();
        assert_eq!(known(stream.handle()), (false, false));

        let adopted = UdpSocket::own(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        assert_eq!(known(adopted.handle()), (true, true), "an adopted socket may have timeouts");
    }

    #[test]
    fn a_deadline_beyond_the_clock_is_none_and_the_first_wait_is_the_whole() {
        assert_eq!(Deadline::after(None).left(), None);
        assert_eq!(Deadline::after(Some(Duration::MAX)).left(), None);
        let whole = Duration::from_secs(60);
        let mut deadline = Deadline::after(Some(whole));
        assert_eq!(deadline.left(), Timespec::try_from(whole).ok());
        assert!(deadline.left() < Timespec::try_from(whole).ok());
        let mut over = Deadline::after(Some(Duration::ZERO));
        assert_eq!([over.left(), over.left()], [Some(Timespec::default()); 2]);
    }
}
