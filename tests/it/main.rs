//! Integration tests: the real binary over real sockets.
//!
//! One test binary, one module per subject. Every server listens on a free port and is stopped when
//! its handle is dropped.

mod bench;
mod broadcast;
mod callback;
mod chaos;
mod chat;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod completions;
mod cookies;
mod counters;
mod deploying;
mod documents;
mod draining;
mod empty_root;
mod ends;
mod environment;
mod examples;
mod faults;
mod formats;
mod healthcheck;
mod help;
mod hostile;
mod learn;
mod learn_project;
mod lifecycle;
mod limits;
mod man;
mod memory;
mod messages;
mod metrics;
mod nothing_leaks;
mod pages;
mod parking;
mod parking_options;
mod picture;
mod plain_echo;
mod readme;
mod record;
mod reference_servers;
mod reports;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod run;
mod run_corpus;
mod sandbox;
mod server;
mod signals;
mod soaking;
mod staged;
mod staged_client;
mod stalled;
mod standard_error;
mod status;
mod style_pages;
#[cfg(target_os = "linux")]
mod systemd;
mod unix_sockets;
mod untrusted;
mod upgrade;

/// A trace file that no other test uses.
fn trace_path() -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("echown-{}-{number}.trace", std::process::id()))
}
