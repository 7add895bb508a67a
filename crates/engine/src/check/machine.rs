//! Whether a file suits a platform.

use onetag_oci::Platform;
use onetag_oci::elf::{Level, Program};

/// How a file suits a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is for this machine.
    Same,
    /// It is for an older machine that many processors of this kind run too.
    Compatible,
    /// It is for this machine, but needs more than the platform promises.
    TooNew(Level),
    /// It is for another machine or operating system.
    Foreign,
}

/// Machines and the older ones that their processors often run too.
const COMPATIBLE: [(&str, &str); 8] = [
    ("amd64", "386"),
    ("amd64", "amd64p32"),
    ("arm64", "arm"),
    ("s390x", "s390"),
    ("ppc64", "ppc"),
    ("mips64", "mips"),
    ("mips64le", "mipsle"),
    ("sparc64", "sparc"),
];

/// How a file suits a platform, which MUST be normalized.
pub(crate) fn fit(program: &Program, platform: &Platform) -> Fit {
    let Some(architecture) = program.header.architecture() else { return Fit::Foreign };
    if program.header.os().is_some_and(|os| os != platform.os && !(os == "linux" && platform.os == "android")) {
        return Fit::Foreign;
    }
    if architecture != platform.architecture {
        return match COMPATIBLE.contains(&(platform.architecture.as_str(), architecture)) {
            true => Fit::Compatible,
            false => Fit::Foreign,
        };
    }
    let promised = |default: u8| match platform.variant.as_deref() {
        None => Some(default),
        Some(variant) => variant.strip_prefix('v').unwrap_or(variant).split('.').next()?.parse().ok(),
    };
    let has = match program.level {
        Some(Level::X86(_)) if architecture == "amd64" => promised(1).map(Level::X86),
        Some(Level::Arm(_)) if architecture == "arm" => promised(7).map(Level::Arm),
        _ => None,
    };
    match (program.level, has) {
        (Some(needed), Some(has)) if needed > has => Fit::TooNew(needed),
        _ => Fit::Same,
    }
}

/// Whether a path says by itself that the file is for a machine: `usr/aarch64-linux-gnu/lib/…`, `bin/tool-arm64`.
/// Such files are there on purpose, as are QEMU's emulators.
pub(crate) fn names_machine(path: &str, architecture: Option<&str>) -> bool {
    let words: &[&str] = match architecture.unwrap_or_default() {
        "amd64" => &["amd64", "x86_64", "x86-64", "x64"],
        "386" => &["386", "i386", "i486", "i586", "i686", "x86"],
        "arm64" => &["arm64", "aarch64", "armv8"],
        "arm" => &["arm", "armhf", "armel", "armv5", "armv6", "armv7", "armv7l"],
        "ppc64le" => &["ppc64le", "powerpc64le", "ppc64el"],
        "ppc64" => &["ppc64", "powerpc64"],
        "s390x" => &["s390x"],
        "riscv64" => &["riscv64"],
        "loong64" => &["loong64", "loongarch64"],
        "mips64le" => &["mips64le", "mips64el"],
        "mipsle" => &["mipsle", "mipsel"],
        other => &[other],
    };
    let is_emulator = path.rsplit('/').next().is_some_and(|name| name.starts_with("qemu-"));
    let mut parts = path.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    // `x86_64` is a word, `linux_arm64` are two.
    let is_named = parts.any(|part| words.contains(&part) || part.split('_').any(|part| words.contains(&part)));
    let is_hyphenated = words.iter().any(|word| word.contains('-') && path.contains(word));
    is_emulator || is_named || is_hyphenated
}

#[cfg(test)]
mod tests {
    use onetag_oci::elf::{Header, Kind, Loader};

    use super::*;

    fn program(class: u8, little_endian: bool, machine: u16, level: Option<Level>) -> Program {
        let header = Header { class, little_endian, os_abi: 0, kind: 2, machine, flags: 0 };
        Program { header, kind: Kind::Executable, loader: Loader::None, level }
    }

    #[test]
    fn machine_width_order_and_level_decide() {
        let platform = |text: &str| text.parse::<Platform>().unwrap().normalize();
        let (amd64, arm) = ((2, true, 62), (1, true, 40));
        for ((class, little, machine), level, text, expected) in [
            (amd64, None, "linux/amd64", Fit::Same),
            (amd64, None, "linux/arm64", Fit::Foreign),
            ((1, true, 3), None, "linux/amd64", Fit::Compatible),
            (amd64, None, "linux/386", Fit::Foreign),
            (amd64, Some(Level::X86(1)), "linux/amd64", Fit::Same),
            (amd64, Some(Level::X86(3)), "linux/amd64", Fit::TooNew(Level::X86(3))),
            (amd64, Some(Level::X86(3)), "linux/amd64/v3", Fit::Same),
            (arm, Some(Level::Arm(7)), "linux/arm/v6", Fit::TooNew(Level::Arm(7))),
            (arm, Some(Level::Arm(6)), "linux/arm/v7", Fit::Same),
            (arm, Some(Level::Arm(7)), "linux/arm", Fit::Same),
            (arm, Some(Level::Arm(8)), "linux/arm64", Fit::Compatible),
            (arm, None, "linux/arm/v5", Fit::Same),
            ((2, false, 21), None, "linux/ppc64le", Fit::Foreign),
            ((2, true, 21), None, "linux/ppc64le", Fit::Same),
            ((1, false, 22), None, "linux/s390x", Fit::Compatible),
            ((2, false, 22), None, "linux/s390x", Fit::Same),
        ] {
            assert_eq!(fit(&program(class, little, machine, level), &platform(text)), expected, "{text} {machine}");
        }
        let mut freebsd = program(2, true, 62, None);
        freebsd.header.os_abi = 9;
        assert_eq!(fit(&freebsd, &platform("linux/amd64")), Fit::Foreign);
        assert_eq!(fit(&freebsd, &platform("freebsd/amd64")), Fit::Same);
    }

    #[test]
    fn paths_that_name_their_machine_are_recognised() {
        for (path, architecture) in [
            ("usr/aarch64-linux-gnu/lib/libc.so.6", "arm64"),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", "amd64"),
            ("opt/tool-linux_arm64", "arm64"),
            ("usr/bin/qemu-aarch64-static", "amd64"),
            ("dist/app.armv7", "arm"),
        ] {
            assert!(names_machine(path, Some(architecture)), "{path}");
        }
        for path in ["usr/bin/app", "usr/bin/farm", "usr/lib/aarch64-linux-gnu/libc.so.6"] {
            assert!(!names_machine(path, Some("amd64")), "{path}");
            assert!(!names_machine("usr/bin/farm", Some("arm")));
        }
    }
}
