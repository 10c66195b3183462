//! Which system calls are watched, and what each does to pages.

use pagetrace_format::kernel_event::PageCall;

/// A system call that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// Its name in tracefs.
    pub name: &'static str,
    /// Its number on x86-64.
    pub number: i64,
    /// What it does.
    pub effect: Effect,
}

/// What a call does to pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It concerns mappings or pages, and goes into the trace as it is.
    Page(PageCall),
    /// Its result is how many bytes the kernel wrote to a buffer: which arguments are its address and its length.
    FillsBuffer(usize, usize),
    /// The same with an array of buffers (readv(2)): which arguments are the array's address and count.
    FillsVector(usize, usize),
    /// The same with a message (recvmsg(2)): which argument is its address.
    FillsMessage(usize),
}

const fn page(name: &'static str, number: i64, call: PageCall) -> TracedCall {
    TracedCall { name, number, effect: Effect::Page(call) }
}

const fn fills(name: &'static str, number: i64) -> TracedCall {
    TracedCall { name, number, effect: Effect::FillsBuffer(1, 2) }
}

const fn fills_vector(name: &'static str, number: i64) -> TracedCall {
    TracedCall { name, number, effect: Effect::FillsVector(1, 2) }
}

/// All of them, the most telling first: where a thread may not have an event for each, the last ones are left out.
pub const TRACED: &[TracedCall] = &[
    page("mmap", libc::SYS_mmap, PageCall::Mmap),
    page("munmap", libc::SYS_munmap, PageCall::Munmap),
    page("madvise", libc::SYS_madvise, PageCall::Madvise),
    page("brk", libc::SYS_brk, PageCall::Brk),
    page("mremap", libc::SYS_mremap, PageCall::Mremap),
    fills("read", libc::SYS_read),
    fills("recvfrom", libc::SYS_recvfrom),
    fills("pread64", libc::SYS_pread64),
    page("mlock", libc::SYS_mlock, PageCall::Mlock),
    TracedCall { name: "getrandom", number: libc::SYS_getrandom, effect: Effect::FillsBuffer(0, 1) },
    fills("getdents64", libc::SYS_getdents64),
    fills_vector("readv", libc::SYS_readv),
    TracedCall { name: "recvmsg", number: libc::SYS_recvmsg, effect: Effect::FillsMessage(1) },
    page("mprotect", libc::SYS_mprotect, PageCall::Mprotect),
    // Its first three arguments are those of mprotect(2).
    page("pkey_mprotect", libc::SYS_pkey_mprotect, PageCall::Mprotect),
    page("mlock2", libc::SYS_mlock2, PageCall::Mlock2),
    page("mlockall", libc::SYS_mlockall, PageCall::Mlockall),
    page("munlock", libc::SYS_munlock, PageCall::Munlock),
    page("munlockall", libc::SYS_munlockall, PageCall::Munlockall),
    fills_vector("preadv", libc::SYS_preadv),
    fills_vector("preadv2", libc::SYS_preadv2),
    page("process_madvise", libc::SYS_process_madvise, PageCall::ProcessMadvise),
];

/// The first so many are watched or no call is: without them more is wrong than right.
pub const NEEDED: usize = 6;

/// The call with this number.
pub fn traced_call(number: i64) -> Option<&'static TracedCall> {
    TRACED.iter().find(|call| call.number == number)
}

/// The numbers of those that concern mappings or pages and whose arguments say which.
pub fn page_call_numbers() -> impl Iterator<Item = i64> {
    let tells = |call: &&TracedCall| !call.fills() && !call.has_array();
    TRACED.iter().filter(tells).map(|call| call.number)
}

impl TracedCall {
    /// Whether it takes pages away, so that it counts from its begin: another thread may have the range before it
    /// returns.
    pub fn takes_away(&self, arguments: &[u64; 6]) -> bool {
        const FIXED: u64 = libc::MAP_FIXED as u64;
        const MOVE_TO: u64 = libc::MREMAP_FIXED as u64;
        match self.effect {
            Effect::Page(PageCall::Munmap | PageCall::Madvise | PageCall::Brk) => true,
            Effect::Page(PageCall::Mmap) => arguments[3] & FIXED != 0,
            Effect::Page(PageCall::Mremap) => arguments[3] & MOVE_TO != 0 || arguments[2] < arguments[1],
            _ => false,
        }
    }

    /// Whether its end tells all of it: the registers have its arguments still. Not of calls that may count from their begin, of
    /// those that map a file, and of those whose arguments point at what has changed by then.
    pub fn is_told_at_exit(&self) -> bool {
        use PageCall::{Brk, Madvise, Mmap, Mremap, Munmap};
        !self.has_array() && !matches!(self.effect, Effect::Page(Brk | Madvise | Mmap | Mremap | Munmap))
    }

    /// Whether its arguments point at what tells which memory it is about.
    pub fn has_array(&self) -> bool {
        use Effect::{FillsMessage, FillsVector, Page};
        matches!(self.effect, FillsVector(..) | FillsMessage(_) | Page(PageCall::ProcessMadvise))
    }

    /// Whether it fills memory, and so says nothing unless it succeeds.
    pub fn fills(&self) -> bool {
        !matches!(self.effect, Effect::Page(_))
    }
}

/// For a tracepoint of all system calls: lets those through that are watched and for which `which` holds. Each test takes a few
/// nanoseconds of every call of the program, so that those go first that most calls fail.
pub fn filter_of(which: impl Fn(&TracedCall) -> bool) -> String {
    let numbers: Vec<i64> = TRACED.iter().filter(|call| which(call)).map(|call| call.number).collect();
    let tests: Vec<String> = numbers.iter().map(|number| format!("id=={number}")).collect();
    let bounds = numbers.iter().min().zip(numbers.iter().max());
    let bounds = bounds.map_or_else(String::new, |(least, most)| format!("id>={least}&&id<={most}&&"));
    format!("{bounds}({})", tests.join("||"))
}

/// For the end of all system calls: those that their end tells whole, and of those that fill memory the ones whose faults the
/// kernel tells of nowhere.
///
/// What the kernel copies to a program faults as the program would, and each such fault has its event. What a device writes to
/// a program's pages (O_DIRECT of open(2)) has none. It comes in sectors; less only where a file ends.
pub fn filter_of_whole_ends() -> String {
    let page_calls = filter_of(|call| call.is_told_at_exit() && !call.fills());
    let fills = filter_of(|call| call.is_told_at_exit() && call.fills());
    format!("({page_calls})||(ret>={FILL_SECTOR}&&({fills})&&(ret>={FILL_MUCH}||!(ret&{})))", FILL_SECTOR - 1)
}

/// What a device writes is a multiple of it.
pub const FILL_SECTOR: u32 = 512;
/// Calls that fill so much are few for what they do.
pub const FILL_MUCH: u32 = 64 << 10;

/// For the end of one system call that fills memory, where no fault of the kernel's is told: what a server is asked by the
/// hundred thousand a second mostly is shorter, and goes to where the one before it went.
pub fn filter_of_fill() -> String {
    format!("ret>={FILL_BYTES_LEAST}")
}

/// Fills of fewer bytes are not told where the kernel's faults are not.
pub const FILL_BYTES_LEAST: u32 = 256;
