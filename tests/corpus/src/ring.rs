//! A file that an io_uring opens.

use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

/// Opens a file for reading through a new ring, and closes the ring: three fixed offsets of the
/// kernel's interface, and one entry.
pub fn open(path: &CStr) -> io::Result<RawFd> {
    const OPENAT: u8 = 18;
    unsafe {
        let mut parameters = [0_u32; 30];
        let ring = libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) as RawFd;
        if ring < 0 {
            return Err(io::Error::last_os_error());
        }
        let map = |length, offset| {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(null_mut(), length, access, libc::MAP_SHARED, ring, offset).cast::<u8>()
        };
        let (queue, entries) = (map(4096, 0), map(4096, 0x1000_0000));
        let entry = entries.cast::<[u64; 8]>();
        // The operation and the folder; the address of the path; no flags.
        *entry = [0; 8];
        (*entry)[0] = u64::from(OPENAT) | (libc::AT_FDCWD as u32 as u64) << 32;
        (*entry)[2] = path.as_ptr() as u64;
        let field = |index: usize| queue.add(parameters[index] as usize).cast::<u32>();
        // sq_off.array, sq_off.tail; then cq_off.cqes.
        field(16).write(0);
        AtomicU32::from_ptr(field(11)).store(1, Ordering::Release);
        let done = libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, 1, 0, 0);
        let result = field(25).cast::<i32>().add(2).read();
        libc::munmap(queue.cast(), 4096);
        libc::munmap(entries.cast(), 4096);
        libc::close(ring);
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}
