//! The text below the options of `echown serve --help`.

/// Printed below the options: tables whose lines fit into 80 columns.
pub(super) const NOTES: &str = "\
Durations:
  A number with a unit: 500ms, 5s, 1h30m. 0 means no wait, as in
  --drain-timeout 0s; a timeout for clients must be greater than 0.

Environment:
  ECHOWN_SERVE_ and the name of an option in capitals, with `_` for `-`, sets
  that option: ECHOWN_SERVE_MAX_PER_IP=8 is --max-per-ip 8. The command line
  wins. Values of a repeatable option are separated by commas, as in
  ECHOWN_SERVE_LISTEN=127.0.0.1:3000,unix:/run/echo. An option without a value
  is set by `true`, and not by `false`. An empty variable counts as not set. An
  unknown variable that begins with ECHOWN_SERVE_ is an error. The log says
  which variables are in use. Servers that `echown bench` starts ignore them.

Signals:
  SIGINT, SIGTERM  drain: accept queued connections, finish open ones, exit;
                   a second signal stops at once (the same signal from the
                   same sender within 200 ms counts as one, because `timeout`
                   sends it twice)
  SIGQUIT          print the custody table, abort all connections, exit
  SIGUSR1          print the custody table (owner, age and origin of each
                   descriptor), why connections ended, the numbers of the
                   summary so far, and the recorded references, if the style
                   records them
  SIGHUP           reopen the output files
  SIGINT, SIGQUIT and SIGHUP stay ignored if the parent process ignores them,
  as a shell does for background jobs and `nohup` does for SIGHUP. SIGTERM and
  SIGUSR1 are always handled, and no signal stays blocked. A write beyond the
  file size limit (`ulimit -f`) fails like a write to a full disk.

Service manager (systemd):
  With NOTIFY_SOCKET in the environment, as under `Type=notify`, the server
  sends READY=1 when every address is bound and accepts, RELOADING=1 and READY=1
  around the reopening of files, STOPPING=1 at the first stop signal, and
  STATUS= with its connections, at most every 2 s.
  Listening sockets that it passes (LISTEN_FDS, as by a socket unit) are served
  instead of the default address; one with the name `status`
  (`FileDescriptorName=`) gets the status server, unless --status is given.
  With --listen, each of them must have one of the addresses, and the other
  addresses are bound. They are never shut down, and their paths stay.
  With `Accept=yes` the server gets one connection, serves it, and exits.
  With WATCHDOG_USEC (`WatchdogSec=`) it sends WATCHDOG=1 twice in that time, as
  long as a connection to itself gets its bytes back: through the threads and
  the style of all clients, but outside of limits, counts and broadcasts. With
  --park that connection is parked with those of clients.

Outputs:
  Neither clients nor signals wait for an output. If an output stalls (a pipe
  that is not read, a terminal stopped with ^S), lines that do not fit its queue
  are dropped and counted: in the output itself, once it continues, and in the
  summary. At exit a stalled output gets 2 s.
  As the FILE of an output, except a recording, `-` is standard output.
  In the journal of systemd (JOURNAL_STREAM) every line on standard error has
  the priority of its level, and neither a time stamp nor colours.

Exit codes:
  0    drained
  1    failed to start (port in use, no thread, an output that cannot be
       written), or failed to write an output at exit
  2    invalid arguments, suppressions or baseline
  23   drained, with a finding whose policy is `fail`
  130  stopped by a second SIGINT
  143  stopped by a second SIGTERM";
