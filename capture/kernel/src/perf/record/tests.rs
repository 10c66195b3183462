//! Records as the kernel writes them, and others.

use super::*;

fn record(record_type: u32, misc: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = record_type.to_ne_bytes().to_vec();
    bytes.extend(misc.to_ne_bytes());
    bytes.extend((body.len() as u16 + 8).to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

const THREAD: u64 = 7 | 8 << 32;

fn read(bytes: &[u8], kind: SampleKind) -> (Vec<Body>, u64) {
    let mut found = Vec::new();
    let malformed = read_records(
        bytes,
        |id| (id == 5).then_some(kind),
        |record| {
            assert_eq!((record.time, record.pid, record.tid), (99, 7, 8), "{record:?}");
            found.push(record.body);
        },
    );
    (found, malformed)
}

#[test]
fn samples_are_read_by_their_kinds() {
    let fault = record(9, 1, &words(&[5, 0x400, THREAD, 99, 0x7000]));
    let expected = Body::Fault { address: 0x7000, instruction: 0x400, in_kernel: true };
    assert_eq!(read(&fault, SampleKind::Fault), (vec![expected], 0));

    let raw = |fields: &[u64]| {
        let mut body = words(&[5, THREAD, 99]);
        body.extend((fields.len() as u32 * 8 + 4).to_ne_bytes());
        body.extend(words(fields));
        body.extend([0; 4]);
        record(9, 2, &body)
    };
    // The kernel pads raw data so that size and data together are a multiple of eight.
    let enter = raw(&[443, 11, 1, 2]);
    let expected = Body::Enter { number: 11, arguments: [1, 2, 0, 0, 0, 0], stack: None };
    assert_eq!(read(&enter, SampleKind::Enter), (vec![expected], 0));
    let mut body = words(&[5, THREAD, 99]);
    body.extend(28_u32.to_ne_bytes());
    body.extend(words(&[443, 19, 3]));
    body.extend([0; 4]);
    body.extend(words(&[2, 0x7ff0, 16, 77, 0, 8]));
    let stack = Some(Box::new(UserStack { pointer: 0x7ff0, bytes: words(&[77]) }));
    let expected = Body::Enter { number: 19, arguments: [3, 0, 0, 0, 0, 0], stack };
    assert_eq!(read(&record(9, 2, &body), SampleKind::Enter), (vec![expected], 0));
    let exit = raw(&[442, 9, -12_i64 as u64]);
    assert_eq!(read(&exit, SampleKind::Exit), (vec![Body::Exit { number: 9, result: -12, arguments: None }], 0));
    for (abi, arguments) in [(0, None), (1, None), (2, Some([3, 2, 1, 6, 4, 5]))] {
        let mut body = words(&[5, THREAD, 99]);
        body.extend(28_u32.to_ne_bytes());
        body.extend(words(&[442, 10, 0]));
        body.extend([0; 4]);
        body.extend(words(&[abi]));
        body.extend(words(if abi == 0 { &[] } else { &[1, 2, 3, 4, 5, 6] }));
        let expected = Body::Exit { number: 10, result: 0, arguments };
        assert_eq!(read(&record(9, 2, &body), SampleKind::Exit), (vec![expected], 0), "{abi}");
    }
    let kernel_fault = raw(&[189, 0x7000, 0xffff_ffff_8000_0000, 0]);
    let expected = Body::KernelAccess { address: 0x7000, write: false };
    assert_eq!(read(&kernel_fault, SampleKind::KernelFault), (vec![expected], 0));
}

#[test]
fn of_a_stack_only_what_was_copied_counts() {
    let mut body = vec![5, 0x400, THREAD, 99, 0x7000, 2];
    body.extend(0..REGISTERS as u64);
    body.extend([24, 1, 2, 3, 16]);
    let registers = Box::new(std::array::from_fn(|place| place as u64));
    let expected = Body::StackSample { address: 0x7000, registers, stack: words(&[1, 2]) };
    assert_eq!(read(&record(9, 2, &words(&body)), SampleKind::Fault), (vec![expected], 0));
}

#[test]
fn what_programs_in_the_kernel_write_is_read() {
    let raw = |fields: &[u64], behind: &[u64]| {
        let mut body = words(&[5, THREAD, 99]);
        body.extend((fields.len() as u32 * 8 + 4).to_ne_bytes());
        body.extend(words(fields));
        body.extend([0; 4]);
        body.extend(words(behind));
        record(9, 2, &body)
    };
    let check = |bytes: Vec<u8>, expected: Body| {
        assert_eq!(read(&bytes, SampleKind::Program), (vec![expected], 0));
    };
    let arguments = [1, 2, 3, 4, 5, 6];
    let enter = [&[programs::ENTER, 9][..], &arguments].concat();
    check(raw(&enter, &[]), Body::Enter { number: 9, arguments, stack: None });
    let stack = Some(Box::new(UserStack { pointer: 0x7ff0, bytes: words(&[77]) }));
    check(raw(&enter, &[2, 0x7ff0, 16, 77, 0, 8]), Body::Enter { number: 9, arguments, stack });
    check(raw(&[programs::EXIT, 9, -12_i64 as u64], &[]), Body::Exit { number: 9, result: -12, arguments: None });
    let whole = [&[programs::WHOLE, 10, 0][..], &arguments].concat();
    check(raw(&whole, &[]), Body::Exit { number: 10, result: 0, arguments: Some(arguments) });
    for wrong in [&[4, 9, 0][..], &[programs::WHOLE, 10, 0], &[programs::ENTER]] {
        assert_eq!(read(&raw(wrong, &[]), SampleKind::Program), (vec![], 1), "{wrong:?}");
    }
}

#[test]
fn the_sideband_is_read() {
    let mut map = words(&[THREAD, 0x1000, 0x2000, 0x3000, 8 | 1 << 32, 77, 1, 5 | 2 << 32]);
    map.extend(b"/bin/x\0\0");
    map.extend(words(&[THREAD, 99, 5]));
    let expected = MappedRecord {
        start: 0x1000,
        bytes: 0x2000,
        file_offset: 0x3000,
        device: 8 << 32 | 1,
        inode: 77,
        protection: 5,
        flags: 2,
        path: "/bin/x".into(),
    };
    assert_eq!(read(&record(10, 2, &map), SampleKind::Fault), (vec![Body::Mapped(Box::new(expected))], 0));
    let mut comm = words(&[THREAD]);
    comm.extend(b"name\0\0\0\0");
    comm.extend(words(&[THREAD, 99, 5]));
    let exec = Body::Exec { name: "name".into() };
    assert_eq!(read(&record(3, 0x2002, &comm), SampleKind::Fault), (vec![exec], 0));
    assert_eq!(read(&record(3, 2, &comm), SampleKind::Fault), (vec![], 0), "a thread named itself");
    let fork = words(&[7 | 3 << 32, 8 | 3 << 32, 99, THREAD, 99, 5]);
    assert_eq!(read(&record(7, 0, &fork), SampleKind::Fault), (vec![Body::Forked { parent: 3 }], 0));
    let thread = words(&[7 | 7 << 32, 8 | 7 << 32, 99, THREAD, 99, 5]);
    assert_eq!(read(&record(7, 0, &thread), SampleKind::Fault), (vec![Body::ThreadStarted], 0));
    assert_eq!(read(&record(4, 0, &thread), SampleKind::Fault), (vec![Body::ThreadEnded], 0));
}

#[test]
fn what_cannot_be_read_is_counted() {
    let good = record(9, 1, &words(&[5, 0x400, THREAD, 99, 0x7000]));
    let unknown_event = record(9, 1, &words(&[6, 0x400, THREAD, 99, 0x7000]));
    let short = record(9, 1, &words(&[5, 0x400, THREAD]));
    let other = record(77, 0, &[1, 2]);
    let all = [&good[..], &unknown_event, &short, &other, &good].concat();
    let (found, malformed) = read(&all, SampleKind::Fault);
    assert_eq!((found.len(), malformed), (2, 2));
    let (found, malformed) = read(&good[..20], SampleKind::Fault);
    assert_eq!((found.len(), malformed), (0, 1));
    assert_eq!(read(&[0; 8], SampleKind::Fault).1, 1, "a record of no bytes would never end");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_records_or_counted(bytes: Vec<u8>, kind in 0_usize..4) {
        use SampleKind::{Enter, Exit, Fault, KernelFault};
        let kind = [Enter, Exit, Fault, KernelFault][kind];
        read_records(&bytes, |_| Some(kind), |_| {});
        let wrapped = record(9, 0, &bytes);
        read_records(&wrapped, |_| Some(kind), |_| {});
    }
}
