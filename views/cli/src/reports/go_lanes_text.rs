//! Memory over time, and the activity of Go's Ps over time, as lines of blocks.

use std::io::{self, Write};

use super::quantities::{bytes, count, duration};
use super::report_model::Lanes;
use super::text::{HEADING, table, write_table};

/// Columns of a line over time.
const COLUMNS: usize = 48;
const LANES_SHOWN: usize = 16;
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Something over time, in bytes.
pub struct LineOverTime {
    /// What.
    pub name: &'static str,
    /// Times since the start and values.
    pub points: Vec<(u64, u64)>,
}

/// Lines over time: all on one scale, or each on its own.
///
/// # Errors
/// What `out` gives.
pub fn write_lines(lines: &[LineOverTime], one_scale: bool, out: &mut dyn Write) -> io::Result<()> {
    let lasts = lines.iter().filter_map(|line| line.points.last()).map(|(time, _)| *time).max();
    let Some(last) = lasts else { return Ok(()) };
    writeln!(out, "\n{HEADING}Over time{HEADING:#}, {} from left to right", duration(last))?;
    let columns: Vec<Vec<u64>> = lines.iter().map(|line| most_in_columns(&line.points, last)).collect();
    let most_of = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
    let most_of_all = columns.iter().map(|values| most_of(values)).max().unwrap_or(0);
    let mut rows = table();
    for (line, values) in lines.iter().zip(&columns) {
        let most = most_of(values);
        let scale = if one_scale { most_of_all } else { most };
        rows.add_row([line.name.into(), blocks(values, scale), format!("at most {}", bytes(most))]);
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
    // Page traces have no objects, execution traces nothing that was given back.
    let has_objects = lanes.lanes.iter().any(|lane| lane.total.object_alloc + lane.total.object_free > 0);
    let last_column = if has_objects { "objects" } else { "given back" };
    let mut rows = table();
    rows.add_row(["", "", "page runs", last_column]);
    for (lane, columns) in &shown {
        let name = if lane.processor < 0 { "no P".into() } else { format!("P{}", lane.processor) };
        let total = &lane.total;
        let last = match has_objects {
            true => format!("+{} −{}", count(total.object_alloc), count(total.object_free)),
            false => format!("{} pages", count(total.pages_scavenge)),
        };
        rows.add_row([name, blocks(columns, most), format!("+{} −{}", count(total.alloc), count(total.free)), last]);
    }
    write_table(rows, &[2, 3], out)?;
    match lanes.lanes.len().saturating_sub(LANES_SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more: --json has all"),
    }
}

/// The largest value of each column; one without values has that of the one before.
fn most_in_columns(points: &[(u64, u64)], whole_ns: u64) -> Vec<u64> {
    let mut columns: Vec<Option<u64>> = vec![None; COLUMNS];
    for &(time, value) in points {
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
        let columns = most_in_columns(&[(0, 5), (1, 7), (100, 1)], 100);
        assert_eq!((columns[0], columns[COLUMNS - 2], columns[COLUMNS - 1]), (7, 7, 1));
    }
}
