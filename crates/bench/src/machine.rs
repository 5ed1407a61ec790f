//! What a server's process has used, and the whole machine, as `/proc` tells it.

use std::io;
use std::time::{Duration, Instant};

use procfs::process::Process;
use procfs::{CurrentSI, KernelStats, WithCurrentSystemInfo};
use rustix::thread::CpuSet;

/// What was used until a moment.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    at: Instant,
    /// By all programs together, stolen time included: whoever has it, we have not.
    machine: Option<Duration>,
    ours: Option<Duration>,
    pub(crate) server: Option<Usage>,
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) processor: Duration,
    /// Resident.
    pub(crate) memory_bytes: u64,
    pub(crate) threads: u64,
}

impl Reading {
    pub(crate) fn take(pid: Option<i32>) -> Reading {
        let ours = Process::myself().ok().as_ref().and_then(usage);
        Reading {
            at: Instant::now(),
            machine: machine(),
            ours: ours.map(|usage| usage.processor),
            server: pid.and_then(|pid| Process::new(pid).ok()).as_ref().and_then(usage),
        }
    }
}

fn usage(process: &Process) -> Option<Usage> {
    let stat = process.stat().ok()?;
    Some(Usage {
        processor: ticks(stat.utime + stat.stime),
        memory_bytes: stat.rss_bytes().get(),
        threads: stat.num_threads.unsigned_abs(),
    })
}

fn machine() -> Option<Duration> {
    // The kernel's own threads do what was asked of it, by us above all.
    const KERNEL_THREAD: u32 = 0x0020_0000;
    let programs = procfs::process::all_processes().ok()?.filter_map(|it| it.ok()?.stat().ok());
    let of_programs: u64 = programs
        .filter(|stat| stat.flags & KERNEL_THREAD == 0)
        .map(|stat| {
            let of_children = (stat.cutime + stat.cstime).unsigned_abs();
            stat.utime + stat.stime + of_children
        })
        .sum();
    let stolen = KernelStats::current().ok()?.total.steal.unwrap_or_default();
    Some(ticks(of_programs + stolen))
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// What was used between two moments.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pub(crate) first: Reading,
    pub(crate) last: Reading,
}

impl Default for Meter {
    fn default() -> Meter {
        let now = Reading::take(None);
        Meter { first: now.clone(), last: now }
    }
}

impl Meter {
    pub(crate) fn elapsed(&self) -> Duration {
        self.last.at - self.first.at
    }

    /// Processors that this process has kept busy: 1.5 is one and a half.
    pub(crate) fn ours(&self) -> Option<f64> {
        self.share(self.last.ours?, self.first.ours?)
    }

    /// Processors that the server has kept busy.
    pub(crate) fn server(&self) -> Option<f64> {
        self.share(self.last.server?.processor, self.first.server?.processor)
    }

    /// Processors that neither of us has kept busy, but some other program has, or another machine.
    pub(crate) fn others(&self) -> Option<f64> {
        let all = self.share(self.last.machine?, self.first.machine?)?;
        Some((all - self.ours()? - self.server()?).max(0.0))
    }

    fn share(&self, last: Duration, first: Duration) -> Option<f64> {
        let elapsed = self.elapsed().as_secs_f64();
        (elapsed > 0.0).then(|| last.saturating_sub(first).as_secs_f64() / elapsed)
    }
}

/// Lets this process have as many descriptors as it may (`setrlimit(2)`).
pub fn raise_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    // Those who are short of them learn of it by the error of a connection.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// Has this thread, and those that it starts from now on, processes included, run on these processors
/// only (`sched_setaffinity(2)`). Answers what it may run on until now, for the way back.
///
/// # Errors
/// There is no such processor, or it is not ours to use.
pub fn pin_to(processors: &[usize]) -> io::Result<Vec<usize>> {
    let before = rustix::thread::sched_getaffinity(None)?;
    let mut set = CpuSet::new();
    for processor in processors {
        if *processor >= CpuSet::MAX_CPU {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        set.set(*processor);
    }
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| before.is_set(*processor)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_is_seen_to_be_busy() {
        let pid = std::process::id().cast_signed();
        let first = Reading::take(Some(pid));
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            std::hint::black_box(0);
        }
        let meter = Meter { first, last: Reading::take(Some(pid)) };
        // However little of a processor is to be had beside the other tests.
        assert!(meter.server().unwrap() > 0.02, "{meter:?}");
        assert!(meter.last.server.unwrap().memory_bytes > 100_000);
        assert!(meter.last.server.unwrap().threads >= 1);
        assert!(Reading::take(None).server.is_none());
    }
}
