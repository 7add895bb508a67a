use proptest::prelude::*;

use super::*;

/// A 64-bit little-endian program of x86-64 with these segments behind its header: type and content.
fn wide(kind: u16, machine: u16, segments: &[(u32, &[u8])]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(kind.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.resize(64, 0);
    file[32] = 64;
    file[54] = 56;
    file[56] = u8::try_from(segments.len()).unwrap();
    let mut offset = 64 + 56 * segments.len() as u64;
    for (kind, content) in segments {
        let mut header = kind.to_le_bytes().to_vec();
        header.resize(8, 0);
        header.extend(offset.to_le_bytes());
        header.resize(32, 0);
        header.extend((content.len() as u64).to_le_bytes());
        header.resize(56, 0);
        file.extend(header);
        offset += content.len() as u64;
    }
    segments.iter().for_each(|(_, content)| file.extend(*content));
    file
}

/// A 32-bit ARM program whose build attributes name an architecture.
fn arm(architecture: u8) -> Vec<u8> {
    let attributes = [b"\x05cortex\0\x06".as_slice(), &[architecture, 8, 1]].concat();
    let mut subsection = vec![1];
    subsection.extend((5 + attributes.len() as u32).to_le_bytes());
    subsection.extend(&attributes);
    let mut section = b"A".to_vec();
    section.extend((4 + 6 + subsection.len() as u32).to_le_bytes());
    section.extend(b"aeabi\0");
    section.extend(&subsection);
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x28\0".to_vec();
    file.resize(52, 0);
    let table = 52 + section.len() as u32;
    file[32..36].copy_from_slice(&table.to_le_bytes());
    file[46] = 40;
    file[48] = 1;
    file.extend(&section);
    let mut header = vec![0; 40];
    header[4..8].copy_from_slice(&0x7000_0003_u32.to_le_bytes());
    header[16..20].copy_from_slice(&52_u32.to_le_bytes());
    header[20..24].copy_from_slice(&(section.len() as u32).to_le_bytes());
    file.extend(header);
    file
}

fn property(bits: u32) -> Vec<u8> {
    let mut note = Vec::new();
    for number in [4, 32, 5] {
        note.extend(u32::to_le_bytes(number));
    }
    note.extend(b"GNU\0");
    // Another property comes first: shadow stacks.
    for number in [0xc000_0002, 4, 3, 0, 0xc000_8002, 4, bits, 0] {
        note.extend(u32::to_le_bytes(number));
    }
    note
}

fn whole(bytes: &[u8]) -> Program {
    Program::parse(&Window::whole(bytes)).unwrap()
}

#[test]
fn machines_have_the_names_of_platforms() {
    let named = |class: u8, data: u8, machine: u16| {
        let number = if data == 1 { machine.to_le_bytes() } else { machine.to_be_bytes() };
        let mut bytes = [b"\x7fELF".as_slice(), &[class, data, 1]].concat();
        bytes.resize(18, 0);
        bytes.extend(number);
        Header::parse(&bytes).unwrap().architecture()
    };
    for (class, data, machine, name) in [
        (2, 1, machine::X86_64, Some("amd64")),
        (1, 1, machine::X86_64, Some("amd64p32")),
        (1, 1, machine::I386, Some("386")),
        (2, 1, machine::AARCH64, Some("arm64")),
        (1, 1, machine::ARM, Some("arm")),
        (1, 2, machine::ARM, Some("armbe")),
        (2, 1, machine::PPC64, Some("ppc64le")),
        (2, 2, machine::PPC64, Some("ppc64")),
        (2, 2, machine::S390, Some("s390x")),
        (2, 1, machine::RISCV, Some("riscv64")),
        (1, 1, machine::RISCV, Some("riscv")),
        (2, 1, machine::LOONGARCH, Some("loong64")),
        (2, 1, machine::MIPS, Some("mips64le")),
        (1, 2, machine::MIPS, Some("mips")),
        (2, 2, machine::X86_64, None),
        (1, 1, 9999, None),
    ] {
        assert_eq!(named(class, data, machine), name, "{class} {data} {machine}");
    }
}

#[test]
fn programs_and_libraries_are_told_apart() {
    let interpreter: &[(u32, &[u8])] = &[(3, b"/lib64/ld-linux-x86-64.so.2\0")];
    let dynamic = whole(&wide(3, machine::X86_64, interpreter));
    assert_eq!(dynamic.kind, Kind::PositionIndependent);
    assert_eq!(dynamic.loader, Loader::Path("/lib64/ld-linux-x86-64.so.2".to_owned()));
    assert_eq!(whole(&wide(2, machine::X86_64, &[])).kind, Kind::Executable);
    assert_eq!(whole(&wide(1, machine::X86_64, &[])).kind, Kind::Relocatable);
    let mut flags = 0x6fff_fffb_u64.to_le_bytes().to_vec();
    flags.extend(0x0800_0001_u64.to_le_bytes());
    let static_pie = whole(&wide(3, machine::AARCH64, &[(2, &flags)]));
    assert_eq!((static_pie.kind, static_pie.loader), (Kind::PositionIndependent, Loader::None));
    assert_eq!(whole(&wide(3, machine::AARCH64, &[(2, &[0; 32])])).kind, Kind::Library);
}

#[test]
fn levels_are_read_where_files_name_them() {
    for (bits, level) in [(1, Some(1)), (3, Some(2)), (4, Some(3)), (0xf, Some(4)), (0, None)] {
        let note = property(bits);
        for kind in [4, 0x6474_e553] {
            let program = whole(&wide(2, machine::X86_64, &[(1, b""), (kind, &note)]));
            assert_eq!(program.level, level.map(Level::X86), "{bits}");
        }
        assert_eq!(whole(&wide(2, machine::AARCH64, &[(4, &note)])).level, None);
    }
    for (architecture, level) in [(1, Some(4)), (4, Some(5)), (6, Some(6)), (10, Some(7)), (14, Some(8)), (99, None)] {
        assert_eq!(whole(&arm(architecture)).level, level.map(Level::Arm), "{architecture}");
    }
}

#[test]
fn what_is_not_at_hand_is_not_known() {
    let file = wide(3, machine::X86_64, &[(3, b"/lib/ld.so\0")]);
    let cut = &file[..file.len() - 4];
    assert_eq!(Program::parse(&Window::start(cut)).unwrap().loader, Loader::Unknown);
    assert_eq!(Program::parse(&Window::whole(cut)).unwrap().loader, Loader::None);
    let ends = Window::ends(&file[..120], &file[100..], 100);
    assert_eq!(Program::parse(&ends).unwrap().loader, Loader::Path("/lib/ld.so".to_owned()));
    let file = arm(10);
    assert_eq!(Program::parse(&Window::start(&file[..52])).unwrap().level, None);
    assert_eq!(Program::parse(&Window::ends(&file[..52], &file[52..], 52)).unwrap().level, Some(Level::Arm(7)));
}

#[test]
fn our_own_program_is_read() {
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let program = whole(&bytes);
    assert_eq!(program.header.class, if cfg!(target_pointer_width = "64") { 2 } else { 1 });
    assert_eq!(program.header.little_endian, cfg!(target_endian = "little"));
    assert!(program.is_program());
    assert_eq!(program.header.architecture(), Some(crate::Platform::host().architecture.as_str()));
}

#[test]
fn cut_and_damaged_files_are_passed_over() {
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    for length in (0..256).chain([1000, 4096]) {
        let _ = loader(&bytes[..length]);
    }
    for original in [bytes[..4096].to_vec(), arm(10), wide(3, machine::X86_64, &[(4, &property(1))])] {
        let mut damaged = original;
        for position in 0..damaged.len().min(200) {
            for value in [0, 0x7f, 0xff] {
                let before = std::mem::replace(&mut damaged[position], value);
                let _ = (Program::parse(&Window::start(&damaged)), Program::parse(&Window::whole(&damaged)));
                damaged[position] = before;
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        class in 0u8..4,
        data in 0u8..4,
        machine in prop_oneof![Just(62_u16), Just(40), Just(3), any::<u16>()],
        rest in proptest::collection::vec(any::<u8>(), 0..400),
        split in 0usize..400,
    ) {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.extend([class, data]);
        bytes.resize(18, 0);
        bytes.extend(machine.to_le_bytes());
        bytes.extend(rest);
        let split = split.min(bytes.len());
        let ends = Window::ends(&bytes[..split], &bytes[split..], split as u64);
        let _ = (Program::parse(&ends), Program::parse(&Window::whole(&bytes)), loader(&bytes));
    }

    #[test]
    fn any_attributes_are_survived(section in proptest::collection::vec(any::<u8>(), 0..64), notes in proptest::collection::vec(0u8..9, 0..64)) {
        let _ = super::level::of_arm(&[b"A".as_slice(), &section].concat(), true);
        let _ = super::level::of_x86(&notes, 2);
    }
}
