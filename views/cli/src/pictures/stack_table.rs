//! Names of functions and stacks, each once.

use std::collections::HashMap;

/// Stacks in the making.
#[derive(Default)]
pub struct StackTable {
    pub frames: Vec<String>,
    pub stacks: Vec<Vec<u32>>,
    frame_of: HashMap<String, u32>,
    stack_of: HashMap<Vec<u32>, u32>,
}

impl StackTable {
    /// The number of a stack.
    pub fn number_of(&mut self, names: Vec<String>) -> u32 {
        let mut stack = Vec::with_capacity(names.len());
        for name in names {
            let frames = &mut self.frames;
            stack.push(*self.frame_of.entry(name).or_insert_with_key(|name| {
                frames.push(name.clone());
                frames.len() as u32 - 1
            }));
        }
        let stacks = &mut self.stacks;
        *self.stack_of.entry(stack).or_insert_with_key(|stack| {
            stacks.push(stack.clone());
            stacks.len() as u32 - 1
        })
    }
}
