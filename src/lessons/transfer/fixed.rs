//! A helper task prepares the input of a program and returns the pipe.

use std::error::Error;
use std::io::{self, Read, Write};

use echown::net::{PipeReader, pipe};
use echown::pool::Pool;

fn prepare(text: &str) -> io::Result<PipeReader> {
    let (input, mut output) = pipe()?;
    output.write_all(text.as_bytes())?;
    input.transfer()?;
    Ok(input)
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let helper = pool.spawn_named("helper", [], || prepare("hello"))?;
    let mut input = helper.join_flat()?;
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    assert_eq!(text, "hello");
    Ok(())
}
