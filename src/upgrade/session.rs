//! One upgrade, on the old process's side: offer, claim, sockets, `ready`, `done`.
//!
//! The failure story: whatever the new process does wrong, this one must go on serving, and after
//! `ready` it must not. So the decision is one step ([`Old::hand_over`]), after which nothing can fail.

use std::collections::HashSet;

use echown_fd::escape;

use super::old::{InProgress, Old};
use super::protocol::{
    Channel, ENDING, Failure, Message, OfferedAddress, SOCKETS_MAX, START_TIME, STEP_TIME, VERSION,
};
use crate::bind::Listening;
use crate::net::{Endpoint, Stream};
use crate::ownership::Process;

/// How an upgrade ended, for the log.
pub(super) enum Ended {
    /// The new process serves these addresses, and these ones are no longer served.
    HandedOver { taken: Vec<String>, declined: Vec<String> },
    /// This process goes on.
    Failed(String),
}

/// Performs an upgrade.
pub(super) fn run(stream: Stream, upgrade: InProgress) -> Ended {
    let mut answering = Answering { channel: Channel::new(stream), is_answered: false };
    let channel = &mut answering.channel;
    let claimed = offer_and_send(channel, upgrade.process, &upgrade.old);
    let ended = match claimed.and_then(|claimed| await_ready(channel).map(|()| claimed)) {
        Ok(claimed) => decide(channel, upgrade, &claimed),
        Err(why) => give_up(channel, upgrade, &why),
    };
    answering.is_answered = true;
    ended
}

/// The connection to the new process, which gets an answer even if this task panics: without one it
/// concludes that this process has died.
struct Answering {
    channel: Channel,
    is_answered: bool,
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.is_answered {
            let _ = self.channel.send(&refused("an internal error".into(), false));
        }
    }
}

fn refused(reason: String, is_ending: bool) -> Message {
    Message::Refused { reason, is_ending }
}

/// Up to the descriptors. Returns which addresses were claimed.
fn offer_and_send(
    channel: &mut Channel,
    process: u32,
    old: &Old,
) -> Result<HashSet<usize>, Failure> {
    let sockets: usize = old.addresses.iter().map(|address| address.sockets().len()).sum();
    if sockets > SOCKETS_MAX {
        let text = format!("this server has {sockets} sockets, and {SOCKETS_MAX} are the maximum");
        return Err(Failure::Invalid(text));
    }
    let addresses = old.addresses.iter().map(offered).collect();
    channel.send(&Message::Offer { version: VERSION, process: std::process::id(), addresses })?;
    let claimed = match channel.receive(STEP_TIME)? {
        Message::Claim { version: VERSION, addresses } => addresses,
        other => return Err(Failure::Invalid(format!("unexpected message: {other:?}"))),
    };
    let known = old.addresses.len();
    let distinct: HashSet<usize> = claimed.iter().copied().filter(|index| *index < known).collect();
    if distinct.len() != claimed.len() {
        return Err(Failure::Invalid(
            "a claim of an address twice, or of one that was not offered".into(),
        ));
    }
    let process = Process::new(process);
    for index in &distinct {
        old.addresses[*index].leave_file();
    }
    if old.is_stopping() {
        // Their files may be gone.
        return Err(Failure::Ending);
    }
    for index in claimed {
        let address = &old.addresses[index];
        // Before the first descriptor is sent, and permanently: it is unknown how long the other process
        // keeps it.
        address.share_with(&process);
        for socket in address.sockets() {
            channel.send_with(&Message::Socket { address: index }, socket)?;
        }
    }
    Ok(distinct)
}

fn offered(listening: &Listening) -> OfferedAddress {
    let (endpoint, path) = match &listening.endpoint {
        Endpoint::Unix(path) => (None, std::path::absolute(path).ok()),
        other => (Some(other.to_string()), None),
    };
    OfferedAddress {
        purpose: listening.purpose,
        address: listening.address.to_string(),
        endpoint,
        path,
        removes_path: listening.file.is_some(),
        sockets: listening.sockets().len(),
    }
}

fn await_ready(channel: &mut Channel) -> Result<(), Failure> {
    match channel.receive(START_TIME) {
        Ok(Message::Ready) => Ok(()),
        Ok(other) => Err(Failure::Invalid(format!("unexpected message: {other:?}"))),
        // It may have come in this moment. The other process must not believe that it was in time if it
        // was not, even if this one stands still before it says `refused`.
        Err(Failure::Late(_)) if channel.last() == Some(Message::Ready) => Ok(()),
        Err(why) => Err(why),
    }
}

/// Hands over, unless this process has begun to end.
fn decide(channel: &Channel, upgrade: InProgress, claimed: &HashSet<usize>) -> Ended {
    let old = &upgrade.old;
    let other = Process::new(upgrade.process);
    let is_handed_over = old.hand_over(&|| {
        for index in claimed {
            old.addresses[*index].hand_over_to(&other);
        }
    });
    if !is_handed_over {
        return give_up(channel, upgrade, &Failure::Ending);
    }
    old.wait_closed();
    // If this fails, the other process concludes from the end of the connection that it is alone.
    let _ = channel.send(&Message::Done);
    let (taken, declined): (Vec<_>, Vec<_>) =
        old.addresses.iter().enumerate().partition(|(index, _)| claimed.contains(index));
    let names = |list: Vec<(usize, &Listening)>| {
        list.into_iter().map(|(_, it)| it.address.to_string()).collect()
    };
    Ended::HandedOver { taken: names(taken), declined: names(declined) }
}

/// Says why not, so that the other process does not take over.
fn give_up(channel: &Channel, upgrade: InProgress, why: &Failure) -> Ended {
    let is_ending = matches!(why, Failure::Ending) || upgrade.old.is_stopping();
    let why = if is_ending { ENDING.to_owned() } else { why.to_string() };
    if is_ending {
        upgrade.old.wait_unbound();
    } else {
        upgrade.old.addresses.iter().for_each(Listening::take_over);
    }
    // Before the other process can try again.
    drop(upgrade);
    let _ = channel.send(&refused(why.clone(), is_ending));
    Ended::Failed(why)
}

impl Ended {
    /// Logs it.
    pub(super) fn log(&self, process: u32) {
        match self {
            Ended::HandedOver { taken, declined } => {
                tracing::info!("handed over to process {process}: {}", taken.join(", "));
                if !declined.is_empty() {
                    let declined = declined.join(", ");
                    tracing::warn!(
                        "process {process} does not serve {declined}; no server does now"
                    );
                }
            }
            Ended::Failed(why) => {
                let why = escape::text(why);
                tracing::warn!("the upgrade to process {process} failed, still serving: {why}");
            }
        }
    }
}
