//! The tables of real libraries, read here and by gimli; and tables that are damaged.

use std::fs;
use std::sync::LazyLock;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection,
};
use object::{Object, ObjectSection, ObjectSegment};
use proptest::prelude::*;

use super::eh_frame::rule_at;
use super::reader::Reader;
use super::rule::{Kind, Rule, Saved, ShortRule};

const FRAME_POINTER: Register = Register(6);
const STACK_POINTER: Register = Register(7);
const RETURN_ADDRESS: Register = Register(16);

/// The file that a function of the C library lies in, and this program.
fn files() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).filter(|path| path.starts_with('/'));
    let mut paths: Vec<_> = paths.map(str::to_owned).collect();
    paths.dedup();
    paths
}

/// The segment with the tables of a file, its address, and that of the index.
fn tables(file: &object::File<'_>) -> Option<(Vec<u8>, usize, usize)> {
    let index = file.section_by_name(".eh_frame_hdr")?.address();
    let holds =
        |segment: &object::Segment<'_, '_>| (segment.address()..segment.address() + segment.size()).contains(&index);
    let segment = file.segments().find(holds)?;
    Some((segment.data().ok()?.to_vec(), segment.address() as usize, index as usize))
}

/// What gimli's row says, as a rule. `None` for what is not followed.
fn expected(
    row: &gimli::UnwindTableRow<usize>,
    expression: impl Fn(&gimli::UnwindExpression<usize>) -> Vec<u8>,
) -> Option<Rule> {
    if row.register(RETURN_ADDRESS) == Some(RegisterRule::Undefined) {
        return Some(Rule::plain(Kind::ThreadStart));
    }
    if row.register(RETURN_ADDRESS) != Some(RegisterRule::Offset(-8)) {
        return None;
    }
    let (kind, offset) = match row.cfa() {
        CfaRule::RegisterAndOffset { register: STACK_POINTER, offset } => (Kind::FromStackPointer, *offset),
        CfaRule::RegisterAndOffset { register: FRAME_POINTER, offset } => (Kind::FromFramePointer, *offset),
        CfaRule::RegisterAndOffset { .. } => return None,
        CfaRule::Expression(at) => match expression(at)[..] {
            // DW_OP_breg6 with one byte of offset, DW_OP_deref.
            [0x76, offset, 0x06] => (Kind::AtFramePointer, i64::from((offset as i8) << 1 >> 1)),
            _ => return None,
        },
    };
    let (saved, words) = match row.register(FRAME_POINTER) {
        None | Some(RegisterRule::SameValue) => (Saved::InRegister, 0),
        Some(RegisterRule::Offset(offset)) => (Saved::FromCfa, offset / 8),
        Some(RegisterRule::Expression(at)) => match expression(&at)[..] {
            [0x76, offset] => (Saved::FromFramePointer, i64::from((offset as i8) << 1 >> 1) / 8),
            _ => return None,
        },
        _ => return None,
    };
    Some(Rule::new(kind, i32::try_from(offset).ok()?, saved, i16::try_from(words).ok()?))
}

#[test]
fn rules_are_what_gimli_finds() {
    let (mut rows, mut followed, mut short) = (0, 0, 0);
    for path in files() {
        let Ok(data) = fs::read(&path) else { continue };
        let Ok(file) = object::File::parse(&*data) else { continue };
        let (Some((segment, at, index)), Some(section)) = (tables(&file), file.section_by_name(".eh_frame")) else {
            continue;
        };
        let bytes = section.data().expect("it is in the file");
        let frames = EhFrame::from(EndianSlice::new(bytes, LittleEndian));
        let bases = BaseAddresses::default().set_eh_frame(section.address());
        let mut context = UnwindContext::new();
        let mut entries = frames.entries(&bases);
        while let Some(entry) = entries.next().expect("entries") {
            let CieOrFde::Fde(partial) = entry else { continue };
            let entry = partial.parse(EhFrame::cie_from_offset).expect("an entry");
            if entry.len() == 0 {
                continue;
            }
            let mut table = entry.rows(&frames, &bases, &mut context).expect("rows");
            while let Some(row) = table.next_row().expect("a row") {
                let (start, end) = (row.start_address() as usize, row.end_address() as usize);
                if end <= start {
                    continue;
                }
                let expression = |at: &gimli::UnwindExpression<usize>| at.get(&frames).expect("one").0.slice().to_vec();
                for address in [start, start + (end - start) / 2, end - 1] {
                    let found = rule_at(Reader::new(&segment, at), index, address);
                    rows += 1;
                    if let Some(rule) = found.shortened() {
                        assert_eq!(rule.expanded(), found);
                        short += 1;
                    }
                    if entry.is_signal_trampoline() {
                        assert_eq!(found.kind(), Kind::Signal);
                    } else if is_of_linkage_table(row, &expression) {
                        let pushed = if address & 15 >= 10 { 16 } else { 8 };
                        assert!(found.cfa_offset() == pushed || found.cfa_offset() == 8 || found.cfa_offset() == 16);
                        assert_eq!(found.kind(), Kind::FromStackPointer);
                    } else {
                        let expected = expected(row, expression);
                        assert_eq!(
                            found,
                            expected.unwrap_or(Rule::plain(Kind::Beyond)),
                            "{path} {address:#x}: {row:?}"
                        );
                        followed += usize::from(expected.is_some());
                    }
                }
            }
        }
        let outside = rule_at(Reader::new(&segment, at), index, usize::MAX);
        assert_eq!(outside, Rule::plain(Kind::NoTable));
    }
    assert!(rows > 50_000, "{rows}");
    // The rest are expressions and registers that only hand-written code has.
    assert!(followed * 1000 > rows * 990, "{followed} of {rows}");
    // Most others are of the last instructions of functions, where nothing is called.
    assert!(short * 100 > rows * 70, "{short} of {rows} are short");
}

fn is_of_linkage_table(
    row: &gimli::UnwindTableRow<usize>,
    expression: &impl Fn(&gimli::UnwindExpression<usize>) -> Vec<u8>,
) -> bool {
    matches!(row.cfa(), CfaRule::Expression(at) if expression(at).ends_with(&[0x2a, 0x33, 0x24, 0x22]))
}

/// The C library's tables and code.
struct Libc {
    segment: Vec<u8>,
    at: usize,
    index: usize,
    code: usize,
    code_bytes: usize,
}

static LIBC: LazyLock<Libc> = LazyLock::new(|| {
    let path = files().into_iter().find(|path| path.contains("libc.so")).expect("the C library is loaded");
    let data = fs::read(path).expect("it can be read");
    let file = object::File::parse(&*data).expect("ELF");
    let (segment, at, index) = tables(&file).expect("tables");
    let code = file.section_by_name(".text").expect("code");
    Libc { segment, at, index, code: code.address() as usize, code_bytes: code.size() as usize }
});

proptest! {
    #[test]
    fn damaged_tables_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        address in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let Libc { at, index, code, code_bytes, .. } = *LIBC;
        let mut segment = LIBC.segment.clone();
        let header = index - at;
        // Few are found without their index.
        let end = header + 4096.min(segment.len() - header);
        for (place, byte) in changes {
            let place = if byte & 1 == 0 { header + place.index(end - header) } else { place.index(segment.len()) };
            segment[place] = byte;
        }
        segment.truncate(cut.index(segment.len()) + segment.len() / 2);
        let address = code + address.index(code_bytes);
        let _ = rule_at(Reader::new(&segment, at), index, address);
    }
}

#[test]
fn short_rules_say_what_they_were_made_of() {
    let saved = |words: i16| if words == 0 { (Saved::InRegister, 0) } else { (Saved::FromCfa, -words) };
    let mut seen = 0;
    for (cfa_words, (saved, words)) in (-1..600).flat_map(|cfa| (0..20).map(move |words| (cfa, saved(words)))) {
        let rule = Rule::new(Kind::FromStackPointer, cfa_words * 8, saved, words);
        let inside = (1..512).contains(&cfa_words) && i32::from(-words) <= cfa_words && (-15..=-2).contains(&words);
        let fits = if saved == Saved::InRegister { (1..512).contains(&cfa_words) } else { inside };
        assert_eq!(rule.shortened().is_some(), fits, "{rule:?}");
        if let Some(short) = rule.shortened() {
            assert_eq!(short.expanded(), rule);
            assert!(short.0 > 0 && short.0 < 1 << ShortRule::BITS && short != ShortRule::FRAME_POINTER, "{rule:?}");
            seen += 1;
        }
    }
    assert!(seen > 5000, "{seen}");
    assert_eq!(Rule::FRAME_POINTER.shortened(), Some(ShortRule::FRAME_POINTER));
    assert_eq!(ShortRule::FRAME_POINTER.expanded(), Rule::FRAME_POINTER);
    for kind in [Kind::ThreadStart, Kind::Signal, Kind::NoTable, Kind::Elsewhere, Kind::Beyond] {
        assert_eq!(Rule::plain(kind).shortened(), None);
    }
    for other in [
        Rule::new(Kind::FromStackPointer, 12, Saved::InRegister, 0),
        Rule::new(Kind::FromStackPointer, 16, Saved::FromFramePointer, -2),
        Rule::new(Kind::FromFramePointer, 24, Saved::FromCfa, -2),
        Rule::new(Kind::AtFramePointer, 16, Saved::FromCfa, -2),
    ] {
        assert_eq!(other.shortened(), None, "{other:?}");
    }
}

#[test]
fn packed_rules_say_what_they_were_made_of() {
    for kind in [Kind::FromStackPointer, Kind::FromFramePointer, Kind::AtFramePointer] {
        for saved in [Saved::InRegister, Saved::FromCfa, Saved::FromFramePointer] {
            for (offset, words) in [(8, -2), (i32::MAX, i16::MIN), (i32::MIN, i16::MAX), (-8, -1)] {
                let rule = Rule::new(kind, offset, saved, words);
                assert_eq!(
                    (rule.kind(), rule.cfa_offset(), rule.saved(), rule.saved_offset()),
                    (kind, i64::from(offset), saved, i64::from(words) * 8)
                );
            }
        }
    }
}
