//! A baton: something owned that goes from task to task, inside of something else that does.

use std::fmt;

use echown_report::Site;

use super::error::Error;
use super::offer::{Offer, Offerable};

/// A handle that is handed on with what it is in: a message, a request, a client.
///
/// Its holder [lets go](Baton::let_go) before it sends the whole away, and the next [takes it
/// up](Baton::take_up). What can go nowhere, because it was cancelled meanwhile, is released then and
/// there.
///
/// # Examples
/// ```
/// use echown::ownership::{self, Baton, Registry};
///
/// let mut relay = Baton::new(ownership::own("a letter")?);
/// relay.let_go()?;
/// let mut next = Registry::global().actor("next")?;
/// next.act(|| relay.take_up())??;
/// assert_eq!(relay.held().unwrap().describe().owner.unwrap().name.as_ref(), "next");
/// next.act(|| drop(relay))?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[must_use = "what a baton holds is released when it is dropped"]
pub struct Baton<T: Offerable>(Place<T>);

enum Place<T: Offerable> {
    Held(T),
    Offered(Offer<T>),
    Gone,
}

impl<T: Offerable> Baton<T> {
    /// Around a handle of the current task's.
    pub fn new(held: T) -> Baton<T> {
        Baton(Place::Held(held))
    }

    /// Around nothing: for what comes later, or never.
    pub fn empty() -> Baton<T> {
        Baton(Place::Gone)
    }

    /// The handle, unless it is between two tasks or gone.
    #[must_use]
    pub fn held(&self) -> Option<&T> {
        match &self.0 {
            Place::Held(held) => Some(held),
            Place::Offered(_) | Place::Gone => None,
        }
    }

    /// Takes the handle out.
    pub fn take(&mut self) -> Option<T> {
        match std::mem::replace(&mut self.0, Place::Gone) {
            Place::Held(held) => Some(held),
            elsewhere => {
                self.0 = elsewhere;
                None
            }
        }
    }

    /// Offers it to whoever takes it up. Nothing happens if it is not held.
    ///
    /// # Errors
    /// `NotOwner` and its kin, `Cancelled` above all. Then it is released.
    #[track_caller]
    pub fn let_go(&mut self) -> Result<(), Error> {
        let Some(held) = self.take() else { return Ok(()) };
        let offered = Offer::make(held, Site::here());
        self.0 = Place::Offered(offered.map_err(|refused| refused.error().clone())?);
        Ok(())
    }

    /// Claims it for the current task. Nothing happens if nobody has let go of it.
    ///
    /// # Errors
    /// The current task takes nothing any more. Then it is finalized, and reported as unclaimed.
    #[track_caller]
    pub fn take_up(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.0, Place::Gone) {
            Place::Offered(offer) => {
                self.0 = Place::Held(offer.claim().map_err(|refused| refused.error().clone())?);
            }
            elsewhere => self.0 = elsewhere,
        }
        Ok(())
    }
}

impl<T: Offerable> fmt::Debug for Baton<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Place::Held(_) => "Baton(held)",
            Place::Offered(_) => "Baton(offered)",
            Place::Gone => "Baton(gone)",
        })
    }
}
