//! A server under test: started on a free port, stopped when dropped.

use crate::common::{poll, wait_until};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

pub use crate::common::DEADLINE;

/// The beginning of the warning to root.
pub const AS_ROOT: &str = "running as root, ";

/// Each style of the server, with a request that comes back as it is.
pub const STYLES: [(&str, &[u8]); 4] = [
    ("echo", b"hello\n"),
    ("staged", b"hello\n"),
    ("broadcast", b"\0\0\0\0\0\0\0\x05hello"),
    ("callback", b"hello\n"),
];

pub struct Server {
    child: Child,
    lines: Receiver<String>,
    /// The lines of standard error read so far.
    pub seen: Vec<String>,
    pub addresses: Vec<SocketAddr>,
}

impl Server {
    /// `echown serve --listen 127.0.0.1:0` with further arguments, ready to serve.
    pub fn start(arguments: &[&str]) -> Server {
        Server::start_on(&["127.0.0.1:0"], arguments)
    }

    pub fn start_on(addresses: &[&str], arguments: &[&str]) -> Server {
        let mut command = serve(addresses, arguments);
        Server::run(&mut command, addresses.len())
    }

    /// Starts a prepared command and waits until it listens on `addresses` addresses.
    pub fn run(command: &mut Command, listeners: usize) -> Server {
        let (stderr, writer) = std::io::pipe().expect("two descriptors are free");
        Server::run_with(command.stderr(writer), stderr, listeners)
    }

    /// Starts a command whose standard error is the other end of a pipe.
    pub fn run_with(command: &mut Command, stderr: PipeReader, listeners: usize) -> Server {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        Server::run_on(command, stderr, listeners)
    }

    /// [`run_with`](Server::run_with) with the standard input and output that the command has.
    pub fn run_on(command: &mut Command, stderr: PipeReader, listeners: usize) -> Server {
        let child = without_variables(command).spawn().expect("the program starts");
        // The writing end of this process is in the command, and would keep the pipe open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // It depends on the user that runs the tests; `sandbox.rs` tests it.
                if line.contains(AS_ROOT) {
                    continue;
                }
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Server { child, lines, seen: Vec::new(), addresses: Vec::new() };
        for _ in 0..listeners {
            let line = server.wait_for_line("listening on ");
            // As text to the end of the line, as JSON to the end of the string.
            let (_, address) = line.split_once("listening on ").expect("waited for");
            let address = address.split('"').next().unwrap_or(address);
            server.addresses.push(address.parse().expect("the address is numeric"));
        }
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("the server accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout can be set");
        stream
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard error that contains `part`.
    pub fn wait_for_line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {part:?} among {:#?}", self.seen)
                }
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the server is running");
    }

    /// Stops all of its threads. `SIGCONT` resumes them.
    pub fn hold(&self) {
        self.signal(rustix::process::Signal::STOP);
        let is_held = |thread: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            // A thread that has exited meanwhile does not run.
            stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|s| s.starts_with('T')))
        };
        let threads = format!("/proc/{}/task", self.pid());
        self.wait_for("all threads to stop", |_| {
            std::fs::read_dir(&threads).expect("the server runs").all(is_held)
        });
    }

    /// Sets a soft limit of the running server, as in `--nofile=40`, by `prlimit(1)`.
    pub fn set_limit(&self, limit: &str) {
        use std::os::unix::fs::MetadataExt;
        let pid = self.pid().to_string();
        let owner = std::fs::metadata(format!("/proc/{pid}")).expect("the server runs");
        // Even root may set the limits of others only with a capability that containers lack.
        let mut command = if owner.uid() == rustix::process::getuid().as_raw() {
            Command::new("prlimit")
        } else {
            let mut command = Command::new("setpriv");
            let owner = [format!("--reuid={}", owner.uid()), format!("--regid={}", owner.gid())];
            command.args(owner).args(["--clear-groups", "prlimit"]);
            command
        };
        let status = command.args(["--pid", &pid, &format!("{limit}:")]).status();
        assert!(status.is_ok_and(|status| status.success()), "{limit} cannot be set");
    }

    /// Waits for the end and reads what is left of standard error into `seen`.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            // The pipe ends when the process has exited; the loop has a deadline.
            match self.lines.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => self.seen.push(line),
                Err(_) => {
                    if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                        break status;
                    }
                }
            }
            assert!(
                Instant::now() < deadline,
                "the server does not exit; stderr: {:#?}",
                self.seen
            );
        };
        self.seen.extend(self.lines.iter());
        status
    }

    /// Sends a signal until the server has exited: a repetition within 200 ms counts as the same
    /// signal.
    pub fn signal_until_it_ends(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        wait_until("the server to end", || {
            let has_ended = self.child.try_wait().expect("it can be waited for").is_some();
            if !has_ended {
                self.signal(signal);
            }
            has_ended
        });
        self.wait()
    }

    /// Starts the drain, waits for the exit, and returns the exit code and standard error.
    pub fn stop(mut self) -> (Option<i32>, Vec<String>) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.wait();
        (status.code(), std::mem::take(&mut self.seen))
    }

    /// Whether a thread of the server is blocked in this system call, by its number.
    pub fn is_in_call(&self, number: &str) -> bool {
        is_in_call(self.pid(), number)
    }

    /// Whether a thread of the server waits for one descriptor in `poll(2)`: a connection that
    /// cannot be written to. (Readers wait in `recv(2)`, and acceptors wait for two descriptors.)
    pub fn polls_one_descriptor(&self) -> bool {
        self.polls("0x1")
    }

    fn polls(&self, descriptors: &str) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        tasks.expect("the server runs").filter_map(Result::ok).any(|task| {
            let call = std::fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
            let mut words = call.split(' ');
            words.next().is_some_and(|call| POLLS.contains(&call))
                && words.nth(1) == Some(descriptors)
        })
    }

    /// Whether a thread is blocked in a `recv(2)` of this many bytes, in hexadecimal.
    pub fn is_reading(&self, bytes: &str) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        tasks.expect("the server runs").filter_map(Result::ok).any(|task| {
            let call = std::fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
            let mut words = call.split(' ');
            words.next() == Some(RECVFROM) && words.nth(2) == Some(bytes)
        })
    }

    /// Whether a thread waits for two descriptors in `poll(2)`, as an acceptor does.
    pub fn is_in_a_poll_of_two(&self) -> bool {
        self.polls("0x2")
    }

    /// The number of context switches of all threads of the server, voluntary or not.
    pub fn times_scheduled(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let of_one = |status: &str| -> u64 {
            let switches = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
            switches.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
        };
        let statuses = tasks
            .expect("the server runs")
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
        statuses.map(|status| of_one(&status)).sum()
    }

    /// The number of threads of the server.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the server runs").count()
    }

    /// The server's end of a client's connection. A client whose connection was reset has no peer.
    pub fn end_of(&self, client: &TcpStream) -> Option<TcpEnd> {
        TcpEnd::find(client.peer_addr().ok()?, client.local_addr().unwrap())
    }

    /// The number of listening TCP sockets of the server, by the kernel.
    pub fn listeners(&self) -> usize {
        const LISTEN: &str = "0A";
        let mine: Vec<String> =
            self.open_descriptors().into_iter().map(|(_, target)| target).collect();
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap();
        let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let listening = fields.filter(|fields| fields[3] == LISTEN);
        listening.filter(|fields| mine.contains(&format!("socket:[{}]", fields[9]))).count()
    }

    /// The numbers that the server's custody table lists, owned and declared. Needs a server that
    /// logs JSON.
    pub fn custody(&mut self) -> Vec<i32> {
        self.signal(rustix::process::Signal::USR1);
        let line = self.wait_for_line("\"declared\":");
        let table: serde_json::Value = serde_json::from_str(&line).expect("the table is JSON");
        let numbers = |list: &str| -> Vec<i32> {
            let list = table[list].as_array().expect("a list");
            let numbers = list.iter().filter_map(|entry| entry["number"].as_i64());
            numbers.map(|number| i32::try_from(number).expect("a descriptor")).collect()
        };
        let mut all = numbers("resources");
        all.extend(numbers("declared"));
        all.sort_unstable();
        all
    }

    /// Every line so far.
    pub fn lines(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// Waits until the server satisfies `wanted`.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Server) -> bool) {
        wait_until(what, || wanted(self));
    }

    /// The entries of `/proc/PID/fd`: numbers and targets.
    pub fn open_descriptors(&self) -> Vec<(i32, String)> {
        let mut open: Vec<(i32, String)> = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("the server runs")
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let target = std::fs::read_link(entry.path()).ok()?;
                Some((
                    entry.file_name().to_str()?.parse().ok()?,
                    target.to_string_lossy().into_owned(),
                ))
            })
            .collect();
        open.sort();
        open
    }

    /// Waits until the open descriptors satisfy `wanted`.
    pub fn wait_for_descriptors(
        &self,
        wanted: impl Fn(&[(i32, String)]) -> bool,
    ) -> Vec<(i32, String)> {
        let mut open = Vec::new();
        let found = poll(DEADLINE, || {
            open = self.open_descriptors();
            wanted(&open).then(|| open.clone())
        });
        found.unwrap_or_else(|| panic!("still open: {open:#?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only this child, by its own handle; an error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command `echown serve` on these addresses.
pub fn serve(addresses: &[&str], arguments: &[&str]) -> Command {
    let mut command = echown();
    command.arg("serve");
    for address in addresses {
        command.args(["--listen", address]);
    }
    command.args(arguments);
    command
}

/// The program, with signals as in a terminal.
pub fn echown() -> Command {
    as_in_a_terminal(env!("CARGO_BIN_EXE_echown"))
}

/// A program that inherits the signal dispositions and the environment of a terminal. Tests may run in
/// the background of a script or under `nohup`, where some signals are ignored, and would stay so; or in
/// a service, whose manager must hear nothing of the tests.
pub fn as_in_a_terminal(program: &str) -> Command {
    let mut command = with_signals_of_a_terminal(program);
    for variable in ["LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(variable);
    }
    command
}

fn with_signals_of_a_terminal(program: &str) -> Command {
    /// SIGHUP, SIGINT and SIGQUIT, as in `/proc/PID/status`.
    const OF_A_TERMINAL: u64 = 0b111;
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask in hexadecimal");
    let mut command;
    if ignored & OF_A_TERMINAL == 0 {
        command = Command::new(program);
    } else {
        command = Command::new("env");
        command.args(["--default-signal=INT,QUIT,HUP", program]);
    }
    without_variables(&mut command);
    command
}

/// Removes the variables that set options of `echown serve`, except those that a test has set itself, and
/// the one for backtraces: on a busy machine the first of a debug build takes seconds.
pub fn without_variables(command: &mut Command) -> &mut Command {
    let own: Vec<OsString> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_read = text.starts_with("ECHOWN_SERVE_") || text == "RUST_BACKTRACE";
        if is_read && !own.contains(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// Sends all of `bytes`, half-closes, and returns everything that comes back.
pub fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut reader = stream.try_clone().expect("a socket can be cloned");
    let back = std::thread::spawn(move || {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).expect("the echo ends");
        back
    });
    stream.write_all(bytes).expect("the server reads");
    stream.shutdown(std::net::Shutdown::Write).expect("the sending side can be closed");
    back.join().expect("the reader does not panic")
}

/// Bytes that differ by position, so that a lost, duplicated or moved one is detected.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// A client that sends and does not read, until the server's task is blocked in writing to it.
///
/// A stall of its own sends does not show that: with a full receive buffer the client's kernel
/// drops incoming segments, and with them the acknowledgements that its sends wait for.
pub fn never_reads(server: &Server) -> TcpStream {
    let mut greedy = server.connect();
    greedy.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let block = pattern(1024 * 1024);
    let deadline = Instant::now() + DEADLINE;
    while !server.is_in_call(SENDTO) && !server.polls_one_descriptor() {
        assert!(Instant::now() < deadline, "the server never blocks in a write");
        // Only the state of the server counts, stalled or not.
        let _ = greedy.write(&block);
    }
    greedy
}

/// Whether a thread of a process is blocked in this system call, by its number.
pub fn is_in_call(process: u32, number: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    tasks.expect("it runs").filter_map(Result::ok).any(|task| {
        std::fs::read_to_string(task.path().join("syscall"))
            .is_ok_and(|call| call.split(' ').next() == Some(number))
    })
}

/// The number of `sendto(2)`, which is what `send` is.
pub const SENDTO: &str = if cfg!(target_arch = "x86_64") { "44" } else { "206" };

/// The number of `write(2)`.
pub const WRITE: &str = if cfg!(target_arch = "x86_64") { "1" } else { "64" };

/// The number of `recvfrom(2)`, which is what `recv` is.
const RECVFROM: &str = if cfg!(target_arch = "x86_64") { "45" } else { "207" };

/// The numbers of `poll(2)` and `ppoll(2)`.
const POLLS: &[&str] = if cfg!(target_arch = "x86_64") { &["7", "271"] } else { &["73"] };

/// A number of the summary, by the word behind it: `17 refused`.
pub fn summary(lines: &[String], what: &str) -> u64 {
    let part = |line: &String| {
        // What SIGUSR1 printed earlier.
        if line.starts_with("totals: ") {
            return None;
        }
        line.split(", ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok())
    };
    lines.iter().find_map(part).unwrap_or_else(|| panic!("no {what:?} in {lines:#?}"))
}

/// One end of a TCP connection (IPv4), as the kernel's table lists it.
pub struct TcpEnd {
    pub is_established: bool,
    /// Bytes sent that the other end's system has not acknowledged, or that are still to be sent.
    pub unsent: usize,
    /// Bytes received and not read.
    pub unread: usize,
    /// Until the next keep-alive probe, if one is due and nothing is retransmitted.
    pub probed_in: Option<Duration>,
}

impl TcpEnd {
    /// By both addresses: another connection may have one of the ports.
    pub fn find(local: SocketAddr, remote: SocketAddr) -> Option<TcpEnd> {
        const ESTABLISHED: &str = "01";
        let ends = [local, remote].map(|end| format!("0100007F:{:04X}", end.port()));
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (unsent, unread) = fields[4].split_once(':')?;
            let bytes = |queue| usize::from_str_radix(queue, 16).unwrap();
            // In hundredths of a second; the kind 02 is keep-alive's timer.
            let ticks = fields[5].strip_prefix("02:");
            let ticks = ticks.map(|ticks| u64::from_str_radix(ticks, 16).unwrap());
            (fields[1..3] == ends).then(|| TcpEnd {
                is_established: fields[3] == ESTABLISHED,
                unsent: bytes(unsent),
                unread: bytes(unread),
                probed_in: ticks.map(|ticks| Duration::from_millis(10 * ticks)),
            })
        })
    }
}
