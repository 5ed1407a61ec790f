//! Descriptors that a program learns of by its arguments or its environment.
//!
//! `--jobserver-auth=3,4`, `/dev/fd/63` and `LISTEN_FDS=2` name descriptors; a program that gets such a
//! number was notified of it, so that its inheritance is no leak. The 3 of `sleep 3` may be anything: it
//! is a hint.

/// Variables whose value is a number that is no descriptor.
const OTHER_NUMBERS: [&[u8]; 6] =
    [b"SHLVL", b"COLUMNS", b"LINES", b"DISPLAY", b"HISTSIZE", b"OMP_NUM_THREADS"];

/// The first descriptor of the convention of `LISTEN_FDS`.
const LISTEN_FIRST: i32 = 3;

/// Variables whose value is a list of descriptors although nothing in it says so.
const DESCRIPTOR_LISTS: [&[u8]; 1] = [b"NGINX"];

/// Endings of words before the numbers of descriptors: `--status-fd=3`, `/dev/fd/3`, `<&3`.
const LABELS: [&[u8]; 5] = [b"fd", b"fds", b"jobserver-auth", b"<&", b">&"];

/// Characters between such a word and a number, and between numbers.
const SEPARATORS: &[u8] = b"=:/,; ";

/// Which of the open numbers a program learns of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// They are named as descriptors.
    pub named: Vec<i32>,
    /// They occur, and may be other numbers.
    pub hinted: Vec<i32>,
}

impl Mentions {
    /// Those of the numbers that the program is notified of. Takes the contents of `/proc/PID/cmdline` and
    /// `/proc/PID/environ`: texts that end with a zero byte. `outer` is the environment of the tracer; a
    /// variable that was in it before is no hint.
    ///
    /// Any number in the arguments is a hint. In the environment, only a value that is a list of numbers
    /// is: most environments contain small numbers by chance.
    ///
    /// # Examples
    ///
    /// ```
    /// use echown_trace::mentions::Mentions;
    ///
    /// let environment = b"MAKEFLAGS= -j2 --jobserver-auth=3,4\0SHLVL=5\0LISTEN_FDS=1\0";
    /// let found = Mentions::find(b"tool\0--fd=7\0-j6\0", environment, b"", &[3, 4, 5, 6, 7]);
    /// assert_eq!(found.named, [3, 4, 7]);
    /// assert_eq!(found.hinted, [6]);
    /// ```
    #[must_use]
    pub fn find(arguments: &[u8], environment: &[u8], outer: &[u8], numbers: &[i32]) -> Mentions {
        let (mut named, mut hinted) = (Vec::new(), Vec::new());
        let mut before: &[u8] = b"";
        for argument in parts(arguments) {
            named_in(argument, &mut named);
            // `--status-fd 3`
            if before.starts_with(b"-") && ends_with_label(before) {
                named.extend(number_of(argument));
            }
            hinted.extend(numbers_in(argument));
            before = argument;
        }
        let outer: Vec<&[u8]> = parts(outer).collect();
        for variable in parts(environment) {
            let Some(equals) = variable.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&variable[..equals], &variable[equals + 1..]);
            let is_list = |byte: &u8| byte.is_ascii_digit() || SEPARATORS.contains(byte);
            if name == b"LISTEN_FDS" {
                let count = numbers_in(value).next().unwrap_or(0);
                named.extend(LISTEN_FIRST..LISTEN_FIRST.saturating_add(count.min(1 << 16)));
            } else if DESCRIPTOR_LISTS.contains(&name) {
                named.extend(numbers_in(value));
            } else {
                // With its name, `NODE_CHANNEL_FD=3` is like an argument.
                named_in(variable, &mut named);
                let is_hint = value.iter().all(is_list)
                    && !OTHER_NUMBERS.contains(&name)
                    && !outer.contains(&variable);
                if is_hint {
                    hinted.extend(numbers_in(value));
                }
            }
        }
        named.sort_unstable();
        hinted.sort_unstable();
        let is_named = |number: &i32| named.binary_search(number).is_ok();
        let is_hinted = |number: &i32| !is_named(number) && hinted.binary_search(number).is_ok();
        Mentions {
            named: numbers.iter().copied().filter(is_named).collect(),
            hinted: numbers.iter().copied().filter(is_hinted).collect(),
        }
    }
}

/// The texts of a list in which each ends with a zero byte.
fn parts(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0)
}

/// Adds the numbers that follow a label: `--fds=3,4`, `fd:3`, `/proc/self/fd/3`, `exec <&3`.
fn named_in(text: &[u8], named: &mut Vec<i32>) {
    let mut rest = text;
    let mut is_labelled = false;
    while !rest.is_empty() {
        let is_digit = rest[0].is_ascii_digit();
        let end = rest.iter().position(|byte| byte.is_ascii_digit() != is_digit);
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        if !is_digit {
            let is_between = run.iter().all(|byte| SEPARATORS.contains(byte));
            is_labelled = is_labelled && is_between || ends_with_label(run);
        } else if is_labelled && !after.first().is_some_and(u8::is_ascii_alphabetic) {
            named.extend(number_of(run));
        } else {
            is_labelled = false;
        }
        rest = after;
    }
}

/// Whether a label ends the text, or separators after it.
fn ends_with_label(text: &[u8]) -> bool {
    let end = text.iter().rposition(|byte| !SEPARATORS.contains(byte)).map_or(0, |last| last + 1);
    let has_end = |label: &[u8]| {
        let start = end.checked_sub(label.len());
        start.is_some_and(|start| text[start..end].eq_ignore_ascii_case(label))
    };
    LABELS.into_iter().any(has_end)
}

fn number_of(text: &[u8]) -> Option<i32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The numbers in a text that are not part of a word: `-u3` and `fd3` count, `python3` and `3rd` do not.
fn numbers_in(text: &[u8]) -> impl Iterator<Item = i32> + '_ {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    words.filter_map(|word| {
        let digits = word.iter().position(u8::is_ascii_digit)?;
        let (letters, number) = word.split_at(digits);
        let is_label = letters.len() <= 1 || letters.to_ascii_lowercase().ends_with(b"fd");
        number_of(number).filter(|_| is_label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(arguments: &[u8], environment: &[u8]) -> Mentions {
        let numbers: Vec<i32> = (3..100).collect();
        Mentions::find(arguments, environment, b"NODE_INDEX=3\0", &numbers)
    }

    #[test]
    fn a_number_after_a_word_for_descriptors_is_named() {
        for argument in [
            "/dev/fd/63",
            "/proc/self/fd/63",
            "--status-fd=63",
            "--status-fd\x0063",
            "fd:63",
            "FD:63",
            "pass:fd:63",
            "--fd63",
            "spawn_main(tracker_fd=63, pipe_handle=x)",
            "cat <&63",
        ] {
            assert_eq!(find(argument.as_bytes(), b"").named, [63], "{argument}");
        }
        assert_eq!(find(b"make\0--jobserver-auth=3,4\0", b"").named, [3, 4]);
        assert_eq!(find(b"", b"MAKEFLAGS=-j9 --jobserver-fds=3,4 -j\0").named, [3, 4]);
        assert_eq!(find(b"", b"NGINX=6;7;\0NODE_CHANNEL_FD=9\0").named, [6, 7, 9]);
        assert_eq!(find(b"", b"LISTEN_FDS=2\0LISTEN_PID=7\0").named, [3, 4]);
    }

    #[test]
    fn another_number_in_the_arguments_is_a_hint() {
        for argument in ["3", "-n3", "--jobs=3", "3.5", "1:3", "2024-3-1", "-fd x 3", "main(3)"] {
            let found = find(argument.as_bytes(), b"");
            assert_eq!(found.named, [0; 0], "{argument}");
            assert!(found.hinted.contains(&3), "{argument}");
        }
        let found = find(b"x12y\0-u7\099999999999999\0--fd=8rd\0", b"");
        assert_eq!((found.named, found.hinted), (vec![], vec![7]));
    }

    #[test]
    fn a_variable_of_numbers_is_a_hint_if_the_traced_program_set_it() {
        let found = find(b"", b"LEVEL=4\0LIST=5:6\0NODE_INDEX=3\0SHLVL=7\0TERM=xterm-8\0=\0x\0");
        assert_eq!((found.named, found.hinted), (vec![], vec![4, 5, 6]));
        let found = find(b"", b"LS_COLORS=di=01;34:\0=9\0NODE_INDEX=10\0");
        assert_eq!((found.named, found.hinted), (vec![], vec![9, 10]));
    }
}
