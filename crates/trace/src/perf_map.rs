//! Perf maps: the names that just-in-time compilers give to the code that they make.
//!
//! A program writes them to `/tmp/perf-PID.map`, a line for each function: start and size in hexadecimal
//! digits, and the name. Node does so with `NODE_OPTIONS="--perf-basic-prof
//! --interpreted-frames-native-stack"`. Another user could place such a file: it is read only if it is a
//! regular file, no symbolic link, and owned by the user of the process.
//!
//! Limits: 256 MiB of a map, 4 KiB of a line; the rest is not read.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::stack::ScriptFrame;

/// The maximum size that is read.
const SIZE_MAX: u64 = 256 << 20;

/// The maximum length of a line.
const LINE_MAX: u64 = 4 << 10;

/// The names for some addresses of a process, from its map. Nothing is found without a trustworthy map.
pub(crate) fn names(process: i32, addresses: &[u64]) -> Vec<(u64, ScriptFrame)> {
    match open(process) {
        Some(map) if !addresses.is_empty() => find(BufReader::new(map.take(SIZE_MAX)), addresses),
        _ => Vec::new(),
    }
}

fn open(process: i32) -> Option<File> {
    let user = rustix::fs::stat(format!("/proc/{process}")).ok()?.st_uid;
    let own = own_number(process).unwrap_or(process);
    let path = format!("/proc/{process}/root/tmp/perf-{own}.map");
    open_of(&path, user)
}

/// Opens a map if a user can be trusted with it: the file is his.
fn open_of(path: &str, user: u32) -> Option<File> {
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let is_its = FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_uid == user;
    is_its.then(|| File::from(file))
}

/// The id of the process in its own PID namespace, by which it names its map.
fn own_number(process: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The last entry for each address: code moves, and its place is used again.
fn find(mut map: impl BufRead, addresses: &[u64]) -> Vec<(u64, ScriptFrame)> {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    let mut found: Vec<Option<ScriptFrame>> = vec![None; sorted.len()];
    let mut line = Vec::new();
    loop {
        line.clear();
        match map.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let Some((start, size, name)) = entry(&line) else { continue };
        let first = sorted.partition_point(|address| *address < start);
        let after = sorted.iter().zip(&mut found).skip(first);
        for (_, frame) in after.take_while(|(address, _)| **address - start < size) {
            *frame = Some(named(name));
        }
    }
    let pairs = sorted.into_iter().zip(found);
    pairs.filter_map(|(address, frame)| Some((address, frame?))).collect()
}

/// `start size name`.
fn entry(line: &[u8]) -> Option<(u64, u64, &str)> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (start, rest) = line.split_once(' ')?;
    let (size, name) = rest.split_once(' ')?;
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    Some((number(start)?, number(size)?, name))
}

/// A name as V8 writes it, `JS:~function file:line:column`, or any other.
fn named(name: &str) -> ScriptFrame {
    v8(name).unwrap_or_else(|| ScriptFrame {
        function: name.to_owned(),
        file: String::new(),
        line: 0,
    })
}

fn v8(name: &str) -> Option<ScriptFrame> {
    const KINDS: [&str; 6] = ["JS", "LazyCompile", "Function", "Script", "Eval", "Module"];
    let (kind, rest) = name.split_once(':')?;
    if !KINDS.contains(&kind) {
        return None;
    }
    // How far it is compiled.
    let rest = rest.trim_start_matches(['~', '*', '^', '+', '-']);
    let (rest, _column) = rest.rsplit_once(':')?;
    let (rest, line) = rest.rsplit_once(':')?;
    let line = line.parse().ok()?;
    let marks = [" /", " file:", " node:", " evalmachine"];
    let space = marks.iter().filter_map(|mark| rest.find(mark)).min().or_else(|| rest.find(' '));
    let (function, file) = match space {
        Some(space) => (&rest[..space], &rest[space + 1..]),
        None => ("", rest),
    };
    let function = if function.is_empty() { "(anonymous)" } else { function };
    Some(ScriptFrame { function: function.to_owned(), file: file.to_owned(), line })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str, line: u32) -> ScriptFrame {
        ScriptFrame { function: function.into(), file: file.into(), line }
    }

    #[test]
    fn the_last_entry_that_contains_an_address_names_it() {
        let map = b"\
1000 20 JS:~main /tmp/a.js:3:14
2000 20 Builtin:ArrayMap
damaged
1010 8 JS:*later file:///tmp/b.mjs:5:1
3000 10 JS:^ /tmp/a.js:1:1
4000 10 JS:*openSync node:fs:591:18
";
        let found = find(&map[..], &[0x1004, 0x1012, 0x2000, 0x2020, 0x3001, 0x4000]);
        let expected = [
            (0x1004, frame("main", "/tmp/a.js", 3)),
            (0x1012, frame("later", "file:///tmp/b.mjs", 5)),
            (0x2000, frame("Builtin:ArrayMap", "", 0)),
            (0x3001, frame("(anonymous)", "/tmp/a.js", 1)),
            (0x4000, frame("openSync", "node:fs", 591)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_link_or_a_file_of_another_user_is_not_read() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("echown-perf-{}.map", std::process::id()));
        let link = path.with_extension("link");
        std::fs::write(&path, "1000 20 a\n").unwrap();
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let user = rustix::process::geteuid().as_raw();
        let open = |path: &std::path::Path, user| open_of(path.to_str().unwrap(), user).is_some();
        assert!(open(&path, user));
        assert!(!open(&path, user + 1), "another user's");
        assert!(!open(&link, user), "a symbolic link");
        assert!(!open(&folder, user), "a folder");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&link).unwrap();
    }
}
