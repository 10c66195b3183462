//! The allocator hands out memory that nobody else has, and gets all of it together again.

use page_run_allocator::{Allocator, Block, PAGE_BYTES};

const SHARDS: usize = 2;
const REGION_BYTES: usize = 256 * PAGE_BYTES;
const RETAINED_PAGES_MAX: usize = 64;

fn allocator() -> Allocator {
    Allocator::new(SHARDS, REGION_BYTES, RETAINED_PAGES_MAX).expect("a few megabytes of address space")
}

/// Fills each block with a byte of its own, and looks at it before it goes back.
#[test]
fn blocks_do_not_overlap() {
    let allocator = allocator();
    let mut held: Vec<(Block, u8)> = Vec::new();
    let mut taken = 0_usize;
    for step in 0..20_000_usize {
        // Numbers without a pattern: Fibonacci hashing.
        let number = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let bytes = if number % 8 == 0 { number / 8 % (9 * PAGE_BYTES) } else { number / 8 % 5_000 } + 1;
        let takes = number / 64 % 5 < 3 || held.is_empty();
        match takes.then(|| allocator.alloc(number % SHARDS, bytes)).flatten() {
            Some(mut block) => {
                block.bytes_mut().fill(step as u8);
                held.push((block, step as u8));
                taken += 1;
            }
            None if held.is_empty() => panic!("step {step}: an empty region has no room for {bytes} bytes"),
            None => give_back_checked(&allocator, held.swap_remove(number % held.len())),
        }
    }
    assert!(taken > 5_000, "{taken} blocks were taken");
    held.into_iter().for_each(|block| give_back_checked(&allocator, block));
}

fn give_back_checked(allocator: &Allocator, (mut block, byte): (Block, u8)) {
    assert!(block.bytes_mut().iter().all(|found| *found == byte), "a block at {:#x} was written to", block.address());
    allocator.free(block);
}

/// If free neighbours did not become one, the whole region could not be taken afterwards.
#[test]
fn free_pages_come_together() {
    let allocator = allocator();
    let blocks: Vec<Block> = (0..).map_while(|step| allocator.alloc(0, 1 + step * 700 % 30_000)).collect();
    assert!(blocks.len() > 50, "the region holds {} blocks", blocks.len());
    let (even, odd): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
    for (_, block) in even.into_iter().chain(odd) {
        allocator.free(block);
    }
    assert_eq!(allocator.pages().in_use, 0);
    let whole = allocator.alloc(0, REGION_BYTES).expect("all of it is free");
    assert_eq!(allocator.pages().in_use * PAGE_BYTES, whole.bytes());
    assert!(allocator.alloc(0, 1).is_none(), "a full region has room");
    assert!(allocator.alloc(1, 1).is_some(), "another shard's region is full, too");
}

#[test]
fn what_is_more_than_is_retained_goes_back() {
    let allocator = allocator();
    let mut block = allocator.alloc(0, REGION_BYTES).expect("the region is empty");
    block.bytes_mut().fill(1);
    allocator.free(block);
    let pages = allocator.pages();
    assert!(pages.free <= RETAINED_PAGES_MAX && pages.free + pages.scavenged == 256, "{pages:?}");
    let mut again = allocator.alloc(0, REGION_BYTES).expect("all of it is free");
    let zeroed = again.bytes_mut().chunks(PAGE_BYTES).filter(|page| page.iter().all(|byte| *byte == 0)).count();
    assert_eq!(zeroed, pages.scavenged, "the kernel took the pages that were given back");
    allocator.free(again);
    allocator.scavenge(0);
    assert_eq!((allocator.pages().free, allocator.pages().scavenged), (0, 256));
}
