//! How to go from one frame to that which called it, in one word.
//!
//! ```text
//! 63          32 31              16 15            8 7     0
//! | CFA offset | slot of rbp, in 8 | where rbp is | kind   |
//! ```
//! The *CFA*, the canonical frame address of DWARF, is what the stack pointer was before the call; the return address
//! lies right below it. Of registers only the frame pointer is followed: no compiler bases a CFA on another at a call.

/// A rule, packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rule(pub u64);

/// What a rule says to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The CFA is the stack pointer plus the offset.
    FromStackPointer = 1,
    /// The CFA is the frame pointer plus the offset.
    FromFramePointer = 2,
    /// The CFA is the word at the frame pointer plus the offset: functions that align their stack.
    AtFramePointer = 3,
    /// The thread's first function: its return address is undefined.
    ThreadStart = 4,
    /// A signal's trampoline: the interrupted registers lie at the stack pointer.
    Signal = 5,
    /// Code of a loaded file that has no table: it may keep frame pointers.
    NoTable = 6,
    /// The same, in the dynamic linker.
    NoTableInLinker = 7,
    /// Code of no loaded file.
    Elsewhere = 8,
    /// There is a table, and it says something that is not followed here.
    Beyond = 9,
}

/// Where the caller's frame pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Saved {
    /// In the register still.
    InRegister = 0,
    /// In the stack, so many words from the CFA.
    FromCfa = 1,
    /// In the stack, so many words from where the frame pointer points.
    FromFramePointer = 2,
}

/// Where every function with a frame pointer has saved its caller's, counted from the CFA.
const FRAME_POINTER_WORDS: i16 = -2;

impl Rule {
    /// One without offsets.
    pub const fn plain(kind: Kind) -> Rule {
        Rule(kind as u64)
    }

    /// One that leads on: `cfa_offset` in bytes, `words` as `saved` says.
    pub const fn new(kind: Kind, cfa_offset: i32, saved: Saved, words: i16) -> Rule {
        Rule((cfa_offset as u32 as u64) << 32 | (words as u16 as u64) << 16 | (saved as u64) << 8 | kind as u64)
    }

    /// The rule of code that keeps frame pointers.
    pub const FRAME_POINTER: Rule = Rule::new(Kind::FromFramePointer, 16, Saved::FromCfa, FRAME_POINTER_WORDS);

    /// What to do.
    #[inline(always)]
    pub const fn kind(self) -> Kind {
        match self.0 as u8 {
            1 => Kind::FromStackPointer,
            2 => Kind::FromFramePointer,
            3 => Kind::AtFramePointer,
            4 => Kind::ThreadStart,
            5 => Kind::Signal,
            6 => Kind::NoTable,
            7 => Kind::NoTableInLinker,
            8 => Kind::Elsewhere,
            _ => Kind::Beyond,
        }
    }

    /// Whether the frame pointer is needed to follow it.
    #[inline(always)]
    pub const fn uses_frame_pointer(self) -> bool {
        match self.kind() {
            Kind::FromFramePointer | Kind::AtFramePointer | Kind::NoTable | Kind::NoTableInLinker | Kind::Elsewhere => {
                true
            }
            _ => matches!(self.saved(), Saved::FromFramePointer),
        }
    }

    /// Whether it is what a table says.
    #[inline(always)]
    pub const fn has_table(self) -> bool {
        !matches!(self.kind(), Kind::NoTable | Kind::NoTableInLinker | Kind::Elsewhere)
    }

    /// Added to the base of the CFA, in bytes.
    #[inline(always)]
    pub const fn cfa_offset(self) -> i64 {
        (self.0 >> 32) as i32 as i64
    }

    /// Where the caller's frame pointer is.
    #[inline(always)]
    pub const fn saved(self) -> Saved {
        match (self.0 >> 8) as u8 {
            0 => Saved::InRegister,
            1 => Saved::FromCfa,
            _ => Saved::FromFramePointer,
        }
    }

    /// From where [`Rule::saved`] counts, in bytes.
    #[inline(always)]
    pub const fn saved_offset(self) -> i64 {
        ((self.0 >> 16) as i16 as i64) * 8
    }
}

impl core::fmt::Debug for Rule {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}+{}, rbp {:?}{:+}", self.kind(), self.cfa_offset(), self.saved(), self.saved_offset())
    }
}
