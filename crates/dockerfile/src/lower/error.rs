//! What can be wrong with a Dockerfile beyond its syntax.

use onetag_llb::GraphError;
use onetag_oci::{DigestError, PlatformError, ReferenceError};

use super::part::Part;
use crate::chmod::ModeError;
use crate::diagnostic::Diagnostic;
use crate::file::Dockerfile;
use crate::git::GitReferenceError;
use crate::instruction::{ExpandFailure, MountError};
use crate::ports::PortError;
use crate::resolver::ResolveError;
use crate::shell::{ShellError, ShellErrorKind};
use crate::span::{LineRange, Span};
use crate::values::quote;

/// An error of lowering, with the instructions it is about.
#[derive(Debug)]
pub struct DockerfileError {
    /// What is wrong.
    pub kind: Box<DockerfileErrorKind>,
    /// The lines of the instructions that it is about, the innermost first; empty where no instruction is at fault.
    pub lines: Vec<LineRange>,
    /// The characters that it is about, where an instruction is at fault.
    pub span: Option<Span>,
    /// What else is wrong with the Dockerfile, in the order in which a build would come to it.
    pub others: Vec<DockerfileError>,
    /// The part of the first instruction that it is about.
    pub(crate) part: Part,
}

impl DockerfileError {
    /// The first of several errors, with the others beside it.
    pub(crate) fn first_of(errors: Vec<DockerfileError>) -> Result<()> {
        let mut errors = errors.into_iter();
        match errors.next() {
            Some(mut first) => {
                first.others.extend(errors);
                Err(first)
            }
            None => Ok(()),
        }
    }

    /// All of them, each by itself.
    pub fn into_all(mut self) -> Vec<DockerfileError> {
        let others = std::mem::take(&mut self.others);
        std::iter::once(self).chain(others.into_iter().flat_map(DockerfileError::into_all)).collect()
    }

    /// With the characters that it is about.
    pub(crate) fn located(mut self, file: &Dockerfile) -> DockerfileError {
        self.span = self.lines.first().and_then(|lines| self.part.span(file, *lines));
        self.others = self.others.into_iter().map(|other| other.located(file)).collect();
        self
    }

    /// What a user is told of all of them: the one at which BuildKit stops, then the others by line.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut diagnostics = vec![self.diagnostic()];
        diagnostics.extend(self.others.iter().flat_map(DockerfileError::diagnostics));
        crate::diagnostic::sort_others(&mut diagnostics);
        diagnostics
    }

    /// What a user is told of it: the message with its causes, the place, and what to do about it.
    pub fn diagnostic(&self) -> Diagnostic {
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        let lines = self.lines.last().or(self.lines.first()).copied();
        let mut diagnostic = Diagnostic::error(crate::redact::user_info(&message), lines).with_span(self.span);
        diagnostic.help = self.kind.help();
        diagnostic
    }
}

impl std::fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for DockerfileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

impl<K: Into<DockerfileErrorKind>> From<K> for DockerfileError {
    fn from(kind: K) -> DockerfileError {
        DockerfileError {
            kind: Box::new(kind.into()),
            lines: Vec::new(),
            span: None,
            others: Vec::new(),
            part: Part::Whole,
        }
    }
}

impl From<ExpandFailure<ShellError>> for DockerfileErrorKind {
    fn from(failure: ExpandFailure<ShellError>) -> DockerfileErrorKind {
        match failure {
            ExpandFailure::Word(error) => error.into(),
            ExpandFailure::Mount(error) => error.into(),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, DockerfileError>;

/// Says where an error happened.
pub(crate) trait At<T> {
    /// Adds the lines of an instruction.
    fn at(self, lines: Option<LineRange>) -> Result<T>;

    /// Says which part of the instruction it is about, unless that has been said more closely.
    fn about(self, part: impl FnOnce() -> Part) -> Result<T>;
}

impl<T, E: Into<DockerfileError>> At<T> for std::result::Result<T, E> {
    fn at(self, lines: Option<LineRange>) -> Result<T> {
        self.map_err(|error| {
            let mut error = error.into();
            error.lines.extend(lines);
            error.others.iter_mut().for_each(|other| other.lines.extend(lines));
            error
        })
    }

    fn about(self, part: impl FnOnce() -> Part) -> Result<T> {
        self.map_err(|error| {
            let mut error = error.into();
            if error.part == Part::Whole {
                error.part = part();
            }
            error
        })
    }
}

/// What is wrong with a Dockerfile beyond its syntax. The phrases are those that users know from BuildKit.
#[derive(Debug, thiserror::Error)]
pub enum DockerfileErrorKind {
    /// There is no stage.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// A word could not be expanded.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// A `FROM` whose name is empty once its variables are known.
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    /// A `FROM --platform` that is empty once its variables are known.
    #[error("empty platform value from expression {expression}{}", did_you_mean(.nearest))]
    EmptyPlatform {
        /// The value as written.
        expression: String,
        /// A variable that was probably meant.
        nearest: Option<String>,
    },
    /// A `FROM --platform` that is no platform.
    #[error("failed to parse platform {expression}{}", did_you_mean(.nearest))]
    Platform {
        /// The value as written.
        expression: String,
        /// A variable that was probably meant.
        nearest: Option<String>,
        /// What is wrong with it.
        source: PlatformError,
    },
    /// `--target` names no stage.
    #[error("target stage {} could not be found{}", quote(.target), did_you_mean(.nearest))]
    UnknownTarget {
        /// The name.
        target: String,
        /// A stage that was probably meant.
        nearest: Option<String>,
    },
    /// A variable in `COPY --from`.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    FromVariable,
    /// `COPY --from` with the number of a stage that does not exist.
    #[error("invalid stage index {0}")]
    StageIndex(i64),
    /// Stages that need each other.
    #[error("circular dependency detected on stage: {0}")]
    Circular(String),
    /// A base that is no image reference.
    #[error("failed to parse stage name {}", quote(.name))]
    BaseReference {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// A base image that cannot be resolved.
    #[error("{name}: failed to resolve source metadata for {reference}{}", did_you_mean(.nearest))]
    BaseImage {
        /// The name as written.
        name: String,
        /// The complete reference.
        reference: String,
        /// A stage that was probably meant.
        nearest: Option<String>,
        /// Why.
        source: ResolveError,
    },
    /// A name that cannot be that of a context.
    #[error("invalid context name {name}")]
    ContextName {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// A named context that cannot be resolved.
    #[error("failed to load context {name}")]
    Context {
        /// Its name.
        name: String,
        /// Why.
        source: ResolveError,
    },
    /// A named context that is said to be a git repository and is none.
    #[error("invalid git context {0}")]
    GitContext(String),
    /// A named context that stands for a stage that does not exist.
    #[error("context {name} means stage {}, which does not exist", quote(.stage))]
    ContextStage {
        /// The context.
        name: String,
        /// The stage.
        stage: String,
    },
    /// An ignore file that cannot be read.
    #[error("failed to read the ignore file")]
    IgnoreFile(#[source] ResolveError),
    /// A trigger of the base image is no instruction.
    #[error("{}", .0.message)]
    Trigger(Box<Diagnostic>),
    /// A stage that comes later, or that is this stage.
    #[error("cannot copy from stage {}, it needs to be defined before current stage {}", quote(.from), quote(.stage))]
    CopyFromLater {
        /// The value of `--from`.
        from: String,
        /// The stage of the instruction.
        stage: String,
    },
    /// A stage that comes later, or that is this stage.
    #[error("cannot mount from stage {} to {}, stage needs to be defined before current command", quote(.from), quote(.target))]
    MountFromLater {
        /// The value of `from`.
        from: String,
        /// The value of `target`.
        target: String,
    },
    /// A mount of `RUN` is wrong.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A mount that would hide the root.
    #[error("invalid mount target {}", quote(.0))]
    MountTarget(String),
    /// An `ssh` mount with a source.
    #[error("ssh does not support source")]
    SshSource,
    /// `RUN --device`.
    #[error("RUN --device is not supported: this builder hands no devices to steps")]
    Device,
    /// `COPY --chmod` is a number out of range.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Chmod(String),
    /// `COPY --chmod` is no mode.
    #[error("invalid chmod parameter: '{value}'")]
    ChmodSymbolic {
        /// The value.
        value: String,
        /// What is wrong with it.
        source: ModeError,
    },
    /// `--checksum` of several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumSources,
    /// `--checksum` of something that is not remote.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumLocal,
    /// `--checksum` is no digest.
    #[error("invalid checksum {}", quote(.value))]
    Checksum {
        /// The value.
        value: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// Two different checksums.
    #[error("checksum mismatch {} != {}", quote(.flag), quote(.query))]
    ChecksumMismatch {
        /// The value of `--checksum`.
        flag: String,
        /// The value in the URL.
        query: String,
    },
    /// A git repository as a source of `COPY`.
    #[error("source can't be a git ref for COPY")]
    CopyGit,
    /// A URL as a source of `COPY`.
    #[error("source can't be a URL for COPY")]
    CopyUrl,
    /// The flag and the URL disagree.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    /// The query of a git reference is wrong.
    #[error(transparent)]
    Git(#[from] GitReferenceError),
    /// A word of `EXPOSE` is no port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// An empty volume.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `STOPSIGNAL` names no signal.
    #[error("invalid signal: {name}{}", did_you_mean(.nearest))]
    Signal {
        /// As written, its variables expanded.
        name: String,
        /// A signal that was probably meant.
        nearest: Option<String>,
    },
    /// Heredocs of a `RUN` in exec form.
    #[error("parsing produced an invalid run command: {0:?}")]
    RunHeredoc(Vec<String>),
    /// SOURCE_DATE_EPOCH is neither a number nor the name of a source.
    #[error("invalid SOURCE_DATE_EPOCH: {0}")]
    Epoch(String),
    /// The stage that SOURCE_DATE_EPOCH names is not just one remote `ADD`.
    #[error("SOURCE_DATE_EPOCH stage {0}")]
    EpochStage(&'static str),
    /// The source that SOURCE_DATE_EPOCH names cannot be asked.
    #[error("failed to resolve SOURCE_DATE_EPOCH")]
    EpochSource(#[source] ResolveError),
    /// More text than [`super::MAX_TEXT_BYTES`].
    #[error("the image configs and steps hold more than {} bytes", super::MAX_TEXT_BYTES)]
    TooLarge,
    /// The collected operations make no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl DockerfileErrorKind {
    /// Whether it may only be an error because a variable in the instruction lacks its value.
    pub(crate) fn depends_on_variables(&self, code: &str) -> bool {
        match self {
            DockerfileErrorKind::Shell(error) => matches!(
                error.kind,
                ShellErrorKind::Required { .. } | ShellErrorKind::Pattern { .. } | ShellErrorKind::TooLong
            ),
            // The folder that a relative path is joined to comes from a base image.
            DockerfileErrorKind::MountTarget(_) => {
                code.contains('$') || !["target=/", "dst=/", "destination=/"].iter().any(|path| code.contains(path))
            }
            DockerfileErrorKind::TooLarge => false,
            _ => code.contains('$'),
        }
    }

    /// What was expected, where the message does not say it.
    pub fn help(&self) -> Option<String> {
        use DockerfileErrorKind as Kind;
        let text = match self {
            Kind::Shell(error) => return shell_help(&error.kind),
            Kind::BlankBase(_) => "give the variable a default above the first FROM: ARG NAME=image".to_owned(),
            Kind::EmptyPlatform { nearest: None, .. } | Kind::Platform { nearest: None, .. } => {
                "write os/architecture, as in linux/arm64, or $BUILDPLATFORM".to_owned()
            }
            Kind::StageIndex(_) => "stages are counted from 0; their names are safer: FROM … AS name".to_owned(),
            Kind::CopyFromLater { .. } | Kind::MountFromLater { .. } => {
                "put the stage that is read from above the one that reads".to_owned()
            }
            Kind::Mount(error) => return error.help(),
            Kind::MountTarget(_) => "mount below the root: target=/dir".to_owned(),
            Kind::SshSource => "name the agent with id: --mount=type=ssh,id=default".to_owned(),
            Kind::Chmod(_) | Kind::ChmodSymbolic { .. } => {
                "write octal digits, as in 755, or a symbolic mode, as in u=rwX,go=rX".to_owned()
            }
            Kind::Checksum { .. } => {
                "write the algorithm and the digest: sha256:… with 64 hexadecimal digits".to_owned()
            }
            Kind::ChecksumSources => "write an ADD for each source".to_owned(),
            Kind::ChecksumLocal => "files of the context need no checksum: leave it out".to_owned(),
            Kind::CopyGit | Kind::CopyUrl => "write ADD in place of COPY".to_owned(),
            Kind::Port(_) => "write a port or a range of ports, as in 80, 53/udp or 8000-8010/tcp".to_owned(),
            Kind::TooLarge => "variables that hold copies of others, and ranges of ports, grow quickly".to_owned(),
            Kind::EmptyVolume => "write a path: VOLUME /data".to_owned(),
            Kind::Signal { nearest: None, .. } => "write a signal's name or number: SIGTERM, or 15".to_owned(),
            _ => return None,
        };
        Some(text)
    }
}

fn shell_help(kind: &ShellErrorKind) -> Option<String> {
    let text = match kind {
        ShellErrorKind::SingleQuote | ShellErrorKind::DoubleQuote => {
            "close the quote, or put the escape character before it".to_owned()
        }
        ShellErrorKind::Unclosed(_) | ShellErrorKind::MissingBrace => "close the brace: ${name}".to_owned(),
        ShellErrorKind::MissingSlash => "write ${name/pattern/replacement}".to_owned(),
        ShellErrorKind::BadSubstitution => "write $name or ${name}".to_owned(),
        ShellErrorKind::Modifier(modifier) if modifier == "\u{fffd}" => "close the brace: ${name}".to_owned(),
        ShellErrorKind::Modifier(_) => {
            "the forms are ${name:-word}, ${name:+word}, ${name:?word}, ${name#pattern}, ${name%pattern} and \
             ${name/pattern/word}"
                .to_owned()
        }
        ShellErrorKind::Required { name, .. } => {
            format!("give it a value: --build-arg {name}=…, or a default in its ARG")
        }
        _ => return None,
    };
    Some(text)
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default()
}
