//! RSS over time in a few lines of block characters: what is held in live objects, and what is held besides.
//!
//! ```text
//! RSS over time (█ live objects, ▒ the rest)
//!   208.0 MiB ┤          ▂▅████▇▇▇▇▇▇
//!             ┤       ▃▆▒▒▒▒▒▒▒▒▒▒▒▒▒
//!             └──────────────────────
//!              0 ms     290 ms  585 ms
//! ```

use std::io::{self, Write};

use super::quantities::{bytes, duration};
use super::report_model::{Report, TimelinePoint};
use super::text::HEADING;

const COLUMNS: usize = 64;
const ROWS: usize = 6;
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const LIVE: char = '░';

/// Draws the RSS of a process, an index of the report's processes; nothing where fewer than two snapshots know it.
///
/// # Errors
/// What `out` gives.
pub fn write_timeline(report: &Report, process: usize, out: &mut dyn Write) -> io::Result<()> {
    let own = report.timeline.iter().filter(|point| point.process == Some(process) && point.rss_bytes.is_some());
    let points: Vec<&TimelinePoint> = own.collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(()) };
    let most = points.iter().filter_map(|point| point.rss_bytes).max().unwrap_or(0);
    if points.len() < 2 || most == 0 || first.time_ns == last.time_ns {
        return Ok(());
    }
    let columns = columns(&points);
    let top = bytes(most);
    let margin = top.chars().count() + 3;
    let legend =
        if columns.iter().any(|column| column.live > 0) { format!(" ({LIVE} live objects)") } else { String::new() };
    writeln!(out, "\n{HEADING}RSS over time{HEADING:#}{legend}")?;
    for row in (0..ROWS).rev() {
        let label = if row + 1 == ROWS { top.as_str() } else { "" };
        let line: String = columns.iter().map(|column| column.cell(row, most)).collect();
        writeln!(out, "  {label:>width$} ┤{}", line.trim_end(), width = margin - 3)?;
    }
    writeln!(out, "  {:>width$} └{}", "0", "─".repeat(COLUMNS), width = margin - 3)?;
    let (from, to) = (duration(first.time_ns), duration(last.time_ns));
    let gap = COLUMNS.saturating_sub(from.chars().count() + to.chars().count());
    writeln!(out, "{:margin$}  {from}{}{to}", "", " ".repeat(gap))?;
    let (peak, growth) = (largest(&points), steepest(&points));
    let at = |time_ns: u64| format!("--at {:.3}", time_ns as f64 / 1e9);
    let growth =
        growth.map(|(time, grown)| format!("; {} shows the end of its steepest growth, by {}", at(time), bytes(grown)));
    writeln!(out, "  {} shows its largest{}", at(peak), growth.unwrap_or_default())
}

/// The snapshots in one column: the last one before it where none is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Column {
    rss: u64,
    live: u64,
}

impl Column {
    fn cell(&self, row: usize, most: u64) -> char {
        let eighths = |bytes: u64| (u128::from(bytes) * (ROWS * 8) as u128 / u128::from(most)) as usize;
        let below = row * 8;
        let filled = eighths(self.rss).saturating_sub(below).min(8);
        // A column of live objects is drawn over the RSS it is a part of, in whole cells.
        if eighths(self.live) >= below + 4 && filled == 8 { LIVE } else { EIGHTHS[filled] }
    }
}

fn columns(points: &[&TimelinePoint]) -> Vec<Column> {
    let (start, end) = (points[0].time_ns, points[points.len() - 1].time_ns);
    let column_of =
        |time: u64| (u128::from(time - start) * (COLUMNS - 1) as u128 / u128::from((end - start).max(1))) as usize;
    let mut columns = vec![None; COLUMNS];
    let mut live = 0;
    for point in points {
        // Where classes were not looked at, the last known ones stand.
        let found =
            point.classes.as_ref().and_then(|classes| classes.0.iter().find(|(name, _)| *name == "live_objects"));
        live = found.map_or(live, |(_, bytes)| bytes.unsigned_abs());
        let rss = point.rss_bytes.unwrap_or(0);
        let column: &mut Option<Column> = &mut columns[column_of(point.time_ns)];
        let most = column.map_or(0, |column| column.rss);
        *column = Some(Column { rss: rss.max(most), live: live.min(rss.max(most)) });
    }
    let mut last = Column::default();
    columns
        .into_iter()
        .map(|column| {
            last = column.unwrap_or(last);
            last
        })
        .collect()
}

fn largest(points: &[&TimelinePoint]) -> u64 {
    // Of equal ones the first.
    points.iter().rev().max_by_key(|point| point.rss_bytes).map_or(0, |point| point.time_ns)
}

/// Between which two neighbours it grew most: the later one's time, and by how much.
fn steepest(points: &[&TimelinePoint]) -> Option<(u64, u64)> {
    let grown = |pair: &[&TimelinePoint]| {
        let [before, after] = [pair[0], pair[1]].map(|point| point.rss_bytes.unwrap_or(0));
        (after.saturating_sub(before), pair[1].time_ns)
    };
    points.windows(2).map(grown).max_by_key(|(bytes, _)| *bytes).filter(|(bytes, _)| *bytes > 0).map(|(b, t)| (t, b))
}

#[cfg(test)]
mod tests {
    use super::super::report_model::Classes;
    use super::*;

    fn point(time_ns: u64, rss: u64, live: i64) -> TimelinePoint {
        let classes = Some(Classes(vec![("live_objects", live)]));
        TimelinePoint { time_ns, process: Some(0), rss_bytes: Some(rss), classes }
    }

    #[test]
    fn columns_are_filled_by_eighths_and_hold_the_last_known() {
        let points = [point(0, 0, 0), point(630, 48, 48), point(1260, 24, 0)];
        let columns = columns(&points.iter().collect::<Vec<_>>());
        assert_eq!((columns[0].rss, columns[30].rss, columns[31].rss, columns[63].rss), (0, 0, 48, 24));
        let drawn = |column: usize| (0..ROWS).map(|row| columns[column].cell(row, 48)).collect::<String>();
        assert_eq!(drawn(31), LIVE.to_string().repeat(ROWS));
        assert_eq!(drawn(63), "███   ");
        assert_eq!((Column { rss: 13, live: 0 }).cell(1, 48), '▅');
    }

    #[test]
    fn the_largest_and_the_steepest_are_named() {
        let points = [point(0, 10, 0), point(5, 40, 0), point(9, 45, 0), point(10, 45, 0)];
        let points: Vec<_> = points.iter().collect();
        assert_eq!(largest(&points), 9);
        assert_eq!(steepest(&points), Some((5, 30)));
        assert_eq!(steepest(&points[2..]), None);
    }
}
