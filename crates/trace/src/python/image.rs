//! The part of an ELF file that says where its Python interpreter is.
//!
//! Files of traced programs are untrusted: each read is limited, and a defect means that there is no
//! interpreter.

use std::fs::File;
use std::ops::Range;

use object::elf::{DT_NEEDED, FileHeader64, PT_LOAD, SHT_DYNSYM, STT_OBJECT};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{LittleEndian, ReadCache, ReadRef};

/// The largest part of a file that is read at once, in bytes: a table of 2.8 million symbols.
const READ_MAX: u64 = 64 << 20;

/// The size of a page, in bytes.
const PAGE: u64 = 4096;

/// What an ELF file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    /// The address of `_PyRuntime` without the load address.
    pub runtime: Option<u64>,
    /// The address of `Py_Version` without the load address.
    pub version: Option<u64>,
    /// Whether it needs a library whose name begins with `libpython`.
    pub needs_library: bool,
    /// The loaded parts: the page of the file and the page of memory.
    loads: Vec<(u64, u64)>,
}

impl Image {
    /// Reads a file. `None` if it is not an ELF file for x86-64.
    pub(super) fn read(file: &File) -> Option<Image> {
        let cache = ReadCache::new(file);
        let data = Limited(&cache);
        let header = FileHeader64::<LittleEndian>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let mut image = Image::default();
        for segment in header.program_headers(endian, data).ok()? {
            if segment.p_type(endian) == PT_LOAD {
                let page = |address: u64| address & !(PAGE - 1);
                let pages = (page(segment.p_offset(endian)), page(segment.p_vaddr(endian)));
                image.loads.push(pages);
            }
        }
        let sections = header.sections(endian, data).ok()?;
        if let Some((_, section)) = sections.section_by_name(endian, b".PyRuntime") {
            image.runtime = Some(section.sh_addr(endian));
        }
        if let Ok(symbols) = sections.symbols(endian, data, SHT_DYNSYM) {
            // Names are read one by one: those of variables with the right size only.
            for symbol in symbols.iter() {
                let size = symbol.st_size(endian);
                let is_candidate = size == 8 || size > PAGE;
                if !is_candidate || symbol.st_type() != STT_OBJECT {
                    continue;
                }
                match symbol.name(endian, symbols.strings()) {
                    Ok(b"_PyRuntime") => image.runtime = Some(symbol.st_value(endian)),
                    Ok(b"Py_Version") => image.version = Some(symbol.st_value(endian)),
                    _ => {}
                }
            }
        }
        if let Ok(table) = sections.dynamic_table(endian, data) {
            image.needs_library = table.iter().any(|entry| {
                let name = (entry.tag == DT_NEEDED).then(|| table.string(entry));
                matches!(name, Some(Ok(name)) if name.starts_with(b"libpython"))
            });
        }
        Some(image)
    }

    /// What is added to the file's addresses where the part of the file at `offset` is mapped at `start`.
    pub(super) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        let load = self.loads.iter().find(|(page, _)| *page == offset)?;
        Some(start.wrapping_sub(load.1))
    }
}

/// A file of which no large part is read.
#[derive(Clone, Copy)]
struct Limited<'data>(&'data ReadCache<&'data File>);

impl<'data> ReadRef<'data> for Limited<'data> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        if size > READ_MAX { Err(()) } else { self.0.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}
