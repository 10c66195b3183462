//! A program that stops growing is looked at there, also where it has grown by little since the last look.

use crate::harness::{processes, record_with, report_at};

/// Grows by 200 MiB, then by 1 and 0.5 % of that, and holds each long enough for a machine under load.
const STEPS: &str = "import time
a = bytearray(200 << 20)
time.sleep(1)
b = bytearray(2 << 20)
time.sleep(1)
c = bytearray(1 << 20)
time.sleep(1)";

#[test]
fn where_it_begins_and_how_high_it_is() {
    let recorded = record_with(&["--interval", "60000"], &[], &["/usr/bin/python3", "-c", STEPS]);
    assert!(recorded.output.status.success(), "{}", String::from_utf8_lossy(&recorded.output.stderr));
    let report = report_at("peak", &recorded.trace());
    let (peak, since) = (report["peak"]["time_ns"].as_u64(), report["peak"]["near_since_ns"].as_u64());
    let (peak, since) = (peak.expect("a peak"), since.unwrap_or_else(|| panic!("no beginning: {}", report["peak"])));
    assert!(
        since + 1_000_000_000 < peak,
        "the plateau begins at {since} ns and its last step is looked at at {peak} ns"
    );
    let share = processes(&report)[0]["peak_share_of_hwm"].as_f64().expect("a share");
    assert!(share > 0.998, "the largest look saw {share} of the largest RSS, without the last step");
}
