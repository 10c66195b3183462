//! pagetrace-replay
