//! What the kernel says of this process in numbers: smaps_rollup, status and statm of /proc/self; its arguments.

use core::ffi::CStr;

use pagetrace_format::snapshot::{CgroupFigures, KernelFigures};

use super::proc_text::{Lines, number};
use crate::sys::files::{ReadFile, page_bytes};

/// The kernel's figures; those that cannot be read are `None`. Reading smaps_rollup takes about 30 ms for each GiB that
/// is resident, and the kernel holds the address space's lock for reading meanwhile: other threads' faults go on, their
/// mmap and munmap may wait. `text` is memory to read into.
pub fn figures(text: &mut [u8]) -> KernelFigures {
    let mut sums = [None; SMAPS.len()];
    // Kernels before 4.14 have no rollup: its lines are those of smaps, added up.
    if !add_up(c"/proc/self/smaps_rollup", SMAPS, text, &mut sums) {
        add_up(c"/proc/self/smaps", SMAPS, text, &mut sums);
    }
    let [rss, anonymous, pss, swap, huge, pss_anonymous, private_clean, private_dirty, shared_clean, shared_dirty] =
        sums;
    let sum = |clean: Option<u64>, dirty: Option<u64>| clean?.checked_add(dirty?);
    let (private, shared) = (sum(private_clean, private_dirty), sum(shared_clean, shared_dirty));
    let mut sums = [None; 4];
    add_up(c"/proc/self/status", ["VmHWM:", "VmPTE:", "RssFile:", "RssShmem:"], text, &mut sums);
    let [peak_rss, page_tables, rss_file, rss_shmem] = sums;
    let cgroup = CgroupFigures::default();
    KernelFigures {
        rss,
        anonymous,
        pss,
        swap,
        huge,
        peak_rss,
        page_tables,
        rss_file,
        rss_shmem,
        pss_anonymous,
        private,
        shared,
        cgroup,
    }
}

/// Keys of smaps_rollup.
const SMAPS: [&str; 10] = [
    "Rss:",
    "Anonymous:",
    "Pss:",
    "Swap:",
    "AnonHugePages:",
    "Pss_Anon:",
    "Private_Clean:",
    "Private_Dirty:",
    "Shared_Clean:",
    "Shared_Dirty:",
];

/// For each key the sum over all lines `key  N kB`, in bytes; `None` where there is none. Whether the file has lines.
fn add_up<const N: usize>(path: &CStr, keys: [&str; N], text: &mut [u8], sums: &mut [Option<u64>; N]) -> bool {
    let Some(mut lines) = Lines::open(path, text) else { return false };
    let mut any = false;
    while lines.advance() {
        any = true;
        for (key, sum) in keys.iter().zip(&mut *sums) {
            if let Some(kib) = kibibytes(lines.line(), key.as_bytes()) {
                *sum = Some(sum.unwrap_or(0).saturating_add(kib.saturating_mul(1024)));
            }
        }
    }
    any
}

fn kibibytes(line: &[u8], key: &[u8]) -> Option<u64> {
    let mut value = line.strip_prefix(key)?.trim_ascii();
    let kib = number(&mut value, 10, b' ')?;
    (value == b"kB").then_some(kib)
}

/// The resident bytes of this process by statm, which costs a few microseconds. The kernel counts them lazily: they can
/// be off by some dozens of pages per processor.
pub fn resident_bytes() -> Option<u64> {
    let mut text = [0; 128];
    let mut lines = Lines::open(c"/proc/self/statm", &mut text)?;
    if !lines.advance() {
        return None;
    }
    let mut rest = lines.line();
    number(&mut rest, 10, b' ')?;
    Some(number(&mut rest, 10, b' ')? * page_bytes())
}

/// The program's arguments with its name, each with a zero byte behind it, in the front of `buffer`. What does not fit
/// is left out, so that the last one may be cut. `None` where they cannot be read.
pub fn arguments(buffer: &mut [u8]) -> Option<&[u8]> {
    let file = ReadFile::open(c"/proc/self/cmdline")?;
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            bytes => length += bytes,
        }
    }
    buffer.get(..length)
}

#[cfg(test)]
mod tests {
    use pagetrace_kernel::figures::{quick_rss, read_figures};

    use super::*;

    #[test]
    fn lines_with_a_key() {
        let check = |line: &str, expected| assert_eq!(kibibytes(line.as_bytes(), b"Rss:"), expected, "{line}");
        check("Rss:                 12 kB", Some(12));
        check("Rss:\t12 kB", Some(12));
        for wrong in ["Rss: x kB", "Rss: 4", "Rss_x: 4 kB", "SwapRss: 4 kB", "Rss: 4 MB", "Rss:", ""] {
            check(wrong, None);
        }
    }

    #[test]
    fn figures_are_near_those_that_are_read_from_outside() {
        let ours = figures(&mut [0; 256]);
        let theirs = read_figures(std::process::id()).expect("alive");
        let pairs = [
            (ours.rss, theirs.rss),
            (ours.anonymous, theirs.anonymous),
            (ours.pss, theirs.pss),
            (ours.swap, theirs.swap),
            (ours.huge, theirs.huge),
            (ours.peak_rss, theirs.peak_rss),
            (ours.page_tables, theirs.page_tables),
            (ours.rss_file, theirs.rss_file),
            (ours.rss_shmem, theirs.rss_shmem),
            (resident_bytes(), quick_rss(std::process::id()).ok()),
        ];
        for (index, (ours, theirs)) in pairs.into_iter().enumerate() {
            let (ours, theirs) = (ours.expect("read"), theirs.expect("read"));
            assert!(ours.abs_diff(theirs) < 16 << 20, "{index}: {ours} {theirs}");
            assert!((ours == 0) == (theirs == 0), "{index}: {ours} {theirs}");
        }
    }

    #[test]
    fn arguments_are_those_of_the_program() {
        let expected: Vec<u8> = std::env::args().flat_map(|it| [it.as_bytes(), &[0]].concat()).collect();
        for size in [0, 1, 7, expected.len(), expected.len() + 1, 4096] {
            let mut buffer = vec![0; size];
            assert_eq!(arguments(&mut buffer), Some(&expected[..size.min(expected.len())]), "{size}");
        }
    }
}
