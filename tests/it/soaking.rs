//! Some seconds of the soak that `ci/soak` runs for minutes.

#[path = "../soak/mod.rs"]
mod soak;

use std::time::Duration;

/// Descriptors, threads, echoes, reports and exit code must be exact. Memory has the soak's own
/// limit, which a few seconds do not test.
fn soak_for_seconds(arguments: Vec<String>) {
    let outcome = soak::run(&soak::Settings {
        program: env!("CARGO_BIN_EXE_echown").into(),
        warm_up: Duration::from_secs(2),
        duration: Duration::from_secs(4),
        seed: 1,
        arguments,
        progress: |_| {},
    });
    // Memory that is not yet at its peak after such a short time is not a leak.
    let grown: Vec<&String> =
        outcome.faults.iter().filter(|fault| !fault.starts_with("memory ")).collect();
    assert!(grown.is_empty(), "{outcome}");
    assert!(outcome.connections > 100, "{outcome}");
    assert!(outcome.deeds.iter().all(|(_, times)| *times > 0), "{outcome}");
}

#[test]
fn after_a_soak_a_server_has_the_resources_it_started_with() {
    soak_for_seconds(Vec::new());
}

#[test]
fn after_a_soak_a_server_that_parks_has_the_resources_it_started_with() {
    soak_for_seconds(vec!["--park".to_owned()]);
}
