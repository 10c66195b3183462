//! Which memory a system call filled or gave advice about, where its arguments only point at that: the arrays of
//! readv(2), recvmsg(2) and process_madvise(2), read out of the program.

use super::record::UserStack;
use super::sys::read_memory;
use super::traced_calls::{Effect, TracedCall};
use pagetrace_format::kernel_event::PageCall;

/// Ranges that the program's memory held when the call began, if they lay on its stack; else when its begin was seen, and
/// the program may have gone on by then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// First addresses and bytes.
    ranges: Vec<(u64, u64)>,
    /// Of process_madvise(2): whose they are, where known.
    target: Option<u32>,
}

/// As UIO_MAXIOV of the kernel: more is refused by it.
const RANGES_MAX: u64 = 1024;
/// The special descriptors of pidfd_open(2) for the caller's own thread and process, since Linux 6.14.
const PIDFD_SELF: [u64; 2] = [-10_000_i64 as u64, -10_001_i64 as u64];

impl Buffers {
    /// Reads what the call points at. `None` where it points at nothing or that cannot be read.
    pub fn read(pid: u32, call: &TracedCall, arguments: &[u64; 6], stack: Option<&UserStack>) -> Option<Buffers> {
        let memory = Memory { pid, stack };
        match call.effect {
            Effect::FillsVector(address, count) => {
                Some(Buffers { ranges: memory.ranges(arguments[address], arguments[count])?, target: None })
            }
            Effect::FillsMessage(address) => {
                // struct msghdr: name, length of the name, array of buffers, its count.
                let words = memory.words(arguments[address], 4)?;
                Some(Buffers { ranges: memory.ranges(words[2], words[3])?, target: None })
            }
            Effect::Page(PageCall::ProcessMadvise) => Some(Buffers {
                ranges: memory.ranges(arguments[1], arguments[2])?,
                target: process_behind(pid, arguments[0]),
            }),
            Effect::Page(_) | Effect::FillsBuffer(..) => None,
        }
    }
}

/// The parts of memory that a call with this result filled. `None` where they are not known, or cannot have held so
/// much: then the program had already changed them.
pub fn filled_parts(
    call: &TracedCall,
    arguments: &[u64; 6],
    result: u64,
    buffers: Option<&Buffers>,
) -> Option<Vec<(u64, u64)>> {
    match call.effect {
        // MSG_TRUNC makes recvfrom(2) tell of more than there was room for.
        Effect::FillsBuffer(address, length) => Some(vec![(arguments[address], result.min(arguments[length]))]),
        Effect::FillsMessage(_) | Effect::FillsVector(..) => first_bytes(&buffers?.ranges, result),
        Effect::Page(_) => None,
    }
}

/// Whose memory process_madvise(2) with this result was about, and which ranges.
pub fn advised_ranges(buffers: Buffers, result: u64) -> Option<(u32, Vec<(u64, u64)>)> {
    Some((buffers.target?, first_bytes(&buffers.ranges, result)?))
}

fn first_bytes(ranges: &[(u64, u64)], bytes: u64) -> Option<Vec<(u64, u64)>> {
    let (mut left, mut parts) = (bytes, Vec::new());
    for &(address, length) in ranges {
        let part = length.min(left);
        if part > 0 {
            parts.push((address, part));
        }
        left -= part;
    }
    (left == 0).then_some(parts)
}

/// A program's memory: what was copied of its stack when the call began, the rest as it is now.
struct Memory<'a> {
    pid: u32,
    stack: Option<&'a UserStack>,
}

impl Memory<'_> {
    fn ranges(&self, address: u64, count: u64) -> Option<Vec<(u64, u64)>> {
        if count > RANGES_MAX {
            return None;
        }
        let words = self.words(address, 2 * count as usize)?;
        Some(words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    fn words(&self, address: u64, count: usize) -> Option<Vec<u64>> {
        let bytes = match self.on_stack(address, count * 8) {
            Some(bytes) => bytes.to_vec(),
            None => {
                let mut bytes = vec![0; count * 8];
                (read_memory(self.pid, address, &mut bytes).ok()? == bytes.len()).then_some(bytes)?
            }
        };
        Some(bytes.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_ne_bytes).collect())
    }

    fn on_stack(&self, address: u64, bytes: usize) -> Option<&[u8]> {
        let stack = self.stack?;
        let start = usize::try_from(address.checked_sub(stack.pointer)?).ok()?;
        stack.bytes.get(start..start.checked_add(bytes)?)
    }
}

/// The process that a descriptor of pidfd_open(2) stands for, by its number here.
fn process_behind(pid: u32, descriptor: u64) -> Option<u32> {
    if PIDFD_SELF.contains(&descriptor) {
        return Some(pid);
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", descriptor as i32)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::traced_calls::traced_call;
    use super::*;

    #[test]
    fn parts_end_where_the_result_does() {
        let read = traced_call(libc::SYS_read).expect("watched");
        let readv = traced_call(libc::SYS_readv).expect("watched");
        let buffers = Buffers { ranges: vec![(0x1000, 100), (0x9000, 0), (0x2000, 50)], target: None };
        let check = |call, arguments: [u64; 6], result, expected: Option<&[(u64, u64)]>| {
            let found = filled_parts(call, &arguments, result, Some(&buffers));
            assert_eq!(found.as_deref(), expected, "{result}");
        };
        check(read, [3, 0x5000, 4096, 0, 0, 0], 10, Some(&[(0x5000, 10)]));
        check(read, [3, 0x5000, 4096, 0, 0, 0], 9999, Some(&[(0x5000, 4096)]));
        check(readv, [3, 0, 3, 0, 0, 0], 100, Some(&[(0x1000, 100)]));
        check(readv, [3, 0, 3, 0, 0, 0], 120, Some(&[(0x1000, 100), (0x2000, 20)]));
        check(readv, [3, 0, 3, 0, 0, 0], 151, None);
        assert_eq!(filled_parts(readv, &[0; 6], 1, None), None);
    }

    #[test]
    fn arrays_are_read_out_of_a_process() {
        let buffers = [[0x1000_u64, 10], [0x2000, 20]];
        let message = [0, 0, buffers.as_ptr() as u64, 2];
        let own = std::process::id();
        let expected = Some(Buffers { ranges: vec![(0x1000, 10), (0x2000, 20)], target: None });
        let recvmsg = traced_call(libc::SYS_recvmsg).expect("watched");
        assert_eq!(Buffers::read(own, recvmsg, &[3, message.as_ptr() as u64, 0, 0, 0, 0], None), expected);
        let readv = traced_call(libc::SYS_readv).expect("watched");
        assert_eq!(Buffers::read(own, readv, &[3, buffers.as_ptr() as u64, 2, 0, 0, 0], None), expected);
        let bytes = [0_u64, 0x3000, 30].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let stack = UserStack { pointer: 0x100, bytes };
        let expected = Some(Buffers { ranges: vec![(0x3000, 30)], target: None });
        assert_eq!(Buffers::read(own, readv, &[3, 0x108, 1, 0, 0, 0], Some(&stack)), expected, "as the call found it");
        assert_eq!(Buffers::read(own, readv, &[3, 0x108, 2, 0, 0, 0], Some(&stack)), None, "more than was copied");
        assert_eq!(Buffers::read(own, readv, &[3, 8, 2, 0, 0, 0], None), None, "nothing is mapped there");
        assert_eq!(Buffers::read(own, readv, &[3, buffers.as_ptr() as u64, u64::MAX, 0, 0, 0], None), None);
    }
}
