//! Finalizers: each runs once, in reverse order, however the task ends and even if others fail.
//!
//! It prints
//!
//! ```text
//! released twice:
//!   shed taken down
//!   reported: double-release
//!   refused: resource 1 (&str) released again by task 1 `main` after its release by task 1 `main` (first released at examples/finalizer.rs:47:10)
//! dropped at the end of a block:
//!   ground floor taken down
//!   cellar taken down
//! forgotten by a task that panics, and one finalizer fails:
//!   roof taken down
//!   reported: finalizer-failed
//!   ground floor taken down
//!   cellar taken down
//!   task 2 `builder` panicked: earthquake
//! disowned: nothing is run
//!   here is the garage
//! 0 leaks, 1 violation, 0 replaced fds, 1 failed finalizer, 0 still open
//! ```

use std::error::Error;
use std::mem::forget;

use echown::ownership::{Owned, Registry, Report, TaskError};

/// Owns a floor of the house; its finalizer takes it down.
fn build(registry: &Registry, floor: &'static str) -> Owned<&'static str> {
    let built = registry.own_with(floor, |floor| {
        if floor == "first floor" {
            return Err(std::io::Error::other("the crane is stuck"));
        }
        println!("  {floor} taken down");
        Ok(())
    });
    built.expect("a running task can own")
}

fn main() -> Result<(), Box<dyn Error>> {
    let show = |report: &Report| println!("  reported: {}", report.code());
    let registry = Registry::builder().sink(show).build();

    println!("released twice:");
    let shed = build(&registry, "shed");
    shed.release()?;
    let error = shed.release().expect_err("once is all");
    println!("  refused: {error}");

    println!("dropped at the end of a block:");
    {
        let _cellar = build(&registry, "cellar");
        let _ground_floor = build(&registry, "ground floor");
    }

    println!("forgotten by a task that panics, and one finalizer fails:");
    let outcome = registry.run("builder", || {
        for floor in ["cellar", "ground floor", "first floor", "roof"] {
            forget(build(&registry, floor));
        }
        panic!("earthquake");
    });
    let failure: TaskError<()> = outcome.expect_err("it panicked");
    println!("  {failure}");

    println!("disowned: nothing is run");
    let value = build(&registry, "garage").disown()?;
    println!("  here is the {value}");

    println!("{}", registry.finish());
    Ok(())
}
