//! The kernel's own figures of a process: smaps_rollup and status for snapshots, statm for looking often.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use pagetrace_format::snapshot::KernelFigures;

use crate::cgroup::cgroup_of;
use crate::error::KernelError;
use crate::process_dir::ProcessDir;

/// Reads the figures of a process. Those of smaps_rollup are `None` where this user may not read it.
///
/// # Errors
/// [`KernelError::Gone`] if the process has ended.
pub fn read_figures(pid: u32) -> Result<KernelFigures, KernelError> {
    let process = ProcessDir::open(pid)?;
    let (figures, _) = figures_of(&process, Wanted::All)?;
    Ok(KernelFigures { cgroup: cgroup_of(&process), ..figures })
}

/// Which figures are wanted of a stopped process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of them: 20 to 30 ms for each GiB that is resident.
    All,
    /// Those of status alone, with its sum of RSS in the place of the one that smaps_rollup counts page by page.
    Quick,
}

/// The figures, but for those of the control group, and whether both sums of RSS are the same.
pub(crate) fn figures_of(process: &ProcessDir, wanted: Wanted) -> Result<(KernelFigures, bool), KernelError> {
    let status = process.read("status")?;
    let in_status = |key| kibibytes(&status, key).map(|kib| kib * 1024);
    let of_status = KernelFigures {
        peak_rss: in_status("VmHWM:"),
        page_tables: in_status("VmPTE:"),
        rss_file: in_status("RssFile:"),
        rss_shmem: in_status("RssShmem:"),
        ..KernelFigures::default()
    };
    if wanted == Wanted::Quick {
        let (rss, anonymous, swap) = (in_status("VmRSS:"), in_status("RssAnon:"), in_status("VmSwap:"));
        return Ok((KernelFigures { rss, anonymous, swap, ..of_status }, true));
    }
    let smaps = match process.read("smaps_rollup") {
        // Kernels before 4.14 have no rollup: its lines are those of smaps, added up.
        Err(KernelError::Gone { .. }) => process.read("smaps"),
        other => other,
    };
    let smaps = match smaps {
        Ok(text) => text,
        Err(KernelError::Denied { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let in_smaps = |key| kibibytes(&smaps, key).map(|kib| kib * 1024);
    let figures = KernelFigures {
        rss: in_smaps("Rss:"),
        anonymous: in_smaps("Anonymous:"),
        pss: in_smaps("Pss:"),
        swap: in_smaps("Swap:"),
        huge: in_smaps("AnonHugePages:"),
        pss_anonymous: in_smaps("Pss_Anon:"),
        private: in_smaps("Private_Clean:").zip(in_smaps("Private_Dirty:")).map(|(clean, dirty)| clean + dirty),
        shared: in_smaps("Shared_Clean:").zip(in_smaps("Shared_Dirty:")).map(|(clean, dirty)| clean + dirty),
        ..of_status
    };
    let same = [(figures.rss, "VmRSS:"), (figures.anonymous, "RssAnon:")];
    let same = same.into_iter().all(|(counted, key)| counted.is_some() && counted == in_status(key));
    Ok((figures, same))
}

/// The resident bytes of a process by statm, which costs a few microseconds. The kernel counts them lazily: they can
/// be off by some dozens of pages per processor.
///
/// # Errors
/// [`KernelError::Gone`] if the process has ended.
pub fn quick_rss(pid: u32) -> Result<u64, KernelError> {
    StatmReader::open(pid)?.rss()
}

/// Reads [`quick_rss`] of one process often, with the file held open; it outlasts an exec.
#[derive(Debug)]
pub struct StatmReader {
    pid: u32,
    statm: File,
    page_bytes: u64,
}

impl StatmReader {
    /// For the process with this pid.
    ///
    /// # Errors
    /// [`KernelError::Gone`] where there is no such process.
    pub fn open(pid: u32) -> Result<StatmReader, KernelError> {
        let statm = ProcessDir::open(pid)?.file("statm")?;
        Ok(StatmReader { pid, statm, page_bytes: rustix::param::page_size() as u64 })
    }

    /// Its resident bytes now.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if the process has ended.
    pub fn rss(&self) -> Result<u64, KernelError> {
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0).map_err(|source| KernelError::of(self.pid, "statm", source))?;
        let text = str::from_utf8(&text[..length]).unwrap_or_default();
        // An address space of no pages at all is that of a zombie.
        if text.starts_with("0 ") {
            return Err(KernelError::Gone { pid: self.pid });
        }
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.map(|pages| pages * self.page_bytes).ok_or_else(|| KernelError::Malformed {
            path: PathBuf::from(format!("/proc/{}/statm", self.pid)),
            expected: "numbers of pages, the second of them resident",
            found: text.to_owned(),
        })
    }
}

/// The sum over all lines `key  N kB`, `None` where there is none.
fn kibibytes(text: &[u8], key: &str) -> Option<u64> {
    let values = text.split(|&byte| byte == b'\n').filter_map(|line| {
        let value = line.strip_prefix(key.as_bytes())?.trim_ascii().strip_suffix(b" kB")?;
        str::from_utf8(value).ok()?.parse::<u64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_key_are_added_up() {
        let check = |text: &str, key, expected| assert_eq!(kibibytes(text.as_bytes(), key), expected, "{text:?}");
        check("1000-2000 r--p\nRss:     4 kB\nRss_x:  9 kB\nRss:  12 kB\n", "Rss:", Some(16));
        check("SwapPss: 8 kB\nSwap: 0 kB\n", "Swap:", Some(0));
        check("Rss: x kB\nPss: 4\n", "Rss:", None);
        check("Pss: 4\n", "Pss:", None);
        check("", "Rss:", None);
    }
}
