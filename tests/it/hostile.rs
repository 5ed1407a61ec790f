//! Servers under hostile clients: resets, floods, exhaustion, signals.
//!
//! Written once for all styles: a [`Dialect`] defines how to start a server and one exchange. After
//! each scenario the server's descriptors are, by identity, those of before; so is its custody
//! table; and no more threads are left than the pool keeps for the next client.

use std::io::{Read, Write};
use std::process::Command;

use rustix::process::Signal;

use super::server::{Server, as_in_a_terminal, echown};
use addresses::{
    a_unix_socket_serves_and_its_file_is_removed_on_exit,
    each_of_several_acceptors_accepts_clients, ipv6_clients_are_served,
};
use dialect::{BROADCAST, CALLBACK, PARKED, PLAIN, STAGED};
pub use exhaustion::as_unprivileged_user;
use exhaustion::{
    a_flood_over_the_backlog_leaves_the_server_working,
    a_flood_over_the_limit_is_rejected_and_counted_without_effect_on_others,
    a_server_out_of_descriptors_pauses_logs_it_once_and_recovers,
    a_server_out_of_threads_rejects_clients_and_recovers, one_address_cannot_use_all_places,
};
use peers::{
    a_half_closed_client_gets_everything_and_then_end_of_stream,
    a_peer_that_never_reads_is_disconnected_by_the_write_timeout,
    an_idle_peer_is_closed_by_the_idle_timeout, requests_sent_byte_by_byte_are_served,
    resets_at_every_stage_leave_no_resources,
};
use stopping::{
    a_signal_for_information_disturbs_no_client,
    exchanges_of_a_mebibyte_in_progress_at_sigterm_are_completed,
    idle_connections_are_closed_long_before_the_drain_timeout,
    sigquit_ends_a_drain_that_takes_too_long,
    sigquit_prints_the_table_aborts_connections_and_exits_with_0, the_summary_is_written_as_json,
};

mod addresses;
mod dialect;
mod exhaustion;
pub mod peers;
mod stopping;

/// One module per dialect with one test per scenario.
macro_rules! suite {
    ($module:ident, $dialect:expr, [$($scenario:ident),+ $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $scenario() {
                    super::$scenario(&$dialect);
                }
            )+
        }
    };
}

/// All scenarios, for a style in which a client receives only its own echo. The last argument are those that
/// not every one has.
macro_rules! whole_suite {
    ($module:ident, $dialect:expr, [$($more:ident)?]) => {
        suite!(
            $module,
            $dialect,
            [
                $($more,)?
                resets_at_every_stage_leave_no_resources,
                a_half_closed_client_gets_everything_and_then_end_of_stream,
                requests_sent_byte_by_byte_are_served,
                a_peer_that_never_reads_is_disconnected_by_the_write_timeout,
                an_idle_peer_is_closed_by_the_idle_timeout,
                a_flood_over_the_limit_is_rejected_and_counted_without_effect_on_others,
                a_flood_over_the_backlog_leaves_the_server_working,
                one_address_cannot_use_all_places,
                a_server_out_of_descriptors_pauses_logs_it_once_and_recovers,
                exchanges_of_a_mebibyte_in_progress_at_sigterm_are_completed,
                idle_connections_are_closed_long_before_the_drain_timeout,
                sigquit_prints_the_table_aborts_connections_and_exits_with_0,
                sigquit_ends_a_drain_that_takes_too_long,
                a_signal_for_information_disturbs_no_client,
                the_summary_is_written_as_json,
                each_of_several_acceptors_accepts_clients,
                a_unix_socket_serves_and_its_file_is_removed_on_exit,
                ipv6_clients_are_served,
            ]
        );
    };
}

whole_suite!(plain, super::PLAIN, [a_server_out_of_threads_rejects_clients_and_recovers]);
// Clients that wait need no threads: `parking.rs` has those that do.
whole_suite!(parked, super::PARKED, []);
whole_suite!(staged, super::STAGED, [a_server_out_of_threads_rejects_clients_and_recovers]);
whole_suite!(callback, super::CALLBACK, [a_server_out_of_threads_rejects_clients_and_recovers]);

// Frames in flight at the start of a drain concern all clients: `broadcast.rs` has that scenario.
suite!(
    broadcast,
    super::BROADCAST,
    [
        resets_at_every_stage_leave_no_resources,
        a_half_closed_client_gets_everything_and_then_end_of_stream,
        requests_sent_byte_by_byte_are_served,
        a_peer_that_never_reads_is_disconnected_by_the_write_timeout,
        an_idle_peer_is_closed_by_the_idle_timeout,
        a_flood_over_the_limit_is_rejected_and_counted_without_effect_on_others,
        a_flood_over_the_backlog_leaves_the_server_working,
        one_address_cannot_use_all_places,
        a_server_out_of_descriptors_pauses_logs_it_once_and_recovers,
        a_server_out_of_threads_rejects_clients_and_recovers,
        idle_connections_are_closed_long_before_the_drain_timeout,
        sigquit_prints_the_table_aborts_connections_and_exits_with_0,
        sigquit_ends_a_drain_that_takes_too_long,
        a_signal_for_information_disturbs_no_client,
        the_summary_is_written_as_json,
        each_of_several_acceptors_accepts_clients,
        a_unix_socket_serves_and_its_file_is_removed_on_exit,
        ipv6_clients_are_served,
    ]
);

#[test]
fn a_summary_that_cannot_be_written_is_a_clear_error() {
    let output = echown()
        .args(["serve", "--listen", "127.0.0.1:0", "--summary", "/no/such/place"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("failed to write the summary to /no/such/place"), "{stderr}");
}

#[test]
fn a_full_or_closed_standard_error_does_not_end_the_server() {
    for nowhere in ["2>/dev/full", "2>&-"] {
        let path = std::env::temp_dir().join(format!("echown-{}.full.sock", std::process::id()));
        let program = env!("CARGO_BIN_EXE_echown");
        let line = format!("exec {program} serve --listen unix:{} {nowhere}", path.display());
        let mut command = as_in_a_terminal("sh");
        let mut server = Server::run(command.args(["-c", &line]), 0);
        let connect = || std::os::unix::net::UnixStream::connect(&path);
        // The file exists from `bind(2)` on, and connects succeed from `listen(2)` on.
        server.wait_for("its socket", |_| connect().is_ok());
        let talk = || {
            let mut client = connect().unwrap();
            client.write_all(b"still here").unwrap();
            client.read_exact(&mut [0; 10]).unwrap();
        };
        // Once a client is served, the server handles signals.
        talk();
        server.signal(Signal::USR1);
        server.signal(Signal::HUP);
        talk();
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{nowhere}");
    }
}

#[test]
fn a_report_fifo_without_a_reader_does_not_delay_the_end() {
    let fifo = std::env::temp_dir().join(format!("echown-{}.fifo", std::process::id()));
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is installed");
    assert!(made.success());
    // Open for both, so that opening it for writing does not block; no reader.
    let _open = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let path = fifo.to_str().unwrap();
    let mut server =
        Server::start(&["--chaos", "leak=1", "--report-file", path, "--drain-timeout", "500ms"]);
    for _ in 0..200 {
        let mut client = server.connect();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    std::fs::remove_file(&fifo).unwrap();
}
