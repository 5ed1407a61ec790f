//! Descriptors that a program learns of by its arguments or its environment.
//!
//! `--jobserver-auth=3,4`, `/dev/fd/63` and `LISTEN_FDS=2` name descriptors; a program that gets such a
//! number was notified of it, so that its inheritance is no leak.

/// Variables whose value is a number that is no descriptor.
const OTHER_NUMBERS: [&[u8]; 6] =
    [b"SHLVL", b"COLUMNS", b"LINES", b"DISPLAY", b"HISTSIZE", b"OMP_NUM_THREADS"];

/// The first descriptor of the convention of `LISTEN_FDS`.
const LISTEN_FIRST: i32 = 3;

/// Those of the numbers that the program is notified of. Takes the contents of `/proc/PID/cmdline` and
/// `/proc/PID/environ`: texts that end with a zero byte.
///
/// Any number in the arguments counts. In the environment, numbers of a variable count if its value is a
/// list of numbers, or if its name or value tells that it is about descriptors: most environments contain
/// small numbers by chance.
///
/// # Examples
///
/// ```
/// let environment = b"MAKEFLAGS= -j2 --jobserver-auth=3,4\0SHLVL=5\0LISTEN_FDS=1\0";
/// let told = echown_trace::mentions::mentioned(b"tool\0--fd=7\0", environment, &[3, 4, 5, 6, 7]);
/// assert_eq!(told, [3, 4, 7]);
/// ```
#[must_use]
pub fn mentioned(arguments: &[u8], environment: &[u8], numbers: &[i32]) -> Vec<i32> {
    let mut found: Vec<i32> = arguments.split(|byte| *byte == 0).flat_map(numbers_in).collect();
    for variable in environment.split(|byte| *byte == 0) {
        let Some(equals) = variable.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (&variable[..equals], &variable[equals + 1..]);
        if name == b"LISTEN_FDS" {
            let count = numbers_in(value).next().unwrap_or(0);
            found.extend(LISTEN_FIRST..LISTEN_FIRST.saturating_add(count.min(1 << 16)));
        } else if tells_of_descriptors(name, value) {
            found.extend(numbers_in(value));
        }
    }
    found.sort_unstable();
    numbers.iter().copied().filter(|number| found.binary_search(number).is_ok()).collect()
}

fn tells_of_descriptors(name: &[u8], value: &[u8]) -> bool {
    if OTHER_NUMBERS.contains(&name) {
        return false;
    }
    let is_list = |byte: &u8| byte.is_ascii_digit() || b",;: ".contains(byte);
    value.iter().all(is_list)
        || has_word(name, b"fd")
        || has_word(value, b"fd")
        || has_word(value, b"jobserver")
}

/// Whether the text contains the word in small or capital letters.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// The numbers in a text that are not part of a word: `-u3` and `fd3` count, `python3` and `3rd` do not.
fn numbers_in(text: &[u8]) -> impl Iterator<Item = i32> + '_ {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    words.filter_map(|word| {
        let digits = word.iter().position(u8::is_ascii_digit)?;
        let (letters, number) = word.split_at(digits);
        let is_label = letters.len() <= 1 || letters.to_ascii_lowercase().ends_with(b"fd");
        std::str::from_utf8(number).ok()?.parse().ok().filter(|_| is_label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_only_where_they_are_about_descriptors() {
        let numbers: Vec<i32> = (3..100).collect();
        let told =
            |arguments: &[u8], environment: &[u8]| mentioned(arguments, environment, &numbers);
        assert_eq!(told(b"python3\0-c\0main(7)\0/dev/fd/63\0", b""), [7, 63]);
        assert_eq!(told(b"", b"LS_COLORS=di=01;34:\0TERM=xterm-256\0SHLVL=4\0"), [0; 0]);
        assert_eq!(told(b"", b"NGINX=6;7;\0NODE_CHANNEL_FD=9\0LISTEN_FDS=2\0"), [3, 4, 6, 7, 9]);
        assert_eq!(told(b"x12y\0-u7\099999999999999\0", b"=\0=5\0novalue\0"), [5, 7]);
    }
}
