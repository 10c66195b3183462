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

/// The rules of nearly all code in 13 bits: the CFA in words from the stack pointer, the caller's frame pointer in the
/// register still or saved close below the CFA; and [`Rule::FRAME_POINTER`].
///
/// ```text
/// 12        4 3    0
/// | CFA words | slot |   slot: 0 in the register, n that many words and one below the CFA
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortRule(pub u64);

impl ShortRule {
    /// How many bits it has. Never all zero.
    pub const BITS: u32 = 13;
    /// [`Rule::FRAME_POINTER`].
    pub const FRAME_POINTER: ShortRule = ShortRule(ShortRule::SLOT);
    const SLOT: u64 = 15;

    /// Where the CFA lies above the stack pointer, in words.
    #[inline(always)]
    pub const fn cfa_words(self) -> usize {
        (self.0 >> 4) as usize
    }

    /// The same at length.
    pub const fn expanded(self) -> Rule {
        let (words, slot) = (self.cfa_words() as i32, self.saved_slot() as i16);
        if self.0 == ShortRule::FRAME_POINTER.0 {
            Rule::FRAME_POINTER
        } else if slot == 0 {
            Rule::new(Kind::FromStackPointer, words * 8, Saved::InRegister, 0)
        } else {
            Rule::new(Kind::FromStackPointer, words * 8, Saved::FromCfa, -slot - 1)
        }
    }

    /// How many words and one below the CFA the caller's frame pointer is, but above the stack pointer; 0 where it is in
    /// the register still.
    #[inline(always)]
    pub const fn saved_slot(self) -> usize {
        (self.0 & ShortRule::SLOT) as usize
    }
}

impl Rule {
    /// The same in short. `None` where it does not fit.
    pub const fn shortened(self) -> Option<ShortRule> {
        if self.0 == Rule::FRAME_POINTER.0 {
            return Some(ShortRule::FRAME_POINTER);
        }
        let offset = self.cfa_offset();
        let words = offset / 8;
        if !matches!(self.kind(), Kind::FromStackPointer) || offset % 8 != 0 || words <= 0 || words >= 1 << 9 {
            return None;
        }
        let slot = match self.saved() {
            Saved::InRegister => 0,
            Saved::FromCfa => -(self.saved_offset() / 8) - 1,
            Saved::FromFramePointer => return None,
        };
        let fits = match self.saved() {
            Saved::InRegister => true,
            _ => slot >= 1 && slot < ShortRule::SLOT as i64 && slot < words,
        };
        if fits { Some(ShortRule((words as u64) << 4 | slot as u64)) } else { None }
    }
}

impl core::fmt::Debug for Rule {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}+{}, rbp {:?}{:+}", self.kind(), self.cfa_offset(), self.saved(), self.saved_offset())
    }
}
