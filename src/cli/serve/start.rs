//! The start of the server, step by step, and its end.
//!
//! The order: everything is bound before the first thread starts; everything that can fail comes
//! before an old recording is replaced; `listening on` comes when all descriptors of the server are open;
//! then it accepts.

use std::sync::Arc;

use super::super::environment;
use super::super::output::{Output, documents};
use super::super::record::Recorder;
use super::super::reports::Reporting;
use super::super::stderr_line::form::Shown;
use super::super::stderr_line::{Line, stderr_line};
use super::SUMMARY;
use super::ServeArguments;
use super::addresses::Addresses;
use super::hooks::Hooks;
use super::service_manager::ServiceManager;
use super::signals::ServeSignals;
use super::upgrade::BoundUpgrade;
use crate::ownership::Registry;
use crate::server::{Server, ServerSummary};
use crate::signals::Signals;
use crate::status::StatusServer;

/// The warning about the user. An open socket needs no privileges, and a bound port stays bound.
const AS_ROOT: &str = "running as root, which only binding a port below 1024 may need: run it as another user \
     (systemd: `User=`), and let the service manager bind such a port (socket activation) or give the \
     process the capability CAP_NET_BIND_SERVICE";

/// Serves to the end and returns the summary.
///
/// # Errors
/// The message for the user. Nothing was served, or all of it was drained.
pub(super) fn serve(
    arguments: &ServeArguments,
    registry: &Registry,
    output: &Arc<Output>,
    reporting: &Reporting,
    recorder: &mut Option<Recorder>,
) -> Result<ServerSummary, String> {
    // First of all: the numbers of the passed descriptors are fixed.
    let mut manager = ServiceManager::connect(registry)?;
    output.open()?;
    reporting.check_writable()?;
    if let Some(path) = &arguments.summary {
        // Checked now, not after a week of serving.
        documents::attempt(SUMMARY, path)?;
    }
    let style = arguments.chaos.wrap(arguments.styles.build(arguments.style, output));
    let mut settings = arguments.settings();
    let accepted = manager.take_connection(&settings)?;
    if accepted.is_some() {
        // A single connection has its own thread.
        settings.park = None;
    }
    let (upgrade, Addresses { listen, status }) = if accepted.is_some() {
        (None, arguments.plan_without_listening()?)
    } else {
        let mut received = manager.take_listeners()?;
        let upgrade = arguments.upgrade.claim(arguments, registry, &mut received)?;
        (upgrade, arguments.plan(received)?)
    };
    let lowered_backlog = arguments.limits.lowered_backlog();
    let reserved = arguments.status.reserved(status.as_ref())
        + arguments.upgrade.reserved()
        + manager.reserved()
        + arguments.sandbox.reserved();
    let mut server = Server::bind_planned(registry, listen, settings, Arc::clone(&style), reserved)
        .map_err(|error| error.to_string())?;
    if let Some(stream) = accepted {
        server.serve_only(stream).map_err(|error| error.to_string())?;
    }
    let status = arguments.status.bind(registry, status, &server)?;
    let upgrade =
        upgrade.map(|upgrade| upgrade.bind(registry, &server, status.as_ref())).transpose()?;
    let sockets = server.socket_files().chain(status.iter().filter_map(StatusServer::socket_file));
    let sockets = sockets.chain(upgrade.iter().filter_map(BoundUpgrade::socket_file));
    // Above this line nothing starts a thread: a sandbox restricts the thread that asks for it.
    let _sandbox = arguments.apply_sandbox(sockets)?;
    output.start()?;
    let manager = manager.start(&mut server)?;
    let handler = Arc::new(ServeSignals {
        output: Arc::clone(output),
        style: Arc::clone(&style),
        control: server.control(),
        counts: server.counts_reader(),
        manager: manager.notifier(),
    });
    let signals = Signals::install(registry, handler)
        .map_err(|error| format!("failed to watch for signals: {error}"))?;
    // From here on the server starts, so an old recording may be replaced.
    *recorder = arguments.record.start(registry)?;
    output.begin()?;
    if !arguments.variables.is_empty() {
        tracing::info!("{}", environment::note(&arguments.variables));
    }
    if let Some(lowered) = lowered_backlog {
        tracing::warn!("{lowered}");
    }
    arguments.limits.log_lowered(arguments.style, &server);
    arguments.parking.log_lowered(&server);
    if echown_limits::is_root() {
        tracing::warn!("{AS_ROOT}");
    }
    for lost in [echown_limits::without_proc(), echown_fd::fd::without_cookies()].iter().flatten() {
        tracing::warn!("{lost}");
    }
    // All descriptors of the server itself are open now, so a reader of these lines can count them.
    for address in server.addresses() {
        let text = format!("listening on {address}");
        stderr_line(Line::from(text).event("listening").field("address", Shown(address)));
    }
    let status = status.map(|status| status.start()).transpose()?;
    if let Some(status) = &status {
        let text = format!("status on {}", status.url());
        stderr_line(Line::from(text).event("status").field("url", status.url()));
    }
    let signals = Some(signals);
    let manager = Some(manager);
    let mut hooks = Hooks { signals, status, upgrade, manager, running_upgrade: None };
    let served = server.serve_with(&mut hooks);
    hooks.end();
    served.map_err(|error| error.to_string())
}
