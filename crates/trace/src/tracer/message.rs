//! Descriptors in received messages (SCM_RIGHTS), from the memory of the receiver.

use crate::sys::memory;

/// The most control data that is read: the kernel passes at most 253 descriptors in a message.
const CONTROL_MAX: usize = 4096;

/// The most messages of one `recvmmsg` that are read.
const MESSAGES_MAX: u64 = 64;

/// The sizes of `struct msghdr` and `struct mmsghdr`.
const HEADER: usize = 56;
const HEADER_OF_MANY: u64 = 64;

/// Whether the message at this address has room for control data.
pub(super) fn has_room(process: i32, header: u64) -> bool {
    memory::word(process, header + 40).is_some_and(|length| length > 0)
}

/// The descriptors in the message at this address.
pub(super) fn received(process: i32, header: u64) -> Vec<i32> {
    let mut bytes = [0; HEADER];
    if memory::read(process, header, &mut bytes) != HEADER {
        return Vec::new();
    }
    let word = |at: usize| {
        bytes.get(at..at + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    let (address, length) = (word(32), word(40));
    let length = usize::try_from(length).unwrap_or(CONTROL_MAX).min(CONTROL_MAX);
    let mut control = vec![0; length];
    let read = memory::read(process, address, &mut control);
    numbers(&control[..read])
}

/// The descriptors in the first messages of a list, of which this many were received.
pub(super) fn received_many(process: i32, headers: u64, count: i64) -> Vec<i32> {
    let count = u64::try_from(count).unwrap_or(0).min(MESSAGES_MAX);
    let header = |index| headers.wrapping_add(index * HEADER_OF_MANY);
    (0..count).flat_map(|index| received(process, header(index))).collect()
}

/// The descriptors in control data.
fn numbers(mut control: &[u8]) -> Vec<i32> {
    const HEADER: usize = 16;
    let mut numbers = Vec::new();
    while control.len() >= HEADER {
        let field =
            |at: usize| i32::from_ne_bytes(control[at..at + 4].try_into().unwrap_or([0; 4]));
        let length = u64::from_ne_bytes(control[..8].try_into().unwrap_or([0; 8]));
        let Ok(length) = usize::try_from(length) else { break };
        if length < HEADER || length > control.len() {
            break;
        }
        if (field(8), field(12)) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let data = control[HEADER..length].chunks_exact(4);
            numbers.extend(data.map(|it| i32::from_ne_bytes(it.try_into().unwrap_or([0; 4]))));
        }
        let next = length.next_multiple_of(8).min(control.len());
        control = &control[next..];
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(length: u64, level: i32, kind: i32, data: &[i32]) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        let words = [level, kind].into_iter().chain(data.iter().copied());
        bytes.extend(words.flat_map(i32::to_ne_bytes));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn descriptors_are_found_after_other_control_data() {
        let other = control(20, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[1]);
        let rights = control(24, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[5, 6]);
        assert_eq!(numbers(&[other, rights].concat()), [5, 6]);
    }

    #[test]
    fn damaged_control_data_ends_the_search() {
        for length in [0, 3, 1000, u64::MAX] {
            let control = control(length, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[5, 6]);
            assert!(numbers(&control).is_empty(), "{length}");
        }
    }
}
