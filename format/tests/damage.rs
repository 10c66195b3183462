//! Traces that are cut, damaged, foreign, or from later writers: on the golden trace, which has every kind of chunk.

use pagetrace_format::checksum::crc32;
use pagetrace_format::encode::{object_free, object_free_with_id, time_base};
use pagetrace_format::header::{ChunkHeader, FILE_HEADER_BYTES};
use pagetrace_format::{
    Address, Chunk, ChunkKind, Compression, EventBatch, FormatError, ObjectFree, ObjectFunction, ObjectId, StreamId,
    Trace, TraceNanos,
};

const GOLDEN: &[u8] = include_bytes!("golden/v3.pagetrace");

/// All that one chunk says, or why it cannot be read.
fn contents(trace: &Trace, chunk: &Chunk) -> Result<String, FormatError> {
    let mut out = format!("{:?} {:?}", chunk.header.kind, chunk.header.stream);
    match chunk.header.kind {
        kind if kind.has_events() => {
            let mut cursor = trace.events(chunk)?;
            while let Some(event) = cursor.next_event()? {
                out += &format!(" {event:?} {:?}", cursor.object_id());
            }
        }
        ChunkKind::RECORDS => out += &format!("{:?}", trace.records(chunk)?),
        ChunkKind::SNAPSHOT => out += &format!("{:?}", trace.snapshot(chunk)?),
        ChunkKind::KERNEL_EVENTS => {
            let mut cursor = trace.kernel_events(chunk)?;
            while let Some(event) = cursor.next_event()? {
                out += &format!(" {event:?}");
            }
        }
        ChunkKind::ACCESSES => {
            let mut cursor = trace.accesses(chunk)?;
            while let Some(access) = cursor.next_access()? {
                out += &format!(" {access:?}");
            }
        }
        _ => {}
    }
    Ok(out)
}

/// What all readable chunks say, and how many cannot be read.
fn readable(bytes: &[u8]) -> Result<(Vec<String>, usize), FormatError> {
    let trace = Trace::open(bytes)?;
    let all: Vec<_> = trace.chunks().iter().map(|chunk| contents(&trace, chunk)).collect();
    let unreadable = all.iter().filter(|one| one.is_err()).count();
    Ok((all.into_iter().flatten().collect(), unreadable))
}

/// Offset of each chunk's first byte, and of the end of the file.
fn boundaries() -> Vec<usize> {
    let trace = Trace::open(GOLDEN).expect("the golden trace");
    let ends = trace.chunks().iter().map(|chunk| chunk.payload_offset + chunk.header.stored_bytes as usize);
    std::iter::once(FILE_HEADER_BYTES).chain(ends).collect()
}

fn whole() -> Vec<String> {
    let (whole, unreadable) = readable(GOLDEN).expect("the golden trace");
    assert_eq!((whole.len(), unreadable), (boundaries().len() - 1, 0));
    whole
}

#[test]
fn every_prefix_is_read_to_its_last_whole_chunk() {
    let (whole, boundaries) = (whole(), boundaries());
    for length in 0..=GOLDEN.len() {
        let prefix = &GOLDEN[..length];
        match Trace::open(prefix) {
            Ok(trace) => {
                let expected = boundaries.iter().filter(|&&end| end <= length).count() - 1;
                let (chunks, unreadable) = readable(prefix).expect("it was opened");
                assert_eq!((&chunks[..], unreadable), (&whole[..expected], 0), "{length} bytes");
                let cut = length - boundaries[expected];
                let defects: Vec<_> = trace.defects().iter().map(|it| (it.offset, it.bytes)).collect();
                let expected_defects = if cut == 0 { vec![] } else { vec![(boundaries[expected], cut)] };
                assert_eq!(defects, expected_defects, "{length} bytes");
            }
            Err(FormatError::Empty) => assert_eq!(length, 0),
            Err(FormatError::Header(why)) => {
                assert!(length < FILE_HEADER_BYTES);
                assert!(why.contains(&format!("expected 64 bytes, found {length}")), "{why}");
            }
            Err(error) => panic!("{length} bytes: {error}"),
        }
    }
}

#[test]
fn a_flipped_bit_costs_at_most_its_chunk() {
    let (whole, boundaries) = (whole(), boundaries());
    let mut bytes = GOLDEN.to_vec();
    for bit in 0..GOLDEN.len() * 8 {
        let offset = bit / 8;
        bytes[offset] ^= 1 << (bit % 8);
        match readable(&bytes) {
            Ok((chunks, _)) => {
                assert!(offset >= FILE_HEADER_BYTES, "bit {bit} of the header went unnoticed");
                let hit = boundaries.iter().filter(|&&end| end <= offset).count() - 1;
                let mut expected = whole.clone();
                expected.remove(hit);
                assert!(chunks == expected, "bit {bit} in chunk {hit}");
            }
            Err(error) => assert!(offset < FILE_HEADER_BYTES, "bit {bit}: {error}"),
        }
        bytes[offset] ^= 1 << (bit % 8);
    }
}

#[test]
fn lost_and_foreign_bytes_between_chunks_are_stepped_over() {
    let (whole, boundaries) = (whole(), boundaries());
    for (index, &boundary) in boundaries.iter().enumerate() {
        // Foreign bytes in front of a chunk, among them the start of one.
        let foreign = b"\0\0PGCK rubbish PGC";
        let bytes = [&GOLDEN[..boundary], foreign, &GOLDEN[boundary..]].concat();
        assert_eq!(readable(&bytes).expect("its header is whole"), (whole.clone(), 0));
        let defects = Trace::open(&bytes).expect("its header is whole").defects().to_vec();
        let stepped_over: usize = defects.iter().map(|defect| defect.bytes).sum();
        assert_eq!((defects[0].offset, stepped_over), (boundary, foreign.len()));
        // The end of a chunk is missing: its header is there, the next chunk is inside the length it gives.
        if let (Some(previous), false) = (index.checked_sub(1), boundary == GOLDEN.len()) {
            let bytes = [&GOLDEN[..boundary - 3], &GOLDEN[boundary..]].concat();
            let (chunks, _) = readable(&bytes).expect("its header is whole");
            let lost: Vec<_> = whole.iter().filter(|one| !chunks.contains(one)).collect();
            assert!(lost.contains(&&whole[previous]) && lost.len() <= 2, "{} chunks lost", lost.len());
        }
    }
}

fn raw_chunk(kind: u16, payload: &[u8]) -> Vec<u8> {
    let header = ChunkHeader {
        kind: ChunkKind(kind),
        compression: Compression::None,
        stream: StreamId(0),
        count: 1,
        first: TraceNanos(1),
        last: TraceNanos(2),
        stored_bytes: payload.len() as u32,
        raw_bytes: payload.len() as u32,
        payload_crc: crc32(payload),
    };
    [&header.encode()[..], payload].concat()
}

#[test]
fn unknown_chunk_kinds_are_skipped() {
    for boundary in boundaries() {
        let bytes = [&GOLDEN[..boundary], &raw_chunk(999, b"of a later writer"), &GOLDEN[boundary..]].concat();
        let trace = Trace::open(&bytes).expect("a trace");
        assert_eq!(trace.defects(), &[]);
        let (mut chunks, unreadable) = readable(&bytes).expect("a trace");
        chunks.retain(|chunk| !chunk.starts_with("ChunkKind(999)"));
        assert_eq!((chunks, unreadable), (whole(), 0));
    }
}

/// The payload of packed events with these words, in ticks of nanoseconds.
fn packed(words: &[u64]) -> Vec<u8> {
    let clock = [0, 0, 1];
    clock.iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

fn two_frees() -> Vec<u8> {
    let free = object_free(0, &ObjectFree { address: Address(0x1000), function: ObjectFunction::Plain });
    packed(&[&time_base(5)[..], &free, &free].concat())
}

fn cut_id() -> Vec<u8> {
    let free = ObjectFree { address: Address(0x1000), function: ObjectFunction::Plain };
    let [first, address, _] = object_free_with_id(0, &free, ObjectId(7));
    packed(&[&time_base(5)[..], &[first, address]].concat())
}

#[test]
fn forged_payloads_are_typed_errors() {
    // name, kind, payload, part of the message
    let cases: &[(&str, u16, &[u8], &str)] = &[
        ("columns that end early", 1, &[0, 0, 7, 1], "columns end early"),
        ("another number of columns", 1, &[0, 0, 8], "unknown layout"),
        ("unknown flags", 1, &[0x80, 0, 7], "unknown layout"),
        ("lengths beyond the payload", 1, &[0, 0, 7, 1, 1, 0, 0, 0, 0, 0x7f, 1, 1], "columns end early"),
        ("fewer kinds than events", 1, &[0, 0, 7, 0, 0, 0, 0, 0, 0, 0], "number of events"),
        ("an unknown event", 1, &[0, 0, 7, 1, 1, 0, 0, 0, 0, 0, 0x0f, 1], "kind or a number"),
        ("an event without its address", 1, &[0, 0, 7, 1, 1, 0, 0, 0, 0, 0, 5, 1], "kind or a number"),
        ("packed words without a clock", 2, &[1; 23], "without a clock"),
        ("packed words that are no event", 2, &[1; 32], "no event"),
        ("fewer packed events than the count", 2, &[0; 24], "another number of packed events"),
        ("more packed events than the count", 2, &two_frees(), "another number of packed events"),
        ("an id that is cut off", 2, &cut_id(), "no event"),
        ("a stack with fewer frames than it says", 3, &[11, 4, 0, 1, 2, 9], "field of a record"),
        ("a stack of more frames than memory", 3, &[11, 8, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "field of a record"),
        ("a bucket without its name", 3, &[13, 2, 0, 1], "field of a record"),
        ("a gap without its end", 3, &[12, 2, 0, 1], "field of a record"),
        ("a stream of a kind of a later version", 3, &[3, 6, 1, 0, 3, 0, 0, 0], "field of a record"),
        ("a cut record", 3, &[1, 9, 0], "a record is cut"),
        ("a record with too few fields", 3, &[1, 1, 0], "field of a record"),
        ("accesses of another layout", 8, &[2, 12, 8, 0, 0, 0, 0, 0, 0, 0, 0], "unknown layout"),
        ("accesses with pages of no size", 8, &[1, 63, 8, 0, 0, 0, 0, 0, 0, 0, 0], "unknown layout"),
        ("accesses without columns", 8, &[1, 12, 8, 0, 0], "columns end early"),
        ("fewer accesses than the count", 8, &[1, 12, 8, 0, 0, 0, 0, 0, 0, 0, 0], "number of events"),
        ("a range without an epoch", 8, &[1, 12, 8, 1, 0, 1, 1, 0, 0, 0, 0, 2, 2, 1], "kind or a number"),
        ("an epoch that begins before time", 8, &[1, 12, 8, 1, 1, 0, 0, 0, 0, 0, 3, 0, 0, 1, 9, 1], "kind or a number"),
        ("an unknown access", 8, &[1, 12, 8, 1, 1, 0, 0, 1, 0, 1, 1, 36, 0, 0, 0, 0], "kind or a number"),
        ("a snapshot of no version", 4, &[9], "snapshot"),
        ("an empty snapshot", 4, &[], "snapshot"),
    ];
    for (name, kind, payload, expected) in cases {
        let bytes = [&GOLDEN[..FILE_HEADER_BYTES], &raw_chunk(*kind, payload)].concat();
        let trace = Trace::open(&bytes).expect("a trace");
        let error = contents(&trace, &trace.chunks()[0]).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn a_long_file_is_opened_in_steps() {
    let chunk = raw_chunk(900, &vec![0; 5 << 20]);
    let bytes = [&GOLDEN[..FILE_HEADER_BYTES], &chunk.repeat(9)].concat();
    let mut passed = Vec::new();
    let trace = Trace::open_in_steps(&bytes, &mut |offset| passed.push(offset)).expect("a trace");
    assert_eq!(trace.chunks().len(), 9);
    assert_eq!(passed, [4, 8].map(|chunks| FILE_HEADER_BYTES + chunks * chunk.len()));
}

#[test]
fn a_batch_holds_the_events_in_front_of_the_damage() {
    // Two frees a byte apart, then a kind that cannot be.
    let columns = raw_chunk(1, &[0, 0, 7, 3, 3, 3, 0, 0, 0, 0, 5, 5, 0x0f, 1, 1, 1, 2, 2, 2]);
    let free =
        object_free_with_id(0, &ObjectFree { address: Address(1), function: ObjectFunction::Plain }, ObjectId(7));
    let words = packed(&[&time_base(5)[..], &free, &free, &[0xff]].concat());
    for (chunk, id) in [(columns, None), (raw_chunk(2, &words), Some(ObjectId(7)))] {
        let bytes = [&GOLDEN[..FILE_HEADER_BYTES], &chunk].concat();
        let trace = Trace::open(&bytes).expect("a trace");
        let header = ChunkHeader { count: 3, ..trace.chunks()[0].header };
        let mut cursor = trace.events(&Chunk { header, ..trace.chunks()[0] }).expect("a chunk");
        let mut batch = EventBatch::new();
        cursor.fill(&mut batch, 1).expect("the first");
        assert_eq!((batch.len(), batch.object_id(0)), (1, id));
        cursor.fill(&mut batch, 8).expect_err("damage");
        assert_eq!((batch.len(), batch.object_id(0)), (1, id));
        cursor.fill(&mut batch, 8).expect("nothing is told twice");
        assert!(batch.is_empty());
    }
}

#[test]
fn a_zstd_payload_longer_than_its_header_says_is_refused() {
    let trace = Trace::open(GOLDEN).expect("the golden trace");
    let chunk = trace.chunks().iter().find(|chunk| chunk.header.compression == Compression::Zstd).expect("one");
    let stored = &GOLDEN[chunk.payload_offset..][..chunk.header.stored_bytes as usize];
    for raw_bytes in [0, 1, chunk.header.raw_bytes - 1, chunk.header.raw_bytes + 1] {
        let header = ChunkHeader { raw_bytes, ..chunk.header };
        let bytes = [&GOLDEN[..FILE_HEADER_BYTES], &header.encode(), stored].concat();
        let trace = Trace::open(&bytes).expect("a trace");
        // Also where the memory that is reused has room for more.
        let mut payload = Vec::with_capacity(1 << 20);
        let error = trace.payload(&trace.chunks()[0], &mut payload).expect_err("another length");
        assert!(matches!(error, FormatError::Payload(_)), "{error}");
    }
}

#[test]
fn later_versions_and_other_files_are_refused_with_what_to_do() {
    let mut newer = GOLDEN.to_vec();
    newer[8] = 5;
    let mut text_mode = GOLDEN.to_vec();
    text_mode.remove(4);
    let cases: &[(&[u8], &str)] = &[
        (&newer, "has format version 5, this program reads versions up to 4: use a newer pagetrace"),
        (&newer[..FILE_HEADER_BYTES], "use a newer pagetrace"),
        (&text_mode, "not a trace: expected the bytes 89 50 47 54 0d 0a 1a 0a at offset 0, found 89 50 47 54 0a 1a 0a"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "found 7f 45 4c 46"),
        (b"", "the file is empty"),
        (&GOLDEN[..20], "expected 64 bytes, found 20"),
    ];
    for (bytes, expected) in cases {
        let error = Trace::open(bytes).expect_err(expected).to_string();
        assert!(error.contains(expected), "expected {expected}, found {error}");
    }
}
