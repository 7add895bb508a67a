//! What a file of an image is to the kernel that is to execute it.

use std::io::{self, Read, Seek, SeekFrom};

use onetag_oci::elf::{Program, Window};

/// Bytes at the beginning of a file that are looked at: headers, the loader's path, notes.
pub(crate) const START_MAX: usize = 64 << 10;
/// Bytes at the end: the section table, and the build attributes before it.
pub(crate) const END_MAX: usize = 64 << 10;
/// Bytes of a `#!` line that the kernel looks at.
const LINE_MAX: usize = 256;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing.
    Empty,
    /// A program or library.
    Elf(Box<Program>),
    /// A script with a `#!` line: the interpreter, and all that follows as one argument.
    Script { interpreter: String, argument: Option<String> },
    /// A WebAssembly module.
    Wasm,
    /// A program of Windows.
    Windows,
    /// Anything else.
    Other,
}

impl Content {
    /// Whether the end of the file matters too, given its first bytes.
    pub(crate) fn wants_end(start: &[u8]) -> bool {
        start.starts_with(b"\x7fELF")
    }

    /// Tells from the first bytes, and from the last where they are kept.
    pub(crate) fn of(window: &Window<'_>, start: &[u8]) -> Self {
        match start {
            [] => Self::Empty,
            [b'#', b'!', line @ ..] => Self::script(line),
            [0, b'a', b's', b'm', ..] => Self::Wasm,
            [b'M', b'Z', ..] => Self::Windows,
            _ => Program::parse(window).map_or(Self::Other, |program| Self::Elf(Box::new(program))),
        }
    }

    fn script(line: &[u8]) -> Self {
        let line = &line[..line.len().min(LINE_MAX - 2)];
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
        let (interpreter, argument) = line.split_at(end);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let argument = Some(text(argument.trim_ascii())).filter(|argument| !argument.is_empty());
        Self::Script { interpreter: text(interpreter), argument }
    }

    /// Reads as much of a file as it takes.
    pub(crate) fn read(file: &mut (impl Read + Seek)) -> io::Result<Self> {
        let mut start = Vec::new();
        file.by_ref().take(START_MAX as u64).read_to_end(&mut start)?;
        if start.len() < START_MAX {
            return Ok(Self::of(&Window::whole(&start), &start));
        }
        if !Self::wants_end(&start) {
            return Ok(Self::of(&Window::start(&start), &start));
        }
        let size = file.seek(SeekFrom::End(0))?;
        let from = size.saturating_sub(END_MAX as u64);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.take(END_MAX as u64).read_to_end(&mut end)?;
        Ok(Self::of(&Window::ends(&start, &end, from), &start))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn script(text: &str) -> (String, Option<String>) {
        match Content::read(&mut Cursor::new(text.as_bytes())).unwrap() {
            Content::Script { interpreter, argument } => (interpreter, argument),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_line_of_a_script_is_read_as_the_kernel_reads_it() {
        assert_eq!(script("#!/bin/sh\necho"), ("/bin/sh".to_owned(), None));
        assert_eq!(script("#! /bin/sh -e x \n"), ("/bin/sh".to_owned(), Some("-e x".to_owned())));
        assert_eq!(script("#!/usr/bin/env\tpython3"), ("/usr/bin/env".to_owned(), Some("python3".to_owned())));
        assert_eq!(script("#!/bin/sh\r\n"), ("/bin/sh".to_owned(), None));
        assert_eq!(script("#!").0, "");
        assert_eq!(script(&format!("#!/{}", "x".repeat(999))).0.len(), 254);
    }

    #[test]
    fn files_are_told_by_their_first_bytes() {
        for (bytes, content) in [
            (&b""[..], Content::Empty),
            (b"\0asm\x01\0\0\0", Content::Wasm),
            (b"MZ\x90", Content::Windows),
            (b"\x7fELF", Content::Other),
            (b"text", Content::Other),
        ] {
            assert_eq!(Content::read(&mut Cursor::new(bytes)).unwrap(), content);
        }
        let own = Content::read(&mut std::fs::File::open("/proc/self/exe").unwrap()).unwrap();
        assert!(matches!(own, Content::Elf(program) if program.is_program()));
    }
}
