//! Processor time and memory of processes and of the whole machine, from `/proc`; processor affinity.

use std::io;
use std::time::{Duration, Instant};

use procfs::process::Process;
use procfs::{CurrentSI, KernelStats, WithCurrentSystemInfo};
use rustix::thread::CpuSet;

/// The resources used until one moment.
#[derive(Clone, Debug)]
pub(crate) struct UsageSample {
    at: Instant,
    /// By all programs together, stolen time included: it was not available here.
    machine: Option<Duration>,
    client: Option<Duration>,
    pub(crate) server: Option<ProcessUsage>,
}

/// The resources used by one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessUsage {
    pub(crate) processor: Duration,
    /// Resident.
    pub(crate) memory_bytes: u64,
    pub(crate) threads: u64,
}

impl UsageSample {
    pub(crate) fn take(pid: Option<i32>) -> UsageSample {
        let client = Process::myself().ok().as_ref().and_then(usage);
        UsageSample {
            at: Instant::now(),
            machine: machine(),
            client: client.map(|usage| usage.processor),
            server: pid.and_then(|pid| Process::new(pid).ok()).as_ref().and_then(usage),
        }
    }
}

fn usage(process: &Process) -> Option<ProcessUsage> {
    let stat = process.stat().ok()?;
    Some(ProcessUsage {
        processor: ticks(stat.utime + stat.stime),
        memory_bytes: stat.rss_bytes().get(),
        threads: stat.num_threads.unsigned_abs(),
    })
}

fn machine() -> Option<Duration> {
    // The kernel's own threads work for the programs, mainly for client and server.
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

/// The resources used between two moments.
#[derive(Clone, Debug)]
pub(crate) struct UsageInterval {
    pub(crate) first: UsageSample,
    pub(crate) last: UsageSample,
}

impl Default for UsageInterval {
    fn default() -> UsageInterval {
        let now = UsageSample::take(None);
        UsageInterval { first: now.clone(), last: now }
    }
}

impl UsageInterval {
    pub(crate) fn elapsed(&self) -> Duration {
        self.last.at - self.first.at
    }

    /// Processors that this process, the client, kept busy: 1.5 is one and a half.
    pub(crate) fn client(&self) -> Option<f64> {
        self.share(self.last.client?, self.first.client?)
    }

    /// Processors that the server kept busy.
    pub(crate) fn server(&self) -> Option<f64> {
        self.share(self.last.server?.processor, self.first.server?.processor)
    }

    /// Processors that other programs kept busy, or other virtual machines.
    pub(crate) fn others(&self) -> Option<f64> {
        let all = self.share(self.last.machine?, self.first.machine?)?;
        Some((all - self.client()? - self.server()?).max(0.0))
    }

    fn share(&self, last: Duration, first: Duration) -> Option<f64> {
        let elapsed = self.elapsed().as_secs_f64();
        (elapsed > 0.0).then(|| last.saturating_sub(first).as_secs_f64() / elapsed)
    }
}

/// Raises the limit of open descriptors to its maximum (`setrlimit(2)`).
pub fn raise_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    // If the limit is still too low, connecting fails with a clear error.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// Restricts this thread, and the threads and processes that it starts from now on, to these processors
/// (`sched_setaffinity(2)`). Returns the processors that were allowed before.
///
/// # Errors
/// There is no such processor, or this process may not use it.
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
    fn a_busy_thread_uses_processor_time() {
        let pid = std::process::id().cast_signed();
        let first = UsageSample::take(Some(pid));
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            std::hint::black_box(0);
        }
        let usage = UsageInterval { first, last: UsageSample::take(Some(pid)) };
        // The other tests may leave little of a processor.
        assert!(usage.server().unwrap() > 0.02, "{usage:?}");
        assert!(usage.last.server.unwrap().memory_bytes > 100_000);
        assert!(usage.last.server.unwrap().threads >= 1);
        assert!(UsageSample::take(None).server.is_none());
    }
}
