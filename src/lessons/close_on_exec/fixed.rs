//! A log is a pipe: lines are written to one end and read from the other.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

pub fn run() -> Result<(), Box<dyn Error>> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut writer = File::from(writer);
    let mut filter = Command::new("cat").stdin(Stdio::piped()).spawn()?;

    writer.write_all(b"started")?;
    drop(writer);
    drop(filter.stdin.take());
    filter.wait()?;

    let mut log = String::new();
    File::from(reader).read_to_string(&mut log)?;
    assert_eq!(log, "started");
    Ok(())
}
