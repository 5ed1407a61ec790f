//! A memory map that two processes share: one appends bytes, the other reads them.
//!
//! A test's process reports through it. Unlike a pipe, it needs no open descriptor, so a test that
//! closes all descriptors can still be judged.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};

/// The maximum size in bytes. Only pages that are written take memory.
const SIZE_MAX: usize = 64 * 1024 * 1024;

/// The length of the header, which is the number of appended bytes.
const HEADER: usize = size_of::<AtomicUsize>();

/// The map.
pub struct SharedMap {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the memory belongs to the map until it is dropped, and is not bound to a thread. The
// header is atomic. Bytes behind it are written by `append`, which takes `&mut self`, and only
// before they are published.
unsafe impl Send for SharedMap {}

impl SharedMap {
    /// Creates a map, and the descriptor with which another process [opens](SharedMap::open) it.
    ///
    /// # Errors
    /// The system has no memory, address space or descriptor for it.
    pub fn create() -> io::Result<(OwnedFd, SharedMap)> {
        let limit = getrlimit(Resource::Fsize).current;
        let size = limit.map_or(SIZE_MAX, |bytes| SIZE_MAX.min(bytes as usize));
        let fd = anonymous_file()?;
        rustix::fs::ftruncate(&fd, size as u64)?;
        let map = SharedMap::new(&fd, size)?;
        Ok((fd, map))
    }

    /// Maps the memory of another process's map. The descriptor is not needed afterwards.
    ///
    /// # Errors
    /// The descriptor is not a map's, or there is no address space.
    pub fn open(fd: &impl AsFd) -> io::Result<SharedMap> {
        let size = rustix::fs::fstat(fd)?.st_size;
        let size = usize::try_from(size).ok().filter(|size| (HEADER..=SIZE_MAX).contains(size));
        SharedMap::new(fd, size.ok_or(io::ErrorKind::InvalidInput)?)
    }

    fn new(fd: &impl AsFd, size: usize) -> io::Result<SharedMap> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses the address, so no existing memory is replaced. The memory is
        // accessed as atomics and bytes only, for which every value is valid.
        let start = unsafe { mmap(ptr::null_mut(), size, protection, flags, fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(SharedMap { start, size })
    }

    /// Appends bytes. Returns false, and appends nothing, if they do not fit.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let length = self.length();
        if bytes.len() > self.capacity() - length {
            return false;
        }
        // SAFETY: the target is inside the map, because `length + bytes.len()` is at most the
        // capacity. No process reads it before it is published, and this is the only writer.
        unsafe {
            let target = self.start.add(HEADER + length).as_ptr();
            ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
        // ord: Release; partner: the Acquire in `length`. Publishes the bytes.
        self.header().store(length + bytes.len(), Ordering::Release);
        true
    }

    /// The bytes that were appended after the first `offset` ones.
    pub fn read_from(&self, offset: usize) -> &[u8] {
        let length = self.length();
        // SAFETY: the range is inside the map. Published bytes do not change any more.
        let all = unsafe { slice::from_raw_parts(self.start.add(HEADER).as_ptr(), length) };
        all.get(offset..).unwrap_or_default()
    }

    /// The maximum number of bytes that can be appended.
    pub fn capacity(&self) -> usize {
        self.size - HEADER
    }

    fn length(&self) -> usize {
        // ord: Acquire; partner: the Release in `append`.
        self.header().load(Ordering::Acquire).min(self.capacity())
    }

    fn header(&self) -> &AtomicUsize {
        // SAFETY: the map starts at a page, is larger than the header, and all accesses to the
        // header are atomic.
        unsafe { self.start.cast().as_ref() }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: this is the range that `mmap` returned, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn anonymous_file() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create("echown-test", MemfdFlags::CLOEXEC)?)
}

/// A file without a name in the folder for temporary files.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn anonymous_file() -> io::Result<OwnedFd> {
    use std::sync::atomic::AtomicU32;
    static CREATED: AtomicU32 = AtomicU32::new(0);
    // ord: Relaxed; only the number has to be unique.
    let count = CREATED.fetch_add(1, Ordering::Relaxed);
    let name = format!("echown-test-{}-{count}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appended_bytes_are_read_through_another_map_of_the_same_memory() {
        let (fd, reader) = SharedMap::create().unwrap();
        let mut writer = SharedMap::open(&fd).unwrap();
        drop(fd);
        assert_eq!(reader.read_from(0), b"");
        assert!(writer.append(b"one") && writer.append(b"two"));
        assert_eq!(reader.read_from(0), b"onetwo");
        assert_eq!(reader.read_from(3), b"two");
        assert_eq!(reader.read_from(99), b"");
    }

    #[test]
    fn bytes_that_do_not_fit_are_not_appended() {
        let (fd, reader) = SharedMap::create().unwrap();
        let mut writer = SharedMap::open(&fd).unwrap();
        assert!(!writer.append(&vec![7; writer.capacity() + 1]));
        assert_eq!(reader.read_from(0), b"");
    }

    #[test]
    fn another_file_is_not_opened() {
        let other = std::fs::File::open("/dev/null").unwrap();
        assert!(SharedMap::open(&other).is_err());
    }
}
