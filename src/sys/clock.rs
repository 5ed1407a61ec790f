//! The monotonic clock in nanoseconds, by one call of the C library.
//!
//! Two thirds of the instructions of `Instant::now` and the subtraction of two of them are conversions,
//! and a connection reads the clock five times. The C library is called because the kernel's page with the
//! clock (vDSO) is missing under emulators, which it knows.

/// The nanoseconds since the start of the system.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec` to a pointer that is valid for it. It does not fail: every
    // system has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}
