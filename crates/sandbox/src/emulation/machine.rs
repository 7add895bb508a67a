//! The machine types that images are made for.

use onetag_oci::Platform;

use onetag_oci::elf;

/// A machine type, with the level of its instruction set where platforms tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Machine {
    /// x86-64, level 1 to 4.
    Amd64(u8),
    I386,
    Arm64,
    /// 32-bit ARM, version 5 to 7.
    Arm(u8),
    Ppc64Le,
    S390x,
    Riscv64,
    Loong64,
}

/// Every platform that is asked about, in the order that is shown.
pub(crate) fn all() -> Vec<Platform> {
    let plain = |architecture: &str| Platform::linux(architecture);
    let with = |architecture: &str, variant: &str| Platform::linux(architecture).with_variant(variant);
    let mut platforms = vec![
        plain("amd64"),
        with("amd64", "v2"),
        with("amd64", "v3"),
        with("amd64", "v4"),
        plain("386"),
        plain("arm64"),
        with("arm", "v7"),
        with("arm", "v6"),
        with("arm", "v5"),
        plain("ppc64le"),
        plain("s390x"),
        plain("riscv64"),
        plain("loong64"),
    ];
    let host = Platform::host().architecture;
    platforms.sort_by_key(|platform| platform.architecture != host);
    platforms
}

impl Machine {
    /// The machine of a platform, `None` for one that this sandbox does not know.
    pub(crate) fn of(platform: &Platform) -> Option<Self> {
        if platform.os != "linux" {
            return None;
        }
        let variant = platform.variant.as_deref();
        let level = |default: u8| match variant {
            None | Some("") => Some(default),
            Some(text) => text.strip_prefix('v').and_then(|number| number.parse().ok()),
        };
        match platform.architecture.as_str() {
            "amd64" => level(1).filter(|level| (1..=4).contains(level)).map(Self::Amd64),
            "386" => Some(Self::I386),
            "arm64" => Some(Self::Arm64),
            "arm" => level(7).map(|level| Self::Arm(level.clamp(5, 7))),
            "ppc64le" => Some(Self::Ppc64Le),
            "s390x" => Some(Self::S390x),
            "riscv64" => Some(Self::Riscv64),
            "loong64" => Some(Self::Loong64),
            _ => None,
        }
    }

    /// The least machine that an ELF header names.
    pub(crate) fn from_elf(machine: u16, class: u8) -> Option<Self> {
        Some(match (machine, class) {
            (elf::machine::X86_64, _) => Self::Amd64(1),
            (elf::machine::I386, _) => Self::I386,
            (elf::machine::AARCH64, _) => Self::Arm64,
            (elf::machine::ARM, _) => Self::Arm(7),
            (elf::machine::PPC64, 2) => Self::Ppc64Le,
            (elf::machine::S390, 2) => Self::S390x,
            (elf::machine::RISCV, 2) => Self::Riscv64,
            (elf::machine::LOONGARCH, 2) => Self::Loong64,
            _ => return None,
        })
    }

    /// The machine without its level.
    pub(crate) fn family(self) -> Self {
        match self {
            Self::Amd64(_) => Self::Amd64(1),
            Self::Arm(_) => Self::Arm(7),
            other => other,
        }
    }

    /// Go's name of the architecture.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::Amd64(_) => "amd64",
            Self::I386 => "386",
            Self::Arm64 => "arm64",
            Self::Arm(_) => "arm",
            Self::Ppc64Le => "ppc64le",
            Self::S390x => "s390x",
            Self::Riscv64 => "riscv64",
            Self::Loong64 => "loong64",
        }
    }

    /// QEMU's name of the architecture.
    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Self::Amd64(_) => "x86_64",
            Self::I386 => "i386",
            Self::Arm64 => "aarch64",
            Self::Arm(_) => "arm",
            Self::Ppc64Le => "ppc64le",
            Self::S390x => "s390x",
            Self::Riscv64 => "riscv64",
            Self::Loong64 => "loongarch64",
        }
    }

    /// `e_machine`.
    pub(crate) fn elf(self) -> u16 {
        match self {
            Self::Amd64(_) => elf::machine::X86_64,
            Self::I386 => elf::machine::I386,
            Self::Arm64 => elf::machine::AARCH64,
            Self::Arm(_) => elf::machine::ARM,
            Self::Ppc64Le => elf::machine::PPC64,
            Self::S390x => elf::machine::S390,
            Self::Riscv64 => elf::machine::RISCV,
            Self::Loong64 => elf::machine::LOONGARCH,
        }
    }

    /// Whether its ELF files have 64 bits.
    pub(crate) fn is_wide(self) -> bool {
        !matches!(self, Self::I386 | Self::Arm(_))
    }

    /// Whether its numbers are big endian.
    pub(crate) fn is_big_endian(self) -> bool {
        self == Self::S390x
    }

    /// The machine's name in messages.
    pub(crate) fn elf_name(self) -> String {
        elf::machine_name(self.elf(), if self.is_wide() { 2 } else { 1 })
    }

    /// Whether the host's processor is of this machine type.
    pub(crate) fn is_hosts_own(self) -> bool {
        self.architecture() == Platform::host().architecture
    }

    /// Whether every processor of the machine type has what it needs.
    pub(crate) fn is_least_level(self) -> bool {
        !matches!(self, Self::Amd64(2..) | Self::Arm(6..))
    }

    /// Whether processors like the host's often run this machine's programs too.
    pub(crate) fn may_be_compatible(self) -> bool {
        match self {
            Self::I386 => cfg!(target_arch = "x86_64"),
            Self::Arm(_) => cfg!(target_arch = "aarch64"),
            // The kernel may be 64-bit under a 32-bit build of this program.
            Self::Amd64(_) => cfg!(target_arch = "x86"),
            Self::Arm64 => cfg!(target_arch = "arm"),
            _ => false,
        }
    }

    /// What to type to get an emulator.
    pub(crate) fn hint(self) -> String {
        if self.is_hosts_own() {
            return "this processor lacks instructions of that level; choose a lower one with --platform".to_owned();
        }
        "install QEMU's user emulators (sudo apt-get install qemu-user-static, or: onetag binfmt install --from tonistiigi/binfmt)".to_owned()
    }

    /// What binfmt_misc compares the start of a file with, and which bits of it.
    pub(crate) fn magic(self) -> ([u8; 20], [u8; 20]) {
        let mut magic = [0; 20];
        magic[..7].copy_from_slice(&[
            0x7f,
            b'E',
            b'L',
            b'F',
            if self.is_wide() { 2 } else { 1 },
            if self.is_big_endian() { 2 } else { 1 },
            1,
        ]);
        let halves = |value: u16| if self.is_big_endian() { value.to_be_bytes() } else { value.to_le_bytes() };
        magic[16..18].copy_from_slice(&halves(2));
        magic[18..].copy_from_slice(&halves(self.elf()));
        let mut mask = [0xff; 20];
        // Any operating system ABI; executables (2) and position-independent ones (3).
        mask[7] = 0;
        mask[16..18].copy_from_slice(&halves(0xfffe));
        (magic, mask)
    }
}
