//! The first 16 bytes: the version of the format.

use crate::error::FormatError;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 16;
const BEFORE_VERSION: &[u8] = b"go 1.";
const BEHIND_VERSION: &[u8] = b" trace\0\0\0";
/// The first version with alloc/free events.
const OLDEST: u32 = 23;
/// The last version that is known here; Go 1.27 writes it too.
const NEWEST: u32 = 26;

/// The version that a trace names: that of the Go release which introduced the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoTraceVersion {
    /// The number behind `go 1.`.
    pub minor: u32,
}

impl GoTraceVersion {
    /// Whether `bytes` start like an execution trace of any version.
    #[must_use]
    pub fn looks_like(bytes: &[u8]) -> bool {
        bytes.starts_with(BEFORE_VERSION)
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`FormatError::Empty`], [`FormatError::Foreign`], and [`FormatError::GoExecutionTrace`] for versions before 1.23
    /// and after the last one known.
    pub fn read(bytes: &[u8]) -> Result<GoTraceVersion, FormatError> {
        if bytes.is_empty() {
            return Err(FormatError::Empty);
        }
        let foreign = || FormatError::Foreign {
            expected: "the header of a Go execution trace (\"go 1.NN trace\" and three zero bytes)",
            found: bytes.iter().take(HEADER_BYTES).flat_map(|byte| byte.escape_ascii()).map(char::from).collect(),
        };
        let version = bytes.strip_prefix(BEFORE_VERSION).ok_or_else(foreign)?;
        let digits = version.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
        let minor = version[..digits].iter().fold(0, |minor, digit| minor * 10 + u32::from(digit - b'0'));
        if digits == 0 || !version[digits..].starts_with(BEHIND_VERSION) {
            return Err(foreign());
        }
        match minor {
            OLDEST..=NEWEST => Ok(GoTraceVersion { minor }),
            0..OLDEST => Err(FormatError::GoExecutionTrace {
                offset: BEFORE_VERSION.len() as u64,
                what: format!(
                    "expected format version 1.{OLDEST} to 1.{NEWEST}, found 1.{minor}, which has no alloc/free events: \
                     record with Go 1.23 or later and GODEBUG=traceallocfree=1"
                ),
            }),
            _ => Err(FormatError::GoExecutionTrace {
                offset: BEFORE_VERSION.len() as u64,
                what: format!(
                    "expected format version 1.{OLDEST} to 1.{NEWEST}, found 1.{minor}: use a newer pagetrace"
                ),
            }),
        }
    }

    /// Whether a generation ends with an event that says so.
    #[must_use]
    pub fn marks_ends(self) -> bool {
        self.minor >= 26
    }

    /// Whether spans of small objects are taken to hold mark bits (the Green Tea collector, the default from Go 1.26 on).
    #[must_use]
    pub fn has_inline_marks(self) -> bool {
        self.minor >= 26
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        fn check(bytes: &[u8], expected: Result<u32, &str>) {
            let found = GoTraceVersion::read(bytes).map(|version| version.minor).map_err(|error| error.to_string());
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                _ => panic!("{bytes:?}: {found:?}, not {expected:?}"),
            }
        }
        check(b"go 1.23 trace\0\0\0", Ok(23));
        check(b"go 1.26 trace\0\0\0\x01", Ok(26));
        check(b"", Err("empty"));
        check(b"go 1.21 trace\0\0\0", Err("at offset 5: expected format version 1.23 to 1.26, found 1.21"));
        check(b"go 1.27 trace\0\0\0", Err("use a newer pagetrace"));
        check(b"go 1. trace\0\0\0\0", Err("not a trace"));
        check(b"go 1.26 trace", Err("not a trace"));
        check(b"go 1.260 trace\0\0", Err("not a trace"));
    }
}
