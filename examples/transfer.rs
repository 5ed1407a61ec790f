//! Transfer from child to parent: a resource can outlive the task that made it, even after a panic.
//!
//! A child gathers a harvest, transfers it to its parent, and then panics. It prints
//!
//! ```text
//! the child is refused: resource 1 (Vec<&str>) used by task 2 `harvester`, expected owner task 1 `main` (owned at examples/transfer.rs:24:22)
//! task 2 `harvester` panicked: the harvester falls off the ladder
//! the parent has 4 fruits
//! finalized: 4 apples rot
//! 0 leaks, 1 violation, 0 replaced fds, 0 failed finalizers, 0 still open
//! ```

use std::error::Error;
use std::sync::mpsc::channel;

use echown::ownership::{self, TaskError};
use echown::pool::Pool;

fn main() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let (to_parent, from_child) = channel();

    let child = pool.spawn_named("harvester", [], move || {
        let apples = ownership::own_with(vec!["apple"; 3], |apples| {
            println!("finalized: {} apples rot", apples.len());
            Ok(())
        })
        .expect("a running task can own");
        apples.with(|apples| apples.push("pear")).expect("the harvest is the child's");

        apples.transfer().expect("the parent is running");
        let error = apples.check().expect_err("the harvest is the parent's");
        println!("the child is refused: {error}");

        to_parent.send(apples).expect("the parent listens");
        panic!("the harvester falls off the ladder");
    })?;

    if let Err(TaskError::Panicked(panic)) = child.join() {
        println!("{} panicked: {}", panic.task(), panic.message());
    }
    let apples = from_child.recv()?;
    println!("the parent has {} fruits", apples.with(|apples| apples.len())?);
    apples.release()?;
    println!("{}", ownership::finish());
    Ok(())
}
