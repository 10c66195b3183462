//! The registers of a thread in user mode.

/// Registers of x86-64 by their DWARF numbers, and which of them are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRegisters {
    values: [u64; UserRegisters::COUNT],
    /// A bit for each that is known.
    known: u32,
}

impl UserRegisters {
    const COUNT: usize = 17;
    pub(super) const RBX: u16 = 3;
    pub(super) const RBP: u16 = 6;
    pub(super) const RSP: u16 = 7;
    pub(super) const RIP: u16 = 16;
    /// What a called function hands back as it was: rbx, rbp, r12 to r15.
    pub(super) const CALLEE_SAVED: [u16; 6] = [Self::RBX, Self::RBP, 12, 13, 14, 15];

    /// The registers to ask perf_event_open(2) for (`sample_regs_user`): numbers of asm/perf_regs.h as bits.
    pub const PERF_MASK: u64 = 0x00ff_01ff;
    /// DWARF numbers of the registers of the mask, in the order of their bits.
    const PERF_ORDER: [u16; Self::COUNT] = [0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15];

    /// From the values of a sample with [`UserRegisters::PERF_MASK`]; `None` where there are not as many as in it.
    #[must_use]
    pub fn from_perf(sampled: &[u64]) -> Option<UserRegisters> {
        let sampled: &[u64; Self::COUNT] = sampled.try_into().ok()?;
        let mut registers = UserRegisters { values: [0; Self::COUNT], known: 0 };
        for (&number, &value) in Self::PERF_ORDER.iter().zip(sampled) {
            registers.set(number, Some(value));
        }
        Some(registers)
    }

    /// With the instruction, stack and frame pointer alone.
    #[must_use]
    pub fn new(instruction: u64, stack_pointer: u64, frame_pointer: u64) -> UserRegisters {
        let mut registers = UserRegisters { values: [0; Self::COUNT], known: 0 };
        registers.set(Self::RIP, Some(instruction));
        registers.set(Self::RSP, Some(stack_pointer));
        registers.set(Self::RBP, Some(frame_pointer));
        registers
    }

    /// Address of the instruction that is executed.
    #[must_use]
    pub fn instruction(&self) -> u64 {
        self.values[usize::from(Self::RIP)]
    }

    /// The stack pointer.
    #[must_use]
    pub fn stack_pointer(&self) -> u64 {
        self.values[usize::from(Self::RSP)]
    }

    /// A register by its DWARF number, `None` where it is not known or there is no such.
    pub(super) fn get(&self, number: u16) -> Option<u64> {
        let value = *self.values.get(usize::from(number))?;
        (self.known >> number & 1 != 0).then_some(value)
    }

    /// Sets a register, or forgets it. Numbers that are none are passed over.
    pub(super) fn set(&mut self, number: u16, value: Option<u64>) {
        if let Some(place) = self.values.get_mut(usize::from(number)) {
            *place = value.unwrap_or(0);
            self.known = self.known & !(1 << number) | u32::from(value.is_some()) << number;
        }
    }

    /// Forgets what a called function need not hand back.
    pub(super) fn forget_scratch(&mut self) {
        const KEPT: u32 = 1 << 3 | 1 << 6 | 1 << 7 | 0xf << 12 | 1 << 16;
        self.known &= KEPT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_has_an_order_of_its_own() {
        // PERF_REG_X86_AX 0, BX 1, CX 2, DX 3, SI 4, DI 5, BP 6, SP 7, IP 8, R8 16 to R15 23.
        let sampled = [0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 18, 19, 20, 21, 22, 23];
        assert_eq!(sampled.iter().fold(0, |mask, bit| mask | 1 << bit), UserRegisters::PERF_MASK);
        let registers = UserRegisters::from_perf(&sampled).expect("as many as in the mask");
        assert_eq!((registers.instruction(), registers.stack_pointer()), (8, 7));
        assert_eq!((registers.get(3), registers.get(1), registers.get(6)), (Some(1), Some(3), Some(6)));
        assert_eq!((registers.get(8), registers.get(15), registers.get(17)), (Some(16), Some(23), None));
        assert_eq!(UserRegisters::from_perf(&sampled[1..]), None);
    }

    #[test]
    fn what_is_forgotten_is_not_known() {
        let mut registers = UserRegisters::from_perf(&[1; 17]).expect("as many as in the mask");
        registers.forget_scratch();
        let known: Vec<u16> = (0..17).filter(|&number| registers.get(number).is_some()).collect();
        assert_eq!(known, [3, 6, 7, 12, 13, 14, 15, 16]);
        registers.set(12, None);
        registers.set(99, Some(1));
        assert_eq!((registers.get(12), registers.get(99)), (None, None));
    }
}
