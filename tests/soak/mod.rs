//! A soak: all actions of clients and operators and all faults, at once and for a long time.
//! Afterwards the server must have the resources with which it started.
//!
//! The load runs twice, first a short warm-up and then the requested time, each followed by a
//! pause. The second pause must match the first: the same descriptors, no more threads than it
//! started with and the pool keeps idle, and no more memory than [`GROWTH_MAX_BYTES`] and
//! deliberate leaks explain.

mod deeds;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::{poll, stall};

/// The memory growth that a soak may have. The allocator keeps memory for the peak load, in arenas
/// of some MiB, and the peak is random; a real leak of 100 bytes per connection exceeds this after
/// 40,000 connections.
pub const GROWTH_MAX_BYTES: i64 = 4 * 1024 * 1024;

/// The idle threads that a server keeps for the next burst: twice the pool's 16; it ends further
/// ones. How many of them are left is random.
const IDLE_MAX: usize = 32;

/// The memory of a handle that chaos forgot: its descriptor is closed, but the memory of a
/// forgotten value cannot be freed. 1,742 bytes each, measured over 6,000 of them.
const FORGOTTEN_BYTES: i64 = 2048;

/// How long the server may take to become idle: its own write timeout, and a loaded machine.
const REST_DEADLINE: Duration = Duration::from_secs(60);

/// How long it is idle before it is measured: the allocator releases memory late.
const REST: Duration = Duration::from_secs(1);

/// Faults of the program, after the first reply of a connection. Not `cycle`, whose values stay in
/// memory.
const CHAOS: &str = "panic=0.004,leak=0.004,foreign-write=0.002,double-release=0.002,fd-replaced=0.002,finalizer-panic=0.002";

/// Faults of system calls. An accept without descriptors pauses for 50 ms: a low rate, or the
/// server would only pause.
const FAULTS: &str = "interrupt=0.002,short=0.01,again=0.002,read=0.0005,write=0.0005,\
                      accept=0.0001,thread=0.002,close=0.002";

/// The settings of a soak.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program under test.
    pub program: PathBuf,
    pub warm_up: Duration,
    pub duration: Duration,
    /// The seed of the clients and the faults; their interleaving is not deterministic.
    pub seed: u64,
    /// Further arguments of the server.
    pub arguments: Vec<String>,
    /// Called about once a second with a progress line.
    pub progress: fn(&str),
}

/// The resources of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Has {
    pub descriptors: usize,
    pub threads: usize,
    pub resident_bytes: i64,
}

impl fmt::Display for Has {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kibibytes = self.resident_bytes / 1024;
        write!(
            f,
            "{} descriptors, {} threads, {kibibytes} KiB resident",
            self.descriptors, self.threads
        )
    }
}

/// The result of a soak.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub at_start: Has,
    pub before: Has,
    pub after: Has,
    pub connections: u64,
    pub seconds: f64,
    /// The number of each action, by name.
    pub deeds: Vec<(&'static str, u64)>,
    /// Handles that chaos forgot, including the warm-up.
    pub forgotten: i64,
    pub summary: String,
    /// The reasons why it failed; empty if it succeeded.
    pub faults: Vec<String>,
}

impl Outcome {
    /// Bytes of memory per million connections, if they can be estimated.
    pub fn growth_per_million(&self) -> f64 {
        let grown = self.after.resident_bytes - self.before.resident_bytes;
        grown as f64 * 1e6 / self.connections.max(1) as f64
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.connections as f64 / self.seconds;
        writeln!(f, "seed         {}", self.seed)?;
        writeln!(
            f,
            "load         {:.0} s, {} connections, {rate:.0} a second",
            self.seconds, self.connections
        )?;
        for (deed, times) in &self.deeds {
            writeln!(f, "             {times} {deed}")?;
        }
        writeln!(f, "at start     {}", self.at_start)?;
        writeln!(f, "warmed up    {}", self.before)?;
        writeln!(f, "afterwards   {}", self.after)?;
        writeln!(
            f,
            "growth       {} KiB, {:.0} KiB per million connections; {} handles were forgotten on purpose",
            (self.after.resident_bytes - self.before.resident_bytes) / 1024,
            self.growth_per_million() / 1024.0,
            self.forgotten
        )?;
        writeln!(f, "the server   {}", self.summary)?;
        match &self.faults[..] {
            [] => write!(f, "verdict      it has what it began with"),
            faults => write!(f, "verdict      FAILED: {}", faults.join("; ")),
        }
    }
}

/// The state that all clients share.
pub struct Load {
    pub address: SocketAddr,
    pub pid: Pid,
    is_over: AtomicBool,
    connections: AtomicU64,
    done: Vec<AtomicU64>,
    wrong: AtomicU64,
}

impl Load {
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A client received bytes that it did not send, or a false end of stream.
    pub fn count_wrong(&self) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a soak to its end.
pub fn run(settings: &Settings) -> Outcome {
    let summary = std::env::temp_dir().join(format!("echown-soak-{}.json", std::process::id()));
    let (mut child, address) = start(settings, &summary);
    let pid = Pid::from_child(&child);
    let load = Load {
        address,
        pid,
        is_over: AtomicBool::new(false),
        connections: AtomicU64::new(0),
        done: deeds::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        wrong: AtomicU64::new(0),
    };
    let at_start = begun(pid);
    let mut faults = Vec::new();
    press(&load, settings, settings.warm_up, "warming up");
    let before = rest(pid, at_start.descriptors, None);
    let connected_before = load.connections.swap(0, Ordering::Relaxed);
    for done in &load.done {
        done.store(0, Ordering::Relaxed);
    }
    let began = Instant::now();
    press(&load, settings, settings.duration, "soaking");
    let seconds = began.elapsed().as_secs_f64();
    let threads_max = at_start.threads + IDLE_MAX;
    let after = rest(pid, at_start.descriptors, Some(threads_max));
    if before.descriptors != at_start.descriptors || after.descriptors != at_start.descriptors {
        faults.push("descriptors were left open".to_owned());
    }
    if after.threads > threads_max {
        faults.push("threads were left".to_owned());
    }
    if load.wrong.load(Ordering::Relaxed) > 0 {
        faults.push(format!("{} echoes were wrong", load.wrong.load(Ordering::Relaxed)));
    }
    if connected_before == 0 || load.connections.load(Ordering::Relaxed) == 0 {
        faults.push("no client could connect".to_owned());
    }
    let totals = stop(&mut child, &summary, &mut faults);
    let forgotten = totals["injected"]["leak"].as_i64().unwrap_or_default();
    let growth_max = GROWTH_MAX_BYTES + forgotten * FORGOTTEN_BYTES;
    if after.resident_bytes - before.resident_bytes > growth_max {
        faults.push(format!("memory grew by more than {} KiB", growth_max / 1024));
    }
    Outcome {
        seed: settings.seed,
        at_start,
        before,
        after,
        connections: load.connections.load(Ordering::Relaxed),
        seconds,
        deeds: deeds::ALL
            .iter()
            .zip(&load.done)
            .map(|(deed, done)| (deed.name, done.load(Ordering::Relaxed)))
            .collect(),
        forgotten,
        summary: totals.to_string(),
        faults,
    }
}

/// Starts the server with faults of all kinds.
fn start(settings: &Settings, summary: &Path) -> (Child, SocketAddr) {
    let seed = settings.seed.to_string();
    let mut command = Command::new(&settings.program);
    // Backtraces of panics would load all symbols into memory.
    command.env("RUST_BACKTRACE", "0");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ECHOWN_SERVE_") {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--listen", "127.0.0.1:0", "--max-connections", "256"]);
    command.args(["--write-timeout", "2s", "--idle-timeout", "20s", "--log-level", "error"]);
    // Files, so that SIGHUP has something to reopen.
    command.args(["--report-file", "/dev/null", "--log-file", "/dev/null"]);
    command.args(["--chaos", CHAOS, "--chaos-seed", &seed]);
    command.args(["--faults", FAULTS, "--faults-seed", &seed]);
    command.arg("--summary").arg(summary).args(&settings.arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the server starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it was piped")).lines();
    let address = loop {
        let line = lines.next().expect("the server listens").expect("its output is text");
        if let Some(address) = line.strip_prefix("listening on ") {
            break address.parse().expect("the address is numeric");
        }
    };
    // Custody tables, line by line: read, so that the server does not block, and dropped.
    std::thread::spawn(move || for _ in lines.map_while(Result::ok) {});
    (child, address)
}

/// Runs all actions at once for `time`.
fn press(load: &Load, settings: &Settings, duration: Duration, what: &str) {
    load.is_over.store(false, Ordering::Relaxed);
    let began = Instant::now();
    std::thread::scope(|threads| {
        for (index, deed) in deeds::ALL.iter().enumerate() {
            for one in 0..deed.at_once {
                let seed = settings.seed ^ ((index as u64) << 32 | one << 48);
                let done = &load.done[index];
                threads.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    while !load.is_over() {
                        (deed.act)(load, &mut random);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        let mut line_at = Duration::ZERO;
        while began.elapsed() < duration {
            stall(Duration::from_millis(50).min(duration));
            if began.elapsed() >= line_at {
                line_at += Duration::from_secs(1);
                let connections = load.connections.load(Ordering::Relaxed);
                (settings.progress)(&format!(
                    "{what}: {} of {} s, {connections} connections, {}",
                    began.elapsed().as_secs(),
                    duration.as_secs(),
                    has(load.pid)
                ));
            }
        }
        load.is_over.store(true, Ordering::Relaxed);
    });
}

/// The resources of the server when all of its own threads run: some of them start after it printed
/// its address.
fn begun(pid: Pid) -> Has {
    const SAMPLES: usize = 25;
    let (mut last, mut same) = (has(pid), 0);
    let _ = poll(REST_DEADLINE, || {
        stall(Duration::from_millis(20));
        let now = has(pid);
        same = if now.threads == last.threads { same + 1 } else { 0 };
        last = now;
        (same == SAMPLES).then_some(())
    });
    last
}

/// Waits until the server has no connection and no more threads than it should have.
fn rest(pid: Pid, descriptors: usize, threads: Option<usize>) -> Has {
    let _ = poll(REST_DEADLINE, || {
        let now = has(pid);
        let is_at_rest =
            now.descriptors == descriptors && threads.is_none_or(|threads| now.threads <= threads);
        is_at_rest.then_some(())
    });
    stall(REST);
    has(pid)
}

/// Ends the server and checks its summary. Returns the summary.
fn stop(child: &mut Child, summary: &Path, faults: &mut Vec<String>) -> Value {
    if kill_process(Pid::from_child(child), Signal::TERM).is_err() {
        faults.push("the server was gone".to_owned());
    }
    let status = poll(REST_DEADLINE, || child.try_wait().expect("a child can be waited for"));
    let Some(status) = status else {
        faults.push("it did not drain".to_owned());
        // Only this child, by its own handle.
        let _ = child.kill();
        let _ = child.wait();
        return Value::Null;
    };
    if status.code() != Some(0) {
        faults.push(format!("it ended with {status}"));
    }
    let text = std::fs::read_to_string(summary).unwrap_or_default();
    let _ = std::fs::remove_file(summary);
    let Ok(totals) = serde_json::from_str::<Value>(&text) else {
        faults.push("it wrote no summary".to_owned());
        return Value::Null;
    };
    if totals["injected"] != totals["reported"] {
        faults.push("not every fault that was committed was reported".to_owned());
    }
    if totals["open_resources"] != 0 || totals["stuck"] != serde_json::json!([]) {
        faults.push("something was open in the end, or somebody was stuck".to_owned());
    }
    totals
}

/// The current resources of the server; `None` if it has exited.
fn has(pid: Pid) -> Has {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let count = |what: &str| std::fs::read_dir(process.join(what)).map_or(0, Iterator::count);
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<i64>().ok()
    });
    Has {
        descriptors: count("fd"),
        threads: count("task"),
        resident_bytes: resident.unwrap_or_default() * 1024,
    }
}
