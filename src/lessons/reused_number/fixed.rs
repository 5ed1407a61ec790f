//! Feeds a program under test through a pipe, and cleans up afterwards.

use std::error::Error;
use std::io::{self, Read, Write};

use echown::net::{PipeWriter, pipe};

/// Sends the input of a program, which waits for the end of it.
fn feed(mut stdin: &PipeWriter, text: &str) -> io::Result<()> {
    stdin.write_all(text.as_bytes())?;
    stdin.close()?;
    Ok(())
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let (program, stdin) = pipe()?;
    feed(&stdin, "2 + 2\n")?;

    // The next program starts: a pipe for its output.
    let (mut stdout, mut next_program) = pipe()?;
    next_program.write_all(b"ready\n")?;
    next_program.close()?;

    // The first program has ended.
    program.close()?;

    let mut line = String::new();
    stdout.read_to_string(&mut line)?;
    assert_eq!(line, "ready\n");
    Ok(())
}
