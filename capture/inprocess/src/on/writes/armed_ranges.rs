//! Which memory is to be armed: what of the present mappings may be written, is wanted, and is not the tracer's own; and what
//! of it came or went since the last look.

use pagetrace_format::snapshot::{MappingRef, Permissions};

use super::super::mapped_array::MappedArray;
use super::super::maps::Maps;
use super::super::process::PROCESS;
use crate::sys;

/// Most ranges that are armed at a time: more than a process has mappings by default (vm.max_map_count).
const RANGES_MAX: usize = 72 << 10;

/// What pages of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The program's own, zero at first.
    Anonymous,
    /// Copies of a file's pages once they are written.
    PrivateFile,
    /// Shared with others, or with a file.
    Shared,
}

/// Pages side by side of one kind: number of the first, and one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmedRange {
    pub from: usize,
    pub to: usize,
    pub kind: Kind,
}

/// The ranges now, and those of the look before.
pub struct ArmedRanges {
    now: MappedArray<ArmedRange>,
    before: MappedArray<ArmedRange>,
    text: MappedArray<u8>,
}

const TEXT_BYTES: usize = 16 << 10;

/// Memory that is not to be touched besides the tracer's: that which others watch, as addresses.
pub type LeftOut<'a> = &'a [(usize, usize)];

impl ArmedRanges {
    pub const fn new() -> ArmedRanges {
        ArmedRanges { now: MappedArray::new(), before: MappedArray::new(), text: MappedArray::new() }
    }

    /// Makes room, once.
    pub fn make(&mut self) -> bool {
        let made = self.now.make(RANGES_MAX) && self.before.make(RANGES_MAX) && self.text.make(TEXT_BYTES);
        while made && self.text.room() > 0 {
            self.text.push(0);
        }
        made
    }

    /// Those of the last look, in the order of their addresses.
    pub fn now(&self) -> &[ArmedRange] {
        self.now.values()
    }

    /// Forgets all.
    pub fn release(&mut self) {
        self.now.release();
        self.before.release();
    }

    /// Looks at the mappings. False without /proc.
    pub fn look(&mut self, wanted: Option<(usize, usize)>, left_out: LeftOut<'_>) -> bool {
        core::mem::swap(&mut self.now, &mut self.before);
        self.now.truncate(0);
        let Some(mut maps) = Maps::open(self.text.values_mut()) else { return false };
        while let Some(mapping) = maps.next() {
            if let Some(kind) = kind_of(&mapping) {
                let (low, high) = wanted.unwrap_or((0, usize::MAX));
                let range = ((mapping.start.0 as usize).max(low), (mapping.end.0 as usize).min(high));
                add_without(&mut self.now, range, kind, left_out);
            }
        }
        true
    }

    /// Calls `each` for what is in the present ranges and was not before.
    pub fn for_each_new(&self, each: &mut dyn FnMut(ArmedRange)) {
        subtract(self.now.values(), self.before.values(), each);
    }

    /// Calls `each` for what was in the ranges before and is no more.
    pub fn for_each_gone(&self, each: &mut dyn FnMut(ArmedRange)) {
        subtract(self.before.values(), self.now.values(), each);
    }
}

/// What its pages are, if they are to be armed. Devices' memory and rings of the kernel's are left alone.
fn kind_of(mapping: &MappingRef<'_>) -> Option<Kind> {
    let path = mapping.path;
    let writable = mapping.permissions.has(Permissions::WRITE);
    let device = path.starts_with(b"/dev/") && !path.starts_with(b"/dev/shm/") && !path.starts_with(b"/dev/zero");
    let special = path.starts_with(b"anon_inode:") || path.starts_with(b"[v") || path.starts_with(b"socket:");
    if !writable || device || special {
        return None;
    }
    Some(if mapping.permissions.has(Permissions::SHARED) {
        Kind::Shared
    } else if mapping.inode != 0 {
        Kind::PrivateFile
    } else {
        Kind::Anonymous
    })
}

/// Adds a range of addresses but for what is the tracer's own or left out.
fn add_without(ranges: &mut MappedArray<ArmedRange>, range: (usize, usize), kind: Kind, left_out: LeftOut<'_>) {
    let (low, high) = sys::reserved_addresses();
    let session = PROCESS.session().map_or((0, 0), |session| {
        let base = session.base().addr();
        (base, base + session.layout().total_bytes())
    });
    let own = [(low as usize, high as usize), session];
    let mut start = range.0;
    while start < range.1 {
        let all = || own.iter().chain(left_out).copied().filter(|&(from, to)| from < to);
        if let Some((_, to)) = all().find(|&(from, to)| from <= start && start < to) {
            start = to;
            continue;
        }
        let end = all().map(|(from, _)| from).filter(|&from| from > start).fold(range.1, usize::min);
        add(ranges, ArmedRange { from: start / sys::PAGE_BYTES, to: end.div_ceil(sys::PAGE_BYTES), kind });
        start = end;
    }
}

/// Adds a range behind the others, to the last one if they touch: mappings are split and merged as they are registered.
fn add(ranges: &mut MappedArray<ArmedRange>, range: ArmedRange) {
    if let Some(last) = ranges.values_mut().last_mut()
        && last.to == range.from
        && last.kind == range.kind
    {
        last.to = range.to;
        return;
    }
    ranges.push(range);
}

/// Calls `each` for what is in the first ranges and not in the second ones of the same kind; both ascend.
fn subtract(from: &[ArmedRange], others: &[ArmedRange], each: &mut dyn FnMut(ArmedRange)) {
    let mut first = 0;
    for range in from {
        let mut start = range.from;
        while first < others.len() && others[first].to <= range.from {
            first += 1;
        }
        for other in others[first..].iter().take_while(|other| other.from < range.to) {
            if other.kind != range.kind {
                continue;
            }
            if start < other.from {
                each(ArmedRange { from: start, to: other.from, kind: range.kind });
            }
            start = start.max(other.to);
        }
        if start < range.to {
            each(ArmedRange { from: start, to: range.to, kind: range.kind });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: usize, to: usize) -> ArmedRange {
        ArmedRange { from, to, kind: Kind::Anonymous }
    }

    #[test]
    fn differences_of_ranges() {
        let check = |from: &[ArmedRange], others: &[ArmedRange], expected: &[ArmedRange]| {
            let mut found = Vec::new();
            subtract(from, others, &mut |range| found.push(range));
            assert_eq!(found, expected, "{from:?} without {others:?}");
        };
        check(&[range(1, 9)], &[], &[range(1, 9)]);
        check(&[range(1, 9)], &[range(0, 20)], &[]);
        check(&[range(1, 9), range(12, 15)], &[range(3, 4), range(6, 13)], &[range(1, 3), range(4, 6), range(13, 15)]);
        check(&[range(1, 2), range(3, 4)], &[range(1, 2), range(3, 4)], &[]);
        let shared = ArmedRange { kind: Kind::Shared, ..range(1, 9) };
        check(&[range(1, 9)], &[shared], &[range(1, 9)]);
    }

    #[test]
    fn what_is_left_out_is_cut_away() {
        let mut ranges = MappedArray::new();
        assert!(ranges.make(16));
        let page = sys::PAGE_BYTES;
        let left_out = [(4 * page, 6 * page), (8 * page, 20 * page)];
        add_without(&mut ranges, (2 * page, 10 * page), Kind::Anonymous, &left_out);
        add_without(&mut ranges, (10 * page, 21 * page), Kind::Anonymous, &left_out);
        assert_eq!(ranges.values(), [range(2, 4), range(6, 8), range(20, 21)]);
        add_without(&mut ranges, (21 * page, 22 * page), Kind::Anonymous, &[]);
        assert_eq!(ranges.values().last(), Some(&range(20, 22)));
    }
}
