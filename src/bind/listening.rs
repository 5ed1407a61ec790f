//! The addresses that the program listens on, as another process can take them over.

// The program uses it, and the library does not.
#![cfg_attr(not(feature = "serve"), allow(dead_code))]

use super::FileKeeper;
use super::received::Purpose;
use crate::net::{Address, Endpoint};
use crate::ownership::{Process, Resource};

/// An address with its sockets, which belong to the tasks that accept from them.
#[derive(Clone)]
pub(crate) struct Listening {
    pub(crate) purpose: Purpose,
    /// As the user wrote it.
    pub(crate) endpoint: Endpoint,
    /// As the kernel has it.
    pub(crate) address: Address,
    /// Some of them may be duplicates of one socket.
    pub(crate) listeners: Vec<Resource>,
    /// The Unix socket's file, unless a service manager keeps it.
    pub(crate) file: Option<FileKeeper>,
}

impl Listening {
    /// One listener of each socket: those that have a queue of their own.
    pub(crate) fn sockets(&self) -> Vec<&Resource> {
        let mut sockets: Vec<&Resource> = Vec::new();
        for listener in &self.listeners {
            if !sockets.iter().any(|known| known.is_same_file(listener)) {
                sockets.push(listener);
            }
        }
        sockets
    }

    /// Whether another process has the sockets, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.listeners.iter().any(Resource::is_shared)
    }

    /// Records that another process is about to get the sockets. From now on they are not shut down.
    #[track_caller]
    pub(crate) fn share_with(&self, process: &Process) {
        for listener in &self.listeners {
            listener.share_with(process);
        }
    }

    /// Records that another process serves the address: the sockets are only to be closed here, and the
    /// file is not removed.
    #[track_caller]
    pub(crate) fn hand_over_to(&self, process: &Process) {
        for listener in &self.listeners {
            listener.hand_over_to(process);
        }
        self.leave_file();
    }

    /// Leaves the file to another process.
    pub(crate) fn leave_file(&self) {
        if let Some(file) = &self.file {
            file.leave();
        }
    }

    /// Takes the file over from the process that served the address before.
    pub(crate) fn take_over(&self) {
        if let Some(file) = &self.file {
            file.take();
        }
    }
}
