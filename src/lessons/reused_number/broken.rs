//! Feeds a program under test through a pipe, and cleans up afterwards.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use echown::net::pipe;
use echown::ownership;

pub fn run() -> Result<(), Box<dyn Error>> {
    let (_program, mut stdin) = io::pipe()?;
    let number = stdin.as_raw_fd();
    stdin.write_all(b"2 + 2\n")?;
    let stdin = ownership::own_fd(stdin)?;
    // The program waits for the end of its input.
    nix::unistd::close(number)?;

    // The next program starts: a pipe for its output.
    let (mut stdout, mut next_program) = pipe()?;
    next_program.write_all(b"ready\n")?;
    next_program.close()?;

    // The first program has ended.
    stdin.release()?;

    let mut line = String::new();
    stdout.read_to_string(&mut line)?;
    assert_eq!(line, "ready\n");
    Ok(())
}
