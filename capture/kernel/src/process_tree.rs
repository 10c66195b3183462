//! The family of a process, and what it runs.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::error::KernelError;
use crate::process_dir::ProcessDir;

/// All living descendants of a process, each after its parent. Those whose parent between has ended belong to another
/// family by now and are not found.
///
/// # Errors
/// [`KernelError::Gone`] where there is no such process.
pub fn descendants(pid: u32) -> Result<Vec<u32>, KernelError> {
    let mut found = Vec::new();
    let mut children = match children_listed(&ProcessDir::open(pid)?)? {
        Some(children) => children,
        None => return descendants_by_parents(pid),
    };
    while let Some(child) = children.pop() {
        found.push(child);
        // A child can end at any time; its children are then no longer in the family.
        if let Ok(Some(more)) = ProcessDir::open(child).and_then(|process| children_listed(&process)) {
            children.extend(more);
        }
    }
    Ok(found)
}

/// The children as `/proc/PID/task/TID/children` lists them, `None` where the kernel has no such file
/// (CONFIG_PROC_CHILDREN).
pub(crate) fn children_listed(process: &ProcessDir) -> Result<Option<Vec<u32>>, KernelError> {
    let mut children = Vec::new();
    let mut listed = false;
    for tid in process.numbers("task")? {
        match process.read(&format!("task/{tid}/children")) {
            Ok(text) => {
                listed = true;
                let text = String::from_utf8_lossy(&text);
                children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            Err(KernelError::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listed.then_some(children))
}

fn descendants_by_parents(pid: u32) -> Result<Vec<u32>, KernelError> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let proc = PathBuf::from("/proc");
    let entries = std::fs::read_dir(&proc).map_err(|source| KernelError::Read { path: proc, source })?;
    for entry in entries.flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Ok(stat) = ProcessDir::open(child).and_then(|process| stat_of(&process, "stat")) {
            children.entry(stat.parent).or_default().push(child);
        }
    }
    let mut found = Vec::new();
    let mut next = children.remove(&pid).unwrap_or_default();
    while let Some(child) = next.pop() {
        found.push(child);
        next.extend(children.remove(&child).unwrap_or_default());
    }
    Ok(found)
}

/// The executable of a process, ` (deleted)` kept where it is.
///
/// # Errors
/// [`KernelError::Gone`] if it has ended, [`KernelError::Denied`] where it may not be looked at.
pub fn exe_of(pid: u32) -> Result<PathBuf, KernelError> {
    ProcessDir::open(pid)?.link("exe")
}

/// The arguments of a process, its own name first.
///
/// # Errors
/// As [`exe_of`].
pub fn args_of(pid: u32) -> Result<Vec<String>, KernelError> {
    let text = ProcessDir::open(pid)?.read("cmdline")?;
    let text = text.strip_suffix(&[0]).unwrap_or(&text);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    Ok(text.split(|&byte| byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect())
}

/// The state of a process's first thread, a letter of proc_pid_stat(5).
///
/// # Errors
/// [`KernelError::Gone`] if it has ended.
pub fn state_of(pid: u32) -> Result<char, KernelError> {
    Ok(stat_of(&ProcessDir::open(pid)?, "stat")?.state)
}

/// The parent of a process.
///
/// # Errors
/// [`KernelError::Gone`] if it has ended.
pub fn parent_of(pid: u32) -> Result<u32, KernelError> {
    Ok(stat_of(&ProcessDir::open(pid)?, "stat")?.parent)
}

/// When a process started, in clock ticks since boot. With the pid it names a process, since pids are reused.
///
/// # Errors
/// [`KernelError::Gone`] if it has ended.
pub fn start_time(pid: u32) -> Result<u64, KernelError> {
    Ok(stat_of(&ProcessDir::open(pid)?, "stat")?.start_ticks)
}

/// What we use of proc_pid_stat(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) start_ticks: u64,
    /// Where the stack pointer was at first, 0 where it is not told.
    pub(crate) stack_start: u64,
    /// Where the first argument is, 0 where it is not told.
    pub(crate) arguments_start: u64,
}

pub(crate) fn stat_of(process: &ProcessDir, name: &str) -> Result<Stat, KernelError> {
    let text = process.read(name)?;
    parse_stat(&text).ok_or_else(|| KernelError::Malformed {
        path: PathBuf::from(format!("/proc/{}/{name}", process.pid())),
        expected: "`pid (name) state parent …` with 22 fields or more",
        found: String::from_utf8_lossy(&text).into_owned(),
    })
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name may hold anything, also brackets and spaces.
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    let mut fields = str::from_utf8(&text[name_end + 1..]).ok()?.split_ascii_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        start_ticks: fields.nth(17)?.parse().ok()?,
        stack_start: fields.nth(5).and_then(|field| field.parse().ok()).unwrap_or(0),
        arguments_start: fields.nth(19).and_then(|field| field.parse().ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let check = |text: &str, expected: Option<(char, u32, u64)>| {
            let expected =
                expected.map(|(state, parent, start_ticks)| Stat { state, parent, start_ticks, ..Stat::default() });
            assert_eq!(parse_stat(text.as_bytes()), expected, "{text:?}");
        };
        let rest = "4 4 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 7777 1 1";
        check(&format!("9 (sh) S 3 {rest}"), Some(('S', 3, 7777)));
        check(&format!("9 (a) b) (c) T 12 {rest}"), Some(('T', 12, 7777)));
        let stat = parse_stat(format!("9 (sh) S 3 {rest} 5 6 7 140721").as_bytes());
        assert_eq!(stat.map(|stat| stat.stack_start), Some(140_721), "field 28");
        let more = "29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 140999";
        let stat = parse_stat(format!("9 (sh) S 3 {rest} 5 6 7 140721 {more}").as_bytes());
        assert_eq!(stat.map(|stat| stat.arguments_start), Some(140_999), "field 48");
        check("9 (sh) S 3 4", None);
        check("9 (sh", None);
        check("", None);
    }

    #[test]
    fn both_ways_find_the_same_family() {
        let mut child =
            std::process::Command::new("sh").args(["-c", "sleep 30 & sleep 30 & wait"]).spawn().expect("sh");
        let parent = child.id();
        let family = || (descendants(parent).expect("alive"), descendants_by_parents(parent).expect("alive"));
        let patience = std::time::Instant::now();
        while family().0.len() < 2 && patience.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let (mut listed, mut by_parents) = family();
        listed.sort_unstable();
        by_parents.sort_unstable();
        for &pid in &listed {
            assert_eq!(parent_of(pid).expect("alive"), parent);
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid as i32).expect("a pid"),
                rustix::process::Signal::KILL,
            );
        }
        child.wait().expect("ends");
        assert_eq!(listed, by_parents);
        assert_eq!(listed.len(), 2);
    }
}
