//! The mappings of a process from `/proc/PID/maps` (proc_pid_maps(5)).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use pagetrace_format::Address;
use pagetrace_format::snapshot::{Mapping, Permissions};

use crate::error::KernelError;
use crate::process_dir::ProcessDir;

/// Reads the mappings of a process, in order of address, none overlapping another.
///
/// # Errors
/// [`KernelError::Gone`] if it has ended, [`KernelError::Denied`] where it may not be looked at.
pub fn read_mappings(pid: u32) -> Result<Vec<Mapping>, KernelError> {
    AddressSpace::open(&ProcessDir::open(pid)?)?.mappings()
}

/// The address space that a process had when this was opened: after an exec it reads as empty.
#[derive(Debug)]
pub struct AddressSpace {
    pid: u32,
    maps: File,
}

impl AddressSpace {
    /// Opens the present address space of a process.
    ///
    /// # Errors
    /// As [`read_mappings`].
    pub fn open(process: &ProcessDir) -> Result<AddressSpace, KernelError> {
        Ok(AddressSpace { pid: process.pid(), maps: process.file("maps")? })
    }

    /// Its mappings. Of a process that runs meanwhile the kernel gives them in several parts, each right for itself.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if the address space is no more.
    pub fn mappings(&mut self) -> Result<Vec<Mapping>, KernelError> {
        let mut text = Vec::with_capacity(16 * 1024);
        match self.maps.read_to_end(&mut text) {
            Ok(0) => Err(KernelError::Gone { pid: self.pid }),
            Ok(_) => parse(&text).map_err(|line| KernelError::Malformed {
                path: PathBuf::from(format!("/proc/{}/maps", self.pid)),
                expected: "`start-end perms offset major:minor inode path`, ascending",
                found: line,
            }),
            Err(source) => Err(KernelError::of(self.pid, "maps", source)),
        }
    }

    /// Whether the process still has this address space: it has neither ended nor replaced its program.
    #[must_use]
    pub fn is_current(&self) -> bool {
        matches!(self.maps.read_at(&mut [0; 1], 0), Ok(1))
    }
}

/// Parses the text of a maps file; the error is the line that is none.
fn parse(text: &[u8]) -> Result<Vec<Mapping>, String> {
    let mut mappings: Vec<Mapping> = Vec::with_capacity(text.len() / 80);
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let mapping = parse_line(line).ok_or_else(|| String::from_utf8_lossy(line).into_owned())?;
        // Between two parts of the file a running process can have merged mappings, so that one starts again before
        // the end of the one already seen. What was seen stands, the rest of the new one is kept.
        let seen = mappings.last().map_or(Address(0), |last| last.end);
        match mapping.start >= seen {
            true => mappings.push(mapping),
            false if mapping.end > seen => mappings.push(cut_before(mapping, seen)),
            false => {}
        }
    }
    Ok(mappings)
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let start = number(&mut rest, 16, b'-')?;
    let end = number(&mut rest, 16, b' ')?;
    let (flags, after) = rest.split_at_checked(4)?;
    let permissions = permissions(flags)?;
    rest = after.strip_prefix(b" ")?;
    let file_offset = number(&mut rest, 16, b' ')?;
    let major = number(&mut rest, 16, b':')?;
    let minor = number(&mut rest, 16, b' ')?;
    let inode = number(&mut rest, 10, b' ')?;
    // The kernel pads before the path, and a path may itself hold or begin with anything but a slash or bracket.
    let path = String::from_utf8_lossy(rest.trim_ascii_start()).into_owned();
    let device = major << 32 | minor;
    (start < end).then_some(Mapping {
        start: Address(start),
        end: Address(end),
        permissions,
        file_offset,
        device,
        inode,
        path,
    })
}

/// Takes digits up to the separator, which the end of the line may stand for.
fn number(rest: &mut &[u8], radix: u32, separator: u8) -> Option<u64> {
    let length = rest.iter().position(|&byte| byte == separator).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(length);
    *rest = after.strip_prefix(&[separator]).unwrap_or(after);
    let mut value = 0_u64;
    for &digit in digits {
        let digit = char::from(digit).to_digit(radix)?;
        value = value.checked_mul(radix.into())?.checked_add(digit.into())?;
    }
    (!digits.is_empty()).then_some(value)
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

fn cut_before(mapping: Mapping, address: Address) -> Mapping {
    let of_file = if mapping.inode == 0 { 0 } else { address.0 - mapping.start.0 };
    Mapping { start: address, file_offset: mapping.file_offset + of_file, ..mapping }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, expected: Option<(u64, u64, u8, u64, u64, u64, &str)>) {
        let found = parse(line.as_bytes()).ok().map(|all| all[0].clone());
        let expected = expected.map(|(start, end, bits, file_offset, device, inode, path)| Mapping {
            start: Address(start),
            end: Address(end),
            permissions: Permissions(bits),
            file_offset,
            device,
            inode,
            path: path.to_owned(),
        });
        assert_eq!(found, expected, "{line:?}");
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
        check(
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]",
            Some((0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000, 4, 0, 0, 0, "[vsyscall]")),
        );
        for wrong in
            ["x", "3000-1000 rw-p 0 00:00 0", "1000-3000 rw?p 0 00:00 0", "1000-3000 rw", "1-fffffffffffffffff "]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn a_mapping_that_merged_meanwhile_is_cut() {
        let text =
            "1000-3000 r--p 00000000 00:01 9 /f\n1000-5000 r--p 00000000 00:01 9 /f\n2000-4000 r--p 0 00:01 9 /f\n";
        let found = parse(text.as_bytes()).expect("parses");
        let spans: Vec<_> = found.iter().map(|it| (it.start.0, it.end.0, it.file_offset)).collect();
        assert_eq!(spans, [(0x1000, 0x3000, 0), (0x3000, 0x5000, 0x2000)]);
    }

    const NEARLY_MAPS: &str = "([0-9a-f]{1,5}-[0-9a-f]{1,5} r-xp 0 0:0 [0-9] ?[/a-z ]{0,4}\n){0,9}.{0,9}";

    proptest! {
        #[test]
        fn any_text_is_ascending_or_refused(text in NEARLY_MAPS) {
            if let Ok(found) = parse(text.as_bytes()) {
                prop_assert!(found.iter().all(|it| it.start < it.end));
                prop_assert!(found.windows(2).all(|two| two[0].end <= two[1].start));
            }
        }
    }
}
