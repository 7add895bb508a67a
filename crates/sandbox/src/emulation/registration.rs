//! The host's own binfmt_misc: what is in it, and adding to it for those who want every program of the host to run foreign ones.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use onetag_oci::Platform;

use super::interpreters::{Emulator, Recall};
use super::machine::{self, Machine};
use super::{Emulation, How, PlatformSupport, interpreters, table};
use crate::error::{Error, Result};

/// Where systemd reads registrations at start.
const PERSISTENT_FOLDER: &str = "/etc/binfmt.d";

/// A platform, how it runs, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinfmtRow {
    /// The platform and how its programs run.
    pub support: PlatformSupport,
    /// The emulator, registered or found.
    pub interpreter: Option<PathBuf>,
    /// The emulator's version, as it says itself.
    pub version: Option<String>,
    /// The flags of its registration, such as `FPC`: the host's or, where it is private, ours.
    pub flags: Option<String>,
}

/// A registration that was made or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The platform.
    pub platform: Platform,
    /// The entry's name in binfmt_misc.
    pub name: String,
    /// The emulator; empty when an entry was removed.
    pub interpreter: PathBuf,
    /// The file that makes it again at the next start of the system, when that was asked for.
    pub persistent: Option<PathBuf>,
}

/// An entry of the host's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: String,
    pub enabled: bool,
    pub interpreter: PathBuf,
    pub flags: String,
    pub offset: usize,
    pub magic: Vec<u8>,
    pub mask: Vec<u8>,
}

impl Entry {
    /// Reads what the kernel says about an entry; `None` for one by file extension, or damaged.
    pub(crate) fn parse(name: &str, text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut entry = Self { name: name.to_owned(), enabled: lines.next()? == "enabled", ..Self::default() };
        for line in lines {
            match line.split_once(' ') {
                Some(("interpreter", path)) => entry.interpreter = path.into(),
                Some(("flags:", flags)) => flags.trim().clone_into(&mut entry.flags),
                Some(("offset", number)) => entry.offset = number.parse().ok()?,
                Some(("magic", hex)) => entry.magic = bytes(hex)?,
                Some(("mask", hex)) => entry.mask = bytes(hex)?,
                _ => {}
            }
        }
        if entry.mask.is_empty() {
            entry.mask = vec![0xff; entry.magic.len()];
        }
        (!entry.magic.is_empty() && entry.mask.len() == entry.magic.len()).then_some(entry)
    }

    /// Whether files that start like this are the entry's.
    pub(crate) fn matches(&self, file: &[u8]) -> bool {
        let Some(start) = self.offset.checked_add(self.magic.len()).and_then(|end| file.get(self.offset..end)) else {
            return false;
        };
        start.iter().zip(self.magic.iter().zip(&self.mask)).all(|(byte, (magic, mask))| byte & mask == magic & mask)
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.trim().as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 1024 {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The entries of a mounted table.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if name == "register" || name == "status" {
            continue;
        }
        entries.extend(fs::read_to_string(folder.join(&name)).ok().and_then(|text| Entry::parse(&name, &text)));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// One row for every platform, each tried now.
pub(crate) fn rows(emulation: &Emulation) -> Vec<BinfmtRow> {
    let registered = entries(Path::new(table::HOST_TABLE)).unwrap_or_default();
    let mut versions = std::collections::BTreeMap::new();
    let row = |support: PlatformSupport| {
        let machine = Machine::of(&support.platform);
        let program = machine.map(super::program::program).unwrap_or_default();
        let entry = registered.iter().find(|entry| entry.enabled && entry.matches(&program));
        let interpreter = match &support.how {
            How::Private { interpreter, .. } | How::HostHandler { interpreter: Some(interpreter) } => {
                Some(interpreter.clone())
            }
            _ => entry.map(|entry| entry.interpreter.clone()),
        };
        let mut version_of =
            |path: &PathBuf| versions.entry(path.clone()).or_insert_with(|| super::probe::version(path)).clone();
        let version = interpreter.as_ref().and_then(&mut version_of);
        let flags = match &support.how {
            How::Private { keeps_names, .. } => Some(table::flags(*keeps_names).to_owned()),
            _ => entry.map(|entry| entry.flags.clone()),
        };
        BinfmtRow { support, interpreter, version, flags }
    };
    emulation.platforms_tried().into_iter().map(row).collect()
}

/// Registers emulators for the whole host. Platforms that the processor runs itself are passed over.
pub(crate) fn install(emulation: &Emulation, platforms: &[Platform], persistent: bool) -> Result<Vec<Registered>> {
    let all = machine::all();
    let wanted = if platforms.is_empty() { &all } else { platforms };
    if persistent && !Path::new("/run/systemd/system").is_dir() {
        return Err(Error::Denied {
            what: "lasting registrations",
            cause: "systemd does not run here, and nothing else reads binfmt.d".to_owned(),
            hint: "onetag binfmt install (without --persistent) at each start of the system".to_owned(),
        });
    }
    let folder = host_table()?;
    let mut done: Vec<Registered> = Vec::new();
    for platform in wanted {
        let platform = platform.normalize();
        let Some(machine) = Machine::of(&platform).map(Machine::family) else {
            return Err(Error::Invalid(format!("no emulator for {platform} is known")));
        };
        let name = entry_name(machine);
        let by_processor = matches!(emulation.support(&platform).how, How::Native | How::Compatible);
        if by_processor || machine.is_hosts_own() || done.iter().any(|registered| registered.name == name) {
            continue;
        }
        let Some(mut emulator) = interpreters::find(emulation, machine, Recall::Refused) else {
            if platforms.is_empty() {
                continue;
            }
            return Err(Error::NoInterpreter {
                machine: machine.elf_name(),
                program: platform.to_string(),
                platform: Box::new(platform),
                hint: machine.hint(),
            });
        };
        let mut line = register(&folder, machine, &name, &emulator)?;
        if emulator.keeps_names && !super::probe::runs_directly(machine) {
            // Kernels without private tables do not show earlier that it is too old for that.
            emulator.keeps_names = false;
            line = register(&folder, machine, &name, &emulator)?;
        }
        let persistent = if persistent { Some(write_persistent(&name, &line)?) } else { None };
        done.push(Registered { platform, name, interpreter: emulator.path, persistent });
    }
    Ok(done)
}

/// Registers an emulator in place of what has the name, and gives the line that did it.
fn register(folder: &Path, machine: Machine, name: &str, emulator: &Emulator) -> Result<String> {
    let line = table::registration(machine, name, emulator)?;
    remove_entry(folder, name)?;
    fs::write(folder.join("register"), &line)
        .map_err(|error| Error::setup(format!("register {}", emulator.path.display()), error))?;
    Ok(line)
}

/// Removes what [`install`] made: the entries, and the files that make them again.
pub(crate) fn uninstall(platforms: &[Platform]) -> Result<Vec<Registered>> {
    let all = machine::all();
    let wanted = if platforms.is_empty() { &all } else { platforms };
    let folder = host_table()?;
    let mut done: Vec<Registered> = Vec::new();
    for platform in wanted {
        let Some(machine) = Machine::of(&platform.normalize()).map(Machine::family) else { continue };
        let name = entry_name(machine);
        let file = persistent_file(&name);
        let persistent = match fs::remove_file(&file) {
            Ok(()) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::setup(format!("remove {}", file.display()), error)),
        };
        if (remove_entry(&folder, &name)? || persistent.is_some()) && !done.iter().any(|known| known.name == name) {
            done.push(Registered { platform: platform.clone(), name, interpreter: PathBuf::new(), persistent });
        }
    }
    Ok(done)
}

/// The name by which emulators are commonly registered.
fn entry_name(machine: Machine) -> String {
    format!("qemu-{}", machine.qemu())
}

fn persistent_file(name: &str) -> PathBuf {
    Path::new(PERSISTENT_FOLDER).join(format!("onetag-{name}.conf"))
}

fn write_persistent(name: &str, line: &str) -> Result<PathBuf> {
    let path = persistent_file(name);
    fs::create_dir_all(PERSISTENT_FOLDER)
        .and_then(|()| fs::write(&path, format!("{line}\n")))
        .map_err(|error| Error::setup(format!("write {}", path.display()), error))?;
    Ok(path)
}

fn remove_entry(folder: &Path, name: &str) -> Result<bool> {
    let remove = || fs::File::options().write(true).open(folder.join(name))?.write_all(b"-1");
    match remove() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::setup(format!("remove {name} from the host's binfmt_misc"), error)),
    }
}

/// The host's table, mounted when it is not.
fn host_table() -> Result<PathBuf> {
    let folder = PathBuf::from(table::HOST_TABLE);
    if !rustix::process::geteuid().is_root() || crate::user_namespace::is_inside() {
        return Err(Error::Denied {
            what: "registering emulators for the whole host",
            cause: "only root may".to_owned(),
            hint: "sudo onetag binfmt install".to_owned(),
        });
    }
    if folder.join("register").exists() {
        return Ok(folder);
    }
    rustix::mount::mount("binfmt_misc", folder.as_path(), "binfmt_misc", rustix::mount::MountFlags::empty(), None)
        .map_err(|errno| Error::setup(format!("mount {}", folder.display()), errno))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: POCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn entries_are_read_and_matched() {
        let entry = Entry::parse("qemu-aarch64", ENTRY).unwrap();
        assert_eq!((entry.enabled, entry.flags.as_str(), entry.magic.len()), (true, "POCF", 20));
        for machine in machine::all().iter().filter_map(Machine::of) {
            assert_eq!(entry.matches(&super::super::program::program(machine)), machine == Machine::Arm64);
        }
        assert!(!entry.matches(b"\x7fELF"));
    }

    #[test]
    fn damaged_entries_are_none() {
        for text in [
            "",
            "enabled",
            "enabled\nextension .x\n",
            "enabled\nmagic 7",
            "enabled\nmagic zz",
            "enabled\noffset x\nmagic 7f",
            "enabled\nmagic 7f45\nmask ff",
        ] {
            assert_eq!(Entry::parse("x", text), None, "{text:?}");
        }
        let far = Entry::parse("x", "enabled\noffset 18446744073709551615\nmagic 7f").unwrap();
        assert!(!far.matches(&[0x7f; 64]));
    }
}
