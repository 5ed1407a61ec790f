//! A worker process, forked to parse files that are not trusted: what ends it does not end this process.
//!
//! A damaged file can end the process that parses it (a mapping beyond the end of a truncated file, a
//! stack overflow, memory) or keep it busy without end. The worker has a limit of memory, replies over a
//! pipe, is killed when a reply is late, and ends with its parent.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions};

/// The maximum memory of a worker for data: heap and writable mappings, not the mapped files.
const MEMORY_MAX: u64 = 2 << 30;

/// The maximum size of a message.
const MESSAGE_MAX: usize = 16 << 20;

/// A running worker. It is killed when this is dropped.
pub(crate) struct Worker {
    process: Pid,
    /// It becomes readable when the process ends. The end of its pipe does not tell: another worker
    /// that was forked at the same time may have inherited it.
    end: OwnedFd,
    requests: PipeWriter,
    answers: PipeReader,
}

impl Worker {
    /// Forks a worker, which replies to each request until there are no more. The caller must not be inside
    /// a loop that waits for any child.
    pub(crate) fn start(answer: impl FnMut(&[u8]) -> Vec<u8>) -> io::Result<Worker> {
        let (theirs, requests) = io::pipe()?;
        let (answers, mine) = io::pipe()?;
        // SAFETY: The child runs only the code below and never returns. If this process has other
        // threads, their locks stay as they are in the child: it takes only those of the allocator,
        // which the C library keeps usable across a fork.
        let process = unsafe { libc::fork() };
        match Pid::from_raw(process) {
            _ if process < 0 => Err(io::Error::last_os_error()),
            Some(process) => {
                let end = rustix::process::pidfd_open(process, PidfdFlags::empty());
                let end = end.inspect_err(|_| stop(process))?;
                Ok(Worker { process, end, requests, answers })
            }
            None => {
                drop((requests, answers));
                let _ = catch_unwind(AssertUnwindSafe(|| serve(theirs, mine, answer)));
                // SAFETY: It ends this process at once, without the parent's handlers for its exit.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// The answer to a request; an error if the worker died or is late.
    pub(crate) fn ask(&mut self, request: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        // A worker reads its requests at once, unless it is dead: then this is an error, for Rust's
        // programs ignore SIGPIPE.
        send(&mut self.requests, request)?;
        let mut length = [0; 4];
        self.receive(&mut length, deadline)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MESSAGE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; length];
        self.receive(&mut answer, deadline)?;
        Ok(answer)
    }

    fn receive(&mut self, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let left =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let watched = [self.answers.as_fd(), self.end.as_fd()];
            let mut watched = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut watched, Some(&left)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) if watched[0].revents().is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match self.answers.read(bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => bytes = &mut bytes[count..],
            }
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        stop(self.process);
    }
}

/// Ends a child and waits for it.
fn stop(process: Pid) {
    let _ = rustix::process::kill_process(process, Signal::KILL);
    let _ = rustix::process::waitpid(Some(process), WaitOptions::empty());
}

fn serve(
    mut requests: PipeReader,
    mut answers: PipeWriter,
    mut answer: impl FnMut(&[u8]) -> Vec<u8>,
) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    limit(Resource::Data, MEMORY_MAX);
    limit(Resource::Core, 0);
    // A panic or a stack overflow here is the file's fault, and reported as such.
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stderr(&null)?;
    loop {
        let mut length = [0; 4];
        requests.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_le_bytes(length) as usize];
        requests.read_exact(&mut request)?;
        send(&mut answers, &answer(&request))?;
    }
}

fn limit(resource: Resource, maximum: u64) {
    let now = rustix::process::getrlimit(resource);
    let maximum = now.maximum.map_or(maximum, |now| now.min(maximum));
    let limit = Rlimit { current: Some(maximum), maximum: Some(maximum) };
    let _ = rustix::process::setrlimit(resource, limit);
}

/// Sends a message: its length, and it.
fn send(to: &mut PipeWriter, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(30);

    #[test]
    fn a_worker_answers_and_its_death_is_an_error() {
        let mut worker = Worker::start(|request| match request {
            b"die" => std::process::abort(),
            other => [other, b"!"].concat(),
        })
        .unwrap();
        assert_eq!(worker.ask(b"hello", LATE).unwrap(), b"hello!");
        let large = vec![7; 1 << 20];
        assert_eq!(worker.ask(&large, LATE).unwrap().len(), large.len() + 1);
        let error = worker.ask(b"die", LATE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_late_answer_is_an_error() {
        let mut worker = Worker::start(|_| {
            loop {
                std::hint::spin_loop();
            }
        })
        .unwrap();
        let error = worker.ask(b"", Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_worker_that_wants_too_much_memory_ends_alone() {
        let mut worker = Worker::start(|_| vec![1; 3 << 30]).unwrap();
        assert!(worker.ask(b"", LATE).is_err());
    }
}
