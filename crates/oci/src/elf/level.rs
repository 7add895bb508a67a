//! The level of an instruction set that a file says it needs.
//!
//! x86-64: the property `GNU_PROPERTY_X86_ISA_1_NEEDED` (x86-64 psABI, "Program Property"), which loaders enforce.
//! ARM: the build attribute `Tag_CPU_arch` (Addenda to the ABI for the Arm Architecture, "Build Attributes").
//! AArch64 and the others have nothing of the kind.

use super::number;

/// A level of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// x86-64-v1 to v4.
    X86(u8),
    /// The version of the ARM architecture, 4 to 8.
    Arm(u8),
}

impl Level {
    /// As variants of platforms name it: `v3`.
    pub fn variant(self) -> String {
        let (Self::X86(number) | Self::Arm(number)) = self;
        format!("v{number}")
    }
}

const NT_GNU_PROPERTY_TYPE_0: u64 = 5;
const X86_ISA_1_NEEDED: u64 = 0xc000_8002;

/// The level among the notes of an x86 file, if one of them tells.
pub(super) fn of_x86(mut notes: &[u8], class: u8) -> Option<Level> {
    let align = if class == 2 { 8 } else { 4 };
    let padded = |length: usize, align: usize| length.checked_next_multiple_of(align);
    while notes.len() >= 12 {
        let read = |offset| number(notes, offset, 4, true).and_then(|value| usize::try_from(value).ok());
        let (name_size, size, kind) = (read(0)?, read(4)?, number(notes, 8, 4, true)?);
        let from = 12_usize.checked_add(padded(name_size, 4)?)?;
        let content = notes.get(from..from.checked_add(size)?)?;
        if kind == NT_GNU_PROPERTY_TYPE_0 && notes.get(12..16) == Some(b"GNU\0") {
            return property(content, align).and_then(x86_level);
        }
        notes = notes.get(padded(from.checked_add(size)?, align)?..)?;
    }
    None
}

/// The bits of the property among the content of a note.
fn property(mut properties: &[u8], align: usize) -> Option<u64> {
    while properties.len() >= 8 {
        let size = usize::try_from(number(properties, 4, 4, true)?).ok()?;
        if number(properties, 0, 4, true)? == X86_ISA_1_NEEDED {
            return number(properties, 8, size.min(4), true);
        }
        properties = properties.get(8_usize.checked_add(size.checked_next_multiple_of(align)?)?..)?;
    }
    None
}

fn x86_level(bits: u64) -> Option<Level> {
    (1..=4).rev().find(|level| bits & 1 << (level - 1) != 0).map(Level::X86)
}

/// The architecture's version in a section of build attributes.
pub(super) fn of_arm(section: &[u8], little_endian: bool) -> Option<Level> {
    let mut rest = section.strip_prefix(b"A")?;
    while rest.len() > 4 {
        let length = usize::try_from(number(rest, 0, 4, little_endian)?).ok()?;
        let vendor = rest.get(4..length)?;
        if let Some(subsections) = vendor.strip_prefix(b"aeabi\0") {
            return file_attributes(subsections, little_endian).and_then(arm_architecture).map(arm_level)?;
        }
        rest = rest.get(length..)?;
    }
    None
}

/// The attributes that hold for the whole file.
fn file_attributes(mut rest: &[u8], little_endian: bool) -> Option<&[u8]> {
    const TAG_FILE: u8 = 1;
    while rest.len() > 5 {
        let length = usize::try_from(number(rest, 1, 4, little_endian)?).ok()?;
        let content = rest.get(5..length)?;
        if rest[0] == TAG_FILE {
            return Some(content);
        }
        rest = rest.get(length..)?;
    }
    None
}

/// The value of `Tag_CPU_arch`.
fn arm_architecture(mut attributes: &[u8]) -> Option<u64> {
    const CPU_ARCH: u64 = 6;
    const COMPATIBILITY: u64 = 32;
    while !attributes.is_empty() {
        let tag = uleb(&mut attributes)?;
        if tag == CPU_ARCH {
            return uleb(&mut attributes);
        }
        // The names of the CPU, and odd tags above 32, are texts.
        let is_text = matches!(tag, 4 | 5) || tag > COMPATIBILITY && tag % 2 == 1;
        if !is_text {
            uleb(&mut attributes)?;
        }
        if is_text || tag == COMPATIBILITY {
            let end = attributes.iter().position(|byte| *byte == 0)?;
            attributes = &attributes[end + 1..];
        }
    }
    None
}

fn arm_level(architecture: u64) -> Option<Level> {
    Some(Level::Arm(match architecture {
        0..=2 => 4,
        3..=5 => 5,
        6..=9 | 11 | 12 => 6,
        10 | 13 => 7,
        14 | 15 | 22 => 8,
        _ => return None,
    }))
}

/// A number in LEB128, taken from the front.
fn uleb(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
