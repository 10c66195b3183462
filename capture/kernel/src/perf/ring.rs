//! The ring of one processor: takes the records out of it, whole ones, also where they wrap around its end.

use std::io;
use std::os::fd::OwnedFd;

use super::sys::MappedRing;

/// A ring that is being read.
#[derive(Debug)]
pub struct Ring {
    mapped: MappedRing,
    tail: u64,
    bytes: Vec<u8>,
}

impl Ring {
    /// Maps the ring of an event, `data_bytes` long or as much shorter as the user may lock, but not below `least`.
    ///
    /// # Errors
    /// The kernel's for the shortest that was tried.
    pub fn map(event: &OwnedFd, data_bytes: usize, least: usize) -> io::Result<Ring> {
        let mut data_bytes = data_bytes.next_power_of_two();
        loop {
            match MappedRing::map(event, data_bytes) {
                Ok(mapped) => return Ok(Ring { mapped, tail: 0, bytes: Vec::new() }),
                Err(error) if data_bytes / 2 < least || !is_for_want_of_memory(&error) => return Err(error),
                Err(_) => data_bytes /= 2,
            }
        }
    }

    /// Bytes that it holds.
    pub fn data_bytes(&self) -> usize {
        self.mapped.data_bytes()
    }

    /// Takes everything that is in it now: whole records, one after the other.
    pub fn take(&mut self) -> &[u8] {
        self.bytes.clear();
        let (head, size) = (self.mapped.head(), self.mapped.data_bytes());
        for (place, bytes) in pieces(self.tail, head, size) {
            self.mapped.copy(place, bytes, &mut self.bytes);
        }
        self.tail = head;
        self.mapped.set_tail(head);
        &self.bytes
    }
}

/// Whether a ring could not be had because the user may not lock so much.
pub(super) fn is_for_want_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM))
}

/// Where in a ring of `size` bytes, a power of two, lies what was written between two counts: in one piece or two.
fn pieces(tail: u64, head: u64, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let bytes = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX).min(size);
    let place = (tail & (size as u64 - 1)) as usize;
    let first = bytes.min(size - place);
    [(place, first), (0, bytes - first)].into_iter().filter(|&(_, bytes)| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wraps_comes_in_two_pieces() {
        let check = |tail, head, expected: &[(usize, usize)]| {
            assert_eq!(pieces(tail, head, 64).collect::<Vec<_>>(), expected, "{tail} to {head}");
        };
        check(0, 0, &[]);
        check(0, 24, &[(0, 24)]);
        check(40, 64, &[(40, 24)]);
        check(40, 72, &[(40, 24), (0, 8)]);
        check(128 + 56, 128 + 56 + 64, &[(56, 8), (0, 56)]);
        check(u64::MAX - 7, 8, &[(56, 8), (0, 8)]);
        // A head that cannot be: no more than the ring holds.
        check(8, 1 << 40, &[(8, 56), (0, 8)]);
    }
}
