//! How pages are kept from the program, and given back: moved away, or without the right to be accessed.

use crate::sys::files::ReadFile;
use crate::sys::userfaultfd::{Userfaultfd, mode};
use crate::sys::{self, PAGE_BYTES, page_rights};

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In its place.
    Open,
    /// Whoever comes for it waits.
    Armed,
    /// Who writes to it does.
    OpenToReads,
}

/// The way that is taken.
pub enum Mechanism {
    /// Pages are moved to a stash that nobody knows, and who comes for one waits for the handler (userfaultfd(2)).
    Moves(Userfaultfd),
    /// Rights are taken away, and who comes gets SIGSEGV, which the tracer handles first (mprotect(2)).
    Signals,
}

/// A page, and its place in the stash.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub page: usize,
    pub stashed: usize,
}

impl Mechanism {
    /// Whether there is a stash.
    pub fn moves(&self) -> bool {
        matches!(self, Mechanism::Moves(_))
    }

    /// Takes a range over.
    ///
    /// # Errors
    /// The kernel's number.
    pub fn begin(&self, place: Place, bytes: usize) -> Result<(), i32> {
        let Mechanism::Moves(userfaultfd) = self else { return Ok(()) };
        let Place { page, stashed } = place;
        userfaultfd
            .register(stashed, stashed + bytes, mode::MISSING)
            .and_then(|()| userfaultfd.register(page, page + bytes, mode::MISSING | mode::WRITE_PROTECT))
    }

    /// Lets go of a range whose pages are all open.
    pub fn end(&self, place: Place, bytes: usize) {
        if let Mechanism::Moves(userfaultfd) = self {
            // What the program has unmapped meanwhile is not registered any more.
            let _ = userfaultfd.unregister(place.page, place.page + bytes);
            let _ = userfaultfd.unregister(place.stashed, place.stashed + bytes);
            let _ = userfaultfd.wake(place.page, place.page + bytes);
        }
    }

    /// Arms open pages side by side, from the first on. How many bytes of them: the others it has to be tried with one by one.
    pub fn arm_all(&self, place: Place, bytes: usize) -> usize {
        match self {
            Mechanism::Moves(userfaultfd) => {
                userfaultfd.move_pages((place.page, place.stashed), bytes, true).0 / PAGE_BYTES * PAGE_BYTES
            }
            Mechanism::Signals if sys::set_rights(place.page, bytes, page_rights::NONE) => bytes,
            Mechanism::Signals => 0,
        }
    }

    /// Has writes to an open page come to us, and leaves it in its place. Whether it does.
    pub fn arm_for_writes(&self, place: Place) -> bool {
        match self {
            Mechanism::Moves(userfaultfd) => {
                userfaultfd.write_protect(place.page, place.page + PAGE_BYTES, true).is_ok()
            }
            Mechanism::Signals => sys::set_rights(place.page, PAGE_BYTES, page_rights::READ),
        }
    }

    /// Arms a page: how it is then.
    pub fn arm(&self, place: Place) -> Option<State> {
        let Place { page, stashed } = place;
        match self {
            Mechanism::Moves(userfaultfd) => match userfaultfd.move_page(page, stashed, true) {
                Ok(()) => Some(State::Armed),
                // Shared with a child that was forked, pinned, or locked: then writes at least are seen.
                Err(libc::EBUSY | libc::EINVAL) => self.arm_for_writes(place).then_some(State::OpenToReads),
                Err(_) => None,
            },
            Mechanism::Signals => sys::set_rights(page, PAGE_BYTES, page_rights::NONE).then_some(State::Armed),
        }
    }

    /// Lets who comes for a page have it: how it is then. `None` while the kernel is changing mappings: who waits comes again.
    pub fn give(&self, place: Place, state: State, write: bool) -> Option<State> {
        let page = place.page;
        let then = if write { State::Open } else { State::OpenToReads };
        let userfaultfd = match self {
            Mechanism::Moves(userfaultfd) => userfaultfd,
            // Another thread was here before; or the program has taken the rights away.
            Mechanism::Signals if state == State::Open => {
                return sys::set_rights(page, PAGE_BYTES, page_rights::ALL).then_some(State::Open);
            }
            Mechanism::Signals => {
                let rights = if write { page_rights::ALL } else { page_rights::READ };
                return sys::set_rights(page, PAGE_BYTES, rights).then_some(then);
            }
        };
        let end = page + PAGE_BYTES;
        let result = match state {
            State::Armed => move_back(userfaultfd, place),
            // Given back by the program since it was opened, where it is not there at all.
            State::Open | State::OpenToReads => userfaultfd.zero_pages(page, end),
        };
        if state == State::Armed && result.is_err() {
            // It stays armed, and who waits comes again: whatever the reason, contents must not be given up.
            let _ = userfaultfd.wake(page, end);
            return None;
        }
        let then = if state == State::Open { State::Open } else { then };
        let _ = userfaultfd.write_protect(page, end, then == State::OpenToReads);
        let _ = userfaultfd.wake(page, end);
        Some(then)
    }

    /// Opens a page for good. False while the kernel is changing mappings.
    pub fn restore(&self, place: Place, state: State) -> bool {
        match self {
            Mechanism::Moves(userfaultfd) => {
                let end = place.page + PAGE_BYTES;
                if state == State::Armed && move_back(userfaultfd, place).is_err() {
                    return false;
                }
                if userfaultfd.write_protect(place.page, end, false) == Err(libc::EAGAIN) {
                    return false;
                }
                let _ = userfaultfd.wake(place.page, end);
                true
            }
            Mechanism::Signals => sys::set_rights(place.page, PAGE_BYTES, page_rights::ALL),
        }
    }
}

/// Moves a page back, or puts a zero page where there was none.
///
/// # Errors
/// EAGAIN while the kernel is changing mappings, and whatever else leaves the page in the stash.
fn move_back(userfaultfd: &Userfaultfd, place: Place) -> Result<(), i32> {
    let Place { page, stashed } = place;
    let moved = match userfaultfd.move_page(stashed, page, false) {
        Err(libc::ENOENT) if !is_there(stashed) => userfaultfd.zero_pages(page, page + PAGE_BYTES),
        // The program has changed the rights to its page, or locked it: the kernel does not move pages between unlike mappings.
        Err(libc::EINVAL | libc::EBUSY) => copy_back(userfaultfd, place),
        other => other,
    };
    // It has been put there meanwhile.
    if moved == Err(libc::EEXIST) { Ok(()) } else { moved }
}

fn copy_back(userfaultfd: &Userfaultfd, place: Place) -> Result<(), i32> {
    let Place { page, stashed } = place;
    // Reading a page that is not there, this thread would wait for itself.
    if !is_there(stashed) {
        return userfaultfd.zero_pages(page, page + PAGE_BYTES);
    }
    userfaultfd.copy_pages((stashed, page), PAGE_BYTES)?;
    drop_stashed(userfaultfd, stashed, PAGE_BYTES);
    Ok(())
}

/// Forgets what is in a part of the stash.
pub fn drop_stashed(userfaultfd: &Userfaultfd, stashed: usize, bytes: usize) {
    // Not while it is registered: the kernel would tell this very thread of it, and wait until that has heard.
    let _ = userfaultfd.unregister(stashed, stashed + bytes);
    // SAFETY: within the stash, whose pages nobody refers to.
    unsafe { sys::give_pages_back(stashed as *const u8, bytes) };
    let _ = userfaultfd.register(stashed, stashed + bytes, mode::MISSING);
}

/// Whether a page is in memory or swapped (Documentation/admin-guide/mm/pagemap.rst).
fn is_there(page: usize) -> bool {
    const PRESENT_OR_SWAPPED: u64 = 3 << 62;
    let mut entry = [0];
    let read = ReadFile::open(c"/proc/self/pagemap")
        .and_then(|pagemap| pagemap.read_words_at(&mut entry, (page / PAGE_BYTES * 8) as u64));
    read == Some(1) && entry[0] & PRESENT_OR_SWAPPED != 0
}
