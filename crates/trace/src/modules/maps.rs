//! The executable mappings of a process, from `/proc/PID/maps`.

/// One executable mapping, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MapsLine<'a> {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    /// Device and inode; (0, 0) for a mapping without a file.
    pub(super) identity: (u64, u64),
    pub(super) path: &'a [u8],
}

/// The executable mappings in a text of `/proc/PID/maps`.
pub(super) fn executable(text: &[u8]) -> impl Iterator<Item = MapsLine<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(parse)
}

/// `start-end perms offset major:minor inode path`.
fn parse(line: &[u8]) -> Option<MapsLine<'_>> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let range = fields.next()?;
    let is_executable = fields.next()?.get(2) == Some(&b'x');
    if !is_executable {
        return None;
    }
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let start = hexadecimal(&range[..dash])?;
    let end = hexadecimal(&range[dash + 1..])?;
    let offset = hexadecimal(fields.next()?)?;
    let device = fields.next()?;
    let colon = device.iter().position(|byte| *byte == b':')?;
    let major = u32::try_from(hexadecimal(&device[..colon])?).ok()?;
    let minor = u32::try_from(hexadecimal(&device[colon + 1..])?).ok()?;
    let inode = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = fields.next().unwrap_or_default();
    let path = path.trim_ascii_start();
    let identity = if inode == 0 { (0, 0) } else { (rustix::fs::makedev(major, minor), inode) };
    Some(MapsLine { start, end, offset, identity, path })
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_mappings_are_listed_with_their_files() {
        let text = b"\
55f0-5600 r--p 00000000 fe:01 247030                     /usr/bin/cat
5600-5700 r-xp 00000010 fe:01 247030                     /usr/bin/a b
7000-7100 rwxp 00000000 00:00 0 
7200-7300 r-xp 00000000 00:00 0                          [vdso]
";
        let lines: Vec<_> = executable(text).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].start, lines[0].end, lines[0].offset), (0x5600, 0x5700, 0x10));
        assert_eq!(lines[0].identity, (rustix::fs::makedev(0xfe, 1), 247_030));
        assert_eq!(lines[0].path, b"/usr/bin/a b");
        assert_eq!((lines[1].identity, lines[1].path), ((0, 0), &b""[..]));
        assert_eq!((lines[2].identity, lines[2].path), ((0, 0), &b"[vdso]"[..]));
    }
}
