//! Builders: named records over the one store.
//!
//! ```text
//! <root>/builders/<name>.json   a record
//! <root>/builders/.current      the name of the current one
//! ```

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use onetag_oci::Platform;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The builder that is always there.
pub const DEFAULT_BUILDER: &str = "default";
/// The driver of all builders: this process.
pub const LOCAL_DRIVER: &str = "local";

/// A builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    /// Its name.
    pub name: String,
    /// Its nodes, all of them this host.
    pub nodes: Vec<Node>,
    /// When it last built, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<String>,
}

/// A node of a builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Platforms that were fixed for it, preferred to those found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
}

/// Why an operation on builders failed.
#[derive(Debug, Error)]
pub enum BuilderError {
    /// There is none of that name.
    #[error("no builder {name:?} found")]
    NotFound {
        /// The name.
        name: String,
    },
    /// There is one of that name already.
    #[error(
        "existing instance for {name:?} but no append mode, specify the node name to make changes for existing instances"
    )]
    Exists {
        /// The name.
        name: String,
    },
    /// Such a name cannot be given.
    #[error("invalid builder name {name:?}: use letters, digits, dots, dashes and underscores, a letter first")]
    Name {
        /// The name.
        name: String,
    },
    /// The name belongs to the builder that is always there.
    #[error("{name:?} is a reserved name and cannot be used to identify builder instance")]
    Reserved {
        /// The name.
        name: String,
    },
    /// The builder that is always there cannot be removed.
    #[error("builder {DEFAULT_BUILDER:?} cannot be removed")]
    Default,
    /// The last node was taken from a builder, or one that it has not.
    #[error("unable to find node {node:?} for builder {name:?}")]
    Node {
        /// The builder.
        name: String,
        /// The node.
        node: String,
    },
    /// The record cannot be read.
    #[error("{} is no builder record", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file system did not play along.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

type Result<T, E = BuilderError> = std::result::Result<T, E>;

/// What `create` is to do.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The name; one is made up where it is absent.
    pub name: Option<String>,
    /// The node's name; made of the builder's where it is absent.
    pub node: Option<String>,
    /// Platforms fixed for the node.
    pub platforms: Vec<Platform>,
    /// Add a node to an existing builder.
    pub append: bool,
    /// Take a node from an existing builder.
    pub leave: bool,
}

/// The builders of a store.
#[derive(Clone, Debug)]
pub struct Builders {
    folder: PathBuf,
}

impl Builders {
    /// The builders recorded under a store's root. Nothing is read yet.
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join("builders") }
    }

    /// All builders, the default one last.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn list(&self) -> Result<Vec<Builder>> {
        let mut names = Vec::new();
        match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            entries => {
                for entry in self.at(entries, "list")? {
                    let name = self.at(entry, "list")?.file_name();
                    names.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
                }
            }
        }
        names.retain(|name| is_valid(name));
        names.sort();
        let mut builders = names.iter().map(|name| self.read(name)).collect::<Result<Vec<_>>>()?;
        builders.push(default());
        Ok(builders)
    }

    /// The current builder's name.
    ///
    /// # Errors
    /// When the record of it cannot be read.
    pub fn current(&self) -> Result<String> {
        let path = self.folder.join(".current");
        match fs::read_to_string(&path) {
            Ok(name) if self.path(name.trim()).exists() => Ok(name.trim().to_owned()),
            Ok(_) => Ok(DEFAULT_BUILDER.to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(DEFAULT_BUILDER.to_owned()),
            Err(source) => Err(BuilderError::Io { action: "read", path, source }),
        }
    }

    /// The builder of that name, or the current one.
    ///
    /// # Errors
    /// [`BuilderError::NotFound`].
    pub fn get(&self, name: Option<&str>) -> Result<Builder> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.current()?,
        };
        if name == DEFAULT_BUILDER { Ok(default()) } else { self.read(&name) }
    }

    /// Makes a builder, or changes the nodes of one.
    ///
    /// # Errors
    /// [`BuilderError::Exists`] when there is one and neither a node nor `append` was given; names that cannot be.
    pub fn create(&self, options: &CreateOptions) -> Result<Builder> {
        let name = options.name.clone().unwrap_or_else(made_up_name);
        if name == DEFAULT_BUILDER {
            return Err(BuilderError::Reserved { name });
        }
        if !is_valid(&name) {
            return Err(BuilderError::Name { name });
        }
        let existing = match self.read(&name) {
            Ok(builder) => Some(builder),
            Err(BuilderError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        if options.leave {
            let node = options.node.clone().unwrap_or_default();
            let mut builder = existing.ok_or_else(|| BuilderError::NotFound { name: name.clone() })?;
            let before = builder.nodes.len();
            builder.nodes.retain(|known| known.name != node);
            if builder.nodes.len() == before || builder.nodes.is_empty() {
                return Err(BuilderError::Node { name, node });
            }
            return self.write(builder);
        }
        let mut builder = match existing {
            Some(_) if !options.append && options.node.is_none() => return Err(BuilderError::Exists { name }),
            Some(builder) => builder,
            None => Builder { name: name.clone(), nodes: Vec::new(), last_activity: None },
        };
        let node = options.node.clone().unwrap_or_else(|| format!("{name}{}", builder.nodes.len()));
        let node = Node { name: node, platforms: options.platforms.clone() };
        match builder.nodes.iter_mut().find(|known| known.name == node.name) {
            Some(known) => *known = node,
            None => builder.nodes.push(node),
        }
        self.write(builder)
    }

    /// Makes a builder the current one.
    ///
    /// # Errors
    /// [`BuilderError::NotFound`].
    pub fn make_current(&self, name: &str) -> Result<()> {
        let builder = self.get(Some(name))?;
        self.replace(".current", builder.name.as_bytes())
    }

    /// Removes a builder's record. The store is not touched.
    ///
    /// # Errors
    /// [`BuilderError::NotFound`] and [`BuilderError::Default`].
    pub fn remove(&self, name: &str) -> Result<()> {
        if name == DEFAULT_BUILDER {
            return Err(BuilderError::Default);
        }
        self.read(name)?;
        let path = self.path(name);
        fs::remove_file(&path).map_err(|source| BuilderError::Io { action: "remove", path, source })
    }

    /// Records that a builder was used at `time`, RFC 3339. The default one keeps no record.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn touch(&self, name: &str, time: String) -> Result<()> {
        if name == DEFAULT_BUILDER {
            return Ok(());
        }
        let mut builder = self.read(name)?;
        builder.last_activity = Some(time);
        self.write(builder).map(drop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    fn at<T>(&self, result: io::Result<T>, action: &'static str) -> Result<T> {
        result.map_err(|source| BuilderError::Io { action, path: self.folder.clone(), source })
    }

    fn read(&self, name: &str) -> Result<Builder> {
        let not_found = || BuilderError::NotFound { name: name.to_owned() };
        if !is_valid(name) {
            return Err(not_found());
        }
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| BuilderError::Record { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(not_found()),
            Err(source) => Err(BuilderError::Io { action: "read", path, source }),
        }
    }

    fn write(&self, builder: Builder) -> Result<Builder> {
        self.replace(&format!("{}.json", builder.name), &onetag_oci::go_json(&builder))?;
        Ok(builder)
    }

    fn replace(&self, file: &str, content: &[u8]) -> Result<()> {
        self.at(fs::create_dir_all(&self.folder), "make folder")?;
        let path = self.folder.join(file);
        let temporary = self.folder.join(format!(".{file}.{}", std::process::id()));
        fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, &path)).map_err(|source| BuilderError::Io {
            action: "write",
            path,
            source,
        })
    }
}

fn default() -> Builder {
    let node = Node { name: DEFAULT_BUILDER.to_owned(), platforms: Vec::new() };
    Builder { name: DEFAULT_BUILDER.to_owned(), nodes: vec![node], last_activity: None }
}

fn is_valid(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Two words, as Docker makes names up.
fn made_up_name() -> String {
    const FIRST: &[&str] =
        &["brisk", "calm", "deft", "eager", "fair", "keen", "lucid", "merry", "nimble", "quiet", "swift", "warm"];
    const SECOND: &[&str] =
        &["anvil", "beacon", "bridge", "canal", "dock", "ferry", "harbor", "jetty", "keel", "pier", "quay", "wharf"];
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as usize);
    let seed = (seed / 1000) ^ std::process::id() as usize;
    format!("{}_{}", FIRST[seed % FIRST.len()], SECOND[seed / FIRST.len() % SECOND.len()])
}

#[cfg(test)]
mod tests {
    use super::{BuilderError, Builders, CreateOptions};

    fn named(name: &str) -> CreateOptions {
        CreateOptions { name: Some(name.to_owned()), ..CreateOptions::default() }
    }

    #[test]
    fn builders_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let builders = Builders::new(folder.path());
        assert_eq!(builders.current().unwrap(), "default");
        builders.create(&named("multi")).unwrap();
        let twice = builders.create(&named("multi")).unwrap_err();
        assert_eq!(
            twice.to_string(),
            "existing instance for \"multi\" but no append mode, specify the node name to make changes for existing instances"
        );
        builders.make_current("multi").unwrap();
        assert_eq!(builders.current().unwrap(), "multi");
        let append = CreateOptions { append: true, ..named("multi") };
        assert_eq!(builders.create(&append).unwrap().nodes.len(), 2);
        let names: Vec<_> = builders.list().unwrap().into_iter().map(|builder| builder.name).collect();
        assert_eq!(names, ["multi", "default"]);
        builders.remove("multi").unwrap();
        assert_eq!(builders.current().unwrap(), "default");
        let error = builders.get(Some("nosuch")).unwrap_err();
        assert_eq!(error.to_string(), "no builder \"nosuch\" found");
        assert!(matches!(builders.remove("default"), Err(BuilderError::Default)));
    }

    #[test]
    fn names_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let builders = Builders::new(folder.path());
        for name in ["../x", "", ".current", "a/b", "1a", "default"] {
            assert!(builders.create(&named(name)).is_err(), "{name}");
        }
        assert!(matches!(builders.get(Some("../x")), Err(BuilderError::NotFound { .. })));
        assert!(builders.create(&CreateOptions::default()).is_ok());
    }
}
