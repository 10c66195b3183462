//! What the kernel tells of a running process from outside it: its mappings, which pages are resident, the kernel's
//! own figures, its family; how to stop it so that all of these agree; and, by perf events, each touch of a page and each
//! system call about pages.
//!
//! Nothing here needs a privilege for processes of the same user that are not set-user-id programs; root is told more.
//! Raw system calls are in the files `sys.rs`.

pub mod error;

pub mod process_dir;

pub mod proc_maps;

pub mod residency;

mod cgroup;
pub mod figures;

pub mod frames;

pub mod stop;

pub mod perf;

pub mod seccomp;

pub mod snapshot;

pub mod process_tree;

pub mod recorder;

pub mod unwind;

pub mod build_id;

pub mod modules;

pub mod elf;

pub mod writes;

pub mod inject;

pub mod doctor;

mod sys;

pub use error::KernelError;
pub use process_dir::ProcessDir;
pub use residency::ResidencyScanner;
pub use snapshot::{SnapshotTaker, Taken};
pub use stop::Stopped;
