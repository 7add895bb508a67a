//! As much of ELF as it takes to say what machine a file is for and which loader it wants. The bytes are untrusted.

/// The identification of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// 1: 32 bits, 2: 64 bits.
    pub class: u8,
    /// Whether numbers are little endian.
    pub little_endian: bool,
    /// The machine (`e_machine`).
    pub machine: u16,
}

/// Machine numbers (`e_machine`).
pub(crate) mod machine {
    pub(crate) const I386: u16 = 3;
    pub(crate) const PPC: u16 = 20;
    pub(crate) const PPC64: u16 = 21;
    pub(crate) const S390: u16 = 22;
    pub(crate) const ARM: u16 = 40;
    pub(crate) const X86_64: u16 = 62;
    pub(crate) const AARCH64: u16 = 183;
    pub(crate) const RISCV: u16 = 243;
    pub(crate) const MIPS: u16 = 8;
    pub(crate) const LOONGARCH: u16 = 258;
}

impl Header {
    /// Reads the header at the start of `bytes`, `None` when it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let identification = bytes.strip_prefix(b"\x7fELF")?;
        let (class, data) = (*identification.first()?, *identification.get(1)?);
        if !matches!(class, 1 | 2) || !matches!(data, 1 | 2) {
            return None;
        }
        let little_endian = data == 1;
        let machine = number(bytes, 18, 2, little_endian)?;
        Some(Self { class, little_endian, machine: u16::try_from(machine).ok()? })
    }
}

/// An unsigned number of `length` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, length: usize, little_endian: bool) -> Option<u64> {
    let field = bytes.get(offset..offset.checked_add(length)?)?;
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    Some(if little_endian { field.iter().rev().fold(0, fold) } else { field.iter().fold(0, fold) })
}

/// The loader (`PT_INTERP`) of a program, of which `bytes` is the start.
pub(crate) fn loader(bytes: &[u8]) -> Option<String> {
    const INTERPRETER: u64 = 3;
    let header = Header::parse(bytes)?;
    let read = |offset: usize, length: usize| number(bytes, offset, length, header.little_endian);
    let wide = header.class == 2;
    let table = usize::try_from(if wide { read(32, 8)? } else { read(28, 4)? }).ok()?;
    let entry = usize::try_from(if wide { read(54, 2)? } else { read(42, 2)? }).ok()?;
    let count = usize::try_from(if wide { read(56, 2)? } else { read(44, 2)? }).ok()?;
    for index in 0..count.min(1024) {
        let at = table.checked_add(entry.checked_mul(index)?)?;
        if read(at, 4)? != INTERPRETER {
            continue;
        }
        let (offset, size) = if wide {
            (read(at.checked_add(8)?, 8)?, read(at.checked_add(32)?, 8)?)
        } else {
            (read(at.checked_add(4)?, 4)?, read(at.checked_add(16)?, 4)?)
        };
        let (offset, size) = (usize::try_from(offset).ok()?, usize::try_from(size).ok()?.min(4096));
        let name = bytes.get(offset..offset.checked_add(size)?)?;
        let name = name.split(|byte| *byte == 0).next()?;
        return Some(String::from_utf8_lossy(name).into_owned());
    }
    None
}

/// The name of a machine, as `readelf` and error messages have it.
pub(crate) fn machine_name(machine: u16, class: u8) -> String {
    let name = match machine {
        machine::I386 => "Intel 80386",
        machine::PPC => "PowerPC",
        machine::PPC64 => "PowerPC64",
        machine::S390 => "IBM S/390",
        machine::ARM => "ARM",
        machine::X86_64 => "x86-64",
        machine::AARCH64 => "AArch64",
        machine::MIPS => "MIPS",
        machine::LOONGARCH => "LoongArch",
        machine::RISCV if class == 1 => "RISC-V (32 bits)",
        machine::RISCV => "RISC-V",
        other => return format!("ELF machine {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(class in 0u8..4, data in 0u8..4, rest in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.extend([class, data]);
            bytes.extend(rest);
            let _ = (Header::parse(&bytes), loader(&bytes));
        }
    }

    #[test]
    fn our_own_program_is_read() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.class, if cfg!(target_pointer_width = "64") { 2 } else { 1 });
        assert_eq!(header.little_endian, cfg!(target_endian = "little"));
    }

    #[test]
    fn cut_and_damaged_files_are_passed_over() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        for length in (0..256).chain([1000, 4096]) {
            let _ = loader(&bytes[..length]);
        }
        let mut damaged = bytes[..4096].to_vec();
        for position in 0..64 {
            for value in [0, 0x7f, 0xff] {
                let before = std::mem::replace(&mut damaged[position], value);
                let _ = loader(&damaged);
                damaged[position] = before;
            }
        }
    }
}
