//! What a build reports while it runs, in the shape that BuildKit's clients know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use onetag_engine::build::Class;
use onetag_oci::Digest;
use serde::{Serialize, Serializer};

/// A batch of news.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Update {
    /// Steps that appeared, started or ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vertexes: Vec<Vertex>,
    /// Parts of steps that moved on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<Status>,
    /// Output of steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<Log>,
    /// Warnings about steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Vertex {
    /// What identifies it.
    pub digest: Digest,
    /// The steps it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Digest>,
    /// Its name for people.
    pub name: String,
    /// When it started, if it has.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_time")]
    pub started: Option<Timestamp>,
    /// When it ended, if it has.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_time")]
    pub completed: Option<Timestamp>,
    /// Whether its result was there already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Why it failed; empty when it did not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// How heavy it is, of a step of the graph.
    #[serde(skip)]
    pub class: Option<Class>,
    /// The platforms whose images need it.
    #[serde(skip)]
    pub targets: Vec<String>,
}

impl Vertex {
    /// Whether it was given up because something else failed.
    pub fn is_canceled(&self) -> bool {
        self.error.ends_with("context canceled")
    }
}

/// A part of a step: a transfer, a phase of an export.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its name, unique within the step.
    pub id: String,
    /// The step.
    pub vertex: Digest,
    /// What is done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How much there is to do; zero when that is not known.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// How much is done.
    pub current: u64,
    /// When this was so.
    #[serde(serialize_with = "time")]
    pub timestamp: Timestamp,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_time")]
    pub started: Option<Timestamp>,
    /// When it ended, if it has.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_time")]
    pub completed: Option<Timestamp>,
}

/// Output of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Log {
    /// The step.
    pub vertex: Digest,
    /// 1 for standard output, 2 for standard error.
    pub stream: u8,
    /// What it wrote.
    #[serde(serialize_with = "base64")]
    pub data: Vec<u8>,
    /// When.
    #[serde(serialize_with = "time")]
    pub timestamp: Timestamp,
}

/// A warning about a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warning {
    /// The step.
    pub vertex: Digest,
    /// How bad, one being the mildest.
    pub level: u8,
    /// One line.
    #[serde(serialize_with = "base64_text")]
    pub short: String,
    /// More lines.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "base64_texts")]
    pub detail: Vec<String>,
    /// Where to read more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn optional_time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

fn base64<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(data))
}

fn base64_text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    base64(text.as_bytes(), serializer)
}

fn base64_texts<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|text| BASE64.encode(text)))
}
