//! The timeline of a report: RSS at every snapshot, in classes where they were looked at.

use std::collections::HashMap;

use pagetrace_format::{ProcessId, TraceNanos};
use pagetrace_replay::{History, Replayed, RssClasses};

use super::from_replay::place_of;
use super::report_model::{Classes, TimelinePoint};

/// Every snapshot in order of time; moments between them are not known and not made up.
pub fn timeline(replayed: &Replayed, history: &History) -> Vec<TimelinePoint> {
    let moments = history.processes.iter().flat_map(|it| it.moments.iter().map(move |moment| (it.process, moment)));
    let classes_of: HashMap<(ProcessId, TraceNanos), RssClasses> =
        moments.filter_map(|(process, moment)| Some(((process, moment.time), moment.classes?))).collect();
    let points = replayed.rss_timeline.iter().map(|point| TimelinePoint {
        time_ns: point.time.0.saturating_sub(replayed.start.0),
        process: place_of(replayed, point.process),
        rss_bytes: point.rss,
        classes: classes_of.get(&(point.process, point.time)).map(|classes| Classes(classes.named())),
    });
    points.collect()
}
