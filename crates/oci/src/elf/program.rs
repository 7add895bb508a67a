//! A program of which the beginning and perhaps the end are at hand: what it is, its loader, what it demands.

use super::level::{self, Level};
use super::{Header, number};

/// Program headers and section headers looked at; linkers write a few dozen.
const ENTRIES_MAX: usize = 1024;
/// Bytes of a loader's path or of a note section looked at.
const SEGMENT_MAX: u64 = 64 << 10;

const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const PT_NOTE: u64 = 4;
const PT_GNU_PROPERTY: u64 = 0x6474_e553;
const SHT_ARM_ATTRIBUTES: u64 = 0x7000_0003;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// The bytes of a file that are at hand: its beginning, and its end where that was kept.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    start: &'a [u8],
    end: &'a [u8],
    /// Where `end` begins in the file.
    end_offset: u64,
    /// Whether `start` is the whole file.
    is_whole: bool,
}

impl<'a> Window<'a> {
    /// The beginning alone; nothing is known of what follows.
    pub fn start(start: &'a [u8]) -> Self {
        Self { start, end: &[], end_offset: u64::MAX, is_whole: false }
    }

    /// The whole file.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { is_whole: true, ..Self::start(bytes) }
    }

    /// The beginning, and the last bytes, which begin at `end_offset`.
    pub fn ends(start: &'a [u8], end: &'a [u8], end_offset: u64) -> Self {
        Self { start, end, end_offset, is_whole: false }
    }

    fn get(&self, offset: u64, length: u64) -> Option<&'a [u8]> {
        let within = |bytes: &'a [u8], offset: u64| {
            let from = usize::try_from(offset).ok()?;
            bytes.get(from..from.checked_add(usize::try_from(length).ok()?)?)
        };
        within(self.start, offset).or_else(|| within(self.end, offset.checked_sub(self.end_offset)?))
    }
}

/// What an ELF file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object file, or a kernel module.
    Relocatable,
    /// A program at fixed addresses.
    Executable,
    /// A program at any address.
    PositionIndependent,
    /// A shared library.
    Library,
    /// A core dump or something unheard of.
    Other,
}

/// The loader that a program wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loader {
    /// None: it is static, or no program.
    None,
    /// The program at this path.
    Path(String),
    /// What names it is not at hand.
    Unknown,
}

/// An ELF file, as far as a platform has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its identification.
    pub header: Header,
    /// What it is.
    pub kind: Kind,
    /// Its loader.
    pub loader: Loader,
    /// The level of the instruction set that it says it needs; most files do not say.
    pub level: Option<Level>,
}

/// One program header.
struct Segment {
    kind: u64,
    offset: u64,
    size: u64,
}

impl Program {
    /// Reads what is at hand of a file, `None` when it is no ELF file.
    pub fn parse(window: &Window<'_>) -> Option<Self> {
        let header = Header::parse(window.start)?;
        let reader = Reader { header, window };
        let segments = reader.segments();
        let loader = reader.loader(segments.as_deref());
        let kind = match (header.kind, &loader) {
            (1, _) => Kind::Relocatable,
            (2, _) => Kind::Executable,
            (3, Loader::Path(_)) => Kind::PositionIndependent,
            (3, _) if reader.is_marked_program(segments.as_deref().unwrap_or_default()) => Kind::PositionIndependent,
            (3, _) => Kind::Library,
            _ => Kind::Other,
        };
        let level = match header.machine {
            super::machine::ARM => reader.arm_attributes().and_then(|bytes| level::of_arm(bytes, header.little_endian)),
            super::machine::X86_64 | super::machine::I386 => reader
                .notes(segments.as_deref().unwrap_or_default())
                .find_map(|notes| level::of_x86(notes, header.class)),
            _ => None,
        };
        Some(Self { header, kind, loader, level })
    }

    /// Whether it is meant to be started, not linked or loaded by others.
    pub fn is_program(&self) -> bool {
        matches!(self.kind, Kind::Executable | Kind::PositionIndependent)
    }
}

struct Reader<'w> {
    header: Header,
    window: &'w Window<'w>,
}

impl<'w> Reader<'w> {
    /// A number in the header: at `wide` in 64-bit files and `narrow` in others, of as many bytes.
    fn field(&self, wide: (u64, u64), narrow: (u64, u64)) -> Option<u64> {
        let (offset, length) = if self.header.class == 2 { wide } else { narrow };
        self.number(offset, length)
    }

    fn number(&self, offset: u64, length: u64) -> Option<u64> {
        let bytes = self.window.get(offset, length)?;
        number(bytes, 0, bytes.len(), self.header.little_endian)
    }

    /// `None` where the table is not at hand.
    fn segments(&self) -> Option<Vec<Segment>> {
        let wide = self.header.class == 2;
        let (table, entry) = (self.field((32, 8), (28, 4))?, self.field((54, 2), (42, 2))?);
        let count = self.field((56, 2), (44, 2))?.min(ENTRIES_MAX as u64);
        let segment = |index: u64| {
            let at = table.checked_add(entry.checked_mul(index)?)?;
            let (offset, size) = if wide { ((8, 8), (32, 8)) } else { ((4, 4), (16, 4)) };
            Some(Segment {
                kind: self.number(at, 4)?,
                offset: self.number(at.checked_add(offset.0)?, offset.1)?,
                size: self.number(at.checked_add(size.0)?, size.1)?,
            })
        };
        (0..count).map(segment).collect()
    }

    fn loader(&self, segments: Option<&[Segment]>) -> Loader {
        // A table that is cut off in a whole file is a damaged one, which the kernel does not execute either.
        let Some(segments) = segments else {
            return if self.window.is_whole { Loader::None } else { Loader::Unknown };
        };
        let Some(segment) = segments.iter().find(|segment| segment.kind == PT_INTERP) else { return Loader::None };
        match self.window.get(segment.offset, segment.size.min(SEGMENT_MAX)) {
            Some(name) => {
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                Loader::Path(String::from_utf8_lossy(name).into_owned())
            }
            None if self.window.is_whole => Loader::None,
            None => Loader::Unknown,
        }
    }

    /// Whether the dynamic section says that this is a position-independent program: static ones have no loader.
    fn is_marked_program(&self, segments: &[Segment]) -> bool {
        let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else { return false };
        let word = if self.header.class == 2 { 8 } else { 4 };
        let Some(bytes) = self.window.get(dynamic.offset, dynamic.size.min(SEGMENT_MAX)) else { return false };
        bytes.chunks_exact(2 * word).any(|entry| {
            let read = |offset| number(entry, offset, word, self.header.little_endian);
            read(0) == Some(DT_FLAGS_1) && read(word).is_some_and(|flags| flags & DF_1_PIE != 0)
        })
    }

    fn notes<'s>(&'s self, segments: &'s [Segment]) -> impl Iterator<Item = &'w [u8]> + 's {
        segments
            .iter()
            .filter(|segment| matches!(segment.kind, PT_NOTE | PT_GNU_PROPERTY))
            .filter_map(|segment| self.window.get(segment.offset, segment.size.min(SEGMENT_MAX)))
    }

    /// The section of build attributes, which stands near the end of the file, where the section table is.
    fn arm_attributes(&self) -> Option<&'w [u8]> {
        let wide = self.header.class == 2;
        let (table, entry) = (self.field((40, 8), (32, 4))?, self.field((58, 2), (46, 2))?);
        let count = self.field((60, 2), (48, 2))?.min(ENTRIES_MAX as u64);
        let (offset, size) = if wide { ((24, 8), (32, 8)) } else { ((16, 4), (20, 4)) };
        let section = |index: u64| {
            let at = table.checked_add(entry.checked_mul(index)?)?;
            if self.number(at.checked_add(4)?, 4)? != SHT_ARM_ATTRIBUTES {
                return None;
            }
            let offset = self.number(at.checked_add(offset.0)?, offset.1)?;
            let size = self.number(at.checked_add(size.0)?, size.1)?;
            self.window.get(offset, size.min(SEGMENT_MAX))
        };
        (0..count).find_map(section)
    }
}
