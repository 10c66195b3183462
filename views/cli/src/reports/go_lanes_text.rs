//! Go's heap over time, and the activity of its Ps over time, as lines of blocks.

use std::io::{self, Write};

use super::quantities::{bytes, count, duration};
use super::report_model::{GoHeap, Lanes};
use super::text::{HEADING, table, write_table};

/// Columns of a line over time.
const COLUMNS: usize = 48;
const LANES_SHOWN: usize = 16;
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The heap over time: in use, live, free.
///
/// # Errors
/// What `out` gives.
pub fn write_timeline(heap: &GoHeap, out: &mut dyn Write) -> io::Result<()> {
    let Some(last) = heap.timeline.last() else { return Ok(()) };
    writeln!(out, "\n{HEADING}Over time{HEADING:#}, {} from left to right", duration(last.time_ns))?;
    let line = |of: fn(&super::report_model::GoHeapPoint) -> u64| {
        let points = heap.timeline.iter().map(|point| (point.time_ns, of(point)));
        most_in_columns(points, last.time_ns)
    };
    let (in_use, live) = (line(|it| it.heap_inuse_bytes), line(|it| it.live_bytes));
    let (stacks, free) = (line(|it| it.stack_inuse_bytes), line(|it| it.free_bytes));
    let mut rows = table();
    for (name, values) in [("heap in use", &in_use), ("live objects", &live), ("stack spans", &stacks), ("free", &free)]
    {
        let most = values.iter().copied().max().unwrap_or(0);
        // What is in use and what lives is told on one scale.
        let scale = if std::ptr::eq(values, &live) { in_use.iter().copied().max().unwrap_or(most) } else { most };
        rows.add_row([name.into(), blocks(values, scale), format!("at most {}", bytes(most))]);
    }
    write_table(rows, &[], out)
}

/// The events of each P over time.
///
/// # Errors
/// What `out` gives.
pub fn write_lanes(lanes: &Lanes, duration_ns: u64, out: &mut dyn Write) -> io::Result<()> {
    if lanes.lanes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}Activity{HEADING:#} of each P: events over {}", duration(duration_ns))?;
    let of_lane = |lane: &super::report_model::Lane| {
        let mut columns = vec![0_u64; COLUMNS];
        for (index, bucket) in lane.buckets.iter().enumerate() {
            let middle = index as u64 * lanes.bucket_ns + lanes.bucket_ns / 2;
            let events = bucket.alloc + bucket.free + bucket.scavenge + bucket.object_alloc + bucket.object_free;
            columns[column(middle, duration_ns)] += events;
        }
        columns
    };
    let shown: Vec<_> = lanes.lanes.iter().take(LANES_SHOWN).map(|lane| (lane, of_lane(lane))).collect();
    let most = shown.iter().flat_map(|(_, columns)| columns).copied().max().unwrap_or(0);
    let mut rows = table();
    rows.add_row(["", "", "page runs", "given back", "objects"]);
    for (lane, columns) in &shown {
        let name = if lane.processor < 0 { "no P".into() } else { format!("P{}", lane.processor) };
        let total = &lane.total;
        rows.add_row([
            name,
            blocks(columns, most),
            format!("+{} −{}", count(total.alloc), count(total.free)),
            format!("{} pages", count(total.pages_scavenge)),
            format!("+{} −{}", count(total.object_alloc), count(total.object_free)),
        ]);
    }
    write_table(rows, &[2, 3, 4], out)?;
    match lanes.lanes.len().saturating_sub(LANES_SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more: --json has all"),
    }
}

/// The largest value of each column; one without values has that of the one before.
fn most_in_columns(points: impl Iterator<Item = (u64, u64)>, whole_ns: u64) -> Vec<u64> {
    let mut columns: Vec<Option<u64>> = vec![None; COLUMNS];
    for (time, value) in points {
        let most = &mut columns[column(time, whole_ns)];
        *most = Some(most.map_or(value, |most| most.max(value)));
    }
    let mut before = 0;
    let filled = columns.into_iter().map(|column| {
        before = column.unwrap_or(before);
        before
    });
    filled.collect()
}

fn column(time: u64, whole_ns: u64) -> usize {
    ((u128::from(time) * COLUMNS as u128 / u128::from(whole_ns.max(1))) as usize).min(COLUMNS - 1)
}

/// A block for each value, of a height by its share of the largest; anything at all is seen.
pub fn blocks(values: &[u64], most: u64) -> String {
    let level = |&value: &u64| match value {
        0 => 0,
        _ => ((value as f64 / most.max(1) as f64 * 8.0).round() as usize).clamp(1, 8),
    };
    values.iter().map(|value| LEVELS[level(value)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_blocks() {
        assert_eq!(blocks(&[0, 1, 50, 100], 100), " ▁▄█");
        assert_eq!(blocks(&[0, 0], 0), "  ");
    }

    #[test]
    fn columns_without_points_go_on_as_before() {
        let columns = most_in_columns([(0, 5), (1, 7), (100, 1)].into_iter(), 100);
        assert_eq!((columns[0], columns[COLUMNS - 2], columns[COLUMNS - 1]), (7, 7, 1));
    }
}
