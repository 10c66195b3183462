//! What a bounded trace holds when there is no room for everything.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use pagetrace_format::records::{End, MappedFile};
use pagetrace_format::{FileId, Origin, PageShift, Trace, VERSION};

use super::*;

const MAX: u64 = 64 << 10;
const HEADER: FileHeader = FileHeader {
    version: VERSION,
    page_shift: PageShift::KIB_4,
    origin: Origin::Recorded,
    start: TraceNanos(1),
    start_unix_ns: 0,
};

/// A file in memory, seen from outside too.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panicked").clone()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives what it is sent.
#[derive(Debug)]
struct Sent(Mutex<Receiver<Result<Shortened<Shared>, CutError>>>);

impl Shortener<Shared> for Sent {
    fn shorten(&mut self, _order: &CutOrder) -> Result<Shortened<Shared>, CutError> {
        self.0.lock().expect("nobody panicked").recv().expect("the test sends what cuts come to")
    }

    fn put_in_place(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Cuts = Sender<Result<Shortened<Shared>, CutError>>;

fn bounded(max: u64) -> (TraceFile<Shared>, Shared, Cuts) {
    let out = Shared::default();
    let mut file = TraceFile::new(out.clone(), &HEADER).expect("memory takes it");
    let (cuts, results) = channel();
    let bounds = Bounds { max_bytes: Some(max), keep_last: None };
    file.bound(bounds, Box::new(Sent(Mutex::new(results))), TraceNanos(1));
    (file, out, cuts)
}

/// A record of half a KiB that does not compress well.
fn record(number: u32) -> Record {
    let mut state = u64::from(number) + 1;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (state >> 33) as u8 % 94)
    };
    let path = (0..512).map(letter).collect();
    Record::MappedFile(MappedFile { id: FileId(number), device: 1, inode: 1, path })
}

fn records_of(bytes: &[u8]) -> Vec<Record> {
    let trace = Trace::open(bytes).expect("a trace");
    assert_eq!(trace.defects(), []);
    trace.chunks().iter().flat_map(|chunk| trace.records(chunk).expect("records")).collect()
}

fn end_record() -> Record {
    Record::End(End { time: now(), unix_ns: 0 })
}

#[test]
fn records_leave_room_for_the_last_ones() {
    let (mut file, out, cuts) = bounded(MAX);
    for number in 0..200 {
        file.records(&[record(number)]);
    }
    file.begin_cut(now());
    cuts.send(Err(CutError::OverBudget)).expect("a cut is being made");
    file.take_cut(true);
    for number in 200..400 {
        file.records(&[record(number)]);
    }
    // More than one of the others could have left.
    let written = file.finish(vec![record(400), record(401), end_record()]);
    let bytes = out.bytes();
    assert_eq!(written.bytes, bytes.len() as u64);
    assert!(written.bytes <= MAX, "{} bytes", written.bytes);
    let records = records_of(&bytes);
    let last = &records[records.len() - 4..];
    let is_told = |loss: &Loss| (loss.reason, loss.events) == (LossReason::SizeLimit, 0);
    assert!(matches!(last, [Record::Loss(loss), .., Record::End(_)] if is_told(loss)), "{last:?}");
}

#[test]
fn records_leave_room_for_the_shorter_trace_while_it_is_made() {
    let (mut file, out, cuts) = bounded(MAX);
    let mut number = 0;
    while !file.wants_cut() {
        file.records(&[record(number)]);
        number += 1;
    }
    file.begin_cut(now());
    for number in number..number + 30 {
        file.records(&[record(number)]);
    }
    assert!(out.bytes().len() as u64 <= MAX / 8 * 5, "{} bytes", out.bytes().len());
    cuts.send(Err(CutError::Failed("so it is tested".into()))).expect("a cut is being made");
    file.take_cut(true);
    file.finish(vec![end_record()]);
    // Nothing was lost.
    let records = records_of(&out.bytes());
    assert_eq!(records.len() as u32, number + 30 + 1);
    assert!(matches!(records.last(), Some(Record::End(_))));
}

#[test]
fn readers_take_all_that_is_behind_a_much_shorter_trace() {
    let (mut file, _, cuts) = bounded(64 * MAX);
    let mut number = 0;
    while !file.wants_cut() {
        file.records(&[record(number)]);
        number += 1;
    }
    file.begin_cut(now());
    // Half a MiB of the same takes nearly nothing: after two of them a reader of a short file expects more of it.
    let many = vec![record(0); 1000];
    (0..6).for_each(|_| file.records(&many));
    let shorter = Shared::default();
    let writer = TraceWriter::new(shorter.clone(), &HEADER).expect("memory takes it");
    let (end, cut_at) = (writer.end(), TraceNanos(1));
    let out = writer.into_inner().expect("memory takes it");
    cuts.send(Ok(Shortened { out, end, cut_at })).expect("a cut is being made");
    file.take_cut(true);
    (0..60).for_each(|_| file.records(&many));
    let written = file.finish(vec![end_record()]);
    let bytes = shorter.bytes();
    assert_eq!(written.bytes, bytes.len() as u64);
    assert_eq!(records_of(&bytes).len(), 66 * 1000 + 1);
}

#[test]
fn a_recording_goes_on_after_what_had_no_room() {
    let (mut file, _, cuts) = bounded(MAX);
    (0..300).for_each(|number| file.records(&[record(number)]));
    file.begin_cut(now());
    // The shorter trace has no room for all that waits.
    (300..600).for_each(|number| file.records(&[record(number)]));
    let shorter = |records: u32| {
        let out = Shared::default();
        let mut writer = TraceWriter::new(out.clone(), &HEADER).expect("memory takes it");
        (0..records).for_each(|number| writer.records(now(), &[record(number)]).expect("memory takes it"));
        let (end, cut_at) = (writer.end(), TraceNanos(1));
        (out, Shortened { out: writer.into_inner().expect("memory takes it"), end, cut_at })
    };
    cuts.send(Ok(shorter(10).1)).expect("a cut is being made");
    file.take_cut(true);
    assert_eq!(file.take_notices().len(), 1);
    assert!(file.wants_cut(), "there is more to cut");
    file.begin_cut(now());
    let (out, shortened) = shorter(1);
    cuts.send(Ok(shortened)).expect("a cut is being made");
    file.take_cut(true);
    file.records(&[record(600)]);
    let written = file.finish(vec![end_record()]);
    assert!(written.bytes <= MAX);
    let records = records_of(&out.bytes());
    let is_told = |loss: &Loss| (loss.reason, loss.events) == (LossReason::SizeLimit, 0);
    assert!(
        matches!(&records[..], [_, later, Record::Loss(loss), Record::End(_)] if *later == record(600) && is_told(loss))
    );
}
