//! What looks like a leak and what does not, by the ages of what stays.

mod trace;

use pagetrace_format::records::{EndStatus, ProcessOrigin};
use pagetrace_format::{Event, PageShift};
use pagetrace_replay::Moment;
use pagetrace_replay::results::Leak;

use trace::*;

const HEAP: u64 = 0x5555_0000_0000;
const SIZE: u64 = 1000;
/// Times 1 to 1600, one event each: a hundred for each of the parts that a life is cut into.
const LIFE: u64 = 1600;

fn leaks(events: &[Event]) -> Vec<Leak> {
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[
            process(0, ProcessOrigin::Command, None, 1),
            stream(1, 0, None),
            ended(0, LIFE + 1, EndStatus::Exited(0)),
        ])
        .events(1, events)
        .end(LIFE + 2);
    let mut all = replayed(&bytes, Moment::End);
    assert_eq!(all.processes[0].objects.unwrap().unknown_frees, 0);
    all.processes.remove(0).leaks
}

fn at(number: u64) -> u64 {
    HEAP + 16 + number * 1024
}

#[test]
fn what_comes_all_the_time_and_stays_is_a_leak() {
    // Every second object of a site is freed at once; the others stay.
    let events: Vec<Event> =
        (1..LIFE)
            .map(|time| {
                if time % 4 == 2 { free(time, at(time - 1)) } else { alloc(time, at(time), SIZE, 1 + time as u32 % 2) }
            })
            .collect();
    let found = leaks(&events);
    let sites: Vec<u32> = found.iter().map(|leak| leak.site.stack.0).collect();
    assert_eq!(sites, [2, 1], "one keeps half of its objects, the other all of its fewer ones");
    let leak = found.iter().find(|leak| leak.site.stack.0 == 2).unwrap();
    assert_eq!((leak.objects, leak.bytes), (400, 400 * SIZE));
    assert_eq!((leak.growing_parts, leak.freed_young, leak.freed_old), (16, 400, 0));
    assert_eq!(leak.oldest_ns, LIFE / 16 * 15);
}

#[test]
fn a_table_that_is_built_at_the_start_is_none() {
    let events: Vec<Event> = (1..400).map(|time| alloc(time, at(time), SIZE, 1)).collect();
    assert_eq!(leaks(&events), []);
}

#[test]
fn a_cache_that_grows_and_evicts_is_none() {
    // From the middle of the life on, the oldest goes for each that comes; the cache is then 400 large.
    let mut events = Vec::new();
    for time in 1..LIFE {
        let number = time / 2;
        match time % 2 {
            0 => events.push(alloc(time, at(number), SIZE, 1)),
            _ if number > 400 => events.push(free(time, at(number - 400))),
            _ => {}
        }
    }
    assert_eq!(leaks(&events), []);
    // Without evictions the same is one.
    let kept: Vec<Event> = events.into_iter().filter(|event| event.time.0.is_multiple_of(2)).collect();
    assert_eq!(leaks(&kept).len(), 1);
}

#[test]
fn a_working_set_that_is_replaced_all_the_time_is_none() {
    let events: Vec<Event> = (1..LIFE)
        .map(|time| match time {
            _ if time % 2 == 1 => alloc(time, at(time), SIZE, 1),
            _ if time > 200 => free(time, at(time - 199)),
            _ => alloc(time, at(time), SIZE, 2),
        })
        .collect();
    assert_eq!(leaks(&events), []);
}

#[test]
fn little_is_not_worth_a_word() {
    let events: Vec<Event> = (1..LIFE).step_by(50).map(|time| alloc(time, at(time), SIZE, 1)).collect();
    assert_eq!(leaks(&events), []);
}

/// What a child is born with came before its own life began.
#[test]
fn inherited_objects_are_of_the_first_part() {
    let before: Vec<Event> = (1..LIFE).step_by(2).map(|time| alloc(time, at(time), SIZE, 1)).collect();
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)])
        .records(&[process(1, ProcessOrigin::Fork, Some(0), LIFE), stream(2, 1, None)])
        .events(1, &before)
        .events(2, &[alloc(2 * LIFE, at(LIFE), SIZE, 1)])
        .end(2 * LIFE + 1);
    let all = replayed(&bytes, Moment::End);
    assert_eq!(all.processes[1].objects.unwrap().inherited, 800);
    assert_eq!(all.processes.iter().map(|process| process.leaks.len()).collect::<Vec<_>>(), [1, 0]);
}
