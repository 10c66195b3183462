//! How this machine hands out memory, for the trace.

use std::fs::read_to_string;

use pagetrace_format::records::{HugePages, Machine};

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";

/// What the kernel says of huge pages and of the memory there is (Documentation/admin-guide/mm/transhuge.rst,
/// proc_meminfo(5)).
pub fn this_machine() -> Machine {
    let huge_pages = read_to_string(format!("{HUGE_PAGES}/enabled")).map_or(HugePages::Unknown, |text| chosen(&text));
    let size = read_to_string(format!("{HUGE_PAGES}/hpage_pmd_size")).unwrap_or_default();
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    Machine {
        huge_pages,
        huge_page_bytes: size.trim().parse().unwrap_or(0),
        memory_bytes: total_bytes(&memory).unwrap_or(0),
    }
}

/// The setting in brackets: `always [madvise] never`.
fn chosen(text: &str) -> HugePages {
    match text.split_ascii_whitespace().find(|word| word.starts_with('[')) {
        Some("[always]") => HugePages::Always,
        Some("[madvise]") => HugePages::Madvise,
        Some("[never]") => HugePages::Never,
        _ => HugePages::Unknown,
    }
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_kernel() {
        assert_eq!(chosen("always [madvise] never\n"), HugePages::Madvise);
        assert_eq!(chosen("[always] madvise never\n"), HugePages::Always);
        assert_eq!(chosen("always madvise [never]\n"), HugePages::Never);
        assert_eq!(chosen("always madvise never"), HugePages::Unknown);
        assert_eq!(total_bytes("MemTotal:       24684188 kB\nMemFree: 1 kB\n"), Some(24_684_188 << 10));
        assert_eq!(total_bytes("MemTotal: much"), None);
    }
}
