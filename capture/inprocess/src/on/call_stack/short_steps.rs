//! The steps that nearly all frames take, in a loop of their own that fits the processor's registers. It stops in front of
//! whatever else there is, which is for the loop around it.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::Ordering;

use super::WORD;
use super::last_walk::Registers;
use super::rule::ShortRule;
use super::rule_cache::ShortRules;
use super::walk::Walk;

/// Goes on by short rules from `registers`, of which the frame pointer was read at `source`, 0 for nowhere. `high` is one
/// past the stack's highest address, to which all memory from the stack pointer on is readable; that is aligned.
#[inline(never)]
pub fn follow(walk: &mut Walk, registers: &mut Registers, source: &mut usize, rules: ShortRules, high: usize) {
    let Registers { mut return_address, mut stack_pointer, mut frame_pointer } = *registers;
    let mut read_at = *source;
    let meets_at = walk.meets_at();
    let mut room = walk.room();
    // The last place for a frame pointer and a return address.
    let last = high.saturating_sub(2 * WORD);
    while stack_pointer < meets_at {
        let Some(rule) = rules.get(return_address) else { break };
        // SAFETY: see below.
        let word = |address: usize| unsafe { ptr::with_exposed_provenance::<usize>(address).read() };
        let here = Registers { return_address, stack_pointer, frame_pointer };
        if rule == ShortRule::FRAME_POINTER {
            // Both words are aligned and lie between the stack pointer and the end.
            if !frame_pointer.is_multiple_of(WORD) || frame_pointer < stack_pointer || frame_pointer > last {
                break;
            }
            let Some(frame) = room.next_back() else { break };
            frame.set(here, read_at, true);
            read_at = frame_pointer;
            stack_pointer = frame_pointer + 2 * WORD;
            return_address = word(frame_pointer + WORD);
            frame_pointer = word(frame_pointer);
        } else {
            let cfa = stack_pointer + rule.cfa_words() * WORD;
            // Both words are aligned and lie below the CFA, and not below the stack pointer.
            if cfa > high {
                break;
            }
            let Some(frame) = room.next_back() else { break };
            frame.set(here, read_at, false);
            read_at = 0;
            let slot = rule.saved_slot();
            if slot != 0 {
                read_at = cfa - WORD - slot * WORD;
                frame_pointer = word(read_at);
            }
            stack_pointer = match room.as_slice().last() {
                Some(next) => foreseen(next.stack_pointer.load(Ordering::Relaxed), cfa),
                None => cfa,
            };
            return_address = word(stack_pointer - WORD);
        }
    }
    let left = room.len();
    walk.leave_room(left);
    *registers = Registers { return_address, stack_pointer, frame_pointer };
    *source = read_at;
}

/// `found`, which is most often what was `expected`: the processor, which foresees that, goes on with the one before it has
/// found the other, for which it would have to wait for all words read so far.
#[inline(always)]
fn foreseen(expected: usize, found: usize) -> usize {
    let mut spare = expected;
    // SAFETY: changes nothing. The compiler must not know that both are the same, nor compute the choice.
    unsafe { asm!("/* {0} */", inout(reg) spare, options(nomem, nostack, preserves_flags)) };
    if found != expected {
        return found;
    }
    // SAFETY: as above.
    unsafe { asm!("/* {0} */", inout(reg) spare, options(nomem, nostack, preserves_flags)) };
    spare
}
