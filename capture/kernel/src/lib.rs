//! pagetrace-kernel
