//! Records real programs as a user does, and holds the reports against what the programs say of themselves.

mod harness;

mod random;

mod advice;

mod bounds;

mod agreement;

mod independent_counts;

mod allocators;

mod classes;

mod processes;

mod trees;

mod unseen;

mod sampling;

mod statuses;

mod killed;

mod recorder_killed;

mod places;
mod plateau;

mod failing_writes;

mod dense_times;
mod stacks;

mod namespaces;

mod pipes;

mod denied;

mod other_rights;

mod kernel_events;

mod call_sources;

mod writes;

mod attach;

mod attach_leaves;

mod attach_programs;

mod attach_writes;

mod idle;

mod symbols;
