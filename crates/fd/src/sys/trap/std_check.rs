//! Recognises the standard library's check that a descriptor is open before it closes it.
//!
//! The check is in builds with debug assertions only. The function that makes it is found by its
//! name in the symbol table of the binary. The file is mapped for that, because the handler must
//! not allocate. Without a symbol table, no check is recognised.

use std::ops::Range;

use super::magic::repeat;

/// The maximum number of frames of the C library above the check.
const INNER_FRAMES_MAX: usize = 4;

/// Whether a stack of return addresses, innermost first, is that of the check.
pub(super) fn is_by_std(addresses: &[usize]) -> bool {
    let Some(file) = MappedFile::of_this_process() else { return false };
    let names = addresses.iter().take(INNER_FRAMES_MAX).filter_map(|&address| {
        // The return address may belong to the next function.
        let name = symbol_at(file.bytes(), (address - 1).checked_sub(load_address())? as u64)?;
        std::str::from_utf8(name).ok()
    });
    // The C library has other names, if it is in the binary.
    let mut of_rust = names.filter(|name| name.starts_with("_ZN") || name.starts_with("_R"));
    of_rust.next().is_some_and(is_check)
}

/// Whether a mangled name is of the check, or of a destructor of the standard library into which it
/// was inlined.
fn is_check(name: &str) -> bool {
    let has_all = |parts: &[&str]| parts.iter().all(|part| name.contains(part));
    has_all(&["debug_assert_fd_is_open"])
        || has_all(&["$LT$std..", "..Drop$GT$4drop"])
        || has_all(&["drop_in_place$LT$std.."])
        || has_all(&["_3std2os2fd5owned", "4Drop4drop"])
        || has_all(&["13drop_in_place", "_3std"])
}

/// The name of the function at an address in an ELF file.
fn symbol_at(file: &[u8], address: u64) -> Option<&[u8]> {
    const SYMBOL_TABLE: u32 = 2;
    const SYMBOL_BYTES: usize = 24;
    let (offset, size) = (u64_at(file, 0x28)?, u16_at(file, 0x3a)?);
    let section = |index: usize| {
        let begin = usize::try_from(offset).ok()? + index * usize::from(size);
        file.get(begin..begin + usize::from(size))
    };
    let content = |section: &[u8]| -> Option<Range<usize>> {
        let begin = usize::try_from(u64_at(section, 0x18)?).ok()?;
        Some(begin..begin + usize::try_from(u64_at(section, 0x20)?).ok()?)
    };
    let mut all = (0..usize::from(u16_at(file, 0x3c)?)).filter_map(section);
    let table = all.find(|section| u32_at(section, 4) == Some(SYMBOL_TABLE))?;
    let names = file.get(content(section(u32_at(table, 0x28)? as usize)?)?)?;
    let mut symbols = file.get(content(table)?)?.chunks_exact(SYMBOL_BYTES);
    let found = symbols.find(|symbol| {
        let (value, size) = (u64_at(symbol, 8), u64_at(symbol, 16));
        value.zip(size).is_some_and(|(value, size)| (value..value + size).contains(&address))
    });
    let name = names.get(u32_at(found?, 0)? as usize..)?;
    name.split(|&byte| byte == 0).next()
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

/// Where the binary begins in memory. Its symbols count from there, because it is
/// position-independent: others are not trapped.
fn load_address() -> usize {
    // SAFETY: the linker defines it as the first byte of the binary's header.
    unsafe extern "C" {
        static __ehdr_start: u8;
    }
    (&raw const __ehdr_start) as usize
}

/// The binary of this process, mapped without allocation.
struct MappedFile {
    begin: *mut libc::c_void,
    length: usize,
}

impl MappedFile {
    fn of_this_process() -> Option<MappedFile> {
        let path = c"/proc/self/exe".as_ptr() as u64;
        let open = [libc::AT_FDCWD as u64, path, (libc::O_RDONLY | libc::O_CLOEXEC) as u64, 0, 0];
        // SAFETY: the path ends with a zero byte; the status has the size that the kernel writes,
        // and zero is valid in it; the mapping is new and private. The calls that the filter traps
        // are made by `repeat`.
        unsafe {
            let number = repeat(libc::SYS_openat, open);
            if number < 0 {
                return None;
            }
            let mut status: libc::stat = std::mem::zeroed();
            repeat(libc::SYS_fstat, [number as u64, &raw mut status as u64, 0, 0, 0]);
            let length = usize::try_from(status.st_size).unwrap_or(0);
            let begin = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                number as i32,
                0,
            );
            repeat(libc::SYS_close, [number as u64, 0, 0, 0, 0]);
            (begin != libc::MAP_FAILED).then_some(MappedFile { begin, length })
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has this length and lives as long as `self`. A running binary is not
        // written to (ETXTBSY).
        unsafe { std::slice::from_raw_parts(self.begin.cast(), self.length) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.begin, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_at_an_address_of_this_binary_is_found() {
        fn here() -> usize {
            is_by_std as *const () as usize
        }
        let file = std::fs::read("/proc/self/exe").unwrap();
        let name = symbol_at(&file, (here() - load_address()) as u64).unwrap();
        let name = String::from_utf8_lossy(name);
        assert!(name.contains("is_by_std"), "{name}");
    }

    #[test]
    fn destructors_of_the_standard_library_make_the_check_and_others_do_not() {
        for check in [
            "_ZN3std3sys2fs4unix23debug_assert_fd_is_open17h0123456789abcdefE",
            "_ZN71_$LT$std..os..fd..owned..OwnedFd$u20$as$u20$core..ops..drop..Drop$GT$4drop17hE",
            "_ZN4core3ptr34drop_in_place$LT$std..fs..File$GT$17hE",
            "_RNvXs_NtNtNtCs_3std2os2fd5ownedNtB5_7OwnedFdNtNtNtCs_4core3ops4drop4Drop4drop",
            "_RINvNtCs_4core3ptr13drop_in_placeNtNtCs_3std2fs4FileECs_4mine",
        ] {
            assert!(is_check(check), "{check}");
        }
        for other in [
            "_ZN4mine7is_open17hE",
            "_ZN48_$LT$mine..Guard$u20$as$u20$core..ops..drop..Drop$GT$4drop17hE",
            "_ZN4core3ptr32drop_in_place$LT$mine..Guard$GT$17hE",
        ] {
            assert!(!is_check(other), "{other}");
        }
    }
}
