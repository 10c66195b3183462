//! The mappings of this process from /proc/self/maps (proc_pid_maps(5)).

use pagetrace_format::Address;
use pagetrace_format::snapshot::{MappingRef, Permissions};

use super::proc_text::{Lines, number};

/// Reads mapping after mapping. While the process runs on the kernel gives them in several parts, each right for
/// itself; where two of them overlap what was seen first stands, and the rest of the later one is kept.
#[derive(Debug)]
pub struct Maps<'a> {
    lines: Lines<'a>,
    /// Where the last mapping ended.
    seen: u64,
}

impl<'a> Maps<'a> {
    /// Opens them; `None` without /proc. A line that is longer than the buffer loses the end of its path.
    pub fn open(text: &'a mut [u8]) -> Option<Maps<'a>> {
        Some(Maps { lines: Lines::open(c"/proc/self/maps", text)?, seen: 0 })
    }

    /// The next mapping, `None` after the last. They ascend and do not overlap. Lines that are none are passed over.
    pub fn next(&mut self) -> Option<MappingRef<'_>> {
        let seen = self.seen;
        while self.seen == seen {
            if !self.lines.advance() {
                return None;
            }
            self.seen = parse(self.lines.line()).map_or(seen, |mapping| mapping.end.0.max(seen));
        }
        parse(self.lines.line()).map(|mapping| behind(mapping, seen))
    }
}

fn parse(line: &[u8]) -> Option<MappingRef<'_>> {
    let mut rest = line;
    let start = number(&mut rest, 16, b'-')?;
    let end = number(&mut rest, 16, b' ')?;
    let (flags, after) = rest.split_at_checked(4)?;
    rest = after.strip_prefix(b" ")?;
    let file_offset = number(&mut rest, 16, b' ')?;
    let major = number(&mut rest, 16, b':')?;
    let minor = number(&mut rest, 16, b' ')?;
    let inode = number(&mut rest, 10, b' ')?;
    (start < end).then_some(MappingRef {
        start: Address(start),
        end: Address(end),
        permissions: permissions(flags)?,
        file_offset,
        device: major << 32 | minor,
        inode,
        // The kernel pads before the path.
        path: rest.trim_ascii_start(),
    })
}

fn permissions(flags: &[u8]) -> Option<Permissions> {
    let letters = [
        (b'r', Permissions::READ),
        (b'w', Permissions::WRITE),
        (b'x', Permissions::EXECUTE),
        (b's', Permissions::SHARED),
    ];
    let mut bits = 0;
    for (&flag, (letter, bit)) in flags.iter().zip(letters) {
        match flag {
            _ if flag == letter => bits |= bit,
            b'-' | b'p' => {}
            _ => return None,
        }
    }
    Some(Permissions(bits))
}

/// What of a mapping lies behind an address.
fn behind(mapping: MappingRef<'_>, address: u64) -> MappingRef<'_> {
    let cut = address.saturating_sub(mapping.start.0);
    let of_file = if mapping.inode == 0 { 0 } else { cut };
    MappingRef { start: Address(mapping.start.0 + cut), file_offset: mapping.file_offset + of_file, ..mapping }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(u64, u64, u8, u64, u64, u64, &str)>) {
        let expected = expected.map(|(start, end, bits, file_offset, device, inode, path)| MappingRef {
            start: Address(start),
            end: Address(end),
            permissions: Permissions(bits),
            file_offset,
            device,
            inode,
            path: path.as_bytes(),
        });
        assert_eq!(parse(line.as_bytes()), expected, "{line:?}");
    }

    #[test]
    fn lines() {
        check(
            "1000-3000 r-xp 00001000 fe:01 42                 /a b",
            Some((0x1000, 0x3000, 5, 4096, 0xfe << 32 | 1, 42, "/a b")),
        );
        check("1000-3000 rw-s 00000000 00:0f 7 /x (deleted)", Some((0x1000, 0x3000, 11, 0, 15, 7, "/x (deleted)")));
        check("1000-3000 ---p 00000000 00:00 0 ", Some((0x1000, 0x3000, 0, 0, 0, 0, "")));
        check("1000-3000 rw-p 00000000 00:00 0", Some((0x1000, 0x3000, 3, 0, 0, 0, "")));
        for wrong in
            ["x", "3000-1000 rw-p 0 00:00 0", "1000-3000 rw?p 0 00:00 0", "1000-3000 rw", "1-fffffffffffffffff "]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn a_mapping_that_merged_meanwhile_is_cut() {
        let mapping = parse(b"1000-5000 r--p 00000000 00:01 9 /f").expect("parses");
        let cut = behind(mapping, 0x3000);
        assert_eq!((cut.start.0, cut.end.0, cut.file_offset), (0x3000, 0x5000, 0x2000));
        assert_eq!(behind(mapping, 0x800), mapping);
    }

    #[test]
    fn long_paths_with_spaces_are_whole_or_cut_to_the_memory() {
        let root = std::env::temp_dir().join(format!("pagetrace-maps-{}", std::process::id()));
        let folder = root.join("a b ".repeat(60)).join("c\nd ".repeat(50)).join("e".repeat(200));
        std::fs::create_dir_all(&folder).expect("writable");
        let file = std::fs::File::create_new(folder.join("(deleted) file")).expect("a new file");
        file.set_len(4096).expect("room");
        // SAFETY: a new mapping, which is never read.
        let memory = unsafe {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0)
        };
        assert_ne!(memory, libc::MAP_FAILED);
        let start = memory.addr() as u64;
        let from_outside = pagetrace_kernel::proc_maps::read_mappings(std::process::id()).expect("alive");
        let expected = &from_outside.iter().find(|it| it.start.0 == start).expect("mapped").path;
        assert!(expected.len() > 700 && expected.contains(&"c\\012d ".repeat(50)));
        for size in [200, 4096, 16384] {
            let mut text = vec![0; size];
            let mut maps = Maps::open(&mut text).expect("/proc");
            let mut found = None;
            while let Some(mapping) = maps.next() {
                if mapping.start.0 == start {
                    found = Some(mapping.path.to_vec());
                }
            }
            let found = found.expect("mapped");
            assert!(expected.as_bytes().starts_with(&found), "{size}: {found:?}");
            assert_eq!(found.len() == expected.len(), size > 1000, "{size}");
        }
        // SAFETY: the mapping from above.
        unsafe { libc::munmap(memory, 4096) };
        std::fs::remove_dir_all(root).expect("it was made above");
    }
}
