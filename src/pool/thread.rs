//! Tasks with a new thread each, without a pool: `echown::thread`.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Promise, SpawnError};
use crate::ownership::give::{Give, resources_of};
use crate::ownership::spawn::UnstartedChild;
use crate::ownership::{Registry, Resource, Site};

/// Runs `job` on a new thread, as a child of the current task in the
/// [current registry](Registry::current), and gives it the resources in `give`.
///
/// # Errors
/// The current task does not own one of the resources, or the system starts no thread. No child
/// exists then, nothing has moved, and the error contains the job.
///
/// # Examples
/// ```
/// use echown::{ownership, thread};
///
/// let numbers = ownership::own(vec![1, 2, 3])?;
/// let sum = thread::spawn([numbers.resource()], move || numbers.with(|n| n.iter().sum::<i32>()))?;
/// assert_eq!(sum.join_flat()?, 6);
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
    spawn_named("thread", give, job)
}

/// [`spawn`] with a name for task and thread.
///
/// # Errors
/// See [`spawn`].
#[track_caller]
pub fn spawn_named<T, F>(
    name: &str,
    give: impl IntoIterator<Item = Resource>,
    job: F,
) -> Result<Promise<T>, SpawnError<F>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    start(name, give, job, |job| job(), Site::here())
}

/// Runs `job` on a new thread, as a child of the current task, and gives it `handles` as its argument.
///
/// # Errors
/// See [`spawn`]. The error contains the handles and the job.
///
/// # Examples
/// ```
/// use echown::{ownership, thread};
///
/// let numbers = ownership::own(vec![1, 2, 3])?;
/// let sum = thread::spawn_with(numbers, |numbers| numbers.with(|n| n.iter().sum::<i32>()))?;
/// assert_eq!(sum.join_flat()?, 6);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[track_caller]
pub fn spawn_with<G, T, F>(handles: G, job: F) -> Result<Promise<T>, SpawnError<(G, F)>>
where
    G: Give + Send + 'static,
    T: Send + 'static,
    F: FnOnce(G) -> T + Send + 'static,
{
    spawn_named_with("thread", handles, job)
}

/// [`spawn_with`] with a name for task and thread.
///
/// # Errors
/// See [`spawn_with`].
#[track_caller]
pub fn spawn_named_with<G, T, F>(
    name: &str,
    handles: G,
    job: F,
) -> Result<Promise<T>, SpawnError<(G, F)>>
where
    G: Give + Send + 'static,
    T: Send + 'static,
    F: FnOnce(G) -> T + Send + 'static,
{
    let give = resources_of(&handles);
    start(name, give, (handles, job), |(handles, job)| job(handles), Site::here())
}

fn start<T, J>(
    name: &str,
    give: impl IntoIterator<Item = Resource>,
    job: J,
    run: fn(J) -> T,
    site: Site,
) -> Result<Promise<T>, SpawnError<J>>
where
    T: Send + 'static,
    J: Send + 'static,
{
    let child = UnstartedChild::new(&Registry::current(), None, name, give, job, run, site)?;
    // A thread that cannot be started drops its closure, and work that is dropped before it ran ends
    // the child. This second reference keeps the work until `undo` has taken everything back.
    let work = Arc::new(Mutex::new(Some(child.work())));
    let to_run = Arc::clone(&work);
    let started = std::thread::Builder::new().name(name.replace('\0', " ")).spawn(move || {
        let work = to_run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work.run();
        }
    });
    match started {
        // Detached: the parent waits for the promise, not for the thread's handle.
        Ok(_) => Ok(child.into_promise()),
        Err(error) => {
            let job = child.undo();
            let reason = format!("failed to start thread `{name}`: {error}");
            Err(SpawnError::no_thread(reason, error, job))
        }
    }
}
