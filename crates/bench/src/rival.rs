//! A server that is started for a run, and ended after it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::host::Host;
use crate::machine::pin_to;
use crate::net::Descriptor;
use crate::outcome::Outcome;
use crate::plan::{Plan, Target};
use crate::run::{LoadError, Progress, run};
use crate::watch::Watch;

/// How long a server may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How long it may take to end when it is asked to; then it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);

const ASKING_PAUSE: Duration = Duration::from_millis(5);

/// A server by name and command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// What it is called.
    pub name: String,
    /// What starts it, for `sh`; `{port}` stands for where it is to listen, on 127.0.0.1.
    pub command: String,
}

impl Rival {
    /// Starts it, asks it what the plan says, and ends it.
    ///
    /// # Errors
    /// It cannot be started; as [`run`]; or it has ended before it was asked to.
    pub fn bench(
        &self,
        host: &Arc<dyn Host>,
        plan: &Plan,
        processors: Option<&[usize]>,
        watch: &Watch,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Outcome, LoadError> {
        let server = self.start(host, processors, watch, &mut progress)?;
        let (target, pid) = (server.target(), server.pid());
        let outcome = run(host, plan, &target, Some(pid), watch, progress);
        match server.stop() {
            // That it was not there any more is why it did not answer.
            Ok(Some(status)) if !watch.is_stopped() => Err(LoadError::new(format!(
                "{}: the server ended during the run: {status}",
                self.name
            ))),
            Err(error) => {
                Err(LoadError::new(format!("{}: cannot be waited for: {error}", self.name)))
            }
            Ok(_) => outcome,
        }
    }

    /// Starts it, on these processors if any are given, and waits until it listens. It is not in the
    /// terminal's foreground: SIGINT there is for who asks, who ends it afterwards. It does not outlive
    /// this process, whose main thread has to call this.
    ///
    /// # Errors
    /// It cannot be started, or has ended, or does not listen in time.
    pub fn start(
        &self,
        host: &Arc<dyn Host>,
        processors: Option<&[usize]>,
        watch: &Watch,
        progress: impl FnMut(Progress<'_>),
    ) -> Result<Running, LoadError> {
        let failed =
            |what: String| LoadError::new(format!("cannot start the server {}: {what}", self.name));
        let address =
            free_address(host).map_err(|error| failed(format!("no free port: {error}")))?;
        // `exec`, so that the process is the server and not a shell that waits for it.
        let line = self.command.replace("{port}", &address.port().to_string());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0);
        host.before_spawn(&mut command);
        // A child has what the thread has that starts it.
        let before = processors.map(pin_to).transpose().map_err(|error| {
            let each: Vec<String> =
                processors.into_iter().flatten().map(ToString::to_string).collect();
            failed(format!("cannot run on the processors {}: {error}", each.join(",")))
        })?;
        let started = command.spawn();
        if let Some(before) = before {
            pin_to(&before).map_err(|error| failed(format!("the way back: {error}")))?;
        }
        let child = started.map_err(|error| failed(format!("`{line}`: {}", why_not(&error))))?;
        let mut running = Running { child, address, watch: watch.clone() };
        watch.started(running.pid());
        running
            .wait_until_it_listens(host, progress)
            .map_err(|what| failed(format!("`{line}` {what}")))?;
        Ok(running)
    }
}

/// Why the shell was not started. That the command's own program is missing would be the shell's error.
fn why_not(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::NotFound {
        return error.to_string();
    }
    let has_null = std::path::Path::new("/dev/null").exists();
    let missing = if has_null { "the shell `sh`" } else { "/dev/null" };
    format!("{missing}, which is needed to start servers, is missing; give the address of a server")
}

/// A port on which nobody listens at the moment.
fn free_address(host: &Arc<dyn Host>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    drop(Descriptor::new(host, listener, "tcp listener"));
    Ok(address)
}

/// A server that runs, and is ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    address: SocketAddr,
    watch: Watch,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::Inet(self.address)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn wait_until_it_listens(
        &mut self,
        host: &Arc<dyn Host>,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<(), String> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            progress(Progress::Waiting(&format!("waiting for the server on {}", self.address)));
            if self.watch.is_stopped() {
                return Err("was not waited for".into());
            }
            match self.watch.reap(&mut self.child) {
                Ok(None) => {}
                Ok(Some(status)) => return Err(format!("has ended at once: {status}")),
                Err(error) => return Err(format!("cannot be waited for: {error}")),
            }
            // A connection that is made and closed: the server's first.
            if self.target().connect(host, None).is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("does not listen on port {}", self.address.port()));
            }
            std::thread::sleep(ASKING_PAUSE);
        }
    }

    /// Asks it to end, and waits; kills it when it takes too long. Its exit status, if it has ended
    /// before.
    ///
    /// # Errors
    /// It could not be waited for.
    pub fn stop(mut self) -> io::Result<Option<ExitStatus>> {
        self.end()
    }

    fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.watch.reap(&mut self.child)? {
            return Ok(Some(status));
        }
        if let Some(pid) = Pid::from_raw(self.pid()) {
            // It may just have ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END_PATIENCE;
        let mut is_killed = false;
        loop {
            if self.watch.reap(&mut self.child)?.is_some() {
                return Ok(None);
            }
            if !is_killed && Instant::now() >= deadline {
                self.child.kill()?;
                is_killed = true;
            }
            std::thread::sleep(ASKING_PAUSE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
