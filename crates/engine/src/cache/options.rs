//! What `--cache-to` and `--cache-from` ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onetag_dockerfile::values::parse_bool;
use onetag_oci::{Compression, Digest, Reference, ReferenceError};
use onetag_store::layer::CompressionOptions;

use crate::flags::CacheEntry;

/// Kinds of caches that other builders have and that are services of theirs or need credentials of their own.
const ELSEWHERE: [&str; 3] = ["gha", "s3", "azblob"];
/// The name that a cache in a folder has where none is given.
const DEFAULT_TAG: &str = "latest";

/// Why a `--cache-to` or `--cache-from` cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CacheOptionError {
    /// A kind that does not exist.
    #[error("unknown cache type {kind:?}: registry, local and inline exist")]
    Kind {
        /// The kind.
        kind: String,
    },
    /// An attribute that the kind needs.
    #[error("{flag} type={kind} requires {name}=…")]
    Missing {
        /// `--cache-to` or `--cache-from`.
        flag: &'static str,
        /// The kind.
        kind: String,
        /// The attribute.
        name: &'static str,
    },
    /// An attribute's value that means nothing.
    #[error("invalid value {value:?} of the cache attribute {name}")]
    Value {
        /// The attribute.
        name: String,
        /// Its value.
        value: String,
    },
    /// An attribute that this kind does not have.
    #[error("unknown attribute {name} of {flag} type={kind}")]
    Attribute {
        /// `--cache-to` or `--cache-from`.
        flag: &'static str,
        /// The kind.
        kind: String,
        /// The attribute.
        name: String,
    },
    /// Something that others can and this program does not.
    #[error("the cache attribute {name} is not supported: {why}")]
    Refused {
        /// The attribute.
        name: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A reference that is none.
    #[error("invalid cache reference {reference:?}")]
    Reference {
        /// As given.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
}

/// Which results a cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those whose layers are in the image.
    #[default]
    Min,
    /// Those of all steps.
    Max,
}

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// In a registry, under a name of its own or in an image.
    Registry(Reference),
    /// In an OCI layout.
    Local {
        /// Its folder.
        folder: PathBuf,
        /// The name in it.
        tag: String,
        /// The manifest in it, whatever names it.
        digest: Option<Digest>,
    },
    /// In the config of the image that is built.
    Inline,
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => formatter.write_str(&reference.familiar()),
            Self::Local { folder, tag, digest: None } => write!(formatter, "{}:{tag}", folder.display()),
            Self::Local { folder, digest: Some(digest), .. } => write!(formatter, "{}@{digest}", folder.display()),
            Self::Inline => formatter.write_str("inline"),
        }
    }
}

/// One `--cache-to`.
#[derive(Clone, Debug)]
pub struct CacheExport {
    /// Where it goes.
    pub place: CachePlace,
    /// What it holds.
    pub mode: CacheMode,
    /// How layers that are not archives yet are compressed.
    pub compression: CompressionOptions,
    /// Whether failing to write it is no failure of the build.
    pub ignore_error: bool,
}

impl CacheExport {
    /// Whether results count that are in no image.
    pub(crate) fn is_of_all_steps(&self) -> bool {
        self.mode == CacheMode::Max && self.place != CachePlace::Inline
    }
}

/// One `--cache-from`.
#[derive(Clone, Debug)]
pub struct CacheImport {
    /// Where it comes from.
    pub place: CachePlace,
}

/// The attributes of one flag that are not taken yet.
struct Attributes<'a> {
    flag: &'static str,
    kind: &'a str,
    left: BTreeMap<String, String>,
    notes: &'a mut Vec<String>,
}

impl Attributes<'_> {
    fn take(&mut self, name: &str) -> Option<String> {
        self.left.remove(name).filter(|value| !value.is_empty())
    }

    fn needed(&mut self, name: &'static str) -> Result<String, CacheOptionError> {
        let (flag, kind) = (self.flag, self.kind.to_owned());
        self.take(name).ok_or(CacheOptionError::Missing { flag, kind, name })
    }

    fn boolean(&mut self, name: &str) -> Result<Option<bool>, CacheOptionError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let name = name.to_owned();
        parse_bool(&value).map(Some).ok_or(CacheOptionError::Value { name, value })
    }

    fn reference(&mut self) -> Result<Reference, CacheOptionError> {
        let text = self.needed("ref")?;
        let parsed = Reference::parse(&text).map(Reference::with_default_tag);
        parsed.map_err(|source| CacheOptionError::Reference { reference: text, source })
    }

    fn compression(&mut self) -> Result<CompressionOptions, CacheOptionError> {
        let mut options = CompressionOptions::default();
        if let Some(value) = self.take("compression") {
            options.compression = match value.as_str() {
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                "uncompressed" => Compression::None,
                _ => return Err(CacheOptionError::Value { name: "compression".to_owned(), value }),
            };
        }
        if let Some(value) = self.take("compression-level") {
            let level = value.parse();
            let name = "compression-level".to_owned();
            options.level = Some(level.map_err(|_| CacheOptionError::Value { name, value })?);
        }
        Ok(options)
    }

    /// What every kind takes and what changes nothing here.
    fn common(&mut self) -> Result<(), CacheOptionError> {
        if self.boolean("oci-mediatypes")? == Some(false) {
            let why = "a cache is an OCI artifact; leave it out";
            return Err(CacheOptionError::Refused { name: "oci-mediatypes", why });
        }
        if self.boolean("image-manifest")? == Some(false) {
            let flag = self.flag;
            self.notes.push(format!("{flag}: image-manifest=false: a cache always is a manifest, never an index"));
        }
        if self.boolean("registry.insecure")? == Some(true) {
            let flag = self.flag;
            self.notes.push(format!("{flag}: registry.insecure: plain HTTP is tried for loopback registries alone"));
        }
        // Layers that are archives already are kept as they are, with or without it.
        self.boolean("force-compression")?;
        Ok(())
    }

    fn finish(self) -> Result<(), CacheOptionError> {
        match self.left.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(CacheOptionError::Attribute { flag: self.flag, kind: self.kind.to_owned(), name }),
        }
    }
}

fn is_elsewhere(flag: &str, kind: &str, notes: &mut Vec<String>) -> bool {
    let is_known = ELSEWHERE.contains(&kind);
    if is_known {
        notes.push(format!("{flag} type={kind} does nothing here: type=registry and type=local keep caches"));
    }
    is_known
}

impl CacheExport {
    /// Reads all `--cache-to`. What is accepted without effect is said in `notes`.
    ///
    /// # Errors
    /// An unknown kind or attribute, a value that means nothing.
    pub fn parse(entries: &[CacheEntry], notes: &mut Vec<String>) -> Result<Vec<Self>, CacheOptionError> {
        let mut exports = Vec::new();
        for entry in entries {
            if !is_elsewhere("--cache-to", &entry.kind, notes) {
                exports.push(Self::parse_one(entry, notes)?);
            }
        }
        Ok(exports)
    }

    fn parse_one(entry: &CacheEntry, notes: &mut Vec<String>) -> Result<Self, CacheOptionError> {
        let left = entry.attributes.clone();
        let mut attributes = Attributes { flag: "--cache-to", kind: &entry.kind, left, notes };
        let ignore_error = attributes.boolean("ignore-error")?.unwrap_or_default();
        let mut mode = match attributes.take("mode").as_deref() {
            None | Some("min") => CacheMode::Min,
            Some("max") => CacheMode::Max,
            Some(value) => return Err(CacheOptionError::Value { name: "mode".to_owned(), value: value.to_owned() }),
        };
        let place = match entry.kind.as_str() {
            "registry" => CachePlace::Registry(attributes.reference()?),
            "local" => {
                let folder = PathBuf::from(attributes.needed("dest")?);
                let tag = attributes.take("tag").unwrap_or_else(|| DEFAULT_TAG.to_owned());
                CachePlace::Local { folder, tag, digest: None }
            }
            "inline" => {
                if mode == CacheMode::Max {
                    attributes.notes.push(
                        "--cache-to type=inline: mode=max: an image holds its own layers only, so the mode is min"
                            .to_owned(),
                    );
                }
                mode = CacheMode::Min;
                CachePlace::Inline
            }
            kind => return Err(CacheOptionError::Kind { kind: kind.to_owned() }),
        };
        let compression = match place {
            CachePlace::Inline => CompressionOptions::default(),
            _ => attributes.compression()?,
        };
        attributes.common()?;
        attributes.finish()?;
        Ok(Self { place, mode, compression, ignore_error })
    }
}

impl CacheImport {
    /// Reads all `--cache-from`. What is accepted without effect is said in `notes`.
    ///
    /// # Errors
    /// As [`CacheExport::parse`].
    pub fn parse(entries: &[CacheEntry], notes: &mut Vec<String>) -> Result<Vec<Self>, CacheOptionError> {
        let mut imports = Vec::new();
        for entry in entries {
            if !is_elsewhere("--cache-from", &entry.kind, notes) {
                imports.push(Self::parse_one(entry, notes)?);
            }
        }
        Ok(imports)
    }

    fn parse_one(entry: &CacheEntry, notes: &mut Vec<String>) -> Result<Self, CacheOptionError> {
        let left = entry.attributes.clone();
        let mut attributes = Attributes { flag: "--cache-from", kind: &entry.kind, left, notes };
        let place = match entry.kind.as_str() {
            "registry" => CachePlace::Registry(attributes.reference()?),
            "local" => {
                let folder = PathBuf::from(attributes.needed("src")?);
                let tag = attributes.take("tag").unwrap_or_else(|| DEFAULT_TAG.to_owned());
                let digest = attributes.take("digest");
                let name = "digest".to_owned();
                let digest = digest.map(|value| match value.parse() {
                    Ok(digest) => Ok(digest),
                    Err(_) => Err(CacheOptionError::Value { name, value }),
                });
                CachePlace::Local { folder, tag, digest: digest.transpose()? }
            }
            "inline" => {
                return Err(CacheOptionError::Refused {
                    name: "type=inline",
                    why: "an inline cache is read with type=registry,ref=IMAGE",
                });
            }
            kind => return Err(CacheOptionError::Kind { kind: kind.to_owned() }),
        };
        attributes.common()?;
        attributes.finish()?;
        Ok(Self { place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::parse_cache;

    fn exports(text: &str) -> Result<(Vec<CacheExport>, Vec<String>), CacheOptionError> {
        let mut notes = Vec::new();
        let exports = CacheExport::parse(&parse_cache(&[text]).unwrap(), &mut notes)?;
        Ok((exports, notes))
    }

    fn imports(text: &str) -> Result<(Vec<CacheImport>, Vec<String>), CacheOptionError> {
        let mut notes = Vec::new();
        let imports = CacheImport::parse(&parse_cache(&[text]).unwrap(), &mut notes)?;
        Ok((imports, notes))
    }

    #[test]
    fn the_usual_spellings() {
        let (short, _) = exports("user/app:cache").unwrap();
        assert_eq!(short[0].place.to_string(), "user/app:cache");
        assert_eq!((short[0].mode, short[0].ignore_error), (CacheMode::Min, false));
        let all = "type=registry,ref=user/app:cache,mode=max,compression=zstd,compression-level=9,ignore-error=true,\
            oci-mediatypes=true,image-manifest=true,force-compression=true";
        let (long, notes) = exports(all).unwrap();
        assert_eq!((long[0].mode, long[0].ignore_error), (CacheMode::Max, true));
        assert_eq!((long[0].compression.compression, long[0].compression.level), (Compression::Zstd, Some(9)));
        assert!(notes.is_empty(), "{notes:?}");
        let (local, _) = exports("type=local,dest=/c").unwrap();
        assert_eq!(local[0].place.to_string(), "/c:latest");
        let (local, _) = imports(&format!("type=local,src=/c,digest={}", Digest::sha256(b""))).unwrap();
        assert!(matches!(&local[0].place, CachePlace::Local { digest: Some(_), .. }));
    }

    #[test]
    fn others_services_do_nothing_and_say_so() {
        for kind in ELSEWHERE {
            let (found, notes) = exports(&format!("type={kind},anything=at all")).unwrap();
            assert!(found.is_empty() && notes[0].contains(kind), "{notes:?}");
            let (found, notes) = imports(&format!("type={kind}")).unwrap();
            assert!(found.is_empty() && notes[0].contains(kind), "{notes:?}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        let refused = |text: &str| exports(text).unwrap_err().to_string();
        assert_eq!(refused("type=registry"), "--cache-to type=registry requires ref=…");
        assert_eq!(refused("type=local"), "--cache-to type=local requires dest=…");
        assert_eq!(refused("type=what"), "unknown cache type \"what\": registry, local and inline exist");
        assert_eq!(refused("type=inline,mode=big"), "invalid value \"big\" of the cache attribute mode");
        assert_eq!(refused("type=registry,ref=a,rof=b"), "unknown attribute rof of --cache-to type=registry");
        assert!(refused("type=registry,ref=a,oci-mediatypes=false").contains("OCI artifact"));
        assert!(imports("type=inline").unwrap_err().to_string().contains("type=registry,ref=IMAGE"));
    }
}
