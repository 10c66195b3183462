//! The file behind a session: where it lies, how large it is, and how its blocks get memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use pagetrace_format::session::{SESSION_MAGIC, Session, SessionLayout, block_state};
use rustix::fs::FallocateFlags;
use rustix::process::{Resource, getrlimit};

use super::abandoned::{NAME_PREFIX, mark_as_living, remove_abandoned};
use super::sys;

/// Bytes of a block: a few thousand events.
const BLOCK_BYTES: u32 = 64 << 10;
const PROCESS_SLOTS: u32 = 1024;
/// Blocks that have memory from the start.
const BLOCKS_AT_START: u32 = 32;
/// Blocks there can be, for many threads that hold one each. They cost 64 bytes each until they get memory.
const BLOCKS_MAX: u32 = 4096;
/// Less is of no use: a program with a few threads and children.
const BLOCKS_MIN: u32 = 8;
const PROCESS_SLOTS_MIN: u32 = 64;

/// A session and its file. The file and its directory go when this is dropped; processes keep their mappings.
#[derive(Debug)]
pub struct SessionFile {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    session: Session,
    blocks_ready: u32,
    directory_stays: bool,
    /// Blocks that may be in use beside the one that each thread holds.
    budget_blocks: u32,
}

impl SessionFile {
    /// Makes a session with at most `buffer_bytes` of blocks beside the one that each thread holds.
    ///
    /// # Errors
    /// The last reason, when no directory for shared memory takes the file.
    pub fn create(buffer_bytes: usize, clock: u32, when_full: u32) -> io::Result<SessionFile> {
        let budget_blocks = u32::try_from(buffer_bytes / BLOCK_BYTES as usize).unwrap_or(u32::MAX).max(BLOCKS_AT_START);
        let layout = layout_within(budget_blocks, getrlimit(Resource::Fsize).current)?;
        memory_directories().iter().for_each(|parent| remove_abandoned(parent));
        let mut refusal = io::Error::other("no directory for shared memory");
        for parent in memory_directories() {
            match SessionFile::create_in(&parent, layout) {
                Ok(mut session_file) => {
                    session_file.budget_blocks = budget_blocks;
                    let header = session_file.session.header();
                    header.clock.store(clock, Ordering::Relaxed);
                    header.when_full.store(when_full, Ordering::Relaxed);
                    header.magic.store(SESSION_MAGIC, Ordering::Release);
                    return Ok(session_file);
                }
                Err(error) => refusal = io::Error::new(error.kind(), format!("{}: {error}", parent.display())),
            }
        }
        Err(refusal)
    }

    fn create_in(parent: &Path, layout: SessionLayout) -> io::Result<SessionFile> {
        let directory = parent.join(format!("{NAME_PREFIX}{}", random_name()?));
        // Others may pass through but not list it: the file's name is what admits a process to the session.
        std::fs::DirBuilder::new().mode(0o711).create(&directory)?;
        let made = SessionFile::create_file(&directory, layout);
        if made.is_err() {
            // Best effort: the error that matters is the first.
            let _ = std::fs::remove_dir_all(&directory);
        }
        made
    }

    fn create_file(directory: &Path, layout: SessionLayout) -> io::Result<SessionFile> {
        let path = directory.join(random_name()?);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        mark_as_living(&file)?;
        if rustix::process::geteuid().is_root() {
            // A program that root starts may become another user and then exec.
            file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
        }
        file.set_len(layout.total_bytes() as u64)?;
        // Memory for the tables now: without it a program's first write would end in SIGBUS when memory is short.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, layout.blocks_offset() as u64)?;
        let session = sys::map_session(&file, layout)?;
        let header = session.header();
        header.total_bytes.store(layout.total_bytes() as u64, Ordering::Relaxed);
        header.block_table_offset.store(layout.block_table_offset() as u64, Ordering::Relaxed);
        header.blocks_offset.store(layout.blocks_offset() as u64, Ordering::Relaxed);
        header.process_slots.store(layout.process_slots, Ordering::Relaxed);
        header.block_count.store(layout.block_count, Ordering::Relaxed);
        header.block_bytes.store(layout.block_bytes, Ordering::Relaxed);
        header.recorder_pid.store(std::process::id(), Ordering::Relaxed);
        header.recording.store(1, Ordering::Relaxed);
        let mut session_file = SessionFile {
            directory: directory.to_owned(),
            path,
            file,
            session,
            blocks_ready: 0,
            directory_stays: false,
            budget_blocks: 0,
        };
        session_file.back_blocks(BLOCKS_AT_START)?;
        Ok(session_file)
    }

    /// The session.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The file, for the environment of the programs.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The session's own directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Blocks that have memory behind them.
    pub fn blocks_ready(&self) -> u32 {
        self.blocks_ready
    }

    /// Leaves the directory, and what else lies in it, when the session goes: programs that still run have the preload
    /// library's path in their environment, and the dynamic linker complains to their users if it is not there.
    pub fn leave_directory(&mut self) {
        self.directory_stays = true;
    }

    /// Gives its memory back, also what programs have mapped that go on without it: they find that nothing is recorded.
    pub fn give_memory_back(&self) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where the file system cannot, the memory goes with the last program that has it mapped.
        let _ = rustix::fs::fallocate(&self.file, flags, 0, self.session.layout().total_bytes() as u64);
    }

    /// Gives memory to more blocks if the pool is allowed to grow, `held` of those in use being held by threads that
    /// may be idle. Whether there is any way to have more.
    pub fn grow(&mut self, held: u32) -> bool {
        let allowed = self.budget_blocks.saturating_add(held).min(self.session.layout().block_count);
        let step = (self.blocks_ready / 2).min(allowed.saturating_sub(self.blocks_ready));
        // No memory for more is no reason to stop: programs then wait, or lose and count.
        step > 0 && self.back_blocks(step).is_ok() || held < self.blocks_ready
    }

    /// Gives memory to so many more blocks, as far as there are any, and puts them on the free list.
    ///
    /// # Errors
    /// When there is no memory for them; those there are stay in use.
    fn back_blocks(&mut self, count: u32) -> io::Result<()> {
        let layout = self.session.layout();
        let end = self.blocks_ready.saturating_add(count).min(layout.block_count);
        if end == self.blocks_ready {
            return Ok(());
        }
        let offset = |index: u32| (layout.blocks_offset() + index as usize * layout.block_bytes as usize) as u64;
        let (from, to) = (offset(self.blocks_ready), offset(end));
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), from, to - from)?;
        // The free list is last in, first out: hand out low indexes first.
        for index in (self.blocks_ready..end).rev() {
            if let Some(block) = self.session.block(index) {
                block.state.store(block_state::FREE, Ordering::Relaxed);
            }
            self.session.put_free_block(index);
        }
        self.blocks_ready = end;
        Ok(())
    }
}

impl Drop for SessionFile {
    fn drop(&mut self) {
        self.session.header().recording.store(0, Ordering::Relaxed);
        // Nothing can be done about files that do not go; the mapping lives on in the programs.
        let _ = std::fs::remove_file(&self.path);
        if !self.directory_stays {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// Where files in memory may lie, best first.
pub fn memory_directories() -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::from("/dev/shm")];
    directories.extend(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
    directories.push(std::env::temp_dir());
    directories.push(PathBuf::from("/var/tmp"));
    directories
}

/// The largest layout whose file the limit of file sizes allows; it counts for files in memory, too.
fn layout_within(budget_blocks: u32, limit: Option<u64>) -> io::Result<SessionLayout> {
    let blocks = budget_blocks.max(BLOCKS_MAX);
    let fits = |layout: &SessionLayout| limit.is_none_or(|limit| layout.total_bytes() as u64 <= limit);
    let smaller = std::iter::successors(Some((PROCESS_SLOTS, blocks)), |&(slots, blocks)| {
        (blocks > BLOCKS_MIN).then(|| ((slots / 2).max(PROCESS_SLOTS_MIN), (blocks / 2).max(BLOCKS_MIN)))
    });
    smaller
        .map(|(process_slots, block_count)| SessionLayout { process_slots, block_count, block_bytes: BLOCK_BYTES })
        .find(fits)
        .ok_or_else(|| {
            let limit = limit.unwrap_or(0);
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the limit of file sizes, {limit} bytes, leaves no room for buffers: raise it (ulimit -f)"),
            )
        })
}

fn random_name() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
