//! Text files of /proc, line by line, in a buffer of the caller's.

use core::ffi::CStr;
use core::ops::Range;

use crate::sys::files::ReadFile;

/// The lines of a file. One that is longer than the buffer is cut to its size.
#[derive(Debug)]
pub struct Lines<'a> {
    file: ReadFile,
    buffer: &'a mut [u8],
    /// Where the present line is in the buffer.
    line: Range<usize>,
    /// What has been read behind it.
    unread: Range<usize>,
    at_end: bool,
}

impl<'a> Lines<'a> {
    /// Opens a file, in front of its first line; `None` if that fails or there is no buffer.
    pub fn open(path: &CStr, buffer: &'a mut [u8]) -> Option<Lines<'a>> {
        let file = ReadFile::open(path).filter(|_| !buffer.is_empty())?;
        Some(Lines { file, buffer, line: 0..0, unread: 0..0, at_end: false })
    }

    /// The present line without its end.
    pub fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// Goes to the next line; false behind the last, and where reading fails.
    pub fn advance(&mut self) -> bool {
        let mut searched = 0;
        loop {
            let Range { start, end } = self.unread;
            if let Some(length) = self.buffer[start + searched..end].iter().position(|&byte| byte == b'\n') {
                self.line = start..start + searched + length;
                self.unread = self.line.end + 1..end;
                return true;
            }
            searched = end - start;
            if self.at_end || searched == self.buffer.len() {
                self.line = start..end;
                self.unread = 0..0;
                self.read_over();
                return searched > 0;
            }
            self.buffer.copy_within(start..end, 0);
            self.unread = 0..searched;
            match self.file.read(&mut self.buffer[searched..]) {
                Some(bytes) if bytes > 0 => self.unread.end += bytes,
                _ => self.at_end = true,
            }
        }
    }

    /// Reads over what is left of a line that fills the buffer: byte by byte, since there is no room to read more than
    /// belongs to it.
    fn read_over(&mut self) {
        let mut byte = [0];
        while !self.at_end && byte != *b"\n" {
            self.at_end = self.file.read(&mut byte) != Some(1);
        }
    }
}

/// Takes digits up to the separator, which the end of the line may stand for.
pub fn number(rest: &mut &[u8], radix: u32, separator: u8) -> Option<u64> {
    let length = rest.iter().position(|&byte| byte == separator).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(length);
    *rest = after.get(1..).unwrap_or_default();
    let mut value = 0_u64;
    for &digit in digits {
        let digit = char::from(digit).to_digit(radix)?;
        value = value.checked_mul(radix.into())?.checked_add(digit.into())?;
    }
    (!digits.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn lines_come_whole_or_cut_to_the_buffer() {
        let path = std::env::temp_dir().join(format!("pagetrace-lines-{}", std::process::id()));
        let text = b"one\n\nfour and more\n12345678\nlast";
        std::fs::write(&path, text).expect("writable");
        let name = CString::new(path.as_os_str().as_bytes()).expect("a path");
        let whole: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
        for size in 1..=40 {
            let mut buffer = vec![0; size];
            let mut lines = Lines::open(&name, &mut buffer).expect("it was made above");
            for &line in &whole {
                assert!(lines.advance(), "{size}: {line:?}");
                assert_eq!(lines.line(), &line[..line.len().min(size)], "{size}");
            }
            assert!(!lines.advance() && !lines.advance(), "{size}");
        }
        assert!(Lines::open(&name, &mut []).is_none());
        std::fs::remove_file(path).expect("it is there");
        assert!(Lines::open(&name, &mut [0]).is_none());
    }

    #[test]
    fn numbers_end_at_their_separator() {
        let check = |mut text: &[u8], expected, after: &[u8]| {
            assert_eq!(number(&mut text, 16, b'-'), expected);
            assert_eq!(text, after);
        };
        check(b"1f-2", Some(0x1f), b"2");
        check(b"1f", Some(0x1f), b"");
        check(b"-2", None, b"2");
        check(b"1g-2", None, b"2");
        check(b"fffffffffffffffff-", None, b"");
    }
}
