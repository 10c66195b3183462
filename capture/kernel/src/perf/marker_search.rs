//! Finds the numbers of the tracepoints of system calls without reading tracefs: opens whatever tracepoint this user
//! may open, makes the calls, and sees which tracepoints tell of them.
//!
//! Closing a tracepoint that nobody else uses takes the kernel tens of milliseconds, so that is left to a process of its
//! own, and what was found is kept in a file for the rest of this boot.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::attributes::{Mode, here_only, page_faults_and_sideband, tracepoint};
use super::ring::Ring;
use super::sys;
use super::traced_calls::TRACED;
use super::tracepoints::EnterExit;
use crate::sys::fork_detached;

/// What was found.
#[derive(Debug)]
pub struct NumbersFound {
    /// The numbers of the tracepoints of each call of [`TRACED`].
    pub each: Vec<Option<EnterExit>>,
    /// Where they were searched for and not in the cache: as long as this is open, the searching process keeps what it
    /// has opened.
    pub searcher: Option<OwnedFd>,
}

/// Finds the numbers of the tracepoints of each call of [`TRACED`].
///
/// # Errors
/// Those of fork(2) and pipe(2), or the kernel lets this user open no tracepoint.
pub fn find_each(use_cache: bool) -> io::Result<NumbersFound> {
    if use_cache && let Some(each) = read_cache() {
        return Ok(NumbersFound { each, searcher: None });
    }
    let (each, searcher) = search_elsewhere()?;
    // Without a cache the next recording searches again, which costs a tenth of a second.
    let _ = write_cache(&each);
    Ok(NumbersFound { each, searcher: Some(searcher) })
}

/// Numbers are 16 bits in a record.
const IDS_END: u32 = 1 << 16;
/// So many in a row that are none or not allowed, and there are no more.
const GAP_MAX: u32 = 3000;
const RING_BYTES: usize = 256 << 10;

fn search_elsewhere() -> io::Result<(Vec<Option<EnterExit>>, OwnedFd)> {
    let (wait_end, searcher) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let descriptor = write_end.as_raw_fd();
    let mut out = File::from(write_end);
    fork_detached(&[descriptor, wait_end.as_raw_fd()], || {
        let (found, opened) = search();
        let _ = out.write_all(&words_of(&found.unwrap_or_default()));
        drop(out);
        // Until nobody has the other end any more.
        let _ = rustix::io::read(&wait_end, &mut [0_u8; 1]);
        drop(opened);
    })?;
    let mut words = Vec::new();
    File::from(read_end).read_to_end(&mut words)?;
    let each: Vec<Option<EnterExit>> = words
        .chunks_exact(8)
        .map(|pair| {
            let word = |at: usize| pair[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
            (word(0) != 0).then(|| EnterExit { enter: word(0), exit: word(4) })
        })
        .collect();
    if each.len() == TRACED.len() && each.iter().any(Option::is_some) {
        Ok((each, searcher))
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "no tracepoint of a system call may be opened"))
    }
}

fn words_of(each: &[Option<EnterExit>]) -> Vec<u8> {
    let words = each.iter().flat_map(|pair| pair.map_or([0; 2], |pair| [pair.enter, pair.exit]));
    words.flat_map(u32::to_ne_bytes).collect()
}

/// Runs in a process of its own. The events are given back so that they are closed last.
fn search() -> (io::Result<Vec<Option<EnterExit>>>, Vec<OwnedFd>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // With fewer descriptors some calls are not found, which the caller sees.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let mut events = Vec::new();
    let found = search_among(&mut events);
    (found, events)
}

fn search_among(events: &mut Vec<OwnedFd>) -> io::Result<Vec<Option<EnterExit>>> {
    let ring_of = sys::open_here_only(&here_only(page_faults_and_sideband(Mode::User)))?;
    let mut ring = Ring::map(&ring_of, RING_BYTES, 16 << 10)?;
    let mut gap = 0;
    for id in 1..IDS_END {
        match sys::open_here_only(&here_only(tracepoint(id, false))) {
            Ok(event) => {
                sys::set_output(&event, &ring_of)?;
                events.push(event);
                gap = 0;
            }
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => break,
            Err(_) => gap += 1,
        }
        if gap > GAP_MAX && !events.is_empty() {
            break;
        }
    }
    Ok(TRACED
        .iter()
        .map(|call| {
            ring.take();
            sys::call_without_effect(call.number);
            pair_of(call.number, ring.take())
        })
        .collect())
}

/// The first two tracepoints that tell of this call: its begin and its end.
fn pair_of(number: i64, records: &[u8]) -> Option<EnterExit> {
    /// Header, number of the event, thread, time, length: in front of the tracepoint's own fields.
    const RAW_AT: usize = 8 + 8 + 8 + 8 + 4;
    let (mut rest, mut found) = (records, Vec::new());
    while let Some(size) = rest.get(6..8).map(|size| usize::from(u16::from_ne_bytes([size[0], size[1]]))) {
        let Some((record, after)) = rest.split_at_checked(size.max(8)) else { break };
        rest = after;
        let Some(raw) = record.get(RAW_AT..) else { continue };
        if record[..4] == 9_u32.to_ne_bytes() && raw.get(8..12) == Some(&(number as u32).to_ne_bytes()[..]) {
            found.push(u32::from(u16::from_ne_bytes([raw[0], raw[1]])));
        }
    }
    match found[..] {
        [enter, exit, ..] if enter != exit => Some(EnterExit { enter, exit }),
        _ => None,
    }
}

fn cache_file() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME").filter(|home| !home.is_empty())?).join(".cache"));
    let caches = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(home)?;
    caches.is_absolute().then(|| caches.join("pagetrace").join("tracepoints"))
}

/// The kernel and the boot that numbers are good for.
fn this_boot() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("pagetrace tracepoints 1 {} {}", release.trim(), boot.trim()))
}

fn read_cache() -> Option<Vec<Option<EnterExit>>> {
    const BYTES_MAX: u64 = 64 << 10;
    let mut text = String::new();
    File::open(cache_file()?).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    parse_cache(&text, &this_boot()?)
}

fn parse_cache(text: &str, boot: &str) -> Option<Vec<Option<EnterExit>>> {
    let mut lines = text.lines();
    if lines.next()? != boot {
        return None;
    }
    let parse = |line: &str, name: &str| -> Option<Option<EnterExit>> {
        let mut words = line.split(' ');
        let fits = words.next()? == name;
        match (fits, words.next()?, words.next(), words.next()) {
            (true, "none", None, None) => Some(None),
            (true, enter, Some(exit), None) => {
                Some(Some(EnterExit { enter: enter.parse().ok()?, exit: exit.parse().ok()? }))
            }
            _ => None,
        }
    };
    let each: Option<Vec<_>> = TRACED.iter().map(|call| parse(lines.next()?, call.name)).collect();
    each.filter(|_| lines.next().is_none())
}

fn cache_text(each: &[Option<EnterExit>], boot: &str) -> String {
    let lines = TRACED.iter().zip(each).map(|(call, pair)| match pair {
        Some(EnterExit { enter, exit }) => format!("{} {enter} {exit}\n", call.name),
        None => format!("{} none\n", call.name),
    });
    format!("{boot}\n{}", lines.collect::<String>())
}

/// Another recording may write at the same time: each writes a file of its own and puts it in place.
fn write_cache(each: &[Option<EnterExit>]) -> io::Result<()> {
    let (Some(file), Some(boot)) = (cache_file(), this_boot()) else { return Err(io::ErrorKind::NotFound.into()) };
    let directory = file.parent().ok_or(io::ErrorKind::NotFound)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let fresh = directory.join(format!("tracepoints.{}", std::process::id()));
    let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    out.write_all(cache_text(each, &boot).as_bytes())?;
    fs::rename(fresh, file)
}

#[cfg(test)]
mod tests {
    use super::super::tracepoints::read_each;
    use super::*;

    #[test]
    fn a_search_finds_what_tracefs_says() {
        let expected = match read_each() {
            Ok(expected) => expected,
            Err(error) => {
                println!("skipped: tracefs cannot be read: {error}");
                return;
            }
        };
        assert_eq!(search_elsewhere().expect("root may open tracepoints").0, expected);
    }

    #[test]
    fn a_cache_of_this_boot_is_read_and_no_other() {
        let mut each: Vec<_> =
            (0..TRACED.len() as u32).map(|n| Some(EnterExit { enter: 2 * n + 9, exit: 2 * n + 8 })).collect();
        each[3] = None;
        let text = cache_text(&each, "this boot");
        assert_eq!(parse_cache(&text, "this boot"), Some(each));
        assert_eq!(parse_cache(&text, "another boot"), None);
        let damaged = [
            text.replace("mmap 9", "mmap x"),
            text.replacen("munmap", "munnap", 1),
            text.lines().take(7).map(|line| format!("{line}\n")).collect(),
            format!("{text}more 1 2\n"),
            text.replace("mmap 9 8", "mmap 9 8 7"),
            text.replace("mmap 9 8", "mmap 9"),
            String::new(),
        ];
        for text in damaged {
            assert_eq!(parse_cache(&text, "this boot"), None, "{text}");
        }
    }
}
