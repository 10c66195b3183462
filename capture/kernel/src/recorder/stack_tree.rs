//! The tree of stacks of one process: each caller once, however many stacks go through it.

use std::collections::HashMap;

use pagetrace_format::records::{Record, Stack, StackEnd, StackNode};
use pagetrace_format::{Address, ProcessId, StackId};

/// Gives numbers to the nodes of a tree and says which are new.
#[derive(Debug, Default)]
pub struct StackTree {
    nodes: HashMap<(u32, u64), u32>,
    before_first: u32,
}

impl StackTree {
    /// A tree beside another one of the same process: its nodes have numbers of their own, from this one.
    pub fn numbered_from(first: u32) -> StackTree {
        StackTree { nodes: HashMap::new(), before_first: first - 1 }
    }

    /// Adds a stack, innermost frame first, and appends the records that a reader needs for it.
    pub fn add(&mut self, process: ProcessId, id: StackId, frames: &[u64], end: StackEnd, records: &mut Vec<Record>) {
        let mut parent = 0;
        for &address in frames.iter().rev() {
            let next = self.before_first + self.nodes.len() as u32 + 1;
            parent = *self.nodes.entry((parent, address)).or_insert_with(|| {
                let node = StackNode { process, node: next, parent, address: Address(address) };
                records.push(Record::StackNode(node));
                next
            });
        }
        records.push(Record::Stack(Stack { process, id, node: parent, end }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_shared() {
        let (mut tree, mut records) = (StackTree::default(), Vec::new());
        tree.add(ProcessId(0), StackId(1), &[3, 2, 1], StackEnd::Unknown, &mut records);
        assert_eq!(records.len(), 4);
        tree.add(ProcessId(0), StackId(2), &[4, 2, 1], StackEnd::Cut, &mut records);
        assert_eq!(records.len(), 6, "one new frame and the stack itself");
        let Record::StackNode(node) = &records[4] else { panic!("expected a node, found {:?}", records[4]) };
        assert_eq!((node.parent, node.address), (2, Address(4)));
    }
}
