//! How much of each chunk of the heap is in use, and was at the last collection: by that the scavenger chooses its chunks.

use hashbrown::HashMap;

/// Chunks that are followed: 256 GiB of heap. The figures of those beyond are taken for what they are now.
const CHUNKS_MAX: usize = 1 << 16;
/// Chunks of one span that are followed; a longer span is one object, and goes as a whole.
const CHUNKS_OF_SPAN_MAX: u64 = 256;

/// A chunk, as the runtime's scavenger keeps account of it.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    in_use: u64,
    /// When the collection had ended in which the chunk was last changed.
    last_in_use: u64,
    collection: u64,
}

/// All chunks that had a page in use.
#[derive(Debug)]
pub struct Chunks {
    pages_each: u64,
    chunks: HashMap<u64, Chunk>,
    collection: u64,
}

impl Chunks {
    pub fn new(pages_each: u64) -> Chunks {
        Chunks { pages_each, chunks: HashMap::new(), collection: 1 }
    }

    /// A collection has marked what lives.
    pub fn end_collection(&mut self) {
        self.collection += 1;
    }

    /// Pages are in use now.
    pub fn take(&mut self, first: u64, pages: u64) {
        self.change(first, pages, |in_use, pages| in_use + pages);
    }

    /// Pages are not in use any more.
    pub fn give_up(&mut self, first: u64, pages: u64) {
        self.change(first, pages, u64::saturating_sub);
    }

    /// Chunks that have changed since the last collection ended, and how many pages were in use then.
    pub fn at_last_collection(&self) -> impl Iterator<Item = (u64, u64)> {
        let changed = self.chunks.iter().filter(|(_, chunk)| chunk.collection == self.collection);
        changed.map(|(number, chunk)| (*number, chunk.last_in_use))
    }

    fn change(&mut self, first: u64, pages: u64, change: fn(u64, u64) -> u64) {
        let (end, each) = (first + pages, self.pages_each);
        for number in (first / each..=(end - 1) / each).take(CHUNKS_OF_SPAN_MAX as usize) {
            let pages = end.min((number + 1) * each) - first.max(number * each);
            if self.chunks.len() >= CHUNKS_MAX && !self.chunks.contains_key(&number) {
                return;
            }
            let chunk = self.chunks.entry(number).or_default();
            if chunk.collection != self.collection {
                (chunk.last_in_use, chunk.collection) = (chunk.in_use, self.collection);
            }
            chunk.in_use = change(chunk.in_use, pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_use_at_the_last_collection_is_known() {
        let mut chunks = Chunks::new(512);
        chunks.take(0, 512);
        chunks.take(512, 100);
        let sorted = |chunks: &Chunks| {
            let mut found: Vec<_> = chunks.at_last_collection().collect();
            found.sort_unstable();
            found
        };
        assert_eq!(sorted(&chunks), [(0, 0), (1, 0)], "there was none yet");
        chunks.end_collection();
        assert_eq!(sorted(&chunks), [], "unchanged since: what is in use now is what counts");
        chunks.give_up(300, 250);
        assert_eq!(sorted(&chunks), [(0, 512), (1, 100)]);
        chunks.end_collection();
        chunks.take(300, 1);
        assert_eq!(sorted(&chunks), [(0, 300)]);
    }

    #[test]
    fn endless_spans_take_no_endless_memory() {
        let mut chunks = Chunks::new(512);
        for number in 0..1000 {
            chunks.take(number << 30, 1 << 26);
        }
        assert_eq!(chunks.chunks.len(), CHUNKS_MAX);
    }
}
