//! Walks that go on where the last one was, and stacks that are known, against walks that know nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hint::black_box;

use super::rule::{Rule, ShortRule};
use super::{CallStack, Number, ShortRules, StackEnd, number, rule_cache, take, walk_records};
use crate::hooks::Caller;
use crate::on::recursion_guard::RecursionGuard;
use crate::on::stack_bounds;
use crate::sys::linker;

type Shown = (Vec<u64>, StackEnd);

/// What a thread remembers of its stacks, in two records that take turns.
struct Walks {
    /// The numbers of all stacks so far, and how often one was asked for.
    numbers: RefCell<HashMap<Shown, u32>>,
    asked: Cell<usize>,
    state: Cell<u64>,
    other_record: Cell<*const super::LastWalk>,
    compared: Cell<usize>,
    longest: Cell<usize>,
}

impl Walks {
    fn random(&self, below: u64) -> u64 {
        let mut next = self.state.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.state.set(next);
        (next >> 20) % below
    }

    fn compare(&self, caller: Caller) {
        let guard = RecursionGuard::enter().expect("no hook is at work");
        let thread = guard.thread();
        let shown = |stack: &CallStack| (stack.frames().collect::<Vec<_>>(), stack.hash(), stack.end());
        let with_last = shown(&take(&guard, caller));
        let record = thread.last_walk.replace(self.other_record.get());
        walk_records::of(thread).expect("memory").forget();
        let anew = shown(&take(&guard, caller));
        self.other_record.set(thread.last_walk.replace(record));
        assert_eq!(with_last, anew);
        let (frames, _, end) = anew;
        for _ in 0..1 + self.random(2) {
            let found = number(&guard, caller, |stack| {
                self.asked.set(self.asked.get() + 1);
                Number::Own(self.number_of((stack.frames().collect(), stack.end())))
            });
            assert_eq!(found, self.number_of((frames.clone(), end)));
        }
        self.longest.set(self.longest.get().max(frames.len()));
        self.compared.set(self.compared.get() + 1);
    }

    fn number_of(&self, stack: Shown) -> u32 {
        let mut numbers = self.numbers.borrow_mut();
        let next = numbers.len() as u32 + 1;
        *numbers.entry(stack).or_insert(next)
    }
}

type Step = fn(&Walks, u64, &mut [u64]);

/// Functions with frames of many sizes.
macro_rules! steps {
    ($($name:ident: $words:literal;)*) => {
        $(#[inline(never)]
        fn $name(walks: &Walks, depth: u64, within: &mut [u64]) {
            let mut own = [depth; $words];
            within[0] ^= depth;
            go_on(walks, depth, black_box(&mut own));
            black_box(&own);
        })*
        const STEPS: &[Step] = &[$($name,)*];
    };
}

steps! { one: 1; also_one: 1; two: 2; also_two: 2; five: 5; nine: 9; thirty: 30; many: 700; }

fn go_on(walks: &Walks, depth: u64, own: &mut [u64]) {
    if depth == 0 {
        walks.compare(Caller::here());
        return;
    }
    let step = STEPS[walks.random(STEPS.len() as u64) as usize];
    step(walks, depth - 1, own);
    // Now and then the next stack parts from this one here.
    while walks.random(8) < 1 {
        let less = walks.random(depth);
        let step = STEPS[walks.random(STEPS.len() as u64) as usize];
        step(walks, less, own);
    }
    if walks.random(3) == 0 {
        walks.compare(Caller::here());
    }
}

#[test]
fn a_walk_that_meets_the_last_one_finds_the_same() {
    linker::find_out();
    rule_cache::prepare();
    assert_ne!(stack_bounds::known(), (0, 0));
    let walks = Walks {
        numbers: RefCell::default(),
        asked: Cell::new(0),
        state: Cell::new(88_172_645_463_325_252),
        other_record: Cell::new(std::ptr::null()),
        compared: Cell::new(0),
        longest: Cell::new(0),
    };
    for _ in 0..300 {
        one(&walks, walks.random(60), &mut [0]);
    }
    for _ in 0..30_000 {
        one(&walks, walks.random(3), &mut [0]);
    }
    let (compared, asked, stacks) = (walks.compared.get(), walks.asked.get(), walks.numbers.borrow().len());
    assert!(walks.longest.get() > 100, "{}", walks.longest.get());
    // Each stack is asked for once at least, and most of those that come again are known; how often one that was forgotten
    // is asked for again depends on where the stack and the program are.
    assert!(stacks > 10_000 && asked >= stacks && 3 * asked < 2 * compared, "{compared} {asked} {stacks}");
}

#[test]
fn what_is_no_address_of_a_program_has_no_rule() {
    rule_cache::prepare();
    let epoch = rule_cache::epoch();
    // Far from all that is loaded.
    let call = 0x7ab_cdef_0123;
    rule_cache::put(call, epoch, Rule::FRAME_POINTER, 1);
    let rules = ShortRules::of(epoch).expect("memory");
    assert_eq!(rules.get(call + 1), Some(ShortRule::FRAME_POINTER));
    assert_eq!(rules.get(0), None);
    assert_eq!(rules.get((call + 1) | 1 << 47), None);
    assert_eq!(rules.get((call + 1) | 1 << 63), None);
}
