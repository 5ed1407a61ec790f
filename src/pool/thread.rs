//! Tasks for people who want a plain thread, without a pool: `echown::thread`.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Promise, SpawnError};
use crate::ownership::promise::UnstartedChild;
use crate::ownership::{Registry, Resource, Site};

/// Runs `job` on a thread of its own, as a child of the current task, which is given `give`.
///
/// # Errors
/// Something is not the current task's to give, or the system starts no thread: there is no child,
/// nothing has moved, and the job comes back.
///
/// # Examples
/// ```
/// use echown::{ownership, thread};
///
/// let numbers = ownership::own(vec![1, 2, 3])?;
/// let sum = thread::spawn([numbers.resource()], move || numbers.with(|n| n.iter().sum::<i32>()))?;
/// assert_eq!(sum.join()??, 6);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[track_caller]
pub fn spawn<T, F>(
    give: impl IntoIterator<Item = Resource>,
    job: F,
) -> Result<Promise<T>, SpawnError<F>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    start(Registry::global(), "thread", give, job, Site::here())
}

/// [`spawn`] with a registry to be at home in, and a name for task and thread.
///
/// # Errors
/// As there.
#[track_caller]
pub fn spawn_in<T, F>(
    registry: &Registry,
    name: &str,
    give: impl IntoIterator<Item = Resource>,
    job: F,
) -> Result<Promise<T>, SpawnError<F>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    start(registry, name, give, job, Site::here())
}

fn start<T, F>(
    registry: &Registry,
    name: &str,
    give: impl IntoIterator<Item = Resource>,
    job: F,
    site: Site,
) -> Result<Promise<T>, SpawnError<F>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let child = UnstartedChild::new(registry, None, name, give, job, site)?;
    // Kept here as well: a thread that cannot be started drops its closure, and work that is
    // dropped unrun ends the child, when all we want is to have everything back.
    let work = Arc::new(Mutex::new(Some(child.work())));
    let to_run = Arc::clone(&work);
    let started = std::thread::Builder::new().name(name.replace('\0', " ")).spawn(move || {
        let work = to_run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work.run();
        }
    });
    match started {
        // Detached: the promise, not the thread's handle, is what is waited for.
        Ok(_) => Ok(child.started()),
        Err(error) => {
            let job = child.undo();
            let reason = format!("thread `{name}` could not be started: {error}");
            Err(SpawnError::no_thread(reason, job))
        }
    }
}
