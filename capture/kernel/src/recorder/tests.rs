//! A recorder before its first round.

use super::*;

#[test]
fn programs_without_a_clock_have_a_present_from_the_start_on() {
    let options = RecorderOptions {
        interval: Duration::from_secs(1),
        lose_when_full: false,
        buffer_bytes: 1 << 20,
        args: false,
        objects: true,
        sample_bytes: 1,
        joins: true,
        kernel_events: None,
        notified_calls: false,
        write_epochs: None,
        keep_files: false,
    };
    let recorder = Recorder::new(Vec::new(), options).expect("memory for a session");
    assert_ne!(recorder.session.session().header().present.0.load(Ordering::Relaxed), 0);
}
