//! Which sites look as if they leaked, by the ages of what they hold at the end of a process.
//!
//! Objects that are alive at the end are no leak as such: tables that a program builds once, and caches, are there too. A
//! leak shows in ages. Its objects come all the time, as those of a table that is built at the start do not, and stay however
//! old they get, as those of a cache do not once it evicts. A structure that a program fills all its life and never takes
//! from cannot be told from a leak by this; the report says what the evidence is.

use crate::objects::{ObjectTable, PARTS, SiteTotals, Survivors};
use crate::results::Leak;

/// Less than this is not worth a word.
const BYTES_MIN: u64 = 64 << 10;
const OBJECTS_MIN: u64 = 16;
/// In so many parts of the life something must have come that stayed.
const GROWING_PARTS_MIN: usize = PARTS / 2;
/// At least one in so many of the survivors is from the middle part of the life, and at most one half from one part.
const MIDDLE_ONE_IN: u64 = 8;
/// A site takes back what is old when it has freed more than one such object for so many that stay.
const OLD_FREES_ONE_IN: u64 = 8;

/// Looks at the sites of a process that ends, `life_ns` after it began.
pub(crate) fn leaks(objects: &ObjectTable, life_ns: u64) -> Vec<Leak> {
    let sites = objects.sites.iter().zip(objects.survivors()).enumerate();
    let found = sites.filter_map(|(place, (site, live))| Some((place, leak(site, &live, life_ns)?)));
    let mut found: Vec<(usize, Leak)> = found.collect();
    if objects.rate().is_sampled() && !found.is_empty() {
        // What was sampled is the evidence; how much there is of it is estimated.
        let live = objects.live_by_site();
        for (place, leak) in &mut found {
            let (count, bytes) = (live[*place].0.estimate(), live[*place].1.estimate());
            (leak.objects, leak.bytes, leak.bytes_error) = (count.value, bytes.value, Some(bytes.error));
        }
    }
    let mut leaks: Vec<Leak> = found.into_iter().map(|(_, leak)| leak).collect();
    leaks.sort_unstable_by_key(|leak| (std::cmp::Reverse(leak.bytes), leak.site));
    leaks
}

fn leak(site: &SiteTotals, live: &[Survivors; PARTS], life_ns: u64) -> Option<Leak> {
    let sum = |parts: &[Survivors]| {
        parts
            .iter()
            .fold((0_u64, 0_u64), |all, part| (all.0.saturating_add(part.objects), all.1.saturating_add(part.bytes)))
    };
    let (objects, bytes) = sum(live);
    if bytes < BYTES_MIN || objects < OBJECTS_MIN {
        return None;
    }
    let growing = live.iter().filter(|part| part.objects > 0).count();
    let (in_the_middle, _) = sum(&live[PARTS / 4..PARTS / 4 * 3]);
    let largest = live.iter().map(|part| part.objects).max().unwrap_or(0);
    let steady = growing >= GROWING_PARTS_MIN
        && in_the_middle.saturating_mul(MIDDLE_ONE_IN) >= objects
        && largest.saturating_mul(2) <= objects;
    let takes_back = site.freed_old.saturating_mul(OLD_FREES_ONE_IN) > objects;
    if !steady || takes_back {
        return None;
    }
    let oldest = live.iter().position(|part| part.objects > 0).unwrap_or(0);
    Some(Leak {
        site: site.id,
        bytes,
        bytes_error: None,
        objects,
        // It was born before the end of its part.
        oldest_ns: life_ns / PARTS as u64 * (PARTS - 1 - oldest) as u64,
        growing_parts: growing as u32,
        freed_young: site.freed_young,
        freed_old: site.freed_old,
    })
}
