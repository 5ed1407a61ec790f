//! Each example prints what its documentation says.

use std::path::PathBuf;
use std::process::Command;

/// The built example. `cargo test` builds them next to this test's own directory.
fn example(name: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().expect("a test knows its own path");
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    assert!(
        path.exists(),
        "run `cargo test` without a target: {} is not built",
        path.display()
    );
    Command::new(path)
}
