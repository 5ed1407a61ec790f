//! The program that a process is about to execute, as the arguments of `execve` and `execveat` give
//! it. Nothing here allocates: it runs in the handler.

use std::os::fd::RawFd;
use std::slice;

use super::magic::repeat;

/// The maximum length of a path that is kept.
pub(super) const PATH_MAX: usize = 160;

/// The maximum length of an argument or variable that is read.
const TEXT_MAX: usize = 4096;

/// The maximum number of arguments, and of variables, that are read.
const TEXTS_MAX: usize = 4096;

/// A text of limited length, which is stored without allocation.
#[derive(Clone, Copy)]
pub(super) struct Text<const MAX: usize> {
    length: usize,
    bytes: [u8; MAX],
}

impl<const MAX: usize> Text<MAX> {
    pub(super) const EMPTY: Text<MAX> = Text { length: 0, bytes: [0; MAX] };

    /// The end of a text that is too long is left out.
    pub(super) fn set(&mut self, text: &[u8]) {
        self.length = text.len().min(MAX);
        self.bytes[..self.length].copy_from_slice(&text[..self.length]);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Whether it is this text, as far as it fits.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        self.bytes() == &text[..text.len().min(MAX)]
    }
}

/// What a call executes: C strings of the program, or null.
#[derive(Clone, Copy)]
pub(super) struct Program {
    folder: RawFd,
    path: *const u8,
    arguments: *const *const u8,
    variables: *const *const u8,
}

impl Program {
    pub(super) fn of(call: i64, arguments: [u64; 5]) -> Program {
        let [first, second, third, fourth, _] = arguments;
        let (folder, path, argv, environment) = if call == libc::SYS_execveat {
            (first as RawFd, second, third, fourth)
        } else {
            (libc::AT_FDCWD, first, second, third)
        };
        Program {
            folder,
            path: path as *const u8,
            arguments: argv as *const *const u8,
            variables: environment as *const *const u8,
        }
    }

    /// Whether the kernel finds the file and this process may execute it. A search in PATH tries
    /// many that do not exist.
    pub(super) fn is_executable(&self) -> bool {
        let arguments = [self.folder as u64, self.path as u64, libc::X_OK as u64, 0, 0];
        // SAFETY: the kernel reads the path, and reports an invalid pointer as an error.
        self.is_descriptor() || unsafe { repeat(libc::SYS_faccessat, arguments) } == 0
    }

    /// Whether the file is given by a descriptor alone (AT_EMPTY_PATH).
    fn is_descriptor(&self) -> bool {
        // SAFETY: the program passed the path to the kernel, which reads it as a C string.
        self.folder >= 0 && unsafe { text(self.path) }.is_some_and(<[u8]>::is_empty)
    }

    /// The path; that of a descriptor is written to `link`.
    pub(super) fn path<'a>(&'a self, link: &'a mut Text<PATH_MAX>) -> &'a [u8] {
        if self.is_descriptor() {
            read_link(self.folder, link);
            return link.bytes();
        }
        // SAFETY: as in `is_descriptor`.
        unsafe { text(self.path) }.unwrap_or_default()
    }

    pub(super) fn first_argument(&self) -> &[u8] {
        // SAFETY: the program passed the list to the kernel, which reads it as C strings.
        unsafe { texts(self.arguments) }.next().unwrap_or_default()
    }

    /// Whether the program knows this number: it is the file that is executed, or an argument or a
    /// variable names it.
    pub(super) fn knows(&self, number: RawFd) -> bool {
        let mut before: &[u8] = &[];
        // SAFETY: as in `first_argument`, both.
        let (arguments, mut variables) = unsafe { (texts(self.arguments), texts(self.variables)) };
        for argument in arguments {
            if names(argument, before, number) {
                return true;
            }
            before = argument;
        }
        (self.is_descriptor() && number == self.folder)
            || variables.any(|variable| names(variable, &[], number))
    }
}

/// The C strings of a list that ends with null.
///
/// # Safety
/// The list is null or valid, and so are its strings, for as long as they are in use.
// SAFETY: the caller guarantees it; see above.
unsafe fn texts<'a>(list: *const *const u8) -> impl Iterator<Item = &'a [u8]> {
    let count = if list.is_null() { 0 } else { TEXTS_MAX };
    // SAFETY: the list is not null, and the iterator ends at its last element.
    (0..count).map_while(move |index| unsafe { text(list.add(index).read_unaligned()) })
}

/// A C string, up to a maximum length.
///
/// # Safety
/// The pointer is null or valid for as long as the string is in use.
// SAFETY: the caller guarantees it; see above.
unsafe fn text<'a>(start: *const u8) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: bytes up to the terminating zero, or fewer.
    unsafe {
        let length = (0..TEXT_MAX).take_while(|&index| start.add(index).read() != 0).count();
        Some(slice::from_raw_parts(start, length))
    }
}

/// Reads where the link of a descriptor in `/proc` leads.
pub(super) fn read_link<const MAX: usize>(number: RawFd, link: &mut Text<MAX>) {
    use std::io::Write;

    let mut path = [0_u8; 32];
    let written = write!(&mut path[..31], "/proc/self/fd/{number}");
    let arguments = [&raw const path as u64, link.bytes.as_mut_ptr() as u64, MAX as u64, 0, 0];
    // SAFETY: the path ends with a zero, and the kernel writes at most the length of the buffer.
    let length = unsafe { repeat(libc::SYS_readlink, arguments) };
    let length = if written.is_ok() { length } else { 0 };
    link.length = usize::try_from(length).unwrap_or(0);
}

/// Whether a text names a descriptor: `/dev/fd/5`, `--fd=5`, `STATUS_FD=5`, `--fds=4,5`, or `5`
/// after `--status-fd`.
fn names(text: &[u8], before: &[u8], number: RawFd) -> bool {
    let mut start = 0;
    while let Some(found) = text[start..].iter().position(u8::is_ascii_digit) {
        start += found;
        let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_number = digits < 10
            && text[start..start + digits]
                .iter()
                .fold(0, |value: i64, digit| value * 10 + i64::from(digit - b'0'))
                == i64::from(number);
        if is_number && is_label(&text[..start], before) {
            return true;
        }
        start += digits;
    }
    false
}

/// Whether what stands in front of a number says that it is a descriptor. The number may be one of
/// a list.
fn is_label(front: &[u8], before: &[u8]) -> bool {
    let is_in_list = |byte: &u8| byte.is_ascii_digit() || *byte == b',';
    let end = front.iter().rposition(|byte| !is_in_list(byte)).map_or(0, |last| last + 1);
    match front[..end].split_last() {
        None => ends_with_label(before),
        Some((b'/', folder)) => folder.ends_with(b"/fd"),
        Some((b'=' | b':' | b' ', word)) => ends_with_label(word),
        Some(_) => false,
    }
}

fn ends_with_label(word: &[u8]) -> bool {
    /// The second to last are those of `make` and of Wayland.
    const LABELS: [&[u8]; 4] = [b"fd", b"fds", b"jobserver-auth", b"wayland_socket"];
    LABELS.iter().any(|label| {
        let start = word.len().checked_sub(label.len());
        start.is_some_and(|start| word[start..].eq_ignore_ascii_case(label))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_named_only_where_the_text_says_that_it_is_a_descriptor() {
        let named = |text: &str, before: &str| names(text.as_bytes(), before.as_bytes(), 5);
        for text in [
            "/dev/fd/5",
            "/proc/self/fd/5",
            "--fd=5",
            "fd:5",
            "--fds=3,5",
            "STATUS_FD=5",
            "--jobserver-auth=4,5",
            "MAKEFLAGS= -j --jobserver-auth=5,6",
            "WAYLAND_SOCKET=5",
        ] {
            assert!(named(text, ""), "{text}");
        }
        assert!(named("5", "--status-fd"));
        for text in ["5", "file5", "--fd=55", "--fd=15", "--count=5", "LISTEN_FDS_START=7", "a/5"] {
            assert!(!named(text, "sleep"), "{text}");
        }
        assert!(!named("--fd=99999999999999999999999999995", ""));
    }

    #[test]
    fn a_program_is_read_from_both_calls() {
        let path = c"/bin/true";
        let argument = c"true";
        let variable = c"LOG_FD=9";
        let argv = [argument.as_ptr(), std::ptr::null()];
        let environment = [variable.as_ptr(), std::ptr::null()];
        let (path, argv, environment) =
            (path.as_ptr() as u64, argv.as_ptr() as u64, environment.as_ptr() as u64);
        let folder = libc::AT_FDCWD as u64;
        for program in [
            Program::of(libc::SYS_execve, [path, argv, environment, 0, 0]),
            Program::of(libc::SYS_execveat, [folder, path, argv, environment, 0]),
        ] {
            let mut link = Text::EMPTY;
            assert_eq!(program.path(&mut link), b"/bin/true");
            assert_eq!(program.first_argument(), b"true");
            assert!(program.knows(9) && !program.knows(8));
            assert!(program.is_executable());
        }
        let none = Program::of(libc::SYS_execve, [c"/no/such".as_ptr() as u64, 0, 0, 0, 0]);
        assert!(!none.is_executable());
        assert_eq!(none.first_argument(), b"");
        let by_number = Program::of(libc::SYS_execveat, [0, c"".as_ptr() as u64, 0, 0, 0]);
        assert!(by_number.knows(0) && !by_number.knows(1));
    }

    #[test]
    fn a_long_text_is_cut() {
        let mut text = Text::<4>::EMPTY;
        text.set(b"abcdef");
        assert_eq!(text.bytes(), b"abcd");
        assert!(text.is(b"abcdef") && !text.is(b"abc"));
    }
}
