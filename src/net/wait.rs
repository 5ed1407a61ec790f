//! Waiting until a descriptor is ready, with a timeout, in a call that a cancellation wakes.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::deadline::Deadline;
use super::syscalls::Syscalls;
use crate::ownership::Managed;
use crate::ownership::handle::Handle;

/// Waits for readiness of a descriptor; returns false on a timeout.
#[track_caller]
pub(super) fn wait<C: Managed>(
    handle: &Handle<C>,
    events: PollFlags,
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let mut deadline = Deadline::after(timeout);
    let syscalls = Syscalls::of(handle);
    let ready = handle
        .call(|fd| syscalls.poll(&mut [PollFd::new(&fd, events)], deadline.left().as_ref()))?;
    Ok(ready > 0)
}
