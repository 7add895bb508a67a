//! The system call filter of confined processes: Docker's default profile, assembled by us.
//!
//! A process may make calls of its native architecture and of those that the processor runs beside it (386 on amd64, arm on arm64). A call of
//! any other architecture, or one newer than the profile, fails with "not implemented", so that programs fall back; a known call that is
//! not allowed fails with "not permitted". Nothing is killed.

mod assembler;
mod calls;
mod rules;

use crate::capabilities::CapabilitySet;

/// The architectures whose system calls have numbers of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    X86_64,
    X86,
    Aarch64,
    Arm,
    Powerpc64Le,
    S390x,
    Riscv64,
    Loongarch64,
}

impl Architecture {
    /// What the kernel calls it (`AUDIT_ARCH_*`).
    const fn audit(self) -> u32 {
        const WIDE: u32 = 0x8000_0000;
        const LITTLE: u32 = 0x4000_0000;
        match self {
            Self::X86_64 => 62 | WIDE | LITTLE,
            Self::X86 => 3 | LITTLE,
            Self::Aarch64 => 183 | WIDE | LITTLE,
            Self::Arm => 40 | LITTLE,
            Self::Powerpc64Le => 21 | WIDE | LITTLE,
            Self::S390x => 22 | WIDE,
            Self::Riscv64 => 243 | WIDE | LITTLE,
            Self::Loongarch64 => 258 | WIDE | LITTLE,
        }
    }

    /// Those that this program's host runs: its own first.
    fn of_this_host() -> &'static [Self] {
        if cfg!(target_arch = "x86_64") {
            &[Self::X86_64, Self::X86]
        } else if cfg!(target_arch = "aarch64") {
            &[Self::Aarch64, Self::Arm]
        } else if cfg!(target_arch = "x86") {
            &[Self::X86]
        } else if cfg!(target_arch = "arm") {
            &[Self::Arm]
        } else if cfg!(target_arch = "powerpc64") {
            &[Self::Powerpc64Le]
        } else if cfg!(target_arch = "s390x") {
            &[Self::S390x]
        } else if cfg!(target_arch = "loongarch64") {
            &[Self::Loongarch64]
        } else {
            &[Self::Riscv64]
        }
    }
}

/// The filter for a process that may have these capabilities, as instructions of classic BPF in the host's byte order. With `hand_over`, making
/// devices is left to whoever listens.
pub(crate) fn filter(capabilities: CapabilitySet, hand_over: bool) -> Vec<[u8; 8]> {
    assembler::assemble(Architecture::of_this_host(), capabilities, hand_over)
}

/// A call that makes devices, by where its path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceCall {
    /// `mknod`.
    Plain,
    /// `mknodat`.
    At,
}

/// Which of them a number of an architecture's (`AUDIT_ARCH_*`) is.
pub(crate) fn device_call(audit: u32, number: u32) -> Option<DeviceCall> {
    let column = calls::COLUMNS.iter().position(|architecture| architecture.audit() == audit)?;
    let is = |wanted: &str| {
        calls::CALLS.iter().any(|(_, name, numbers)| *name == wanted && u32::try_from(numbers[column]) == Ok(number))
    };
    match (is("mknod"), is("mknodat")) {
        (true, _) => Some(DeviceCall::Plain),
        (_, true) => Some(DeviceCall::At),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
