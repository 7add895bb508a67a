//! Classic BPF for seccomp: a search tree over call numbers for each architecture.

use super::Architecture;
use super::rules::{Action, segments};
use crate::capabilities::CapabilitySet;

/// One instruction: operation, two jump distances, a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub code: u16,
    pub if_true: u8,
    pub if_false: u8,
    pub constant: u32,
}

pub(super) const LOAD: u16 = 0x20;
pub(super) const RETURN: u16 = 0x06;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_NOT_BELOW: u16 = 0x35;
pub(super) const JUMP_ANY_BIT: u16 = 0x45;

pub(super) const AND: u16 = 0x54;

pub(super) const HAND_OVER: u32 = 0x7fc0_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const FAIL: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// x32 calls share amd64's architecture and carry this bit.
const X32_BIT: u32 = 0x4000_0000;

/// The offset of the lower half of an argument: every argument the filter looks at is a C `int`.
pub(super) const fn argument(index: u8) -> u32 {
    ARGUMENTS + 8 * index as u32 + if cfg!(target_endian = "big") { 4 } else { 0 }
}

const fn plain(code: u16, constant: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, constant }
}

const fn fail(errno: i32) -> Instruction {
    plain(RETURN, FAIL | errno.cast_unsigned())
}

/// The filter for processes of these architectures.
pub(super) fn program(
    architectures: &[Architecture],
    capabilities: CapabilitySet,
    hand_over: bool,
) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for architecture in architectures {
        let mut body = vec![plain(LOAD, NUMBER)];
        if *architecture == Architecture::X86_64 {
            body.push(Instruction { code: JUMP_NOT_BELOW, if_true: 0, if_false: 1, constant: X32_BIT });
            body.push(fail(libc::ENOSYS));
        }
        body.extend(tree(&segments(*architecture, capabilities, hand_over)));
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        program.push(Instruction { code: JUMP_EQUAL, if_true: 1, if_false: 0, constant: architecture.audit() });
        program.push(plain(JUMP, length));
        program.extend(body);
    }
    program.push(fail(libc::ENOSYS));
    program
}

/// The same, as the kernel takes it.
pub(super) fn assemble(architectures: &[Architecture], capabilities: CapabilitySet, hand_over: bool) -> Vec<[u8; 8]> {
    program(architectures, capabilities, hand_over)
        .into_iter()
        .map(|instruction| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
            bytes[2] = instruction.if_true;
            bytes[3] = instruction.if_false;
            bytes[4..].copy_from_slice(&instruction.constant.to_ne_bytes());
            bytes
        })
        .collect()
}

/// Code that finds the segment which holds the loaded number and ends the filter.
fn tree(segments: &[(u32, Action)]) -> Vec<Instruction> {
    match segments {
        [] => vec![fail(libc::EPERM)],
        [(_, action)] => leaf(*action),
        _ => {
            let (lower, upper) = segments.split_at(segments.len() / 2);
            let lower_code = tree(lower);
            let pivot = upper[0].0;
            let mut code = Vec::new();
            match u8::try_from(lower_code.len()) {
                Ok(length) => {
                    code.push(Instruction { code: JUMP_NOT_BELOW, if_true: length, if_false: 0, constant: pivot });
                }
                Err(_) => {
                    code.push(Instruction { code: JUMP_NOT_BELOW, if_true: 0, if_false: 1, constant: pivot });
                    code.push(plain(JUMP, u32::try_from(lower_code.len()).unwrap_or(u32::MAX)));
                }
            }
            code.extend(lower_code);
            code.extend(tree(upper));
            code
        }
    }
}

fn leaf(action: Action) -> Vec<Instruction> {
    let choice = |values: &[u32], found: Instruction, otherwise: Instruction| {
        let mut code = vec![plain(LOAD, argument(0))];
        for (index, value) in values.iter().enumerate() {
            let distance = u8::try_from(values.len() - index).unwrap_or(u8::MAX);
            code.push(Instruction { code: JUMP_EQUAL, if_true: distance, if_false: 0, constant: *value });
        }
        code.extend([otherwise, found]);
        code
    };
    match action {
        Action::Allow => vec![plain(RETURN, ALLOW)],
        Action::Deny => vec![fail(libc::EPERM)],
        Action::Missing => vec![fail(libc::ENOSYS)],
        Action::WithoutBits { argument: index, bits } => vec![
            plain(LOAD, argument(index)),
            Instruction { code: JUMP_ANY_BIT, if_true: 0, if_false: 1, constant: bits },
            fail(libc::EPERM),
            plain(RETURN, ALLOW),
        ],
        Action::HandOverDevices { mode } => vec![
            plain(LOAD, argument(mode)),
            plain(AND, 0xf000),
            Instruction { code: JUMP_EQUAL, if_true: 2, if_false: 0, constant: 0x2000 },
            Instruction { code: JUMP_EQUAL, if_true: 1, if_false: 0, constant: 0x6000 },
            plain(RETURN, ALLOW),
            plain(RETURN, HAND_OVER),
        ],
        Action::OneOf(values) => choice(values, plain(RETURN, ALLOW), fail(libc::EPERM)),
        Action::NoneOf(values) => choice(values, fail(libc::EPERM), plain(RETURN, ALLOW)),
    }
}
