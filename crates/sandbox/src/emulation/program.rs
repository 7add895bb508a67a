//! The smallest program of each machine type.
//!
//! It exits with 41 plus the number of its arguments, so an emulator that passes one argument too many or too few is found out.

use super::machine::Machine;

/// What the program exits with when it gets one argument, its name.
pub(crate) const SUCCESS: i32 = 42;
const BASE: u64 = 0x40_0000;

/// The instructions: load the number of arguments from the stack, add a number below 128, exit.
fn code(machine: Machine, addend: u8) -> Vec<u8> {
    let wide = u32::from(addend);
    let little = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    match machine {
        Machine::Amd64(level) => {
            let mut code: Vec<u8> = Vec::new();
            if level >= 2 {
                code.extend([0xf3, 0x0f, 0xb8, 0xc0]); // popcnt eax, eax
                code.extend([0x66, 0x0f, 0x38, 0x37, 0xc0]); // pcmpgtq xmm0, xmm0
            }
            if level >= 3 {
                code.extend([0xc5, 0xfd, 0xdb, 0xc0]); // vpand ymm0, ymm0, ymm0
                code.extend([0xc4, 0xe2, 0x79, 0xf7, 0xc0]); // shlx eax, eax, eax
            }
            if level >= 4 {
                code.extend([0x62, 0xf1, 0x7d, 0x48, 0xdb, 0xc0]); // vpandd zmm0, zmm0, zmm0
            }
            code.extend([0x8b, 0x3c, 0x24, 0x83, 0xc7, addend]); // mov edi, [rsp]; add edi, N
            code.extend([0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05]); // mov eax, 60; syscall
            code
        }
        // mov ebx, [esp]; add ebx, N; mov eax, 1; int 0x80
        Machine::I386 => vec![0x8b, 0x1c, 0x24, 0x83, 0xc3, addend, 0xb8, 1, 0, 0, 0, 0xcd, 0x80],
        // ldr x0, [sp]; add x0, x0, #N; mov x8, #93; svc #0
        Machine::Arm64 => little(&[0xf940_03e0, 0x9100_0000 | wide << 10, 0xd280_0ba8, 0xd400_0001]),
        Machine::Arm(level) => {
            let mut words = vec![0xe16f_1f11]; // clz r1, r1
            if level >= 6 {
                words.push(0xe6bf_1f31); // rev r1, r1
            }
            if level >= 7 {
                words.push(0xe300_1000); // movw r1, #0
            }
            // ldr r0, [sp]; add r0, r0, #N; mov r7, #1; svc #0
            words.extend([0xe59d_0000, 0xe280_0000 | wide, 0xe3a0_7001, 0xef00_0000]);
            little(&words)
        }
        // ld r3, 0(r1); addi r3, r3, N; li r0, 1; sc
        Machine::Ppc64Le => little(&[0xe861_0000, 0x3863_0000 | wide, 0x3800_0001, 0x4400_0002]),
        // lg %r2, 0(%r15); aghi %r2, N; svc 1
        Machine::S390x => vec![0xe3, 0x20, 0xf0, 0, 0, 0x04, 0xa7, 0x2b, 0, addend, 0x0a, 0x01],
        // ld a0, 0(sp); addi a0, a0, N; li a7, 93; ecall
        Machine::Riscv64 => little(&[0x0001_3503, 0x0005_0513 | wide << 20, 0x05d0_0893, 0x0000_0073]),
        // ld.d $a0, $sp, 0; addi.d $a0, $a0, N; addi.d $a7, $zero, 93; syscall 0
        Machine::Loong64 => little(&[0x28c0_0064, 0x02c0_0084 | wide << 10, 0x02c1_740b, 0x002b_0000]),
    }
}

/// The program.
pub(crate) fn program(machine: Machine) -> Vec<u8> {
    program_adding(machine, 41)
}

/// A program that exits with the number of its arguments and some more: one header, one segment.
pub(crate) fn program_adding(machine: Machine, addend: u8) -> Vec<u8> {
    let code = code(machine, addend);
    let wide = machine.is_wide();
    let number = |value: u64, length: usize| -> Vec<u8> {
        let bytes = value.to_le_bytes();
        let mut bytes = bytes[..length].to_vec();
        if machine.is_big_endian() {
            bytes.reverse();
        }
        bytes
    };
    let word = if wide { 8 } else { 4 };
    let header_length: u64 = if wide { 64 } else { 52 };
    let entry_length: u64 = if wide { 56 } else { 32 };
    let start = header_length + entry_length;
    let total = start + code.len() as u64;
    let flags = match machine {
        Machine::Arm(_) => 0x0500_0000, // EABI version 5
        Machine::Ppc64Le => 2,          // ELFv2
        Machine::Riscv64 => 4,          // double float ABI
        Machine::Loong64 => 0x43,
        _ => 0,
    };
    let mut file = machine.magic().0[..16].to_vec();
    for (value, length) in [
        (2, 2),
        (u64::from(machine.elf()), 2),
        (1, 4),
        (BASE + start, word),
        (header_length, word),
        (0, word),
        (flags, 4),
        (header_length, 2),
        (entry_length, 2),
        (1, 2),
        (0, 2),
        (0, 2),
        (0, 2),
    ] {
        file.extend(number(value, length));
    }
    // One segment, loaded whole: readable and executable.
    let segment: &[(u64, usize)] = if wide {
        &[(1, 4), (5, 4), (0, 8), (BASE, 8), (BASE, 8), (total, 8), (total, 8), (0x1_0000, 8)]
    } else {
        &[(1, 4), (0, 4), (BASE, 4), (BASE, 4), (total, 4), (total, 4), (5, 4), (0x1_0000, 4)]
    };
    for (value, length) in segment {
        file.extend(number(*value, *length));
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::super::machine;
    use super::*;

    #[test]
    fn every_program_is_an_elf_file_of_its_machine() {
        for machine in machine::all().iter().filter_map(Machine::of) {
            let program = program(machine);
            let header = onetag_oci::elf::Header::parse(&program).unwrap();
            assert_eq!((header.machine, header.class == 2), (machine.elf(), machine.is_wide()));
            let (magic, mask) = machine.magic();
            let matches =
                program.iter().zip(magic.iter().zip(mask)).all(|(byte, (magic, mask))| byte & mask == magic & mask);
            assert!(matches, "{machine:?} is recognised by its magic");
        }
    }
}
