//! The filter as the kernel's packet filter wants it (bpf(4), seccomp(2)): which calls wait for the supervisor.

use libc::sock_filter;

use crate::perf::page_call_numbers;

/// `AUDIT_ARCH_X86_64` of linux/audit.h.
const X86_64: u32 = 0xc000_003e;
/// Places in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Calls of 64-bit programs about pages, and exec, which makes another address space. Others go on at once; so do all of 32-bit
/// programs.
pub fn program() -> Vec<sock_filter> {
    let numbers: Vec<u32> = notified().collect();
    let tests = numbers.len() as u8;
    let statement = |code: u16, k: u32| sock_filter { code, jt: 0, jf: 0, k };
    let jump = |k: u32, jt: u8, jf: u8| sock_filter { code: JUMP_IF_EQUAL, jt, jf, k };
    // load architecture · not x86-64: to "allow" · load number · a test for each call: to "notify" · allow · notify
    let mut program = vec![statement(LOAD, ARCHITECTURE), jump(X86_64, 0, tests + 1), statement(LOAD, NUMBER)];
    program.extend((0..tests).zip(&numbers).map(|(place, &number)| jump(number, tests - place, 0)));
    program.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    program.push(statement(RETURN, libc::SECCOMP_RET_USER_NOTIF));
    program
}

fn notified() -> impl Iterator<Item = u32> {
    let execs = [libc::SYS_execve, libc::SYS_execveat];
    page_call_numbers().chain(execs).filter_map(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do.
    fn run(architecture: u32, number: u32) -> u32 {
        let program = program();
        let (mut place, mut loaded) = (0, 0);
        loop {
            let step = program[place];
            place += 1;
            match step.code {
                LOAD => loaded = if step.k == NUMBER { number } else { architecture },
                JUMP_IF_EQUAL => place += usize::from(if loaded == step.k { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn calls_about_pages_wait_and_no_others() {
        const I386: u32 = 0x4000_0003;
        let mut waiting: Vec<i64> =
            (0..600).filter(|&it| run(X86_64, it) == libc::SECCOMP_RET_USER_NOTIF).map(i64::from).collect();
        let mut expected: Vec<i64> = page_call_numbers().chain([libc::SYS_execve, libc::SYS_execveat]).collect();
        waiting.sort_unstable();
        expected.sort_unstable();
        assert_eq!(waiting, expected);
        assert!(expected.contains(&libc::SYS_mmap) && !expected.contains(&libc::SYS_read));
        assert!((0..600).all(|number| run(I386, number) == libc::SECCOMP_RET_ALLOW));
    }
}
