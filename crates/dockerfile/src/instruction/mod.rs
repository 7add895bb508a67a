//! The typed instructions of a Dockerfile: every instruction and flag of the language, before any
//! variable is expanded.
//!
//! A [`Stage`] begins with a `FROM`, which it absorbs; everything else is an [`Instruction`] whose
//! [`Command`] says what it does. Values are kept as written: [`Command::expand`] replaces the
//! variables where the language allows them.

mod builder_flags;
mod device;
mod error;
mod expand;
mod health;
mod mount;
mod parse;

pub use error::{Focus, InstructionError, InstructionErrorKind};
pub use expand::{Expand, ExpandFailure};
pub use mount::{Mount, MountError, MountType, Sharing};
pub use parse::{KEYWORDS, Parsed, parse_node};

use crate::span::{LineRange, Span};

/// One instruction of a stage, or a global `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The source text with continuation lines joined and comments dropped, trimmed. Heredoc
    /// bodies are not part of it. This is what step names are made of.
    pub code: Box<str>,
    /// How many bytes of `code` are the keyword.
    keyword_bytes: u32,
    /// The lines it covers, heredoc bodies included.
    pub lines: LineRange,
    /// From its first to after its last character, heredoc bodies not included.
    pub span: Span,
    /// The comment lines directly above, without `#`.
    pub comments: Box<[String]>,
    /// What it does.
    pub command: Command,
}

impl Instruction {
    /// The keyword as written (`RUN`, `run`).
    pub fn keyword(&self) -> &str {
        self.code.get(..self.keyword_bytes as usize).unwrap_or(&self.code)
    }
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `ADD`
    Add(Box<Add>),
    /// `ARG`
    Arg(Arg),
    /// `CMD`
    Cmd(Box<CommandLine>),
    /// `COPY`
    Copy(Box<Copy>),
    /// `ENTRYPOINT`
    Entrypoint(Box<CommandLine>),
    /// `ENV`: the pairs in order.
    Env(Vec<KeyValue>),
    /// `EXPOSE`: the words, sorted, not yet expanded or checked.
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Box<Healthcheck>),
    /// `LABEL`: the pairs in order.
    Label(Vec<KeyValue>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`: the text of the trigger; heredoc bodies are appended to it.
    Onbuild(String),
    /// `RUN`
    Run(Box<Run>),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    Stopsignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

/// A pair of `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The name.
    pub key: String,
    /// The value; quotes are still there until it is expanded.
    pub value: String,
    /// Whether the old form `KEY value`, without `=`, was used.
    pub legacy: bool,
}

/// `ARG name[=default]…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The arguments in order.
    pub args: Vec<ArgDefinition>,
}

/// One argument of an `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name.
    pub key: String,
    /// The default, if one is given.
    pub value: Option<String>,
    /// What the comment above says of it (`# name description`), or empty.
    pub description: String,
}

/// The arguments of `RUN`, `CMD` and `ENTRYPOINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// In exec form the words; in shell form one element with the whole line, or none.
    pub args: Box<[String]>,
    /// Whether the shell is to be put in front (shell form).
    pub prepend_shell: bool,
    /// The heredocs of the line, in order.
    pub files: Box<[InlineFile]>,
}

/// A heredoc of a `RUN` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// The delimiter word.
    pub name: String,
    /// The body, leading tabs included.
    pub data: String,
    /// Whether leading tabs are to be dropped (`<<-`).
    pub chomp: bool,
}

/// `RUN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub line: CommandLine,
    /// `--network`
    pub network: RunNetwork,
    /// `--security`
    pub security: RunSecurity,
    /// What few have, so that the many without it are small.
    flags: Option<Box<RunFlags>>,
}

/// The flags of a `RUN` that may stand several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RunFlags {
    /// The values of `--mount`, as written.
    mount_flags: Vec<String>,
    mounts: Vec<Mount>,
    devices: Vec<Device>,
}

impl Run {
    /// The mounts (`--mount`). Before [`Command::expand`] only `from` is filled in (it takes no variables); expansion
    /// fills in the rest.
    pub fn mounts(&self) -> &[Mount] {
        self.flags.as_ref().map_or(&[], |flags| &flags.mounts)
    }

    /// The values of `--mount`, as written.
    pub fn mount_flags(&self) -> &[String] {
        self.flags.as_ref().map_or(&[], |flags| &flags.mount_flags)
    }

    /// `--device`
    pub fn devices(&self) -> &[Device] {
        self.flags.as_ref().map_or(&[], |flags| &flags.devices)
    }
}

/// The value of `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the build uses; also without the flag.
    #[default]
    Default,
    /// No network.
    None,
    /// The host's network.
    Host,
}

/// The value of `RUN --security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunSecurity {
    /// The usual sandbox; also without the flag.
    #[default]
    Sandbox,
    /// All privileges.
    Insecure,
}

/// A value of `RUN --device`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The name of the CDI device.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// What `COPY` and `ADD` copy, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Paths (for `ADD` also URLs and git references), in order.
    pub paths: Vec<String>,
    /// Heredocs, in order.
    pub contents: Vec<SourceContent>,
    /// The destination.
    pub destination: String,
}

/// A heredoc that `COPY` or `ADD` writes as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceContent {
    /// The name of the file: the delimiter word.
    pub path: String,
    /// The content; leading tabs are already dropped for `<<-`.
    pub data: String,
    /// Whether variables in it are expanded.
    pub expand: bool,
}

/// `COPY`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// What and where to.
    pub sources: Sources,
    /// `--from`, or empty for the build context.
    pub from: String,
    /// `--chown`, or empty.
    pub chown: String,
    /// `--chmod`, or empty.
    pub chmod: String,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
}

/// `ADD`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Add {
    /// What and where to.
    pub sources: Sources,
    /// `--chown`, or empty.
    pub chown: String,
    /// `--chmod`, or empty.
    pub chmod: String,
    /// `--link`
    pub link: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
    /// `--keep-git-dir`, where given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`, or empty.
    pub checksum: String,
    /// `--unpack`, where given.
    pub unpack: Option<bool>,
}

/// `HEALTHCHECK`. Durations are nanoseconds, as in the image configuration; 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", words…]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// `--interval`
    pub interval: i64,
    /// `--timeout`
    pub timeout: i64,
    /// `--start-period`
    pub start_period: i64,
    /// `--start-interval`
    pub start_interval: i64,
    /// `--retries`
    pub retries: i32,
}

/// A build stage: a `FROM` and the instructions up to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in lower case; empty when there is none.
    pub name: String,
    /// The name after `AS` as written; empty when there is none.
    pub written_name: String,
    /// The base: an image, a stage, `scratch`; variables not yet expanded.
    pub base: String,
    /// `--platform`, or empty; variables not yet expanded.
    pub platform: String,
    /// The keyword as written (`FROM`, `from`).
    pub keyword: String,
    /// The source text of the `FROM`, trimmed.
    pub code: String,
    /// The lines of the `FROM`.
    pub lines: LineRange,
    /// From the first to after the last character of the `FROM`.
    pub span: Span,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<String>,
    /// What the comment above says of the stage (`# name description`), or empty.
    pub description: String,
    /// The instructions of the stage.
    pub instructions: Vec<Instruction>,
}

// A line of four bytes is an instruction: what each costs decides what a large Dockerfile costs.
const _: () = assert!(size_of::<Instruction>() <= 96 && size_of::<Run>() <= 56);
