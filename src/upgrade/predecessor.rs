//! The new process's side: it asks the server that it replaces for its sockets, and confirms.
//!
//! The failure story: a new process that fails to start must leave the old one as it was, and one whose
//! old process dies half-way must not fail with it. Until the new process has the sockets, the death of
//! the old one makes this an ordinary start. Afterwards it needs nothing more from the old process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use echown_fd::escape;

use super::protocol::{Channel, Failure, Message, OfferedAddress, SOCKETS_MAX, STEP_TIME, VERSION};
use super::trust;
use crate::bind::{BoundPlace, ReceivedListener, Sender};
use crate::net::{Address, Endpoint, Stream};
use crate::ownership::Process;

/// A server that this process is about to replace.
pub(crate) struct Predecessor {
    channel: Channel,
    process: u32,
    offered: Vec<OfferedAddress>,
}

impl Predecessor {
    /// Connects to the server at `path`. `None`: there is none.
    ///
    /// # Errors
    /// The message for the user. The server goes on serving.
    #[track_caller]
    pub(crate) fn find(path: &Path) -> Result<Option<Predecessor>, String> {
        let shown = escape::path(path);
        trust::check_folder(path).map_err(|why| format!("--upgrade-socket {shown}: {why}"))?;
        let failed = |process: Option<u32>, why: String| {
            let process = process.map_or(String::new(), |process| format!(", process {process}"));
            Err(format!(
                "failed to take over from the server at {shown}{process}: {why}; it goes on serving"
            ))
        };
        let stream = match Stream::connect_unix_timeout(path, STEP_TIME) {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return failed(None, error.to_string()),
        };
        let checked = match stream.peer() {
            Ok(peer) => trust::check_user(peer),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = checked {
            return failed(None, why);
        }
        let mut channel = Channel::new(stream);
        match channel.receive(STEP_TIME) {
            Ok(Message::Offer { version: VERSION, process, addresses }) => {
                Ok(Some(Predecessor { channel, process, offered: addresses }))
            }
            Ok(Message::Offer { version, process, .. }) => {
                let why = format!(
                    "it has version {version} of the hand-over, and this program has version {VERSION}; \
                     stop it, and start this one then"
                );
                failed(Some(process), why)
            }
            Ok(other) => failed(None, unexpected(&other)),
            Err(why @ (Failure::Ended | Failure::Ending)) => {
                let how = how_it_ends(&why);
                tracing::warn!("the server at {shown} {how}; starting without its sockets");
                Ok(None)
            }
            Err(why) => failed(None, why.to_string()),
        }
    }

    /// The addresses that it offers.
    ///
    /// # Errors
    /// The message for the user: one of them is no address.
    pub(crate) fn places(&self) -> Result<Vec<BoundPlace>, String> {
        let place = |offered: &OfferedAddress| {
            let address = match &offered.path {
                Some(path) => Address::Path(path.clone()),
                None => Address::Inet(offered.address.parse().map_err(|_| {
                    self.failed(&format!("`{}` is no address", escape::text(&offered.address)))
                })?),
            };
            let endpoint = match &offered.path {
                Some(path) => Some(Endpoint::Unix(path.clone())),
                None => offered.endpoint.as_ref().and_then(|text| text.parse().ok()),
            };
            Ok(BoundPlace { purpose: Some(offered.purpose), endpoint, address })
        };
        self.offered.iter().map(place).collect()
    }

    /// Claims addresses by their index in [`places`](Predecessor::places), and receives their sockets. The
    /// server serves the other ones no longer once it has handed over. `None`: the server has ended.
    ///
    /// # Errors
    /// The message for the user. The server goes on serving.
    #[track_caller]
    pub(crate) fn claim(
        mut self,
        wanted: &[usize],
        places: &[BoundPlace],
    ) -> Result<Option<(Claimed, Vec<ReceivedListener>)>, String> {
        let process = self.process;
        match self.receive(wanted, places) {
            Ok(received) => Ok(Some((Claimed { channel: self.channel, process }, received))),
            Err(why @ (Failure::Ended | Failure::Ending)) => {
                let how = how_it_ends(&why);
                tracing::warn!("process {process} {how}; starting without its sockets");
                Ok(None)
            }
            Err(why) => Err(self.failed(&why.to_string())),
        }
    }

    #[track_caller]
    fn receive(
        &mut self,
        wanted: &[usize],
        places: &[BoundPlace],
    ) -> Result<Vec<ReceivedListener>, Failure> {
        let expected = wanted.iter().map(|index| self.offered[*index].sockets);
        let expected = expected.fold(0, usize::saturating_add);
        if expected > SOCKETS_MAX {
            let text = format!("it offers {expected} sockets, and {SOCKETS_MAX} are the maximum");
            return Err(Failure::Invalid(text));
        }
        let claim = Message::Claim { version: VERSION, addresses: wanted.to_vec() };
        if let Err(why) = self.channel.send(&claim) {
            // It may have said why before it closed the connection.
            return Err(match self.channel.receive(STEP_TIME) {
                Err(said @ (Failure::Refused(_) | Failure::Ending)) => said,
                _ => why,
            });
        }
        let process = Process::new(self.process);
        let deadline = Instant::now() + STEP_TIME;
        let mut received = Vec::with_capacity(expected);
        for index in wanted {
            for _ in 0..self.offered[*index].sockets {
                let left = deadline.saturating_duration_since(Instant::now());
                let mut descriptors = Vec::new();
                match self.channel.receive_with(left, &mut descriptors)? {
                    Message::Socket { address } if address == *index => {}
                    other => return Err(Failure::Invalid(unexpected(&other))),
                }
                let listener = self.own(&places[*index], *index, descriptors)?;
                listener.listener.resource().received_from(&process);
                received.push(listener);
            }
        }
        Ok(received)
    }

    /// Becomes the owner of a received socket, if it is the offered one.
    #[track_caller]
    fn own(
        &self,
        place: &BoundPlace,
        index: usize,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<ReceivedListener, Failure> {
        let offered = &self.offered[index];
        let invalid = |what: String| {
            let text = format!("it sent {what} as the socket of {}", offered.address);
            Err(Failure::Invalid(text))
        };
        let descriptor = match (descriptors.pop(), descriptors.len()) {
            (Some(descriptor), 0) => descriptor,
            (None, _) => return invalid("nothing".into()),
            (Some(_), more) => return invalid(format!("{} descriptors", more + 1)),
        };
        let sender = Sender::Process(self.process);
        match ReceivedListener::own(descriptor, place.endpoint.clone(), sender) {
            Ok(mut received) if received.place.address.to_string() == offered.address => {
                received.place = place.clone();
                received.removes_path = offered.removes_path;
                Ok(received)
            }
            Ok(received) => invalid(format!("a socket at {}", received.place.address)),
            Err(what) => invalid(what),
        }
    }

    fn failed(&self, why: &str) -> String {
        let process = self.process;
        format!("failed to take over from process {process}: {why}; it goes on serving")
    }
}

/// A server whose sockets this process has, and that still serves.
pub(crate) struct Claimed {
    channel: Channel,
    process: u32,
}

impl Claimed {
    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Confirms that this process is ready to serve. Then it is the only one that accepts.
    ///
    /// # Errors
    /// The message for the user: the other process goes on serving, so this one must not accept.
    pub(crate) fn confirm(mut self) -> Result<(), String> {
        let process = self.process;
        // If this fails, the other process may have said why before it closed the connection.
        let sent = self.channel.send(&Message::Ready);
        match self.channel.receive(STEP_TIME) {
            Ok(Message::Done) => {
                tracing::info!("took over from process {process}");
                Ok(())
            }
            Err(Failure::Ending) => {
                // It has left the files of its Unix sockets to this process.
                tracing::info!("took over from process {process}, which is shutting down");
                Ok(())
            }
            Err(Failure::Refused(reason)) => {
                let reason = escape::text(&reason);
                Err(format!("process {process} did not hand over: {reason}"))
            }
            other => {
                let has_ended = matches!(other, Err(Failure::Ended));
                let why = match (other, &sent) {
                    (Err(why), _) => why.to_string(),
                    (_, Err(why)) => why.to_string(),
                    (Ok(message), Ok(())) => unexpected(&message),
                };
                if sent.is_err() && !has_ended {
                    // It has given up waiting, and stands still before it says so.
                    return Err(format!("process {process} did not hand over: {why}"));
                }
                // It has ended. Or `ready` is in its queue: it reads that before it decides anything, and
                // says so if it decides otherwise. So it will stop accepting as soon as it runs again.
                tracing::warn!("took over from process {process} without its answer: {why}");
                Ok(())
            }
        }
    }
}

fn how_it_ends(why: &Failure) -> &'static str {
    match why {
        Failure::Ending => "is shutting down",
        _ => "ended",
    }
}

fn unexpected(message: &Message) -> String {
    format!("unexpected message: {message:?}")
}

/// Whether a connect failed because no server listens at the path.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
