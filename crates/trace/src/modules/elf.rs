//! The parts of an ELF file that unwinding needs, read within limits.
//!
//! The file belongs to a traced program and may be damaged on purpose, and it may change while it is
//! read. It is therefore read into memory, never mapped: a mapping of a file that another process
//! truncates ends this process with SIGBUS. Each part that is read has a maximum size.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use object::LittleEndian;
use object::elf::{CompressionHeader64, FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod::{Pod, from_bytes, slice_from_bytes};

/// The maximum number of program headers; programs have about 12.
const SEGMENTS_MAX: usize = 512;

/// The maximum number of sections; programs have about 40, those built with a section for each function
/// some thousands before they are linked.
const SECTIONS_MAX: usize = 16_384;

/// The maximum size of the names of the sections.
const NAMES_MAX: u64 = 1 << 20;

/// The maximum size of one table of call frames, uncompressed. That of rustc's largest library, with
/// 300,000 functions, has 12 MiB.
const TABLE_MAX: u64 = 64 << 20;

/// The highest address that a file may state. User space ends there.
const ADDRESS_MAX: u64 = 1 << 47;

/// Where the bytes come from.
pub(crate) trait Source {
    /// `length` bytes at an offset, or nothing if there are fewer.
    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>>;

    /// Copies what there is at an offset, and returns how much.
    fn fill(&self, offset: u64, to: &mut [u8]) -> usize;
}

impl Source for File {
    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        // A length from a header of the file: no more is allocated than the file has.
        let size = self.metadata().ok()?.len();
        if offset.checked_add(length as u64)? > size {
            return None;
        }
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    fn fill(&self, offset: u64, to: &mut [u8]) -> usize {
        self.read_at(to, offset).unwrap_or(0)
    }
}

impl Source for [u8] {
    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(length)?).map(<[u8]>::to_vec)
    }

    fn fill(&self, offset: u64, to: &mut [u8]) -> usize {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let length = to.len().min(self.len() - start);
        to[..length].copy_from_slice(&self[start..start + length]);
        length
    }
}

/// The tables of a file that does not stay open.
pub(crate) struct Loaded(Vec<(u64, Vec<u8>)>);

impl Loaded {
    /// Reads these parts, which are searched by [`Source::fill`] within one of them.
    pub(crate) fn new<S: Source + ?Sized>(source: &S, parts: &[Part]) -> Option<Loaded> {
        let read = |it: &Part| Some((it.offset, source.read(it.offset, it.size as usize)?));
        parts.iter().map(read).collect::<Option<_>>().map(Loaded)
    }
}

impl Source for Loaded {
    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        (self.fill(offset, &mut bytes) == length).then_some(bytes)
    }

    fn fill(&self, offset: u64, to: &mut [u8]) -> usize {
        let part = self.0.iter().find_map(|(start, bytes)| {
            let at = offset.checked_sub(*start)?;
            (at < bytes.len() as u64).then_some((at, bytes))
        });
        part.map_or(0, |(at, bytes)| bytes.fill(at, to))
    }
}

/// Where a section is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The address that the file states for it.
    pub(crate) address: u64,
    /// Where it is in the file.
    pub(crate) offset: u64,
    /// Its size, at most that of a table.
    pub(crate) size: u64,
}

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElfError {
    /// It is no 64-bit program for x86-64.
    NotElf,
    /// A part is larger than its limit.
    TooLarge(&'static str),
    /// A part is missing or not in the file.
    Damaged(&'static str),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElfError::NotElf => f.write_str("it is no ELF file for x86-64"),
            ElfError::TooLarge(part) => write!(f, "its {part} is larger than the limit"),
            ElfError::Damaged(part) => write!(f, "its {part} is damaged"),
        }
    }
}

/// A part of the file that is loaded to memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Where it is in the file.
    pub(crate) offset: u64,
    /// How many bytes of the file it has.
    pub(crate) size: u64,
    /// The address that the file states for it.
    pub(crate) address: u64,
}

/// A section with its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// The address that the file states for it.
    pub(crate) address: u64,
    /// Its bytes, uncompressed.
    pub(crate) data: Arc<[u8]>,
}

/// What unwinding needs of a file.
#[derive(Debug, Default)]
pub(crate) struct Elf {
    /// Where the names of symbols are in the file.
    pub(crate) names: Vec<Range<u64>>,
    /// Where `.gopclntab` is in the file, and its size.
    pub(crate) go_table: Option<(u64, u64)>,
    /// What is loaded to memory.
    pub(crate) segments: Vec<Segment>,
    /// `.eh_frame`.
    pub(crate) eh_frame: Option<Part>,
    /// `.eh_frame_hdr`.
    pub(crate) eh_frame_hdr: Option<Part>,
    /// `.debug_frame`.
    pub(crate) debug_frame: Option<Section>,
    /// The stated addresses of `.text` and `.got`, to which entries may be relative.
    pub(crate) text: u64,
    /// See `text`.
    pub(crate) got: u64,
    /// The address at which it starts.
    pub(crate) entry: u64,
    /// Whether Go's compiler made it, whose code keeps frame pointers.
    pub(crate) is_go: bool,
}

impl Elf {
    /// Reads the headers and the tables.
    pub(crate) fn read<S: Source + ?Sized>(source: &S) -> Result<Elf, ElfError> {
        let bytes = source.read(0, size_of::<FileHeader64<LittleEndian>>());
        let bytes = bytes.ok_or(ElfError::NotElf)?;
        let header = one::<FileHeader64<LittleEndian>>(&bytes).ok_or(ElfError::NotElf)?;
        let is_x86_64 = header.e_ident.magic == object::elf::ELFMAG
            && header.e_ident.class == object::elf::ELFCLASS64
            && header.e_ident.data == object::elf::ELFDATA2LSB
            && header.e_machine.get(LittleEndian) == object::elf::EM_X86_64;
        if !is_x86_64 {
            return Err(ElfError::NotElf);
        }
        let entry = header.e_entry.get(LittleEndian);
        let mut elf = Elf { segments: segments(source, header)?, entry, ..Elf::default() };
        elf.add_sections(source, header)?;
        Ok(elf)
    }

    /// The address that the file states for an offset in it.
    pub(crate) fn address(&self, offset: u64) -> Option<u64> {
        let mut segments = self.segments.iter();
        let segment = segments.find(|it| offset >= it.offset && offset - it.offset < it.size)?;
        Some(segment.address + (offset - segment.offset))
    }

    fn add_sections<S: Source + ?Sized>(
        &mut self,
        source: &S,
        header: &FileHeader64<LittleEndian>,
    ) -> Result<(), ElfError> {
        let e = LittleEndian;
        let count = usize::from(header.e_shnum.get(e));
        if count > SECTIONS_MAX {
            return Err(ElfError::TooLarge("list of sections"));
        }
        let damaged = ElfError::Damaged("list of sections");
        let length = count * size_of::<SectionHeader64<LittleEndian>>();
        let bytes = source.read(header.e_shoff.get(e), length).ok_or(damaged)?;
        let sections: &[SectionHeader64<LittleEndian>] = many(&bytes, count).ok_or(damaged)?;
        let Some(names) = sections.get(usize::from(header.e_shstrndx.get(e).0)) else {
            return Ok(());
        };
        let size = names.sh_size.get(e);
        if size > NAMES_MAX {
            return Err(ElfError::TooLarge("list of names of sections"));
        }
        let names = source.read(names.sh_offset.get(e), size as usize).ok_or(damaged)?;
        for section in sections {
            if section.sh_type.get(e) == object::elf::SHT_STRTAB {
                let start = section.sh_offset.get(e);
                self.names.push(start..start.saturating_add(section.sh_size.get(e)));
            }
            let name = names.get(section.sh_name.get(e) as usize..).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let address = section.sh_addr.get(e);
            match name {
                b".eh_frame" => self.eh_frame = part(section)?,
                b".eh_frame_hdr" => self.eh_frame_hdr = part(section)?,
                b".debug_frame" => self.debug_frame = read_section(source, section)?,
                b".text" => self.text = address,
                b".got" => self.got = address,
                b".gopclntab" | b".data.rel.ro.gopclntab" => {
                    self.is_go = true;
                    self.go_table = Some((section.sh_offset.get(e), section.sh_size.get(e)));
                }
                b".note.go.buildid" => self.is_go = true,
                _ => {}
            }
        }
        Ok(())
    }
}

fn segments<S: Source + ?Sized>(
    source: &S,
    header: &FileHeader64<LittleEndian>,
) -> Result<Vec<Segment>, ElfError> {
    let e = LittleEndian;
    let damaged = ElfError::Damaged("list of segments");
    let count = usize::from(header.e_phnum.get(e));
    if count > SEGMENTS_MAX {
        return Err(ElfError::TooLarge("list of segments"));
    }
    let length = count * size_of::<ProgramHeader64<LittleEndian>>();
    let bytes = source.read(header.e_phoff.get(e), length).ok_or(damaged)?;
    let headers: &[ProgramHeader64<LittleEndian>] = many(&bytes, count).ok_or(damaged)?;
    let loaded = headers.iter().filter(|it| it.p_type.get(e) == object::elf::PT_LOAD);
    let segments = loaded.map(|it| Segment {
        offset: it.p_offset.get(e),
        size: it.p_filesz.get(e),
        address: it.p_vaddr.get(e),
    });
    let segments: Vec<_> = segments.collect();
    let is_sane = |it: &Segment| [it.offset, it.size, it.address].iter().all(|n| *n < ADDRESS_MAX);
    if segments.iter().all(is_sane) { Ok(segments) } else { Err(damaged) }
}

/// Where a table is. A file of debug information has no bytes of it.
fn part(section: &SectionHeader64<LittleEndian>) -> Result<Option<Part>, ElfError> {
    let e = LittleEndian;
    let part = Part {
        address: section.sh_addr.get(e),
        offset: section.sh_offset.get(e),
        size: section.sh_size.get(e),
    };
    if part.size > TABLE_MAX {
        return Err(ElfError::TooLarge("table of call frames"));
    }
    if part.address > ADDRESS_MAX || part.offset > ADDRESS_MAX {
        return Err(ElfError::Damaged("table of call frames"));
    }
    let is_empty = section.sh_type.get(e) == object::elf::SHT_NOBITS || part.size == 0;
    Ok((!is_empty).then_some(part))
}

fn read_section<S: Source + ?Sized>(
    source: &S,
    section: &SectionHeader64<LittleEndian>,
) -> Result<Option<Section>, ElfError> {
    let e = LittleEndian;
    let damaged = ElfError::Damaged("table of call frames");
    let Some(Part { address, offset, size }) = part(section)? else { return Ok(None) };
    let data = source.read(offset, size as usize).ok_or(damaged)?;
    if section.sh_flags.get(e).0 & object::elf::SHF_COMPRESSED.0 == 0 {
        return Ok(Some(Section { address, data: data.into() }));
    }
    let start = size_of::<CompressionHeader64<LittleEndian>>();
    let header = data.get(..start).and_then(one::<CompressionHeader64<LittleEndian>>);
    let header = header.ok_or(damaged)?;
    if header.ch_type.get(e) != object::elf::ELFCOMPRESS_ZLIB {
        return Err(damaged);
    }
    // The stated size may be a lie: what comes out is limited, not what is stated.
    let mut plain = Vec::new();
    let packed = flate2::read::ZlibDecoder::new(&data[start..]);
    packed.take(TABLE_MAX + 1).read_to_end(&mut plain).map_err(|_| damaged)?;
    if plain.len() as u64 > TABLE_MAX {
        return Err(ElfError::TooLarge("table of call frames"));
    }
    Ok(Some(Section { address, data: plain.into() }))
}

fn one<T: Pod>(bytes: &[u8]) -> Option<&T> {
    from_bytes(bytes).ok().map(|(it, _)| it)
}

fn many<T: Pod>(bytes: &[u8], count: usize) -> Option<&[T]> {
    slice_from_bytes(bytes, count).ok().map(|(it, _)| it)
}
