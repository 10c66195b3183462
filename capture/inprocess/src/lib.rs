//! pagetrace
