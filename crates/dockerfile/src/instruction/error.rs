//! What can be wrong with a single instruction.

use super::mount::MountError;
use crate::flags::csv::CsvError;
use crate::values::{DurationError, quote};

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstructionErrorKind {
    /// No such instruction.
    #[error("unknown instruction: {keyword}{}", did_you_mean(.nearest))]
    Unknown {
        /// As written.
        keyword: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// An argument is missing.
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    /// More or less than one argument.
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    /// A source without a destination.
    #[error("{0} requires at least two arguments, but only one was provided. Destination could not be determined")]
    NoDestination(&'static str),
    /// A heredoc as the destination.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// A name that is empty.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// No JSON array where only one will do.
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    /// `FROM` with two arguments, or more than three, or something other than `AS`.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage name with other characters than it may have.
    #[error("invalid name for build stage: {}, name can't start with a number or contain symbols", quote(.0))]
    StageName(String),
    /// `ONBUILD ONBUILD`
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildOnbuild,
    /// `ONBUILD FROM` or `ONBUILD MAINTAINER`
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    /// A trigger of a base image that is more or less than one instruction.
    #[error("onbuild trigger should be a single expression")]
    TriggerNotSingle,
    /// `FROM` where only an instruction of a stage will do.
    #[error("*instructions.Stage is not a command type")]
    NotACommand,
    /// An instruction before the first `FROM`.
    #[error("no build stage in current context")]
    NoStage,
    /// `HEALTHCHECK NONE` with arguments.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNone,
    /// `HEALTHCHECK CMD` without a command.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthNoCommand,
    /// Neither `NONE` nor `CMD`.
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", quote(.0))]
    HealthType(String),
    /// An interval that is no duration.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// An interval below a millisecond.
    #[error("Interval {} cannot be less than 1ms", quote(.0))]
    Interval(&'static str),
    /// A number of retries that is no number.
    #[error("strconv.ParseInt: parsing {}: {reason}", quote(.value))]
    Retries {
        /// As written.
        value: String,
        /// Go's word for what is wrong.
        reason: &'static str,
    },
    /// A number of retries below zero.
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i32),
    /// An empty volume.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// No such flag.
    #[error("unknown flag: {flag}{}", did_you_mean(.nearest))]
    UnknownFlag {
        /// As written, up to `=`.
        flag: String,
        /// What was probably meant, without dashes.
        nearest: Option<String>,
        /// The flags there are, without dashes.
        known: Vec<&'static str>,
    },
    /// A flag twice.
    #[error("duplicate flag specified: {0}")]
    DuplicateFlag(String),
    /// A flag without its value.
    #[error("missing a value on flag: {0}")]
    FlagValue(String),
    /// A flag whose value is neither true nor false.
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    FlagNotBoolean {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
    },
    /// `RUN --network` with another value.
    #[error("invalid network mode {}", quote(.0))]
    Network(String),
    /// `RUN --security` with another value.
    #[error("security {} is not valid", quote(.0))]
    Security(String),
    /// `RUN --mount` is wrong.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// `RUN --device` is no list.
    #[error("failed to parse csv devices: {0}")]
    DeviceCsv(CsvError),
    /// `RUN --device` has an option without its value.
    #[error("invalid field '{0}' must be a key=value pair")]
    DeviceField(String),
    /// `RUN --device` has a second name.
    #[error("device name already set to {0}")]
    DeviceTwoNames(String),
    /// `RUN --device` has an option that is neither true nor false.
    #[error("invalid value for {key}: {value}")]
    DeviceValue {
        /// The option.
        key: String,
        /// Its value.
        value: String,
    },
    /// `RUN --device` has an option there is not.
    #[error("unexpected key '{key}' in '{field}'{}", did_you_mean(.nearest))]
    DeviceKey {
        /// The option.
        key: String,
        /// The field it is in.
        field: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
}

/// The part of an instruction that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// All of it.
    Whole,
    /// The keyword.
    Keyword,
    /// The flag of that index.
    Flag(usize),
    /// The argument of that index.
    Argument(usize),
}

/// What is wrong, and with which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstructionError {
    /// What is wrong.
    pub kind: InstructionErrorKind,
    /// With which part.
    pub focus: Focus,
    /// What else is wrong with the instruction, in the order in which it was come to.
    pub others: Vec<InstructionError>,
}

/// What is wrong with an instruction, as far as it can be judged in spite of what went before.
#[derive(Default)]
pub(super) struct Mistakes(Vec<InstructionError>);

impl Mistakes {
    /// The value, or nothing where it is wrong.
    pub(super) fn note<T>(&mut self, result: Result<T, InstructionError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// All of them as one error, whose kind is the first: the one at which BuildKit stops.
    pub(super) fn finish(self) -> Result<(), InstructionError> {
        let mut errors = self.0.into_iter();
        match errors.next() {
            None => Ok(()),
            Some(first) => Err(InstructionError { others: errors.collect(), ..first }),
        }
    }
}

impl InstructionErrorKind {
    /// With the part it is about.
    pub(super) fn at(self, focus: Focus) -> InstructionError {
        InstructionError { kind: self, focus, others: Vec::new() }
    }

    /// What was expected, where the message does not say it.
    pub fn help(&self) -> Option<String> {
        use InstructionErrorKind as Kind;
        let text = match self {
            Kind::Unknown { nearest: None, .. } => {
                format!("the instructions are {}", super::KEYWORDS.join(", "))
            }
            Kind::UnknownFlag { known, .. } if known.is_empty() => "this instruction takes no flags".to_owned(),
            Kind::UnknownFlag { known, .. } => {
                let known: Vec<String> = known.iter().map(|name| format!("--{name}")).collect();
                format!("the flags are {}", known.join(", "))
            }
            Kind::FlagValue(flag) => format!("write {flag}=value"),
            Kind::FlagNotBoolean { flag, .. } => format!("write {flag}, {flag}=true or {flag}=false"),
            Kind::NotJson(name) => format!("write the words as a JSON array: {name} [\"/bin/sh\", \"-c\"]"),
            Kind::FromArguments => "write FROM image, or FROM image AS name".to_owned(),
            Kind::StageName(_) => {
                "a stage name begins with a letter and goes on with letters, digits, '-', '_' and '.'".to_owned()
            }
            Kind::NoStage => "begin the stage with FROM; only ARG may stand before it".to_owned(),
            Kind::NoDestination(name) => format!("write {name} source… destination"),
            Kind::BlankName(name) => format!("write {name} name=value"),
            Kind::HealthType(_) | Kind::HealthNoCommand => {
                "write HEALTHCHECK CMD command, or HEALTHCHECK NONE".to_owned()
            }
            Kind::Duration(DurationError::MissingUnit(value)) => {
                format!("give the unit: {value}s for seconds, {value}m for minutes")
            }
            Kind::Network(_) => "the modes are default, none and host".to_owned(),
            Kind::Security(_) => "the modes are sandbox and insecure".to_owned(),
            Kind::Mount(error) => return error.help(),
            _ => return None,
        };
        Some(text)
    }
}

impl From<InstructionErrorKind> for InstructionError {
    fn from(kind: InstructionErrorKind) -> Self {
        kind.at(Focus::Whole)
    }
}

pub(super) fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default()
}
