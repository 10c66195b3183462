//! pagetrace-preload
