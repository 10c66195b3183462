//! The mappings of an address space: what kind of memory each page is.

use pagetrace_format::FileId;

use super::range_map::RangeMap;

/// All mappings of an address space, in pages.
pub(crate) type Areas = RangeMap<Area>;

/// What a mapping is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AreaKind {
    /// Private memory without a file.
    Anonymous,
    /// A private mapping of a file: pages written to become anonymous copies.
    PrivateFile(FileId),
    /// Shared memory: never anonymous.
    Shared,
    /// A shared mapping of a file: never anonymous.
    SharedFile,
    /// What the kernel maps for itself, as the vdso: counted nowhere.
    Special,
}

/// A mapping without its place. Neighbours that are the same in all of this are one, as they are in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) kind: AreaKind,
    /// PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4.
    pub(crate) protection: u8,
    pub(crate) traits: Traits,
}

/// What madvise(2), mlock(2) and flags of mmap(2) have said of a mapping, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits(u8);

impl Traits {
    /// `MADV_DONTFORK`: a child does not get it.
    pub(crate) const NOT_FORKED: u8 = 1;
    /// `MADV_WIPEONFORK`: a child gets it empty.
    pub(crate) const WIPED_ON_FORK: u8 = 2;
    /// `MADV_HUGEPAGE`.
    pub(crate) const HUGE: u8 = 4;
    /// `MADV_NOHUGEPAGE`.
    pub(crate) const NOT_HUGE: u8 = 8;
    /// Locked into memory, so that what it grows by is resident at once.
    pub(crate) const LOCKED: u8 = 16;
    /// It grows downwards when it is touched below, as the main stack.
    pub(crate) const GROWS_DOWN: u8 = 32;
    /// No event told of it, but it was touched.
    pub(crate) const PRESUMED: u8 = 64;
    /// A private mapping of a file that was writable once: it stays apart from neighbours that never were (`VM_ACCOUNT`).
    pub(crate) const WAS_WRITABLE: u8 = 128;

    pub(crate) const fn of(bits: u8) -> Traits {
        Traits(bits)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    pub(crate) const fn with(self, bit: u8, on: bool) -> Traits {
        Traits(if on { self.0 | bit } else { self.0 & !bit })
    }
}

impl Area {
    pub(crate) const READ: u8 = 1;
    pub(crate) const WRITE: u8 = 2;
    pub(crate) const EXECUTE: u8 = 4;

    pub(crate) const fn allows(self, protection: u8) -> bool {
        self.protection & protection != 0
    }

    /// The same, with what follows from its protection.
    pub(crate) const fn accounted(self) -> Area {
        let writable = matches!(self.kind, AreaKind::PrivateFile(_)) && self.allows(Area::WRITE);
        let traits = if writable { self.traits.with(Traits::WAS_WRITABLE, true) } else { self.traits };
        Area { traits, ..self }
    }

    /// Whether it is of a file.
    pub(crate) const fn is_file(self) -> bool {
        matches!(self.kind, AreaKind::PrivateFile(_) | AreaKind::SharedFile)
    }

    /// Whether it can hold anonymous pages.
    pub(crate) const fn is_private(self) -> bool {
        matches!(self.kind, AreaKind::Anonymous | AreaKind::PrivateFile(_))
    }
}
