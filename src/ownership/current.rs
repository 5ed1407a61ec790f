//! The current registry: the one that functions without a registry argument use.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use super::registry::Registry;
use super::task;

thread_local! {
    /// The registry that was entered last on this thread, and the task that was the current one then. Never
    /// destroyed: destructors of other thread-locals may open descriptors.
    static ENTERED: ManuallyDrop<RefCell<Option<(u64, Registry)>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
}

impl Registry {
    /// The registry of functions without a registry argument, such as [`own`](super::own) and
    /// [`Stream::connect`](crate::net::Stream::connect): the one that the current task has
    /// [entered](Registry::enter), or else the one that the task was started in. For a thread that was not
    /// started as a task that is the process-wide registry.
    #[must_use]
    pub fn current() -> Registry {
        let me = task::current_id();
        let entered = ENTERED.with(|entered| match &*entered.borrow() {
            Some((task, registry)) if *task == me => Some(registry.clone()),
            _ => None,
        });
        entered.or_else(task::home).unwrap_or_else(|| Registry::global().clone())
    }

    /// Makes this the [current registry](Registry::current) of the current task until the guard is dropped.
    /// It does not apply to the task's children. Nested guards are dropped in reverse order.
    ///
    /// # Examples
    /// ```
    /// use echown::net::Stream;
    /// use echown::ownership::Registry;
    ///
    /// let registry = Registry::new();
    /// let entered = registry.enter();
    /// let (stream, peer) = Stream::pair()?;
    /// drop(entered);
    /// assert_eq!(registry.snapshot().resources.len(), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn enter(&self) -> Entered {
        // Adopts a thread without a task: it has the same task during the whole use.
        let entry = (task::current(self).id().get(), self.clone());
        let before = ENTERED.with(|entered| entered.replace(Some(entry)));
        Entered { before, stays_on_this_thread: PhantomData }
    }
}

/// The guard of [`Registry::enter`].
#[must_use = "the registry is current until the guard is dropped"]
pub struct Entered {
    before: Option<(u64, Registry)>,
    stays_on_this_thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let entry = ENTERED.with(|entered| entered.replace(self.before.take()));
        // Not under the borrow: the last reference to a registry drops its sink, which is user code.
        drop(entry);
    }
}
