//! How programs of each platform run here: natively, by the processor's compatible mode, through the host's handler, or through an emulator
//! that we register for our own processes. Everything is found out by executing a tiny program of the platform, when it is first needed.

mod interpreters;
mod machine;
mod memory;
mod probe;
mod program;
mod registration;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use onetag_oci::Platform;

use crate::error::{Error, Result};
use crate::process::SandboxOptions;
use crate::user_namespace::Asker;
use interpreters::{Emulator, Recall};
use machine::Machine;
pub use memory::ProbeMemory;
use memory::{Question, Works};
use onetag_oci::elf;
pub use registration::{BinfmtRow, Registered};
use table::PrivateTable;
pub(crate) use table::{TABLE_NAME, run_table_stage};

/// Which emulators may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmulatorChoice {
    /// The host's handler where one works, else our own registration.
    #[default]
    Auto,
    /// The host's handlers only.
    Host,
    /// Our own registrations only.
    Private,
    /// None: native and compatible platforms only.
    None,
}

impl std::str::FromStr for EmulatorChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "host" => Ok(Self::Host),
            "private" => Ok(Self::Private),
            "none" => Ok(Self::None),
            other => Err(Error::Invalid(format!("unknown emulator choice {other:?}: auto, host, private or none"))),
        }
    }
}

/// How programs of a platform run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The processor runs them.
    Native,
    /// The processor runs them in a compatible mode, such as 386 on amd64.
    Compatible,
    /// The host has an emulator registered that works.
    HostHandler {
        /// The registered program, when the host's table could be read.
        interpreter: Option<PathBuf>,
    },
    /// An emulator of this path, registered for our processes only.
    Private {
        /// The emulator.
        interpreter: PathBuf,
        /// Whether programs get the names they are called by. Emulators from before QEMU 6 do not understand being told; under them a
        /// program's argument 0 is its path.
        keeps_names: bool,
    },
    /// Not at all.
    Unsupported {
        /// Why.
        cause: String,
        /// What to type to mend it.
        hint: String,
    },
}

/// A platform and how its programs run on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformSupport {
    /// The platform.
    pub platform: Platform,
    /// How.
    pub how: How,
}

impl PlatformSupport {
    /// Whether its programs run at all.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        !matches!(self.how, How::Unsupported { .. })
    }

    /// Whether its programs run under an emulator.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        matches!(self.how, How::HostHandler { .. } | How::Private { .. })
    }
}

/// What a process needs so that its programs run.
#[derive(Clone, Debug)]
pub(crate) enum Execution {
    /// Nothing.
    Direct,
    /// Our own registrations.
    Private(Arc<PrivateTable>),
}

/// Finds out and remembers.
pub(crate) struct Emulation {
    options: SandboxOptions,
    known: Mutex<BTreeMap<Machine, How>>,
    table: Mutex<Option<Arc<PrivateTable>>>,
    /// A table that emulators are tried in, until it becomes the one that processes use.
    trial: Mutex<Option<PrivateTable>>,
    pub(crate) program: OnceLock<std::os::fd::OwnedFd>,
}

impl Emulation {
    pub(crate) fn new(options: SandboxOptions) -> Self {
        Self {
            options,
            known: Mutex::default(),
            table: Mutex::default(),
            trial: Mutex::default(),
            program: OnceLock::new(),
        }
    }

    pub(crate) fn options(&self) -> &SandboxOptions {
        &self.options
    }

    pub(crate) fn rows(&self) -> Vec<BinfmtRow> {
        registration::rows(self)
    }

    pub(crate) fn install(&self, platforms: &[Platform], persistent: bool) -> Result<Vec<Registered>> {
        let registered = registration::install(self, platforms, persistent)?;
        // What was found out before may no longer be so.
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(registered)
    }

    pub(crate) fn uninstall(&self, platforms: &[Platform]) -> Result<Vec<Registered>> {
        let removed = registration::uninstall(platforms)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(removed)
    }

    pub(crate) fn support(&self, platform: &Platform) -> PlatformSupport {
        let platform = platform.normalize();
        let how = match Machine::of(&platform) {
            Some(machine) => self.how(machine),
            None => How::Unsupported {
                cause: format!("programs of {platform} cannot be executed by this program's Linux sandbox"),
                hint:
                    "onetag build --platform with a Linux platform of amd64, 386, arm64, arm, ppc64le, s390x or riscv64"
                        .to_owned(),
            },
        };
        PlatformSupport { platform, how }
    }

    pub(crate) fn platforms(&self) -> Vec<PlatformSupport> {
        machine::all().iter().map(|platform| self.support(platform)).collect()
    }

    /// The same, with nothing taken from earlier commands.
    pub(crate) fn platforms_tried(&self) -> Vec<PlatformSupport> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for machine in machine::all().iter().filter_map(Machine::of) {
            known.insert(machine, self.find_out(machine, Recall::Refused));
        }
        drop(known);
        self.platforms()
    }

    pub(crate) fn emulated_platforms(&self, path: &std::path::Path) -> Vec<Platform> {
        interpreters::emulated_platforms(self, path)
    }

    /// Tries something in a table that no process uses.
    pub(crate) fn with_trial_table<T>(&self, act: impl FnOnce(&PrivateTable) -> std::io::Result<T>) -> Result<T> {
        let mut slot = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        let table = match slot.take() {
            Some(table) => table,
            None => PrivateTable::create(&self.program)?,
        };
        // Where it failed, what was tried may still be in the table: it goes.
        let result = act(&table).map_err(|error| Error::setup("try an emulator in a private binfmt_misc", error))?;
        *slot = Some(table);
        Ok(result)
    }

    pub(crate) fn prepare(&self, platforms: &[Platform]) -> Result<()> {
        platforms.iter().try_for_each(|platform| self.execution(platform).map(drop))
    }

    /// What a process of this platform needs.
    pub(crate) fn execution(&self, platform: &Platform) -> Result<Execution> {
        let support = self.support(platform);
        match support.how {
            How::Native | How::Compatible | How::HostHandler { .. } => Ok(Execution::Direct),
            How::Unsupported { hint, .. } => Err(Error::NoInterpreter {
                machine: Machine::of(&support.platform).map_or_else(|| "unknown".to_owned(), Machine::elf_name),
                program: support.platform.to_string(),
                platform: Box::new(support.platform),
                hint,
            }),
            How::Private { interpreter, keeps_names } => {
                let machine = Machine::of(&support.platform).ok_or_else(|| Error::Invalid(platform.to_string()))?;
                let table = self.table(machine, &Emulator { path: interpreter, keeps_names })?;
                Ok(Execution::Private(table))
            }
        }
    }

    /// The private table with a machine's emulator in it.
    fn table(&self, machine: Machine, emulator: &Emulator) -> Result<Arc<PrivateTable>> {
        let mut slot = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let table = match &*slot {
            Some(table) => Arc::clone(table),
            None => {
                let tried = self.trial.lock().unwrap_or_else(PoisonError::into_inner).take();
                let table = Arc::new(tried.map_or_else(|| PrivateTable::create(&self.program), Ok)?);
                // The private table hides the host's from our processes: what ran by it so far needs a place here too.
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                for (other, how) in known.iter() {
                    if let How::HostHandler { interpreter } = how {
                        let found = interpreters::find(self, *other, Recall::Allowed);
                        let hosts = interpreter.clone().map(|path| Emulator { path, keeps_names: true });
                        if let Some(emulator) = found.or(hosts) {
                            table.register(*other, &emulator)?;
                        }
                    }
                }
                Arc::clone(slot.insert(table))
            }
        };
        table.register(machine, emulator)?;
        Ok(table)
    }

    fn how(&self, machine: Machine) -> How {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(how) = known.get(&machine) {
            return how.clone();
        }
        let how = self.find_out(machine, Recall::Allowed);
        known.insert(machine, how.clone());
        how
    }

    fn find_out(&self, machine: Machine, recall: Recall) -> How {
        if machine.is_hosts_own() {
            // This program is one, as it runs.
            if machine.is_least_level() || probe::runs_directly(machine) {
                return How::Native;
            }
        } else if machine.may_be_compatible() && probe::runs_directly(machine) {
            return match table::host_handler(machine) {
                Some(interpreter) => How::HostHandler { interpreter: Some(interpreter) },
                None => How::Compatible,
            };
        }
        let choice = self.options.emulator;
        if matches!(choice, EmulatorChoice::Auto | EmulatorChoice::Host)
            && !machine.is_hosts_own()
            && table::host_has_handlers()
            && self.host_runs(machine, recall)
        {
            return How::HostHandler { interpreter: table::host_handler(machine) };
        }
        let mut cause = format!("no working emulator for {}", machine.elf_name());
        if matches!(choice, EmulatorChoice::Auto | EmulatorChoice::Private) {
            match interpreters::find(self, machine, recall) {
                Some(Emulator { path: interpreter, keeps_names }) if table::is_available() => {
                    return How::Private { interpreter, keeps_names };
                }
                Some(emulator) => {
                    cause = format!(
                        "{} works, but this kernel has no private binfmt_misc (Linux 6.7 has) and the host has none registered",
                        emulator.path.display()
                    );
                }
                None => {}
            }
        }
        let hint = match choice {
            _ if machine.is_hosts_own() => machine.hint(),
            EmulatorChoice::Auto | EmulatorChoice::Private => machine.hint(),
            EmulatorChoice::Host => {
                "the host has none registered".clone_into(&mut cause);
                "sudo onetag binfmt install, or leave --emulator host out".to_owned()
            }
            EmulatorChoice::None => {
                "emulation is switched off".clone_into(&mut cause);
                "leave --emulator none (or ONETAG_EMULATOR) out".to_owned()
            }
        };
        How::Unsupported { cause, hint }
    }

    /// Whether a handler of the host's executes the machine's programs.
    fn host_runs(&self, machine: Machine, recall: Recall) -> bool {
        // In a user namespace another table than the one that is seen may be the one in use.
        let memory = self.options.probe_memory.as_deref().filter(|_| Asker::get().is_of_the_host());
        let folder = std::path::Path::new(table::HOST_TABLE);
        let known = memory.and_then(|memory| Some((memory, Question::of_host(machine, folder)?)));
        if let Some((memory, question)) = &known
            && recall == Recall::Allowed
            && question.recall(*memory).is_some()
        {
            return true;
        }
        let runs = probe::runs_directly(machine);
        if let Some((memory, question)) = &known {
            question.keep(*memory, runs.then_some(Works::Fully));
        }
        runs
    }
}

/// The smallest program of the host's own machine type; it exits with 42.
pub(crate) fn host_program() -> Vec<u8> {
    let own = machine::all().iter().filter_map(Machine::of).find(|machine| machine.is_hosts_own());
    own.map(program::program).unwrap_or_default()
}

/// What to type when a program of another machine than the platform's was found.
pub(crate) fn foreign_hint(platform: &Platform, machine: u16, class: u8) -> String {
    match Machine::from_elf(machine, class) {
        Some(found) if Some(found.family()) != Machine::of(platform).map(Machine::family) => format!(
            "the image says {platform} but holds programs for {}; use --platform linux/{}",
            elf::machine_name(machine, class),
            found.architecture(),
        ),
        Some(found) => found.hint(),
        None => format!("no emulator for {} is known", elf::machine_name(machine, class)),
    }
}
