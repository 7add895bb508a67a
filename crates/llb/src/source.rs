//! Sources, merges, differences, nested builds, and where in a text a vertex comes from.

use std::collections::BTreeMap;

use onetag_oci::Digest;

use crate::Definition;

/// Something brought in from outside (`pb.SourceOp`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOp {
    /// `docker-image://…`, `local://…`, `git://…`, `http(s)://…`, `oci-layout://…`.
    pub identifier: String,
    /// Options, see [`attribute`].
    pub attributes: BTreeMap<String, String>,
}

/// Names of source options (`solver/pb/attr.go`).
pub mod attribute {
    /// `.git` stays in the checkout.
    pub const KEEP_GIT_DIR: &str = "git.keepgitdir";
    /// The URL to clone from.
    pub const FULL_REMOTE_URL: &str = "git.fullurl";
    /// Name of the secret with a whole Authorization header.
    pub const AUTH_HEADER_SECRET: &str = "git.authheadersecret";
    /// Name of the secret with a token.
    pub const AUTH_TOKEN_SECRET: &str = "git.authtokensecret";
    /// SSH host keys.
    pub const KNOWN_SSH_HOSTS: &str = "git.knownsshhosts";
    /// Identifier of the SSH agent.
    pub const MOUNT_SSH_SOCK: &str = "git.mountsshsock";
    /// The commit (or a prefix of it) that the ref must be.
    pub const GIT_CHECKSUM: &str = "git.checksum";
    /// Submodules are not fetched.
    pub const GIT_SKIP_SUBMODULES: &str = "git.skipsubmodules";
    /// `commit`: modification times are those of the commit.
    pub const GIT_MTIME: &str = "git.mtime";
    /// The pinned commit is fetched without asking for the ref.
    pub const GIT_FETCH_BY_COMMIT: &str = "git.fetchbycommit";
    /// Identifier of the client session.
    pub const LOCAL_SESSION: &str = "local.session";
    /// Identifier that makes a local source unique to its build.
    pub const LOCAL_UNIQUE: &str = "local.unique";
    /// JSON list of patterns to include.
    pub const INCLUDE_PATTERNS: &str = "local.includepattern";
    /// JSON list of paths that are needed, symbolic links followed.
    pub const FOLLOW_PATHS: &str = "local.followpaths";
    /// JSON list of patterns to leave out.
    pub const EXCLUDE_PATTERNS: &str = "local.excludepatterns";
    /// Which transfers may be shared.
    pub const SHARED_KEY_HINT: &str = "local.sharedkeyhint";
    /// Digest that the content must have.
    pub const HTTP_CHECKSUM: &str = "http.checksum";
    /// Name of the file that is made.
    pub const HTTP_FILENAME: &str = "http.filename";
    /// How an image is resolved: `default`, `pull`, `local`.
    pub const IMAGE_RESOLVE_MODE: &str = "image.resolvemode";
    /// Identifier of the client session of an OCI layout.
    pub const OCI_SESSION: &str = "oci.session";
    /// Identifier of an OCI layout.
    pub const OCI_STORE: &str = "oci.store";
}

/// Results laid over each other, the last on top (`pb.MergeOp`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeOp {
    /// Positions of the op's inputs.
    pub inputs: Vec<usize>,
}

/// What `upper` adds to `lower` (`pb.DiffOp`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiffOp {
    /// Position of the lower input; `None` for an empty file system.
    pub lower: Option<usize>,
    /// Position of the upper input; `None` for an empty file system.
    pub upper: Option<usize>,
}

/// A nested build (`pb.BuildOp`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOp {
    /// Position of the input that is the builder; `None` for the one at work.
    pub builder: Option<usize>,
    /// Positions of the op's inputs by name.
    pub inputs: BTreeMap<String, usize>,
    /// The definition, if it is not in an input.
    pub definition: Option<Definition>,
    /// Options.
    pub attributes: BTreeMap<String, String>,
}

/// A text that vertices come from (`pb.SourceInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFile {
    /// Name of the file.
    pub filename: String,
    /// Its language, `Dockerfile`.
    pub language: String,
    /// Its content.
    pub data: Vec<u8>,
}

/// Where in [`SourceFile`]s a vertex comes from (`pb.Location`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Position in [`SourceMap::files`].
    pub file: usize,
    /// The ranges.
    pub ranges: Vec<SourceRange>,
}

/// A range of a text, lines counted from 1, characters from 0 (`pb.Range`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceRange {
    /// First position.
    pub start: Position,
    /// Last position.
    pub end: Position,
}

/// A position in a text (`pb.Position`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Character, from 0.
    pub character: u32,
}

/// Texts and which vertex comes from where (`pb.Source`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    /// The texts.
    pub files: Vec<SourceFile>,
    /// Locations by vertex.
    pub locations: BTreeMap<Digest, Vec<Location>>,
}
