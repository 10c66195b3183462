//! Types and goroutines' origins of the whole trace: ids of a generation mean nothing in the next.

use std::collections::HashMap;

use super::event::{GoFrame, GoOrigin, GoType, OriginId, TypeId};
use super::tables::Tables;
use crate::units::Address;

/// Ids of a generation's types below this are looked up in an array; the runtime gives them one after the other.
const DENSE_PER_TYPE: usize = 4;

/// A stack of [`Interned::stacks`]; zero has no frames.
type StackIndex = u32;

/// What has been met so far.
#[derive(Debug)]
pub struct Interned<'a> {
    types: Vec<GoType<'a>>,
    type_of: HashMap<(Address, &'a str), TypeId>,
    stacks: Vec<Box<[GoFrame<'a>]>>,
    stack_of: HashMap<Box<[GoFrame<'a>]>, StackIndex>,
    /// What was started, and by whom.
    origins: Vec<(StackIndex, StackIndex)>,
    origin_of: HashMap<(StackIndex, StackIndex), OriginId>,
    /// By the ids of this generation.
    generation_types: Vec<TypeId>,
    generation_types_beyond: HashMap<u64, TypeId>,
    generation_stacks: HashMap<u64, StackIndex>,
}

impl<'a> Interned<'a> {
    pub fn new() -> Interned<'a> {
        Interned {
            types: vec![GoType::default()],
            type_of: HashMap::new(),
            stacks: vec![Box::default()],
            stack_of: HashMap::from([(Box::default(), 0)]),
            origins: vec![(0, 0)],
            origin_of: HashMap::from([((0, 0), OriginId(0))]),
            generation_types: Vec::new(),
            generation_types_beyond: HashMap::new(),
            generation_stacks: HashMap::new(),
        }
    }

    /// A generation begins with tables of its own.
    pub fn begin_generation(&mut self, types: &[(u64, GoType<'a>)]) {
        self.generation_stacks.clear();
        self.generation_types.clear();
        self.generation_types_beyond.clear();
        let dense = 64 + DENSE_PER_TYPE * types.len();
        for &(id, it) in types {
            let new = TypeId(self.types.len() as u32);
            let interned = *self.type_of.entry((it.address, it.name)).or_insert_with(|| {
                self.types.push(it);
                new
            });
            match usize::try_from(id) {
                Ok(id) if id < dense => {
                    if self.generation_types.len() <= id {
                        self.generation_types.resize(id + 1, TypeId(0));
                    }
                    self.generation_types[id] = interned;
                }
                _ => drop(self.generation_types_beyond.insert(id, interned)),
            }
        }
    }

    /// The type with this id in this generation. [`TypeId`] 0 for id 0, and for an id that its table does not have.
    #[inline]
    pub fn type_id(&self, id: u64) -> TypeId {
        match self.generation_types.get(id as usize) {
            Some(&found) => found,
            None => self.generation_types_beyond.get(&id).copied().unwrap_or_default(),
        }
    }

    /// The origin of a goroutine by stacks of this generation, and whether both were in its table. Id 0 is no stack.
    pub fn origin(&mut self, started: u64, created_by: u64, tables: &Tables<'a>) -> (OriginId, bool) {
        let (started, knows_start) = self.stack(started, tables);
        let (created_by, knows_creator) = self.stack(created_by, tables);
        let new = OriginId(self.origins.len() as u32);
        let origin = *self.origin_of.entry((started, created_by)).or_insert_with(|| {
            self.origins.push((started, created_by));
            new
        });
        (origin, knows_start && knows_creator)
    }

    fn stack(&mut self, id: u64, tables: &Tables<'a>) -> (StackIndex, bool) {
        if id == 0 {
            return (0, true);
        }
        if let Some(&stack) = self.generation_stacks.get(&id) {
            return (stack, true);
        }
        let Some(frames) = tables.stack(id) else { return (0, false) };
        let new = self.stacks.len() as StackIndex;
        let frames = frames.into_boxed_slice();
        let stack = *self.stack_of.entry(frames).or_insert_with_key(|frames| {
            self.stacks.push(frames.clone());
            new
        });
        self.generation_stacks.insert(id, stack);
        (stack, true)
    }

    /// By their [`TypeId`]s.
    pub fn types(&self) -> &[GoType<'a>] {
        &self.types
    }

    /// How many origins there are.
    pub fn origins(&self) -> usize {
        self.origins.len()
    }

    /// The frames of an origin.
    pub fn frames(&self, origin: OriginId) -> GoOrigin<'_, 'a> {
        let &(started, created_by) = self.origins.get(origin.0 as usize).unwrap_or(&(0, 0));
        GoOrigin { started: &self.stacks[started as usize], created_by: &self.stacks[created_by as usize] }
    }
}
