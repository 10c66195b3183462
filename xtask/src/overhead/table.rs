//! What was measured, as a table for people and as JSON: medians of the rounds with the least and the most.

use serde_json::{Value, json};

use super::measuring::Sample;
use super::workloads::{Figure, Limit, Workload};

/// Fewer rounds are for a quick look.
pub const ROUNDS_MIN: usize = 5;

/// One figure of one try of one workload.
#[derive(Debug)]
pub struct Row {
    workload: &'static str,
    of: &'static str,
    figure: Figure,
    median: f64,
    least: f64,
    most: f64,
    bar: Option<(Limit, &'static str)>,
}

/// A try that was not made.
#[derive(Debug)]
pub struct Skipped {
    pub workload: &'static str,
    pub of: &'static str,
    pub why: String,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    pub skipped: Vec<Skipped>,
}

impl Table {
    /// Adds what a workload's rounds gave: `rounds` has for each round a sample of each try that was made, and `tried`
    /// their names, the first being what the others are compared with.
    pub fn add(&mut self, workload: &Workload, tried: &[&'static str], rounds: &[Vec<Sample>]) {
        for (place, &of) in tried.iter().enumerate().filter(|(place, _)| *place > 0 || tried.len() == 1) {
            for &figure in Figure::ALL {
                let mut values: Vec<f64> =
                    rounds.iter().filter_map(|round| value(figure, &round[0], &round[place], place > 0)).collect();
                if values.is_empty() {
                    continue;
                }
                values.sort_by(f64::total_cmp);
                let bar = workload.bars.iter().find(|bar| bar.of == of && bar.figure == figure);
                self.rows.push(Row {
                    workload: workload.name,
                    of,
                    figure,
                    median: median(&values),
                    least: values[0],
                    most: values[values.len() - 1],
                    bar: bar.map(|bar| (bar.limit, bar.peer)),
                });
            }
        }
    }

    /// For people.
    pub fn text(&self, rounds: usize, load: &[String; 2]) -> String {
        let mut text = format!(
            "{:<18} {:<10} {:<13} {:>9} {:>19}  {:<16} {:<8} {}\n",
            "workload", "run", "figure", "median", "least to most", "bar", "", "best peer"
        );
        for row in &self.rows {
            let spread = format!("{:.3} to {:.3}", row.least, row.most);
            let (bar, verdict, peer) = match row.bar {
                None => (String::new(), "", ""),
                Some((limit, peer)) => {
                    (limit.shown(), if limit.is_met_by(row.median) { "met" } else { "MISSED" }, peer)
                }
            };
            let (workload, of, figure) = (row.workload, row.of, row.figure.name());
            let line = format!(
                "{workload:<18} {of:<10} {figure:<13} {:>9.3} {spread:>19}  {bar:<16} {verdict:<8} {peer}",
                row.median
            );
            text += line.trim_end();
            text.push('\n');
        }
        for Skipped { workload, of, why } in &self.skipped {
            text += &format!("{workload:<18} {of:<10} skipped: {why}\n");
        }
        text += &format!("\n{rounds} rounds; load of the machine {} at first, {} at last\n", load[0], load[1]);
        if rounds < ROUNDS_MIN {
            text += "fewer than five rounds: for a quick look only\n";
        }
        text
    }

    /// For programs.
    pub fn json(&self, rounds: usize, load: &[String; 2]) -> Value {
        let row = |row: &Row| {
            let (limit, met, peer) = match row.bar {
                None => (Value::Null, Value::Null, Value::Null),
                Some((limit, peer)) => (limit.json(), limit.is_met_by(row.median).into(), peer.into()),
            };
            json!({
                "workload": row.workload, "run": row.of, "figure": row.figure.name(),
                "median": row.median, "least": row.least, "most": row.most, "bar": limit, "met": met, "best_peer": peer,
            })
        };
        let skipped = |it: &Skipped| json!({ "workload": it.workload, "run": it.of, "why": it.why });
        json!({
            "rounds": rounds,
            "load": load,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "skipped": self.skipped.iter().map(skipped).collect::<Vec<_>>(),
        })
    }
}

impl Limit {
    fn shown(self) -> String {
        match self {
            Limit::Most(limit) => format!("at most {limit}"),
            Limit::Least(limit) => format!("at least {limit}"),
        }
    }

    fn json(self) -> Value {
        match self {
            Limit::Most(limit) => json!({ "most": limit }),
            Limit::Least(limit) => json!({ "least": limit }),
        }
    }
}

/// `None` where a try has no such figure. Ratios are those to the plain run of the same round.
fn value(figure: Figure, plain: &Sample, sample: &Sample, compared: bool) -> Option<f64> {
    let against = |ratio: f64| compared.then_some(ratio).filter(|ratio| ratio.is_finite());
    match figure {
        Figure::Wall => against(sample.wall_seconds / plain.wall_seconds),
        Figure::Cpu => against(sample.cpu_seconds / plain.cpu_seconds),
        Figure::CpuPerEvent => against((sample.cpu_seconds - plain.cpu_seconds) * 1e6 / sample.events? as f64),
        Figure::SetKept => against(sample.set_per_second? / plain.set_per_second?),
        Figure::GetKept => against(sample.get_per_second? / plain.get_per_second?),
        Figure::BytesPerEvent => against(sample.trace_bytes? as f64 / sample.events? as f64),
        Figure::ObjectBytesPerEvent => against(sample.object_bytes? as f64 / sample.events? as f64),
        Figure::EventsPerSecond => (!compared).then_some(sample.events? as f64 / sample.wall_seconds / 1e6),
        Figure::PeakMemory => Some(sample.peak_bytes? as f64 / 1e6),
    }
}

/// Of sorted values; the mean of the two in the middle where they are even in number.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overhead::workloads::WORKLOADS;

    fn sample(wall_seconds: f64, events: u64) -> Sample {
        Sample { wall_seconds, cpu_seconds: wall_seconds * 2.0, events: Some(events), ..Sample::default() }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn ratios_are_those_of_each_round() {
        let mut table = Table::default();
        let rounds =
            [[1.0, 1.2], [2.0, 2.6], [1.0, 4.0]].map(|[plain, it]| vec![sample(plain, 0), sample(it, 1_000_000)]);
        table.add(&WORKLOADS[0], &["plain", "recorded"], &rounds);
        let wall = table.rows.iter().find(|row| row.figure == Figure::Wall).unwrap();
        assert_eq!((wall.median, wall.least, wall.most), (1.3, 1.2, 4.0));
        let of_events = table.rows.iter().find(|row| row.figure == Figure::CpuPerEvent).unwrap();
        assert!((of_events.median - 1.2).abs() < 1e-9, "{of_events:?}");
        let json = table.json(3, &["0".into(), "0".into()]);
        assert_eq!(json["rows"][0]["bar"]["most"], 1.5);
        assert_eq!(json["rows"][0]["met"], true);
        assert!(table.text(3, &["0".into(), "0".into()]).contains("at most 2.2"));
    }

    #[test]
    fn a_run_without_a_plain_one_has_figures_of_its_own() {
        let mut table = Table::default();
        let report = WORKLOADS.last().unwrap();
        table.add(report, &["plain"], &[vec![sample(2.0, 40_000_000)]]);
        assert_eq!(table.rows.len(), 1, "{table:?}");
        assert_eq!((table.rows[0].figure, table.rows[0].median), (Figure::EventsPerSecond, 20.0));
    }
}
