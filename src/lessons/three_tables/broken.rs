//! A locked file has the process id, so that the program runs only once.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Mutex;
use std::{env, fs, process};

use echown::net::File;

static PID_FILE: Mutex<Option<File>> = Mutex::new(None);

fn write_pid(lock: &fs::File) -> io::Result<()> {
    let mut copy = File::own(lock.try_clone()?)?;
    writeln!(copy, "{}", process::id())?;
    *PID_FILE.lock().expect("no thread panicked") = Some(copy);
    Ok(())
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("pid-{}", process::id()));
    let lock = fs::File::create(&path)?;
    lock.lock()?;
    write_pid(&lock)?;
    drop(lock);

    let next = fs::File::open(&path)?;
    fs::remove_file(path)?;
    next.try_lock()?;
    Ok(())
}
