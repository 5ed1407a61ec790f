//! Tests of the reader of tables with good, damaged and hostile files.

use std::sync::Arc;

use framehop::x86_64::UnwindRegsX86_64;

use super::elf::{Elf, ElfError, Loaded, Part, Segment, Source};
use super::tables::{Entry, Step, Table, tables};
use super::{FileNumber, Files};

/// The address of the only function of a hand-made table.
const FUNCTION: u64 = 0x1000;

/// The bytes of the C library of this process, or of its program if that is static.
fn real_file() -> Vec<u8> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own mappings");
    let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let path = libc.into_iter().find(|path| path.contains("/libc.so"));
    std::fs::read(path.unwrap_or("/proc/self/exe")).expect("a mapped file")
}

fn source(bytes: &[u8]) -> Arc<dyn Source> {
    let whole = Part { address: 0, offset: 0, size: bytes.len() as u64 };
    Arc::new(Loaded::new(bytes, &[whole]).expect("all bytes"))
}

/// Steps through a file's tables from some addresses, with a stack of random words.
fn walk(bytes: &[u8], random: &mut fastrand::Rng) -> usize {
    let Ok(elf) = Elf::read(bytes) else { return 0 };
    let source = source(bytes);
    let mut steps = 0;
    let end = elf.segments.iter().map(|it| it.address.saturating_add(it.size)).max().unwrap_or(1);
    for mut table in tables(&elf, &source) {
        for _ in 0..40 {
            let address = random.u64(..end.max(1));
            if table.entry(address).is_none() {
                continue;
            }
            let mut registers = UnwindRegsX86_64::new(address, random.u64(..), random.u64(..));
            let mut read = |_| Some(random.u64(..)).filter(|word| word % 8 > 0);
            table.step(address, false, &mut registers, &mut read);
            steps += 1;
        }
    }
    steps
}

#[test]
fn damaged_files_are_refused_or_read_without_a_panic() {
    let whole = real_file();
    let mut random = fastrand::Rng::with_seed(11);
    assert!(walk(&whole, &mut random) > 0, "the undamaged file has tables");
    for round in 0..150 {
        let mut bytes = whole.clone();
        match round % 3 {
            0 => bytes.truncate(random.usize(..bytes.len())),
            // The headers, where each bit counts.
            1 => (0..3).for_each(|_| flip(&mut bytes[..1024], &mut random)),
            _ => {
                let sections = bytes.len() - 8192;
                (0..50).for_each(|_| flip(&mut bytes[sections..], &mut random));
                (0..2000).for_each(|_| flip(&mut bytes, &mut random));
            }
        }
        walk(&bytes, &mut random);
    }
}

#[test]
fn entries_that_are_copied_say_the_same_as_the_whole_table() {
    let bytes = real_file();
    let elf = Elf::read(&bytes[..]).expect("the C library");
    let source = source(&bytes);
    let mut parts = tables(&elf, &source).remove(0);
    let no_list = Elf { eh_frame_hdr: None, segments: elf.segments.clone(), ..elf };
    let mut whole = tables(&no_list, &source).remove(0);
    assert!(parts.size() == 0 && whole.size() > 0, "one is read in parts");
    let mut random = fastrand::Rng::with_seed(5);
    let end = elf.segments.iter().map(|it| it.address + it.size).max().unwrap();
    let mut found = 0;
    for _ in 0..20_000 {
        let address = random.u64(..end);
        let entry = whole.entry(address);
        assert_eq!(parts.entry(address), entry, "{address:#x}");
        if !matches!(entry, Some(Entry::ByStack | Entry::ByPointer)) {
            continue;
        }
        found += 1;
        let step = |table: &mut Table| {
            let mut registers = UnwindRegsX86_64::new(address, 0x7000, 0x7100);
            let mut read = |address: u64| Some(address * 3);
            let step = table.step(address, true, &mut registers, &mut read);
            (step, registers.ip(), registers.sp(), registers.bp())
        };
        assert_eq!(step(&mut parts), step(&mut whole), "{address:#x}");
    }
    assert!(found > 1000, "{found} addresses had entries");
}

#[test]
fn no_file_stays_open_for_its_tables_where_the_command_may_unmount() {
    let folder = std::path::Path::new("/dev/shm");
    if super::HELD_PATHS.iter().any(|path| super::device(path) == super::device("/dev/shm")) {
        return;
    }
    let path = folder.join(format!("echown-tables-{}", std::process::id()));
    if std::fs::write(&path, real_file()).is_err() {
        return;
    }
    let mut files = Files::default();
    let before = files.open_left;
    let open = || Arc::new(std::fs::File::open(&path).unwrap());
    let code = files.read(FileNumber(0), open(), true).expect("a program");
    assert!(!code.tables.is_empty() && files.open_left == before);
    assert!(files.size > 0, "its tables were read");
    files.held_devices.push(super::device("/dev/shm").unwrap());
    files.read(FileNumber(0), open(), true).expect("a program");
    assert_eq!(files.open_left, before - 1, "an open file serves otherwise");
    std::fs::remove_file(path).unwrap();
}

fn flip(bytes: &mut [u8], random: &mut fastrand::Rng) {
    let bit = random.usize(..bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

#[test]
fn sizes_that_a_header_claims_are_not_allocated() {
    let mut bytes = real_file();
    // The number of sections, and a size in each section header.
    let start = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
    let count = usize::from(u16::from_le_bytes(bytes[0x3c..0x3e].try_into().unwrap()));
    for section in 0..count {
        let size = start + section * 64 + 0x20;
        bytes[size..size + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    }
    let error = Elf::read(&bytes[..]).unwrap_err();
    assert_eq!(error, ElfError::TooLarge("list of names of sections"));
    bytes[0x3c..0x3e].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(Elf::read(&bytes[..]).unwrap_err(), ElfError::TooLarge("list of sections"));
    assert_eq!(Elf::read(&b"#!/bin/sh\n"[..]).unwrap_err(), ElfError::NotElf);
}

/// A table with one function, whose entry has the given instructions.
fn table(instructions: &[u8]) -> Table {
    let mut data = Vec::new();
    // The common part: version 1, no augmentation, alignments 1 and -8, return address in column 16;
    // the frame's address is the stack pointer + 8, and the return address is right below it.
    entry(&mut data, &[0, 0, 0, 0, 1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1]);
    let mut function = (data.len() as u32 + 4).to_le_bytes().to_vec();
    function.extend_from_slice(&FUNCTION.to_le_bytes());
    function.extend_from_slice(&16u64.to_le_bytes());
    function.extend_from_slice(instructions);
    entry(&mut data, &function);
    let elf = Elf {
        segments: vec![Segment { offset: 0, size: 1 << 16, address: 0 }],
        eh_frame: Some(Part { address: 0x8000, offset: 0, size: data.len() as u64 }),
        ..Elf::default()
    };
    tables(&elf, &source(&data)).pop().expect("a table")
}

fn entry(data: &mut Vec<u8>, content: &[u8]) {
    let padding = content.len().next_multiple_of(8) - content.len();
    data.extend_from_slice(&((content.len() + padding) as u32).to_le_bytes());
    data.extend_from_slice(content);
    data.resize(data.len() + padding, 0);
}

#[test]
fn an_entry_with_a_loop_is_not_evaluated() {
    // The frame's address is an expression: a jump to itself.
    let hostile = [0x0f, 3, 0x2f, 0xfd, 0xff];
    assert_eq!(table(&hostile).entry(FUNCTION + 4), None);
    // A plain register with an offset, as in the procedure linkage table.
    let plain = [0x0f, 2, 0x77, 8];
    assert_eq!(table(&plain).entry(FUNCTION + 4), Some(Entry::ByPointer));
    let mut table = table(&[]);
    assert_eq!(table.entry(FUNCTION + 4), Some(Entry::ByStack));
    assert_eq!(table.entry(FUNCTION + 16), None, "after the function");
    let mut registers = UnwindRegsX86_64::new(FUNCTION, 0x7000, 1);
    let mut read = |address| (address == 0x7000).then_some(0x2345);
    assert_eq!(table.step(FUNCTION + 4, true, &mut registers, &mut read), Step::Caller);
    assert_eq!((registers.ip(), registers.sp()), (0x2345, 0x7008));
}
