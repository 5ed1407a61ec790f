//! `Offer`: a resource in transit to any task, through any channel.
//!
//! An offer is on the account of the offering task until a task claims it. If the offering task ends,
//! the offer moves to the account of its nearest running ancestor, so that a resource in transit is
//! always on some account. An offer that is dropped unclaimed, or left when the root ends, is
//! finalized and reported.

use std::fmt;

use echown_report::Site;

use super::error::{Error, Refused};
use super::slot::SlotState;
use super::task;
use super::task::exit;
use crate::sys::fork;

/// A handle that can be offered: owned values, halves, and the sockets, files and pipes of `net`.
pub trait Offerable: sealed::Claim {}

pub(crate) mod sealed {
    //! Seals [`Offerable`](super::Offerable): the registry's proof depends on the handles of this crate.
    #![allow(missing_docs, unreachable_pub)]

    use super::super::resource::Resource;
    use super::{Error, Site};

    pub trait Claim {
        fn begin_offer(&self, site: Site) -> Result<(), Error>;
        fn finish_claim(&self, site: Site) -> Result<(), Error>;
        fn to_resource(&self) -> Resource;
    }
}

/// A resource in transit, for the task that claims it.
///
/// # Examples
/// ```
/// use echown::ownership;
///
/// let (to_worker, offers) = std::sync::mpsc::channel();
/// let letter = ownership::own(String::from("for you"))?;
/// to_worker.send(letter.offer()?).unwrap();
///
/// let worker = std::thread::spawn(move || {
///     let letter = offers.recv().unwrap().claim().unwrap();
///     letter.disown().unwrap()
/// });
/// assert_eq!(worker.join().unwrap(), "for you");
/// # Ok::<(), ownership::Error>(())
/// ```
#[must_use = "an offer that is dropped unclaimed is finalized and reported"]
pub struct Offer<H: Offerable> {
    /// `Some` until claimed. The handle's own destructor does nothing while the slot is Offered.
    handle: Option<H>,
}

impl<H: Offerable> Offer<H> {
    pub(crate) fn make(handle: H, site: Site) -> Result<Offer<H>, Refused<H>> {
        match handle.begin_offer(site) {
            Ok(()) => Ok(Offer { handle: Some(handle) }),
            Err(error) => Err(Refused::new(error, Some(handle))),
        }
    }

    /// Makes the current task the owner.
    ///
    /// # Errors
    /// `Cancelled`, `TaskExiting`: the current task accepts nothing more. The error contains the offer.
    /// `UseAfterRelease`: it was not claimed in time and was finalized.
    #[track_caller]
    pub fn claim(mut self) -> Result<H, Refused<Offer<H>>> {
        let Some(handle) = self.handle.take() else {
            unreachable!("an offer has its handle until it is claimed, which consumes the offer")
        };
        match handle.finish_claim(Site::here()) {
            Ok(()) => Ok(handle),
            Err(error) => {
                self.handle = Some(handle);
                Err(Refused::new(error, Some(self)))
            }
        }
    }
}

impl<H: Offerable> Drop for Offer<H> {
    fn drop(&mut self) {
        let Some(handle) = &self.handle else { return };
        let held = handle.to_resource().into_managed();
        if fork::in_forked_child() {
            held.drop_in_fork();
            return;
        }
        if task::begin_close(&held, &[SlotState::Offered]).is_ok() {
            let me = task::current(&held.record().registry);
            exit::finalize_offer(&held, &me, me.spawn_site());
        }
    }
}

impl<H: Offerable + fmt::Debug> fmt::Debug for Offer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.handle {
            Some(handle) => write!(f, "Offer({handle:?})"),
            None => f.write_str("Offer(claimed)"),
        }
    }
}
