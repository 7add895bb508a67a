//! Which emulators are found, what is executed for it, and what is remembered.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::program::program_adding;
use super::*;

/// Records in memory.
#[derive(Debug, Default)]
struct Kept(Mutex<BTreeMap<String, Vec<u8>>>);

impl ProbeMemory for Kept {
    fn recall(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(key).cloned()
    }

    fn keep(&self, key: &str, record: &[u8]) {
        self.0.lock().unwrap().insert(key.to_owned(), record.to_owned());
    }
}

impl Kept {
    /// Its only record, changed.
    fn change(&self, change: impl Fn(&str) -> String) {
        let mut records = self.0.lock().unwrap();
        assert_eq!(records.len(), 1, "{records:?}");
        for record in records.values_mut() {
            *record = change(std::str::from_utf8(record).unwrap()).into_bytes();
        }
    }
}

const FOREIGN: Machine = if cfg!(target_arch = "s390x") { Machine::Riscv64 } else { Machine::S390x };

fn own_machine() -> Machine {
    machine::all().iter().filter_map(Machine::of).find(|machine| machine.is_hosts_own()).unwrap()
}

/// An emulator that executes nothing and ends as if it had, when it is called with so many arguments, its own name among them.
fn stand_in(folder: &Path, arguments: u8) -> PathBuf {
    let path = folder.join(format!("qemu-{}", FOREIGN.qemu()));
    fs::write(&path, program_adding(own_machine(), 42 - arguments)).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// Looks for the emulators of a folder, with no other.
fn look(folder: &Path, memory: &Arc<Kept>) -> Emulation {
    Emulation::new(SandboxOptions {
        interpreter_folders: vec![folder.to_owned()],
        emulator: EmulatorChoice::Private,
        probe_memory: Some(memory.clone()),
        ..SandboxOptions::default()
    })
}

/// Whether one that works was found, and whether something was executed for it.
fn found(folder: &Path, memory: &Arc<Kept>) -> (bool, bool) {
    let emulation = look(folder, memory);
    let works = matches!(emulation.how(FOREIGN), How::Private { .. });
    let has_tried = emulation.trial.lock().unwrap().is_some();
    (works, has_tried)
}

fn has_tables() -> bool {
    let has = table::is_available() && PrivateTable::create(&OnceLock::new()).is_ok();
    assert!(has || std::env::var_os("ONETAG_REQUIRE").is_none(), "no private binfmt_misc here");
    if !has {
        eprintln!("skipped: no private binfmt_misc here");
    }
    has
}

/// With P the kernel hands over the emulator's name, the program's path and the program's own name; without P the first two.
#[test]
fn an_emulator_that_cannot_be_told_names_is_registered_otherwise() {
    if !has_tables() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (arguments, keeps_names) in [(3, Some(true)), (2, Some(false)), (4, None), (1, None)] {
        let interpreter = stand_in(folder.path(), arguments);
        let how = look(folder.path(), &Arc::default()).how(FOREIGN);
        match keeps_names {
            Some(keeps_names) => assert_eq!(how, How::Private { interpreter, keeps_names }),
            None => assert!(matches!(how, How::Unsupported { .. }), "{how:?}"),
        }
    }
}

#[test]
fn a_verdict_is_kept_and_counts_for_this_very_emulator_alone() {
    if !has_tables() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let memory = Arc::<Kept>::default();
    let path = stand_in(folder, 2);
    assert_eq!(found(folder, &memory), (true, true));
    assert_eq!(found(folder, &memory), (true, false));
    let emulation = look(folder, &memory);
    assert!(matches!(emulation.how(FOREIGN), How::Private { keeps_names: false, .. }));
    // A damaged record, and one of another start of the kernel.
    for change in [
        (|record| record[..record.len() / 2].to_owned()) as fn(&str) -> String,
        |_| String::new(),
        |record| format!("{record}\n"),
        |record| record.replace("boot ", "boot 0"),
        |record| record.replace("user ", "user 1"),
        |record| record.replace("without names", "not at all"),
    ] {
        memory.change(change);
        assert_eq!(found(folder, &memory), (true, true));
        assert_eq!(found(folder, &memory), (true, false));
    }
    // Another content of the same length, with the times of the one before, in the same file and in its place.
    let before = fs::metadata(&path).unwrap();
    let restore = |path: &Path| {
        let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
        File::options().write(true).open(path).unwrap().set_times(times).unwrap();
    };
    stand_in(folder, 4);
    restore(&path);
    assert_eq!(found(folder, &memory), (false, true));
    let aside = tempfile::tempdir().unwrap();
    let other = stand_in(aside.path(), 2);
    restore(&other);
    fs::rename(&other, &path).or_else(|_| fs::copy(&other, &path).map(drop)).unwrap();
    assert_eq!(found(folder, &memory), (true, true));
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(found(folder, &memory), (false, true));
}

#[test]
fn the_tables_of_doctor_and_binfmt_take_nothing_from_the_memory() {
    if !has_tables() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let memory = Arc::<Kept>::default();
    stand_in(folder.path(), 2);
    assert_eq!(found(folder.path(), &memory), (true, true));
    memory.change(|record| record.replace("without names", "fully"));
    assert!(matches!(look(folder.path(), &memory).how(FOREIGN), How::Private { keeps_names: true, .. }));
    let tried = look(folder.path(), &memory);
    let row = tried.rows().into_iter().find(|row| Machine::of(&row.support.platform) == Some(FOREIGN)).unwrap();
    assert!(matches!(row.support.how, How::Private { keeps_names: false, .. }), "{row:?}");
    assert_eq!(row.flags.as_deref(), Some("FC"));
    // What was found now is what the next command hears.
    assert!(matches!(look(folder.path(), &memory).how(FOREIGN), How::Private { keeps_names: false, .. }));
}

/// In a container its libraries are not there.
#[test]
fn an_emulator_that_needs_libraries_is_none() {
    if !has_tables() {
        return;
    }
    let dynamic = ["/bin/true", "/usr/bin/true"].into_iter().find(|path| {
        let content = fs::read(path).unwrap_or_default();
        content.windows(9).any(|bytes| bytes == b"ld-linux-" || bytes == b"ld64.so.2")
    });
    let Some(dynamic) = dynamic else { return };
    let file = File::open(dynamic).unwrap();
    let ends = |is_bare| {
        use std::os::fd::AsFd;
        let child = crate::sys::launch(&crate::sys::Launch {
            program: file.as_fd(),
            arguments: &[c"true".to_owned()],
            environment: &[],
            descriptors: &[],
            execute_descriptor: None,
            is_bare,
            join: &[],
            namespaces: crate::sys::CloneFlags::default(),
        });
        child.map(|child| {
            let options = rustix::process::WaitIdOptions::EXITED;
            let status = rustix::process::waitid(rustix::process::WaitId::PidFd(child.pidfd.as_fd()), options);
            status.unwrap().unwrap().exit_status()
        })
    };
    assert_eq!(ends(false).unwrap(), Some(0));
    assert_eq!(ends(true).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

/// A folder that looks like a table; the kernel's own would be the whole host's.
#[test]
fn a_verdict_about_the_hosts_handler_counts_for_this_very_registration() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table");
    fs::create_dir(&table).unwrap();
    let interpreter = stand_in(folder.path(), 2);
    let (magic, mask) = FOREIGN.magic();
    let hex = |bytes: [u8; 20]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let entry = |state: &str, flags: &str| {
        let path = interpreter.display();
        let (magic, mask) = (hex(magic), hex(mask));
        format!("{state}\ninterpreter {path}\nflags: {flags}\noffset 0\nmagic {magic}\nmask {mask}\n")
    };
    let write = |name: &str, text: &str| fs::write(table.join(name), text).unwrap();
    let ask = || Question::of_host(FOREIGN, &table);
    write("status", "enabled\n");
    write("register", "");
    assert!(ask().is_none());
    write("foreign", &entry("enabled", "F"));
    let memory = Kept::default();
    ask().unwrap().keep(&memory, Some(Works::Fully));
    assert_eq!(ask().unwrap().recall(&memory), Some(Works::Fully));
    assert!(Question::of_host(Machine::Loong64, &table).is_none());
    // Registered again, the emulator replaced, the table out of use, or not the only one that may be asked.
    write("foreign", &entry("enabled", "FP"));
    assert_eq!(ask().unwrap().recall(&memory), None);
    ask().unwrap().keep(&memory, Some(Works::Fully));
    // Times of older kernels have the length of a tick.
    std::thread::sleep(std::time::Duration::from_millis(20));
    stand_in(folder.path(), 2);
    assert_eq!(ask().unwrap().recall(&memory), None);
    ask().unwrap().keep(&memory, Some(Works::Fully));
    assert_eq!(ask().unwrap().recall(&memory), Some(Works::Fully));
    ask().unwrap().keep(&memory, None);
    assert_eq!(ask().unwrap().recall(&memory), None);
    write("other", &entry("enabled", "F"));
    assert!(ask().is_none());
    write("other", &entry("disabled", "F"));
    assert!(ask().is_some());
    write("status", "disabled\n");
    assert!(ask().is_none());
}
