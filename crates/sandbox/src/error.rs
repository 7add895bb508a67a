//! What can keep a process from starting.

use std::io;
use std::path::PathBuf;

use onetag_oci::Platform;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a process could not be started, or a capability of the host not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host runs programs of this platform neither natively nor through an emulator.
    #[error("no interpreter for {platform}: {program} is {machine} machine code, which this host cannot run")]
    NoInterpreter {
        /// The platform that was asked for.
        platform: Box<Platform>,
        /// The ELF machine's name, such as `AArch64`.
        machine: String,
        /// The program, as seen inside the root file system; the platform's name when nothing was executed yet.
        program: String,
        /// What to type to mend it.
        hint: String,
    },
    /// The program is not in the root file system.
    #[error("exec: \"{program}\": executable file not found in $PATH")]
    ExecutableNotFound {
        /// The program as given.
        program: String,
    },
    /// The program's path does not exist.
    #[error("exec: \"{program}\": no such file or directory")]
    NoSuchFile {
        /// The program as given.
        program: String,
    },
    /// The program exists, the loader or script interpreter it names does not.
    #[error("exec: \"{program}\": its interpreter {loader} is not in the image")]
    MissingLoader {
        /// The program.
        program: String,
        /// The loader or script interpreter it names.
        loader: String,
    },
    /// The program exists and may not be executed.
    #[error("exec: \"{program}\": permission denied")]
    NotExecutable {
        /// The program as given.
        program: String,
    },
    /// The program is neither an ELF file nor a script with a `#!` line.
    #[error("exec: \"{program}\": exec format error (neither an ELF program nor a script with a #! line)")]
    UnknownFormat {
        /// The program as given.
        program: String,
    },
    /// Any other refusal by the kernel to execute the program.
    #[error("exec: \"{program}\"")]
    Execute {
        /// The program as given.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The user or group is not one that the root file system knows.
    #[error("{}", .0)]
    User(#[from] crate::users::UserError),
    /// More ids are needed than this user's namespace has.
    #[error("{action} needs more user ids than this user has: {cause}")]
    NeedsSubordinateIds {
        /// What needed them.
        action: String,
        /// Why there is only one id.
        cause: String,
    },
    /// A step of preparing the process failed.
    #[error("{action}")]
    Setup {
        /// What was attempted, with the path it was about.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// This host denies what the sandbox needs.
    #[error("this host does not allow {what}: {cause}")]
    Denied {
        /// The capability that is missing, such as `user namespaces`.
        what: &'static str,
        /// Why.
        cause: String,
        /// What to type to mend it.
        hint: String,
    },
    /// The process specification cannot be carried out as written.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// What to type to mend it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoInterpreter { hint, .. } | Self::Denied { hint, .. } => Some(hint.clone()),
            Self::NeedsSubordinateIds { .. } => Some(SUBORDINATE_IDS_HINT.to_owned()),
            _ => None,
        }
    }

    /// Whether the host did not allow an overlay mount: the same process may start from a copy of the files.
    #[must_use]
    pub fn is_overlay_refused(&self) -> bool {
        match self {
            Self::Setup { action, .. } => action.contains("overlay"),
            Self::Denied { what, .. } => what.contains("overlay"),
            _ => false,
        }
    }

    /// The exit status that `docker run` ends with for this error: 127 for a missing program, 126 for one that cannot be executed, 125 else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ExecutableNotFound { .. } | Self::NoSuchFile { .. } => 127,
            Self::NotExecutable { .. }
            | Self::UnknownFormat { .. }
            | Self::MissingLoader { .. }
            | Self::Execute { .. }
            | Self::NoInterpreter { .. } => 126,
            _ => 125,
        }
    }

    pub(crate) fn setup(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Setup { action: action.into(), source: source.into() }
    }
}

/// The command that gives a user subordinate ids.
pub(crate) const SUBORDINATE_IDS_HINT: &str =
    "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\"";

/// A path in a message.
pub(crate) fn shown(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// Turns a path that must be text into one.
pub(crate) fn text(path: &std::path::Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::Invalid(format!("the path {} is not UTF-8", PathBuf::from(path).display())))
}
