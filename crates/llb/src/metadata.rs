//! What is known about a vertex beside its operation; it does not count for the digest.

use std::collections::BTreeMap;

/// Metadata of a vertex (`pb.OpMetadata`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpMetadata {
    /// The vertex must be executed even if the cache holds its result.
    pub ignore_cache: bool,
    /// Texts that no builder interprets: [`OpMetadata::NAME`], [`OpMetadata::COMMAND`] and others.
    pub description: BTreeMap<String, String>,
    /// Whether the result belongs into an exported cache; `None` leaves it to the build.
    pub export_cache: Option<bool>,
    /// Capabilities that the vertex needs, see [`crate::capability`].
    pub caps: BTreeMap<String, bool>,
    /// The group in which progress shows the vertex.
    pub progress_group: Option<ProgressGroup>,
}

/// Vertices that progress shows as one (`pb.ProgressGroup`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressGroup {
    /// Identifies the group within the build.
    pub id: String,
    /// What is shown.
    pub name: String,
    /// The group is not started by this vertex alone.
    pub weak: bool,
}

impl OpMetadata {
    /// The description's key for the name that progress shows.
    pub const NAME: &'static str = "llb.customname";
    /// The description's key for the Dockerfile instruction as it was written.
    pub const COMMAND: &'static str = "com.docker.dockerfile.v1.command";

    /// The name that progress shows, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.description.get(Self::NAME).map(String::as_str)
    }

    /// The Dockerfile instruction as it was written, if one was given.
    pub fn command(&self) -> Option<&str> {
        self.description.get(Self::COMMAND).map(String::as_str)
    }

    /// Sets the name that progress shows.
    pub fn set_name(&mut self, name: impl Into<String>) {
        self.description.insert(Self::NAME.to_owned(), name.into());
    }

    /// Adds a capability.
    pub fn add_capability(&mut self, name: &str) {
        self.caps.insert(name.to_owned(), true);
    }

    /// Adds what `later` says, which wins where both speak.
    pub fn merge(&mut self, later: &OpMetadata) {
        self.ignore_cache |= later.ignore_cache;
        self.description.extend(later.description.iter().map(|(key, value)| (key.clone(), value.clone())));
        self.export_cache = later.export_cache.or(self.export_cache);
        self.caps.extend(later.caps.keys().map(|name| (name.clone(), true)));
        if later.progress_group.is_some() {
            self.progress_group.clone_from(&later.progress_group);
        }
    }
}
