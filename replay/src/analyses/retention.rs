//! The largest of what is resident for nobody: ranges that the allocator retains, anonymous mappings of no known owner.

use pagetrace_format::Address;
use pagetrace_format::snapshot::Mapping;

use crate::results::{MappingBytes, RetainedRange};

/// How many of each are reported.
const LARGEST: usize = 20;

/// Collects pages in order of address.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    ranges: Vec<RetainedRange>,
    mapping_of_last: usize,
    anonymous: Vec<MappingBytes>,
}

impl Retention {
    /// A resident page of the allocator without live bytes.
    pub(crate) fn retained(&mut self, page: u64, bytes: u64, mapping_index: usize, mapping: &Mapping) {
        let end = Address(page.saturating_add(bytes));
        match self.ranges.last_mut() {
            Some(last) if last.addresses.end.0 == page && self.mapping_of_last == mapping_index => {
                last.addresses.end = end;
            }
            _ => {
                self.ranges.push(RetainedRange { addresses: Address(page)..end, mapping: mapping.path.clone() });
                self.mapping_of_last = mapping_index;
                // Keeps the memory of this list bounded; the last range may still grow.
                if self.ranges.len() > 1 << 16 {
                    let last = self.ranges.pop();
                    self.keep_largest_ranges();
                    self.ranges.extend(last);
                }
            }
        }
    }

    /// Resident bytes of an anonymous mapping of no known owner.
    pub(crate) fn other_anonymous(&mut self, bytes: u64, mapping: &Mapping) {
        match self.anonymous.last_mut() {
            Some(last) if last.addresses.start == mapping.start => last.resident_bytes += bytes,
            _ => self.anonymous.push(MappingBytes {
                addresses: mapping.start..mapping.end,
                name: mapping.path.clone(),
                resident_bytes: bytes,
            }),
        }
    }

    /// The largest ranges and the largest mappings.
    pub(crate) fn finish(mut self) -> (Vec<RetainedRange>, Vec<MappingBytes>) {
        self.keep_largest_ranges();
        self.anonymous.sort_by_key(|mapping| (std::cmp::Reverse(mapping.resident_bytes), mapping.addresses.start));
        self.anonymous.truncate(LARGEST);
        (self.ranges, self.anonymous)
    }

    fn keep_largest_ranges(&mut self) {
        self.ranges.sort_by_key(|range| (std::cmp::Reverse(range.bytes()), range.addresses.start));
        self.ranges.truncate(LARGEST);
    }
}
