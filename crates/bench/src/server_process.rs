//! The server under test: a process that is started for a run and stopped after it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::host::Host;
use crate::load_error::LoadError;
use crate::net::ReportedFd;
use crate::plan::{LoadPlan, Target};
use crate::progress::LoadProgress;
use crate::result::LoadResult;
use crate::run::run;
use crate::stop_handle::LoadStopHandle;
use crate::usage::pin_to;

/// How long a server may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a server may take to exit after SIGTERM. Then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A server by name and command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCommand {
    /// Its name in results and messages.
    pub name: String,
    /// The command for `sh`. `{port}` stands for the port on 127.0.0.1 that it listens on.
    pub command: String,
}

impl ServerCommand {
    /// Starts the server, runs the load, and stops the server.
    ///
    /// # Errors
    /// The server could not be started, or exited during the run; or an error of [`run`].
    pub fn bench(
        &self,
        host: &Arc<dyn Host>,
        plan: &LoadPlan,
        processors: Option<&[usize]>,
        stop: &LoadStopHandle,
        mut progress: impl FnMut(LoadProgress<'_>),
    ) -> Result<LoadResult, LoadError> {
        let server = self.start(host, processors, stop, &mut progress)?;
        let (target, pid) = (server.target(), server.pid());
        let result = run(host, plan, &target, Some(pid), stop, progress);
        match server.stop() {
            // This is the cause of whatever error `run` returned.
            Ok(Some(status)) if !stop.is_stopped() => Err(LoadError::new(format!(
                "{}: the server exited during the run: {status}",
                self.name
            ))),
            Err(error) => {
                let text = format!("failed to wait for {}: {error}", self.name);
                Err(LoadError::new(text).caused_by(error))
            }
            Ok(_) => result,
        }
    }

    /// Starts the server, on these processors if any are given, and waits until it listens.
    ///
    /// The server is not in the terminal's foreground process group: SIGINT there reaches this process
    /// alone, which stops the server afterwards. Call it on the main thread if the [`Host`] makes
    /// servers die with their parent: the kernel means the thread that starts them.
    ///
    /// # Errors
    /// The server could not be started, exited, or did not listen in time.
    pub fn start(
        &self,
        host: &Arc<dyn Host>,
        processors: Option<&[usize]>,
        stop: &LoadStopHandle,
        progress: impl FnMut(LoadProgress<'_>),
    ) -> Result<ServerProcess, LoadError> {
        let failed = |what: String| {
            LoadError::new(format!("failed to start the server {}: {what}", self.name))
        };
        let address = free_address(host)
            .map_err(|error| failed(format!("no free port: {error}")).caused_by(error))?;
        // `exec`, so that the process is the server and not a shell that waits for it.
        let line = self.command.replace("{port}", &address.port().to_string());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0);
        host.before_spawn(&mut command);
        // A child inherits the processors of the thread that starts it.
        let before = processors.map(pin_to).transpose().map_err(|error| {
            let each: Vec<String> =
                processors.into_iter().flatten().map(ToString::to_string).collect();
            let text = format!("failed to run on the processors {}: {error}", each.join(","));
            failed(text).caused_by(error)
        })?;
        let started = command.spawn();
        if let Some(before) = before {
            pin_to(&before).map_err(|error| {
                failed(format!("failed to restore the processors: {error}")).caused_by(error)
            })?;
        }
        let child = started
            .map_err(|error| failed(format!("`{line}`: {}", cause(&error))).caused_by(error))?;
        let mut server = ServerProcess { child, address, stop: stop.clone() };
        stop.add_server(server.pid());
        server
            .wait_until_it_listens(host, progress)
            .map_err(|what| failed(format!("`{line}` {what}")))?;
        Ok(server)
    }
}

/// Why the shell could not be started. If the command's own program is missing, the shell exits.
fn cause(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::NotFound {
        return error.to_string();
    }
    let has_null = std::path::Path::new("/dev/null").exists();
    let missing = if has_null { "the shell `sh`" } else { "/dev/null" };
    format!("{missing}, which is needed to start servers, is missing; give the address of a server")
}

/// An address on which no server listens now.
fn free_address(host: &Arc<dyn Host>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    drop(ReportedFd::new(host, listener, "tcp listener"));
    Ok(address)
}

/// A running server, which is stopped when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    stop: LoadStopHandle,
}

impl ServerProcess {
    /// The address on which it listens.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::Inet(self.address)
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn wait_until_it_listens(
        &mut self,
        host: &Arc<dyn Host>,
        mut progress: impl FnMut(LoadProgress<'_>),
    ) -> Result<(), String> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let text = format!("waiting for the server on {}", self.address);
            progress(LoadProgress::Waiting(&text));
            if self.stop.is_stopped() {
                return Err("was stopped before it listened".into());
            }
            match self.stop.reap(&mut self.child) {
                Ok(None) => {}
                Ok(Some(status)) => return Err(format!("exited at once: {status}")),
                Err(error) => return Err(format!("could not be waited for: {error}")),
            }
            // This connection is closed at once: it is the server's first.
            if self.target().connect(host, None).is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("does not listen on port {}", self.address.port()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sends SIGTERM and waits, and kills the server if it takes too long. Returns its exit status if
    /// it had exited before.
    ///
    /// # Errors
    /// Waiting for the process failed.
    pub fn stop(mut self) -> io::Result<Option<ExitStatus>> {
        self.terminate()
    }

    fn terminate(&mut self) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.stop.reap(&mut self.child)? {
            return Ok(Some(status));
        }
        if let Some(pid) = Pid::from_raw(self.pid()) {
            // It may just have exited.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut is_killed = false;
        loop {
            if self.stop.reap(&mut self.child)?.is_some() {
                return Ok(None);
            }
            if !is_killed && Instant::now() >= deadline {
                self.child.kill()?;
                is_killed = true;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.terminate();
    }
}
