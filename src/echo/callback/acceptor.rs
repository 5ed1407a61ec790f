//! The tasks that listen and connect: each connection begins here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection_task::ConnectionTask;
use super::context::{Context, Request, RequestKind};
use crate::net::{AcceptBackoff, Address, KeepAlive, Listener, PipeReader, Stream};
use crate::ownership::task;
use crate::ownership::{Error, TaskError, TaskLabel};
use crate::pool::Orphans;

/// How a task of the manager ended; for a connection, what ended it early.
type TaskResult = io::Result<()>;

/// The task of a request.
pub(super) fn run(mut request: Request) -> TaskResult {
    match (request.kind, request.stop.take()) {
        (RequestKind::Connect { delay }, _) => connect(request, delay),
        (RequestKind::Listen, Some(stop)) => listen(request, &stop),
        (RequestKind::Listen, None) => unreachable!("a listener is started with its stop pipe"),
    }
}

/// The task of a listener: accepts until it is stopped, then waits for its connections.
fn listen(mut request: Request, stop: &PipeReader) -> TaskResult {
    let context = Arc::clone(&request.context);
    let (listener, actual) = match bind(request.address) {
        Ok(bound) => bound,
        Err(error) => {
            request.fail(error);
            return Ok(());
        }
    };
    let connections: Orphans<TaskResult> = Orphans::reaped_by(&context.registry, log_outcome);
    context.status.update(|status| {
        if let Some(listener) = status.listeners.get_mut(&request.id) {
            listener.actual = Some(actual);
        }
    });
    request.settle();
    context.call(|callback| callback.on_listen(request.address, actual));
    accept(&context, &listener, stop, &connections);
    drop(listener);
    drop(request);
    // If this task is cancelled, its connections are cancelled when it ends.
    while let Ok(Some(_)) = connections.get() {}
    Ok(())
}

fn bind(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    // Without Nagle's algorithm, like the server's listeners: what is sent is complete.
    let options = Listener::options().nodelay(true);
    let listener = options.keep_alive(Some(KeepAlive::DEFAULT)).bind(address)?;
    let actual = listener.local_addr()?.inet().unwrap_or(address);
    Ok((listener, actual))
}

fn accept(
    context: &Arc<Context>,
    listener: &Listener,
    stop: &PipeReader,
    connections: &Orphans<TaskResult>,
) {
    let mut backoff = AcceptBackoff::default();
    loop {
        let pause = match listener.accept_or_stop(stop) {
            Ok(Some((stream, peer))) => match serve(context, stream, &peer, connections) {
                Ok(()) => {
                    backoff.record_success();
                    continue;
                }
                Err(limit) => backoff.record_exhaustion(limit),
            },
            Ok(None) => return,
            // Cancelled, or another refusal: the listener is gone.
            Err(error) if Error::in_io(&error).is_some() => return,
            Err(error) => backoff.record_failure(&error),
        };
        // A stop ends the pause.
        if !matches!(stop.wait_readable(pause), Ok(false)) {
            return;
        }
    }
}

/// Starts a task for a connection, or closes it at once.
///
/// # Errors
/// No thread could be started: the limit that was reached.
fn serve(
    context: &Arc<Context>,
    stream: Stream,
    peer: &Address,
    connections: &Orphans<TaskResult>,
) -> Result<(), String> {
    let theirs = Arc::clone(context);
    let job = move |stream| ConnectionTask::begin(&theirs, stream)?.run();
    let spawned = context.pool.spawn_named_with(&format!("callback {peer}"), stream, job);
    let child = spawned.map_err(|refused| refused.to_string())?;
    connections.adopt(child).map_err(|refused| refused.to_string())
}

/// The task of a connection that is made here: connects after a delay, and serves the connection.
fn connect(mut request: Request, delay: Duration) -> TaskResult {
    let context = Arc::clone(&request.context);
    let me = task::current(&context.registry);
    let connected = match Instant::now().checked_add(delay) {
        Some(deadline) => {
            me.wait_until(|| me.is_cancelled(), Some(deadline));
            Stream::connect(request.address).and_then(|stream| {
                stream.set_keep_alive(Some(KeepAlive::DEFAULT))?;
                ConnectionTask::begin(&context, stream)
            })
        }
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the delay is too long")),
    };
    match connected {
        Ok(connection) => {
            request.settle();
            connection.run()
        }
        Err(error) => {
            request.fail(error);
            Ok(())
        }
    }
}

/// Logs how a task ended. A leak is reported when it is found.
pub(super) fn log_outcome(task: &TaskLabel, outcome: Result<TaskResult, TaskError<TaskResult>>) {
    match outcome {
        Ok(Ok(())) | Err(TaskError::Cancelled | TaskError::Leaked(..)) => {}
        Ok(Err(error)) => tracing::debug!(%task, "ended: {error}"),
        Err(failure) => tracing::error!(%task, "{failure}"),
    }
}
