//! What an `--output` asks for, read from its attributes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onetag_oci::{Compression, Platform, Reference, ReferenceError};
use onetag_store::layer::CompressionOptions;

use super::SharedWriter;
use crate::flags::{Annotation, AnnotationTarget};

/// Attributes that are understood and change nothing here.
const WITHOUT_EFFECT: [&str; 8] = [
    "unpack",
    "store",
    "registry.insecure",
    "dangling-name-prefix",
    "prefer-nondist-layers",
    "buildinfo",
    "buildinfo-attrs",
    "name-canonical",
];

/// Why an `--output` cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// A kind of output that does not exist.
    #[error("unknown output type {kind:?}: local, tar, oci, docker, image, registry and cacheonly exist")]
    UnknownKind {
        /// The kind.
        kind: String,
    },
    /// An attribute's value that means nothing.
    #[error("invalid value {value:?} of the output attribute {name}")]
    Value {
        /// The attribute.
        name: String,
        /// Its value.
        value: String,
    },
    /// A compression that BuildKit has.
    #[error("compression estargz is not supported: layers are written as gzip, zstd or uncompressed")]
    Estargz,
    /// An attribute that this kind of output does not have.
    #[error("unknown attribute {name} of output type {kind}")]
    UnknownAttribute {
        /// The kind.
        kind: String,
        /// The attribute.
        name: String,
    },
    /// A name that is no reference.
    #[error("invalid output name {name:?}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// A folder or file is needed.
    #[error("dest is required for {kind} exporter")]
    NoDestination {
        /// The kind.
        kind: String,
    },
}

/// Where an export is written to.
#[derive(Clone)]
pub enum Destination {
    /// A file or folder of the host.
    Path(PathBuf),
    /// A stream, such as standard output.
    Stream(SharedWriter),
}

/// What is made of a result.
#[derive(Clone)]
pub enum Target {
    /// An image in registries.
    Push,
    /// An image in the local store.
    Store,
    /// An OCI layout, as an archive or a folder.
    Oci {
        /// Where.
        destination: Destination,
        /// Whether as an archive.
        tar: bool,
    },
    /// Docker's archive.
    Docker(Destination),
    /// The files, in a folder.
    Files(PathBuf),
    /// The files, as an archive.
    Tar(Destination),
    /// Nothing.
    CacheOnly,
}

/// One output of a build.
#[derive(Clone)]
pub struct ExportOptions {
    /// What is made.
    pub target: Target,
    /// The names that it gets; those of the build where empty.
    pub names: Vec<Reference>,
    /// How new layers are compressed.
    pub compression: CompressionOptions,
    /// Whether layers of base images are recompressed too.
    pub force_compression: bool,
    /// Whether documents have OCI's media types rather than Docker's.
    pub oci_media_types: bool,
    /// Whether attestation manifests are artifacts that refer to their images; without, they look like images.
    pub oci_artifact: bool,
    /// Whether files of new layers are not younger than SOURCE_DATE_EPOCH, where that is given.
    pub rewrite_timestamp: bool,
    /// Whether no tag is moved.
    pub push_by_digest: bool,
    /// Whether files of several platforms get folders of their own.
    pub platform_split: Option<bool>,
    /// What the names of statements beside files begin with.
    pub attestation_prefix: String,
    /// Annotations of this output.
    pub annotations: Vec<Annotation>,
}

impl ExportOptions {
    /// An output without any attribute.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            names: Vec::new(),
            compression: CompressionOptions::default(),
            force_compression: false,
            oci_media_types: true,
            oci_artifact: true,
            rewrite_timestamp: true,
            push_by_digest: false,
            platform_split: None,
            attestation_prefix: String::new(),
            annotations: Vec::new(),
        }
    }

    /// Tells before anything is built what would fail after it. `tags` are the build's names, `platforms` how many it is for.
    pub(crate) fn check(&self, tags: &[Reference], platforms: usize) -> Result<(), super::ExportError> {
        match self.target {
            Target::Push if self.names.is_empty() && tags.is_empty() => Err(super::ExportError::NoName),
            Target::Docker(_) if platforms > 1 => Err(super::ExportError::ManifestList),
            _ => Ok(()),
        }
    }

    /// Reads an `--output`. `stream` is where a destination of `-` leads.
    ///
    /// # Errors
    /// An unknown kind or attribute, a value that means nothing, a destination that is missing.
    pub fn parse(output: &crate::flags::Output, stream: Option<&SharedWriter>) -> Result<Vec<Self>, OptionError> {
        let mut attributes = output.attributes.clone();
        let kind = output.kind.as_str();
        let destination = destination(output, stream)?;
        let needed = || destination.clone().ok_or_else(|| OptionError::NoDestination { kind: kind.to_owned() });
        let push = flag(&mut attributes, "push")?.unwrap_or(kind == "registry");
        let store = flag(&mut attributes, "store")?.unwrap_or(!push);
        let tar = flag(&mut attributes, "tar")?.unwrap_or(true);
        let targets = match kind {
            "image" | "registry" => {
                let targets = [(push, Target::Push), (store, Target::Store)];
                targets.into_iter().filter(|(wanted, _)| *wanted).map(|(_, target)| target).collect()
            }
            "docker" => match &destination {
                Some(destination) => vec![Target::Docker(destination.clone())],
                None => vec![Target::Store],
            },
            "oci" => vec![Target::Oci { destination: needed()?, tar }],
            "local" => match needed()? {
                Destination::Path(path) => vec![Target::Files(path)],
                Destination::Stream(stream) => vec![Target::Tar(Destination::Stream(stream))],
            },
            "tar" => vec![Target::Tar(needed()?)],
            "cacheonly" => vec![Target::CacheOnly],
            _ => return Err(OptionError::UnknownKind { kind: kind.to_owned() }),
        };
        let mut options = Self::new(Target::CacheOnly);
        options.read(kind, attributes)?;
        Ok(targets.into_iter().map(|target| Self { target, ..options.clone() }).collect())
    }

    fn read(&mut self, kind: &str, mut attributes: BTreeMap<String, String>) -> Result<(), OptionError> {
        if let Some(names) = attributes.remove("name") {
            for name in names.split(',').filter(|name| !name.is_empty() && *name != "*") {
                let reference =
                    Reference::parse(name).map_err(|source| OptionError::Name { name: name.to_owned(), source })?;
                self.names.push(reference);
            }
        }
        if let Some(value) = attributes.remove("compression") {
            self.compression.compression = match value.as_str() {
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                "uncompressed" => Compression::None,
                "estargz" => return Err(OptionError::Estargz),
                _ => return Err(OptionError::Value { name: "compression".to_owned(), value }),
            };
        }
        if let Some(value) = attributes.remove("compression-level") {
            let level =
                value.parse().map_err(|_| OptionError::Value { name: "compression-level".to_owned(), value })?;
            self.compression.level = Some(level);
        }
        self.force_compression = flag(&mut attributes, "force-compression")?.unwrap_or_default();
        self.oci_media_types = flag(&mut attributes, "oci-mediatypes")?.unwrap_or(true);
        self.oci_artifact = flag(&mut attributes, "oci-artifact")?.unwrap_or(true);
        self.rewrite_timestamp = flag(&mut attributes, "rewrite-timestamp")?.unwrap_or(true);
        self.push_by_digest = flag(&mut attributes, "push-by-digest")?.unwrap_or_default();
        self.platform_split = flag(&mut attributes, "platform-split")?;
        self.attestation_prefix = attributes.remove("attestation-prefix").unwrap_or_default();
        for (name, value) in attributes {
            if let Some(annotation) = annotation(&name, &value) {
                self.annotations.push(annotation);
            } else if !WITHOUT_EFFECT.contains(&name.as_str()) && !name.starts_with("attest") {
                return Err(OptionError::UnknownAttribute { kind: kind.to_owned(), name });
            }
        }
        Ok(())
    }
}

fn destination(
    output: &crate::flags::Output,
    stream: Option<&SharedWriter>,
) -> Result<Option<Destination>, OptionError> {
    match output.destination.as_str() {
        "" => Ok(None),
        "-" => match stream {
            Some(stream) => Ok(Some(Destination::Stream(stream.clone()))),
            None => Err(OptionError::NoDestination { kind: output.kind.clone() }),
        },
        path => Ok(Some(Destination::Path(path.into()))),
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it; no value is true.
fn flag(attributes: &mut BTreeMap<String, String>, name: &str) -> Result<Option<bool>, OptionError> {
    let Some(value) = attributes.remove(name) else { return Ok(None) };
    match value.as_str() {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        _ => Err(OptionError::Value { name: name.to_owned(), value }),
    }
}

/// `annotation[-TARGET][\[PLATFORM\]].KEY`
fn annotation(name: &str, value: &str) -> Option<Annotation> {
    let rest = name.strip_prefix("annotation")?;
    let (head, key) = match rest.split_once("].") {
        Some((head, key)) => (head, key),
        None => rest.split_once('.')?,
    };
    let (target, platform) = match head.split_once('[') {
        Some((target, platform)) => (target, Some(platform.parse::<Platform>().ok()?)),
        None => (head, None),
    };
    let target = match target.strip_prefix('-').unwrap_or(target) {
        "" => None,
        "index" => Some(AnnotationTarget::Index),
        "index-descriptor" => Some(AnnotationTarget::IndexDescriptor),
        "manifest" => Some(AnnotationTarget::Manifest),
        "manifest-descriptor" => Some(AnnotationTarget::ManifestDescriptor),
        _ => return None,
    };
    Some(Annotation { target, platform, key: key.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::parse_outputs;

    fn parse(text: &str) -> Result<Vec<ExportOptions>, OptionError> {
        ExportOptions::parse(&parse_outputs(&[text]).unwrap()[0], None)
    }

    #[test]
    fn all_attributes_of_an_image_are_heard() {
        let text = "type=image,\"name=app:1,other/app\",push=true,store=true,compression=zstd,compression-level=9,\
                    force-compression=true,oci-mediatypes=false,rewrite-timestamp=true,push-by-digest=true,\
                    name-canonical=true,unpack=true,annotation-index.a=b";
        let outputs = parse(text).unwrap();
        assert!(matches!(outputs[0].target, Target::Push) && matches!(outputs[1].target, Target::Store));
        for options in outputs {
            let names: Vec<String> = options.names.iter().map(Reference::familiar).collect();
            assert_eq!(names, ["app:1", "other/app"]);
            let compression = CompressionOptions { compression: Compression::Zstd, level: Some(9) };
            assert_eq!(options.compression, compression);
            assert!(options.force_compression && options.rewrite_timestamp && options.push_by_digest);
            assert!(!options.oci_media_types);
            assert_eq!(options.annotations.len(), 1);
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let refused = |text: &str| parse(text).err().unwrap().to_string();
        assert!(refused("type=image,compression=estargz").contains("estargz is not supported"));
        assert!(refused("type=image,compression-level=high").contains("compression-level"));
        assert!(refused("type=image,compresion=gzip").contains("unknown attribute compresion"));
        assert!(refused("type=nowhere").contains("cacheonly"));
        assert!(refused("type=oci").contains("dest is required"));
    }
}
