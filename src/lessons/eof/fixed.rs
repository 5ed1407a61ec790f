//! Sends three lines through a pipe to a task that counts them.

use std::error::Error;
use std::io::{Read, Write};

use echown::net::{PipeReader, pipe};
use echown::pool::Pool;

/// Counts the lines up to the end of the input.
fn count(mut input: PipeReader) -> std::io::Result<usize> {
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    Ok(text.lines().count())
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let (input, mut output) = pipe()?;
    let counter = pool.spawn_named_with("counter", input, count)?;
    for word in ["one", "two", "three"] {
        writeln!(output, "{word}")?;
    }
    drop(output);
    let lines = counter.join_flat()?;
    assert_eq!(lines, 3);
    Ok(())
}
