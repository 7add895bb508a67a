//! As much of ELF as it takes to say what machine a file is for, which loader it wants and what it demands of the
//! processor. The bytes are untrusted: every position and length is checked, and what lies outside is not known.

mod level;
mod program;

pub use level::Level;
pub use program::{Kind, Loader, Program, Window};

/// The identification of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1: 32 bits, 2: 64 bits.
    pub class: u8,
    /// Whether numbers are little endian.
    pub little_endian: bool,
    /// The operating system's conventions (`EI_OSABI`); 0 says nothing.
    pub os_abi: u8,
    /// What the file is (`e_type`).
    pub kind: u16,
    /// The machine (`e_machine`).
    pub machine: u16,
    /// Flags that the machine type gives a meaning (`e_flags`); 0 where the bytes end before them.
    pub flags: u32,
}

/// Machine numbers (`e_machine`).
pub mod machine {
    /// SPARC.
    pub const SPARC: u16 = 2;
    /// Intel 80386.
    pub const I386: u16 = 3;
    /// MIPS.
    pub const MIPS: u16 = 8;
    /// PowerPC of 32 bits.
    pub const PPC: u16 = 20;
    /// PowerPC of 64 bits.
    pub const PPC64: u16 = 21;
    /// IBM S/390 and z/Architecture.
    pub const S390: u16 = 22;
    /// ARM of 32 bits.
    pub const ARM: u16 = 40;
    /// SPARC of 64 bits.
    pub const SPARC64: u16 = 43;
    /// x86-64, also with pointers of 32 bits.
    pub const X86_64: u16 = 62;
    /// ARM of 64 bits.
    pub const AARCH64: u16 = 183;
    /// RISC-V.
    pub const RISCV: u16 = 243;
    /// LoongArch.
    pub const LOONGARCH: u16 = 258;
}

/// `EF_MIPS_ABI2`: 64-bit MIPS with pointers of 32 bits.
const MIPS_ABI2: u32 = 0x20;

impl Header {
    /// Reads the header at the start of `bytes`, `None` when it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let identification = bytes.strip_prefix(b"\x7fELF")?;
        let (class, data) = (*identification.first()?, *identification.get(1)?);
        if !matches!(class, 1 | 2) || !matches!(data, 1 | 2) {
            return None;
        }
        let little_endian = data == 1;
        let read = |offset: usize, length: usize| number(bytes, offset, length, little_endian);
        let flags = read(if class == 2 { 48 } else { 36 }, 4).unwrap_or(0);
        Some(Self {
            class,
            little_endian,
            os_abi: *identification.get(3)?,
            kind: u16::try_from(read(16, 2)?).ok()?,
            machine: u16::try_from(read(18, 2)?).ok()?,
            flags: u32::try_from(flags).unwrap_or(0),
        })
    }

    /// Go's name of the architecture, as platforms have it; `None` for a machine type that has none.
    pub fn architecture(&self) -> Option<&'static str> {
        let half_wide = self.flags & MIPS_ABI2 != 0;
        Some(match (self.machine, self.class, self.little_endian) {
            (machine::X86_64, 2, true) => "amd64",
            (machine::X86_64, 1, true) => "amd64p32",
            (machine::I386, 1, true) => "386",
            (machine::AARCH64, 2, true) => "arm64",
            (machine::AARCH64, 2, false) => "arm64be",
            (machine::ARM, 1, true) => "arm",
            (machine::ARM, 1, false) => "armbe",
            (machine::PPC64, 2, true) => "ppc64le",
            (machine::PPC64, 2, false) => "ppc64",
            (machine::PPC, 1, false) => "ppc",
            (machine::S390, 2, false) => "s390x",
            (machine::S390, 1, false) => "s390",
            (machine::RISCV, 2, true) => "riscv64",
            (machine::RISCV, 1, true) => "riscv",
            (machine::LOONGARCH, 2, true) => "loong64",
            (machine::MIPS, 1, false) => {
                if half_wide {
                    "mips64p32"
                } else {
                    "mips"
                }
            }
            (machine::MIPS, 1, true) => {
                if half_wide {
                    "mips64p32le"
                } else {
                    "mipsle"
                }
            }
            (machine::MIPS, 2, false) => "mips64",
            (machine::MIPS, 2, true) => "mips64le",
            (machine::SPARC64, 2, false) => "sparc64",
            (machine::SPARC, 1, false) => "sparc",
            _ => return None,
        })
    }

    /// Go's name of the operating system, where the file names one. Most files for Linux name none.
    pub fn os(&self) -> Option<&'static str> {
        match self.os_abi {
            2 => Some("netbsd"),
            3 => Some("linux"),
            6 => Some("solaris"),
            9 => Some("freebsd"),
            12 => Some("openbsd"),
            _ => None,
        }
    }

    /// What messages call the machine, with its width and byte order where others of its kind differ.
    pub fn machine_name(&self) -> String {
        let name = machine_name(self.machine, self.class);
        match (self.machine, self.class, self.little_endian) {
            (machine::PPC64, _, true) | (machine::MIPS, _, true) => format!("{name} (little endian)"),
            (machine::PPC64, _, false) | (machine::MIPS, _, false) => format!("{name} (big endian)"),
            (machine::ARM | machine::AARCH64, _, false) => format!("{name} (big endian)"),
            (machine::X86_64, 1, _) => format!("{name} (x32)"),
            (machine::S390, 1, _) => format!("{name} (31 bits)"),
            _ => name,
        }
    }
}

/// An unsigned number of `length` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, length: usize, little_endian: bool) -> Option<u64> {
    let field = bytes.get(offset..offset.checked_add(length)?)?;
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    Some(if little_endian { field.iter().rev().fold(0, fold) } else { field.iter().fold(0, fold) })
}

/// The loader (`PT_INTERP`) of a program, of which `bytes` is the start.
pub fn loader(bytes: &[u8]) -> Option<String> {
    match Program::parse(&Window::start(bytes))?.loader {
        Loader::Path(path) => Some(path),
        Loader::None | Loader::Unknown => None,
    }
}

/// The name of a machine, as `readelf` and error messages have it.
pub fn machine_name(machine: u16, class: u8) -> String {
    let name = match machine {
        machine::SPARC | machine::SPARC64 => "SPARC",
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
mod tests;
