//! Halves: the read half and the write half of one socket, with an owner each.
//!
//! A split leaves the whole without an owner and creates two resources, each with its own slot.
//! Releasing the read half does nothing to the socket. Releasing the write half shuts down writing.
//! The later of the two releases closes the socket, on its thread. An operation on the whole socket
//! needs both halves rejoined.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use echown_fd::fd::Direction;
use echown_report::{Event, Site};

use super::cell::ResourceCell;
use super::closing::{close_with, complete_close};
use super::error::{Error, ErrorKind, Refused};
use super::handle::{Handle, Owned, handle_methods};
use super::record::{Labelled, Managed, Record, RecordedFd};
use super::task;
use crate::sys::close;

/// The cell of a half.
pub(crate) struct HalfCell<T: Send + 'static> {
    record: Record,
    whole: Arc<ResourceCell<T>>,
}

impl<T: Send + 'static> Managed for HalfCell<T> {
    fn record(&self) -> &Record {
        &self.record
    }

    fn finalize(&self, me: &dyn Labelled, site: Site) -> Result<(), Error> {
        let whole = self.whole.record();
        let mut finalized = Ok(());
        // The number still belongs to the whole: this half has not left it, and all pins are gone.
        if let Some(RecordedFd { number, direction: Direction::Write, .. }) = self.record.descriptor
            && !whole.slot.load().is_replaced()
        {
            match whole.replacement() {
                None => close::shut(number, Direction::Write),
                Some(now) => finalized = Err(self.record.mark_replaced(me, site, &now)),
            }
        }
        whole.add_traffic(&self.record);
        if !whole.slot.drop_half() {
            return finalized;
        }
        complete_close(&*self.whole, me, Event::Released, site)
    }

    fn drop_in_fork(&self) {
        if self.whole.record().slot.drop_half() {
            self.whole.drop_in_fork();
        }
    }
}

/// The reading and the writing half of one socket.
pub(crate) type Halves<T> = (Half<T>, Half<T>);

/// One direction of a split socket.
#[must_use = "a half is released when its handle is dropped"]
pub struct Half<T: Send + 'static> {
    handle: Handle<HalfCell<T>>,
}

impl<T: Send + 'static> Half<T> {
    #[inline]
    pub(crate) fn handle(&self) -> &Handle<HalfCell<T>> {
        &self.handle
    }
}

handle_methods!({T: Send + 'static} Half<T>);

impl<T: Send + 'static> fmt::Debug for Half<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = self.handle.record().descriptor.map(|descriptor| descriptor.direction);
        let direction = if direction == Some(Direction::Write) { "write" } else { "read" };
        write!(f, "Half({direction} half of {:?})", self.handle)
    }
}

impl<T: AsFd + Into<OwnedFd> + Send + 'static> Owned<T> {
    /// Splits a socket into its read half and its write half. The current task owns both.
    ///
    /// # Errors
    /// The current task cannot use the socket (`NotOwner` and others). The error contains the handle.
    #[track_caller]
    pub(crate) fn split(self) -> Result<Halves<T>, Refused<Owned<T>>> {
        let site = Site::here();
        let record = self.handle().record();
        let me = task::current(&record.registry);
        let whole = Arc::clone(self.handle().cell());
        let make = |direction| {
            let descriptor = record.descriptor.map(|whole| RecordedFd { direction, ..whole });
            let mut half = Record::new(record.registry.clone(), record.kind, descriptor, &me, site);
            half.set_whole(Arc::clone(&whole) as Arc<dyn Managed>);
            half.inherit_timeouts(record);
            Arc::new(HalfCell { record: half, whole: Arc::clone(&whole) })
        };
        let (reading, writing) = (make(Direction::Read), make(Direction::Write));
        let held = [&reading, &writing].map(|half| Arc::clone(half) as Arc<dyn Managed>);
        let split = {
            let mut account = me.account();
            record.set_halves(Some([&held[0], &held[1]].map(Arc::downgrade)));
            let split = record.slot.split(record.acting_owner(&me));
            if split.is_ok() {
                account.remove(record.position());
                for half in held {
                    let position = account.push(Arc::clone(&half));
                    half.record().set_position(position);
                }
            }
            split
        };
        if let Err(word) = split {
            record.set_halves(None);
            let error = record.refusal(word, &me, site);
            return Err(Refused::new(error, Some(self)));
        }
        record.record_step(Event::Split, Some(&me), None, site);
        reading.record.publish_acquired(&me);
        writing.record.publish_acquired(&me);
        Ok((Half { handle: Handle::new(reading) }, Half { handle: Handle::new(writing) }))
    }
}

impl<T: Send + 'static> Half<T> {
    /// Joins two halves to the whole socket.
    ///
    /// # Errors
    /// The current task cannot use one of the halves (`NotOwner` and others), or they belong to two
    /// sockets (`MismatchedHalves`). The error contains both.
    #[track_caller]
    pub(crate) fn rejoin(self, other: Half<T>) -> Result<Owned<T>, Refused<Halves<T>>> {
        let site = Site::here();
        let me = task::current(&self.handle.record().registry);
        let id = self.handle.record().acting_owner(&me);
        let whole = Arc::clone(&self.handle.cell().whole);
        let are_mismatched = !Arc::ptr_eq(&whole, &other.handle.cell().whole);
        let refused = {
            // One step under the account's lock, so that a canceller finds either both halves, and the
            // whole is not made, or the whole. Between the two it would flag halves that are gone, and
            // a read on the whole would return the shutdown as the end of the stream.
            let mut account = me.account();
            let halves = [&self, &other];
            let refused = halves.into_iter().find_map(|half| {
                let record = half.handle.record();
                record.slot.check(id).err().map(|word| (record, word))
            });
            if refused.is_none() && !are_mismatched {
                for record in halves.map(|half| half.handle.record()) {
                    let closing = record.slot.begin_close(id);
                    debug_assert!(closing.is_ok(), "the owner's own thread rejoins: {closing:?}");
                    account.remove(record.position());
                }
                let rejoined = whole.record().slot.rejoin(id);
                debug_assert!(rejoined.is_ok(), "both halves were here: {rejoined:?}");
                let held: Arc<dyn Managed> = Arc::clone(&whole) as Arc<dyn Managed>;
                whole.record().set_position(account.push(held));
            }
            refused.map(|(record, word)| (record.id, word))
        };
        if let Some((id, word)) = refused {
            let refused = if self.id() == id { &self } else { &other };
            let error = refused.handle.record().refusal(word, &me, site);
            return Err(Refused::new(error, Some((self, other))));
        }
        if are_mismatched {
            let record = other.handle.record();
            let word = record.slot.load();
            let error = record.error(ErrorKind::MismatchedHalves, word, &me, site, None);
            record.registry.report_violation(&error, record);
            return Err(Refused::new(error, Some((self, other))));
        }
        for record in [&self, &other].map(|half| half.handle.record()) {
            // A task that pinned a half uses the whole's number; only this thread could close it.
            close_with(record, &me, Event::Rejoined, site, || {
                whole.record().add_traffic(record);
                if let Some(RecordedFd { direction, .. }) = record.descriptor {
                    let may_time_out = record.may_time_out(direction);
                    whole.record().set_may_time_out(direction, may_time_out);
                }
            });
        }
        whole.record().set_halves(None);
        whole.record().record_step(Event::Rejoined, None, Some(&me), site);
        Ok(Owned::new(whole))
    }
}
