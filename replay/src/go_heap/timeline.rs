//! Points over time, evenly, whose distance doubles when there are too many of them.

use pagetrace_format::TraceNanos;

use super::results::GoHeapPoint;

const POINTS_MAX: usize = 512;
/// Distance of points at first: some 65 µs.
const FIRST_DISTANCE_NS: u64 = 1 << 16;

/// The points so far.
#[derive(Debug)]
pub struct PointsOverTime {
    points: Vec<GoHeapPoint>,
    distance_ns: u64,
    next: u64,
}

impl PointsOverTime {
    pub fn new() -> PointsOverTime {
        PointsOverTime { points: Vec::new(), distance_ns: FIRST_DISTANCE_NS, next: 0 }
    }

    /// Whether one is due.
    #[inline]
    pub fn is_due(&self, time: TraceNanos) -> bool {
        time.0 >= self.next
    }

    pub fn push(&mut self, point: GoHeapPoint) {
        self.points.push(point);
        if self.points.len() == POINTS_MAX {
            let mut kept = false;
            self.points.retain(|_| {
                kept = !kept;
                kept
            });
            self.distance_ns = self.distance_ns.saturating_mul(2);
        }
        self.next = point.time.0.saturating_add(self.distance_ns);
    }

    pub fn into_points(self) -> Vec<GoHeapPoint> {
        self.points
    }
}
