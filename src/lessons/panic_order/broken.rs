//! Imports a line into a store, whose folder gets its name at the end.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

use echown::ownership::{Owned, own_with};
use echown::pool::Pool;

type Part = Owned<PathBuf>;

fn open_store(path: &Path) -> io::Result<(Part, Part)> {
    let draft = path.with_extension("draft");
    fs::create_dir(&draft)?;
    let (entries, path) = (draft.join("entries"), path.to_owned());
    let folder = own_with(draft, |draft| fs::rename(draft, path))?;
    let store = own_with(entries, |entries| fs::write(entries, "5"))?;
    Ok((store, folder))
}

fn import(line: &str, path: &Path) -> io::Result<u32> {
    let (store, folder) = open_store(path)?;
    let number = line.parse().expect("the line is a number");
    store.release()?;
    folder.release()?;
    Ok(number)
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("store-{}", process::id()));
    let target = path.clone();
    let import = move || import("seven", &target);
    let outcome = Pool::new().spawn_named("import", [], import)?.join();
    outcome.expect_err("the line is not a number");
    let entries = fs::read_to_string(path.join("entries"));
    fs::remove_dir_all(path)?;
    assert_eq!(entries?, "5");
    Ok(())
}
