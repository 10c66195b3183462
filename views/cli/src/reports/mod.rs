//! What a trace says of a program's memory: the data, where they come from, and how they are told.

pub mod report_model;

pub mod from_replay;

mod from_page_events;

mod from_history;
mod from_tree;
mod from_writes;

pub mod text;

mod stack_text;

mod touch_text;

mod timeline_text;
mod tree_text;
mod unseen_text;
mod write_text;

mod dropped_text;

mod go_text;

mod from_go_heap;

mod go_heap_text;

mod go_lanes_text;

mod from_go_pages;

mod go_pages_text;

mod page_text;

mod account_text;

mod advice;
mod allocator_of;
mod give_back;

mod quantities;
mod sampling_text;

pub use from_go_heap::report_of_go_heap;
pub use from_page_events::{cause_of, frames_of as frames_of_touches};
pub use from_replay::report_of;
pub use from_writes::frames_of as frames_of_writes;
