//! Blocks of neighbouring pages, each kept once however often it occurs: in neighbouring moments most blocks are the same.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Pages of a block.
pub const BLOCK_PAGES: u64 = 512;

/// Blocks side by side with the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRun {
    /// The first block: its first page divided by [`BLOCK_PAGES`].
    pub first: u64,
    /// How many.
    pub blocks: u64,
    /// Their content, an index of [`PageBlocks::blocks`].
    pub content: u32,
}

/// Distinct blocks.
#[derive(Clone, Debug)]
pub struct PageBlocks<T> {
    cells: Vec<T>,
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for PageBlocks<T> {
    fn default() -> PageBlocks<T> {
        PageBlocks { cells: Vec::new(), places: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

impl<T: Copy + Default + Eq + Hash> PageBlocks<T> {
    /// The contents, one after the other.
    pub fn blocks(&self) -> impl Iterator<Item = &[T]> {
        self.cells.chunks_exact(BLOCK_PAGES as usize)
    }

    /// The content with this number.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn block(&self, content: u32) -> &[T] {
        let start = content as usize * BLOCK_PAGES as usize;
        &self.cells[start..start + BLOCK_PAGES as usize]
    }

    /// What a page holds in runs of blocks of these.
    #[must_use]
    pub fn at(&self, runs: &[BlockRun], page: u64) -> T {
        let block = page / BLOCK_PAGES;
        let after = runs.partition_point(|run| run.first <= block);
        match runs[..after].last() {
            Some(run) if block - run.first < run.blocks => self.block(run.content)[(page % BLOCK_PAGES) as usize],
            _ => T::default(),
        }
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cells.len() * size_of::<T>()
    }

    /// The number of this content, which is kept if it is new.
    pub(crate) fn number_of(&mut self, block: &[T]) -> u32 {
        let PageBlocks { cells, places, hasher } = self;
        let start = |content: u32| content as usize * BLOCK_PAGES as usize;
        let content = |content: &u32| &cells[start(*content)..start(*content) + BLOCK_PAGES as usize];
        let hash = hasher.hash_one(block);
        if let Some(&found) = places.find(hash, |found| content(found) == block) {
            return found;
        }
        let number = (cells.len() / BLOCK_PAGES as usize) as u32;
        places.insert_unique(hash, number, |other| hasher.hash_one(content(other)));
        cells.extend_from_slice(block);
        number
    }

    /// Only the contents that `runs` speak of, numbered anew.
    pub(crate) fn keep<'r>(&mut self, all_runs: impl Iterator<Item = &'r mut Vec<BlockRun>>) {
        let old = std::mem::take(self);
        for run in all_runs.flatten() {
            run.content = self.number_of(old.block(run.content));
        }
    }
}

/// Runs of blocks of one moment in the making: pages come in ascending order.
#[derive(Debug)]
pub(crate) struct BlockWriter<'b, T> {
    blocks: &'b mut PageBlocks<T>,
    runs: Vec<BlockRun>,
    open: Vec<T>,
    /// The block that is open.
    block: u64,
    is_open: bool,
    /// The first page that may still come.
    next_page: u64,
}

impl<'b, T: Copy + Default + Eq + Hash> BlockWriter<'b, T> {
    pub(crate) fn new(blocks: &'b mut PageBlocks<T>) -> BlockWriter<'b, T> {
        let open = vec![T::default(); BLOCK_PAGES as usize];
        BlockWriter { blocks, runs: Vec::new(), open, block: 0, is_open: false, next_page: 0 }
    }

    /// The first page that may still come.
    pub(crate) fn next_page(&self) -> u64 {
        self.next_page
    }

    /// Bytes that all blocks take by now.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// Pages with one value. Those that came before, and those of a value of nothing, are left out.
    pub(crate) fn push(&mut self, pages: std::ops::Range<u64>, value: T) {
        let (mut page, end) = (pages.start.max(self.next_page), pages.end);
        if page >= end {
            return;
        }
        self.next_page = end;
        if value == T::default() {
            return;
        }
        while page < end {
            let (block, offset) = (page / BLOCK_PAGES, page % BLOCK_PAGES);
            if self.is_open && block != self.block {
                self.close();
            }
            let whole = (end - page) / BLOCK_PAGES;
            if offset == 0 && whole > 0 && !self.is_open {
                self.open.fill(value);
                let content = self.blocks.number_of(&self.open);
                self.open.fill(T::default());
                self.add(BlockRun { first: block, blocks: whole, content });
                page += whole * BLOCK_PAGES;
                continue;
            }
            let until = end.min((block + 1) * BLOCK_PAGES);
            self.open[offset as usize..(offset + until - page) as usize].fill(value);
            (self.block, self.is_open) = (block, true);
            page = until;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<BlockRun> {
        self.close();
        self.runs
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let content = self.blocks.number_of(&self.open);
            self.open.fill(T::default());
            self.add(BlockRun { first: self.block, blocks: 1, content });
        }
    }

    fn add(&mut self, run: BlockRun) {
        match self.runs.last_mut() {
            Some(last) if last.content == run.content && last.first + last.blocks == run.first => {
                last.blocks += run.blocks;
            }
            _ => self.runs.push(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_as_they_were_written() {
        let mut blocks = PageBlocks::<u8>::default();
        let ranges = [(3..5, 1), (5..700, 2), (1024..1 << 30, 3), ((1 << 30) + 7..(1 << 30) + 8, 4)];
        let write = |blocks: &mut PageBlocks<u8>| {
            let mut writer = BlockWriter::new(blocks);
            ranges.clone().into_iter().for_each(|(range, value)| writer.push(range, value));
            writer.finish()
        };
        let runs = write(&mut blocks);
        for page in [0, 3, 4, 5, 511, 512, 699, 700, 1023, 1024, 1 << 20, (1 << 30) - 1, (1 << 30) + 7, (1 << 30) + 8] {
            let expected = ranges.iter().find(|(range, _)| range.contains(&page)).map_or(0, |&(_, value)| value);
            assert_eq!(blocks.at(&runs, page), expected, "page {page}");
        }
        // The same moment again needs no more, and what is not spoken of any more goes.
        let bytes = blocks.bytes();
        assert_eq!(write(&mut blocks), runs);
        assert_eq!(blocks.bytes(), bytes);
        let mut kept = vec![runs[2]];
        blocks.keep(std::iter::once(&mut kept));
        assert_eq!((blocks.bytes(), blocks.at(&kept, 2000)), (BLOCK_PAGES as usize, 3));
    }
}
