//! Copying, making and removing files.

/// File actions, each on the result of an earlier one (`pb.FileOp`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOp {
    /// What is done, in order.
    pub actions: Vec<FileAction>,
}

/// One action of a [`FileOp`] (`pb.FileAction`).
///
/// Positions below the number of the op's inputs mean an input; position *inputs + n* means the result of action *n*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAction {
    /// What the action changes; `None` for an empty file system.
    pub input: Option<usize>,
    /// What a copy reads; `None` for an empty file system.
    pub secondary_input: Option<usize>,
    /// Which output of the op the result is; `None` for none.
    pub output: Option<usize>,
    /// What is done.
    pub kind: FileActionKind,
}

/// What a [`FileAction`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileActionKind {
    /// Copies from the secondary input.
    Copy(Box<CopyAction>),
    /// Makes a file.
    Mkfile(Mkfile),
    /// Makes a folder.
    Mkdir(Mkdir),
    /// Removes a file or folder.
    Rm(Rm),
    /// Makes a symbolic link.
    Symlink(Symlink),
}

/// A copy (`pb.FileActionCopy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyAction {
    /// Source path, absolute.
    pub source: String,
    /// Destination path, absolute; a trailing `/` or `/.` means a folder.
    pub destination: String,
    /// New owner.
    pub owner: Option<Chown>,
    /// New permission bits.
    pub mode: CopyMode,
    /// Symbolic links in the source path are followed.
    pub follow_symlink: bool,
    /// Of a folder only the content is copied.
    pub dir_copy_contents: bool,
    /// A source that is a tar archive is unpacked.
    pub attempt_unpack: bool,
    /// Missing folders of the destination are made.
    pub create_dest_path: bool,
    /// The source path is a pattern.
    pub allow_wildcard: bool,
    /// A pattern that matches nothing is no error.
    pub allow_empty_wildcard: bool,
    /// Modification time in nanoseconds since 1970; `None` keeps the source's.
    pub timestamp: Option<i64>,
    /// Only paths that match one of these are copied, when there are any.
    pub include_patterns: Vec<String>,
    /// Paths that match one of these are not copied.
    pub exclude_patterns: Vec<String>,
    /// A destination of another file type is replaced.
    pub always_replace_existing_dest_paths: bool,
    /// Paths that must be among the included ones.
    pub required_paths: Vec<String>,
}

/// Permission bits of copied files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CopyMode {
    /// As in the source.
    #[default]
    Keep,
    /// These bits.
    Octal(u32),
    /// A symbolic expression as `chmod` reads it.
    Symbolic(String),
}

/// A new file (`pb.FileActionMkFile`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mkfile {
    /// Path, absolute.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: Vec<u8>,
    /// Owner; root if absent.
    pub owner: Option<Chown>,
    /// Modification time in nanoseconds since 1970; `None` for now.
    pub timestamp: Option<i64>,
}

/// A new folder (`pb.FileActionMkDir`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mkdir {
    /// Path, absolute.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Missing parents are made.
    pub make_parents: bool,
    /// Owner; root if absent.
    pub owner: Option<Chown>,
    /// Modification time in nanoseconds since 1970; `None` for now.
    pub timestamp: Option<i64>,
}

/// A removal (`pb.FileActionRm`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rm {
    /// Path, absolute.
    pub path: String,
    /// Absence is no error.
    pub allow_not_found: bool,
    /// The path is a pattern.
    pub allow_wildcard: bool,
}

/// A new symbolic link (`pb.FileActionSymlink`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symlink {
    /// Where the link points.
    pub target: String,
    /// Where the link is made.
    pub path: String,
    /// Owner; root if absent.
    pub owner: Option<Chown>,
    /// Modification time in nanoseconds since 1970; `None` for now.
    pub timestamp: Option<i64>,
}

/// Owner and group (`pb.ChownOpt`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chown {
    /// Owner.
    pub user: Option<Owner>,
    /// Group.
    pub group: Option<Owner>,
}

/// A user or group (`pb.UserOpt`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// By number.
    Id(u32),
    /// By name, looked up in `/etc/passwd` or `/etc/group` of an input.
    Name {
        /// The name.
        name: String,
        /// Position of the input; `None` for an empty file system.
        input: Option<usize>,
    },
}
