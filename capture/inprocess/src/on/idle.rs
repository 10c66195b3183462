//! An idle tracer that a recorder can wake: the control block by which it is found, and the joining of a session that comes later.
//!
//! Nothing but the recorder's writes wakes it, so a hook looks at no more than the one word that it looks at anyway
//! ([`Process::active`](super::process::Process::active)). The hook that finds it zero joins; what other threads do meanwhile is before
//! the recording. An earlier session may still have hooks at work, which are waited for as in `off`: until then no number of
//! that session is used for another one.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use pagetrace_format::idle::{IDLE_MAGIC, IDLE_PATH_BYTES, IDLE_VARIABLE, IdleControl, refusal};
use pagetrace_format::session::{SESSION_VARIABLE, Session};

use super::process::{INHERITED, PROCESS};
use super::{attach, marks, thread_state};
use crate::sys;

/// The control block, once there is one. A forked child has a copy at the same place.
static CONTROL: AtomicPtr<IdleControl> = AtomicPtr::new(ptr::null_mut());

/// A hook that has not come to its end after so long stands still.
const HOOK_MS_MAX: u64 = 200;

/// Makes the control block, where the environment wants one and names no recorder's session.
pub fn set_up() {
    if sys::environment(IDLE_VARIABLE).is_none() || sys::environment(SESSION_VARIABLE).is_some() || control().is_some()
    {
        return;
    }
    let Some(page) = sys::map_named(c"pagetrace-idle", size_of::<IdleControl>()) else { return };
    let block = page.cast_mut().cast::<IdleControl>();
    CONTROL.store(block, Ordering::Release);
    let Some(control) = control() else { return };
    let [active_at, looking_at] = PROCESS.words_to_wake();
    control.active_at.store(active_at as u64, Ordering::Relaxed);
    control.looking_at.store(looking_at as u64, Ordering::Relaxed);
    control.malloc.store(INHERITED.malloc.load(Ordering::Relaxed) as u64, Ordering::Relaxed);
    control.magic.store(IDLE_MAGIC, Ordering::Release);
}

/// No recorder wakes a process that records itself, or one may again.
pub fn set_hidden(hidden: bool) {
    if let Some(control) = control() {
        control.magic.store(if hidden { 0 } else { IDLE_MAGIC }, Ordering::Release);
    }
}

/// Whether a recorder has asked for something that was not looked at yet.
pub fn is_asked() -> bool {
    control().is_some_and(|control| control.request.load(Ordering::Acquire) != control.served.load(Ordering::Relaxed))
}

/// Whether this hook can do what was asked: not one that has interrupted another, which may be at work in a buffer.
pub fn may_follow() -> bool {
    thread_state::current().busy.get() == 0
}

/// Joins the session that was asked for, as a process of its own. `None` where that cannot be; the block says why.
pub fn follow() -> Option<Session> {
    let control = control()?;
    control.served.store(control.request.load(Ordering::Acquire), Ordering::Relaxed);
    let refuse = |why: u32| {
        control.refused.store(why, Ordering::Relaxed);
        None
    };
    if sys::sandbox::is_entered() {
        return refuse(refusal::SANDBOX);
    }
    if INHERITED.session().is_some() && !marks::wait_until_quiet(HOOK_MS_MAX) {
        return refuse(refusal::BUSY);
    }
    let mut path = [0_u8; IDLE_PATH_BYTES];
    path.iter_mut().zip(&control.path).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
    let opened = CStr::from_bytes_until_nul(&path).ok().and_then(attach::open_session);
    match opened.and_then(|session| attach::join(session, 0).map(|()| session)) {
        Some(session) => {
            control.refused.store(refusal::NONE, Ordering::Relaxed);
            // Hooks that took their time before write this one.
            PROCESS.earliest_tick.store(PROCESS.tick(), Ordering::Relaxed);
            Some(session)
        }
        None => refuse(refusal::NO_SESSION),
    }
}

fn control() -> Option<&'static IdleControl> {
    // SAFETY: null, or a page of this size that is never unmapped; its fields are atomics, and the recorder writes them while this
    // process stands still.
    unsafe { CONTROL.load(Ordering::Acquire).as_ref() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_is_the_one_that_is_looked_for() {
        assert_eq!(c"pagetrace-idle".to_bytes(), pagetrace_format::idle::IDLE_NAME.as_bytes());
    }
}
