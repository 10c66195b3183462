//! What the kernel says of its own types (BTF, /sys/kernel/btf/vmlinux): numbers of tracepoints' types, places of fields.

use super::KernelTypes;

const MAGIC: u16 = 0xeb9f;
/// The tracepoints, as their types are named.
const TRACEPOINTS: [&str; 4] =
    ["btf_trace_sys_enter", "btf_trace_sys_exit", "btf_trace_sched_process_fork", "btf_trace_sched_process_exec"];

const COMMON_BEGIN: &[u8] = b"btf_trace_s";

/// Kinds of types, as far as they are told apart here (linux/btf.h).
mod kind {
    pub const STRUCT: u32 = 4;
    pub const TYPEDEF: u32 = 8;
}

/// Finds what programs are loaded with. `None` where the bytes are no such description or something is not in it.
pub fn read_types(bytes: &[u8]) -> Option<KernelTypes> {
    let (types, strings) = sections(bytes)?;
    let mut tracepoints = [None; TRACEPOINTS.len()];
    let (mut thread_info_at, mut status_at, mut registers_fit) = (None, None, false);
    let (mut rest, mut number) = (types, 0);
    while !rest.is_empty() {
        number += 1;
        let [name, info] = [word(rest, 0)?, word(rest, 4)?];
        let (kind, count) = (info >> 24 & 0x1f, info & 0xffff);
        let extra = extra_bytes(kind, count as usize)?;
        let members = rest.get(12..12 + extra)?;
        let offset = |member: &str| member_offset(members, info >> 31 == 1, strings, member);
        // There are some hundred thousand types: few are looked at, and of their names as little as tells.
        match kind {
            kind::TYPEDEF if starts_with(strings, name, COMMON_BEGIN) => {
                let place = TRACEPOINTS.iter().position(|tracepoint| is_named(strings, name, tracepoint));
                if let Some(place) = place {
                    tracepoints[place] = Some(number);
                }
            }
            kind::STRUCT if is_named(strings, name, "task_struct") => {
                thread_info_at = thread_info_at.or(offset("thread_info"));
            }
            kind::STRUCT if is_named(strings, name, "thread_info") => status_at = status_at.or(offset("status")),
            kind::STRUCT if is_named(strings, name, "pt_regs") => {
                registers_fit |= offset("di") == Some(super::code::FIRST_ARGUMENT_AT);
            }
            _ => {}
        }
        rest = rest.get(12 + extra..)?;
        if registers_fit && tracepoints.iter().all(Option::is_some) && thread_info_at.and(status_at).is_some() {
            break;
        }
    }
    let [sys_enter, sys_exit, fork, exec] = tracepoints;
    let status_at = i16::try_from(thread_info_at? + status_at?).ok()?;
    registers_fit.then_some(KernelTypes {
        sys_enter: sys_enter?,
        sys_exit: sys_exit?,
        fork: fork?,
        exec: exec?,
        status_at,
    })
}

/// A description of one type, a 32-bit number: that of a map's keys and values, number 1.
pub fn one_number() -> Vec<u8> {
    const HEADER_BYTES: u32 = 24;
    const INT: u32 = 1;
    const SIGNED_32_BITS: u32 = 1 << 24 | 32;
    let strings = b"\0int\0";
    let types = [1, INT << 24, 4, SIGNED_32_BITS];
    let types_bytes = size_of_val(&types) as u32;
    let header = [HEADER_BYTES, 0, types_bytes, types_bytes, strings.len() as u32];
    let words = [&[u32::from(MAGIC) | 1 << 16][..], &header, &types].concat();
    words.iter().flat_map(|word| word.to_ne_bytes()).chain(strings.iter().copied()).collect()
}

fn sections(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if word(bytes, 0)? as u16 != MAGIC {
        return None;
    }
    let [header, types, types_bytes, strings, strings_bytes] =
        [4, 8, 12, 16, 20].map(|at| word(bytes, at).map(|value| value as usize));
    let section = |start: usize, length: usize| bytes.get(header? + start..)?.get(..length);
    Some((section(types?, types_bytes?)?, section(strings?, strings_bytes?)?))
}

/// How much follows the three words that each type has.
fn extra_bytes(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Integers, variables, tags of declarations.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Structures, unions, sections, enumerations of 64 bits.
        4 | 5 | 15 | 19 => 12 * count,
        // Enumerations, functions' types.
        6 | 13 => 8 * count,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

/// Where a member is, bytes from the structure's begin.
fn member_offset(members: &[u8], has_bit_fields: bool, strings: &[u8], name: &str) -> Option<u32> {
    let member =
        members.chunks_exact(12).find(|member| word(member, 0).is_some_and(|at| is_named(strings, at, name)))?;
    let bits = word(member, 8)?;
    Some(if has_bit_fields { bits & 0xff_ffff } else { bits } / 8)
}

fn is_named(strings: &[u8], at: u32, name: &str) -> bool {
    starts_with(strings, at, name.as_bytes()) && strings.get(at as usize + name.len()) == Some(&0)
}

fn starts_with(strings: &[u8], at: u32, begin: &[u8]) -> bool {
    strings.get(at as usize..).is_some_and(|text| text.starts_with(begin))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_description_gives_nothing() {
        assert_eq!(read_types(&[]), None);
        assert_eq!(read_types(&one_number()), None, "no such types");
        let number = one_number();
        let (types, strings) = sections(&number).expect("sections");
        assert_eq!((types.len(), strings), (16, &b"\0int\0"[..]));
        for length in 0..number.len() {
            assert_eq!(read_types(&number[..length]), None, "{length} bytes");
        }
        let mut wrong = number.clone();
        // Longer than there is.
        wrong[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(read_types(&wrong), None);
    }
}
