//! `git://`: a commit of a repository, fetched with the git program and checked out once.
//!
//! ```text
//! <root>/git/<sha256 of the address>/
//!   lock                        held while anything below changes
//!   repository/                 bare, shallow; what was fetched so far
//!   home/                       what git takes for its user's home
//!   <commit>-<options>/         a checkout; never changed once it has its name
//! ```
//! Nothing here is needed again: a build without it fetches.
//!
//! Neither the address, nor a reference, nor what a repository holds can become an option of git, run a program or
//! leave the checkout: see [`command`] and the checks below.

mod command;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onetag_dockerfile::git::percent_decode;
use onetag_llb::{SourceOp, attribute};
use onetag_oci::Digest;
use onetag_solver::{Class, ExecContext, Kind, Op, OpError};
use rustix::fs::{AtFlags, FlockOperation, Timespec, Timestamps, UTIME_OMIT};

use self::command::{Git, redact};
use super::{Session, StepError};
use crate::context::LocalContext;
use crate::encoding::base64;
use crate::provenance::Pin;
use crate::snapshot::Artifact;

/// How deep folders of a checkout may nest where their times are set.
const DEPTH_LIMIT: usize = 200;

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git program.
    #[error("git is not installed: install it, or give the files as a local context")]
    NoProgram,
    /// The program does not start.
    #[error("cannot run {}", program.display())]
    Start {
        /// Where it is.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("git {action} failed: {message}")]
    Failed {
        /// The command.
        action: String,
        /// What it said last.
        message: String,
    },
    /// The build was cancelled.
    #[error("context canceled")]
    Cancelled,
    /// An address that git could misunderstand.
    #[error("invalid repository address {0:?}")]
    Address(String),
    /// A reference that git could misunderstand.
    #[error("invalid reference {0:?}")]
    Reference(String),
    /// The commit is not the one that was pinned.
    #[error("expected checksum to match {expected}, got {actual}")]
    Checksum {
        /// What was pinned.
        expected: String,
        /// The commit.
        actual: String,
    },
    /// The folder is not in the repository.
    #[error("invalid subdir {0:?}: not a directory of the repository")]
    Folder(String),
    /// Reading or writing failed.
    #[error("{action}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, GitError>;

/// See the module.
pub(super) struct GitSource {
    session: Arc<Session>,
    /// The address as it was given; it names what is kept.
    remote: String,
    /// The address that git gets: what of it is a login for HTTP goes where nobody sees it.
    address: String,
    login: Option<String>,
    reference: String,
    folder: String,
    checksum: String,
    keep_git_dir: bool,
    with_submodules: bool,
    commit_times: bool,
    token_secret: String,
    header_secret: String,
}

impl GitSource {
    pub(super) fn new(session: Arc<Session>, source: &SourceOp) -> Result<Self> {
        let attribute = |name: &str| source.attributes.get(name).cloned().unwrap_or_default();
        let remote = attribute(attribute::FULL_REMOTE_URL);
        let fragment = source.identifier.split_once('#').map_or("", |(_, fragment)| fragment);
        let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
        let is_printable = |text: &str| !text.chars().any(|c| c.is_control() || c.is_whitespace());
        if remote.is_empty() || remote.starts_with('-') || !is_printable(&remote) || remote.contains("::") {
            return Err(GitError::Address(redact(&remote, &remote)));
        }
        let is_reference = |text: &str| {
            !text.starts_with(['-', '+', '/'])
                && !text.contains(['^', '~', ':', '?', '*', '[', '\\'])
                && !text.contains("..")
                && !text.contains("@{")
                && is_printable(text)
        };
        if !is_reference(reference) {
            return Err(GitError::Reference(reference.to_owned()));
        }
        let (address, login) = without_login(&remote);
        Ok(Self {
            session,
            address,
            login,
            remote,
            reference: reference.to_owned(),
            folder: folder.to_owned(),
            checksum: attribute(attribute::GIT_CHECKSUM),
            keep_git_dir: attribute(attribute::KEEP_GIT_DIR) == "true",
            with_submodules: attribute(attribute::GIT_SKIP_SUBMODULES) != "true",
            commit_times: attribute(attribute::GIT_MTIME) == "commit",
            token_secret: attribute(attribute::AUTH_TOKEN_SECRET),
            header_secret: attribute(attribute::AUTH_HEADER_SECRET),
        })
    }

    fn check_out(&self, context: &ExecContext<'_>) -> Result<PathBuf> {
        let key = Digest::sha256(self.remote.as_bytes());
        let root = self.session.store.root().join("git").join(key.encoded());
        let (repository, home) = (root.join("repository"), root.join("home"));
        for folder in [&root, &home] {
            fs::create_dir_all(folder).map_err(io_error("make", folder))?;
        }
        let _lock = lock(&root)?;
        let git = self.git(&home, context)?;
        if !repository.join("HEAD").is_file() {
            fs::create_dir_all(&repository).map_err(io_error("make", &repository))?;
            git.run(&repository, &["init", "--quiet", "--bare"])?;
        }
        let commit = self.fetch(&git, &repository)?;
        if !commit.starts_with(&self.checksum.to_lowercase()) {
            return Err(GitError::Checksum { expected: self.checksum.clone(), actual: commit });
        }
        self.session.sources.pins.note(context.vertex(), Pin::Commit(commit.clone()));
        let options = [self.keep_git_dir, self.with_submodules, self.commit_times];
        let name: String = options.iter().map(|&option| if option { '1' } else { '0' }).collect();
        let checkout = root.join(format!("{commit}-{name}"));
        if !checkout.is_dir() {
            self.make_checkout(&git, &repository, &commit, &checkout)?;
        }
        inside(&checkout, &self.folder)
    }

    fn git<'a>(&'a self, home: &'a Path, context: &'a ExecContext<'a>) -> Result<Git<'a>> {
        let options = self.session.engine.options();
        let program = options.search_path.iter().map(|folder| folder.join("git")).find(|path| path.is_file());
        let search_path: OsString = std::env::join_paths(&options.search_path).unwrap_or_default();
        Ok(Git {
            program: program.ok_or(GitError::NoProgram)?,
            search_path,
            environment: &options.environment,
            home,
            configuration: self.authorization(),
            agent: self.session.ssh.get("default").map(PathBuf::as_path),
            remote: &self.remote,
            context,
        })
    }

    /// The header that secrets ask for, sent to the repository's host alone.
    fn authorization(&self) -> Vec<(String, String)> {
        let Some((scheme @ ("http" | "https"), rest)) = self.remote.split_once("://") else { return Vec::new() };
        let host = rest.split('/').next().unwrap_or_default().rsplit('@').next().unwrap_or_default();
        let secret = |name: &str| {
            let for_host = format!("{name}.{host}");
            let found = self.session.secrets.get(&for_host).or_else(|| self.session.secrets.get(name))?;
            Some(String::from_utf8_lossy(found).trim().to_owned())
        };
        let basic = |login: &str| format!("basic {}", base64(login.as_bytes()));
        let header = secret(&self.header_secret)
            .or_else(|| Some(basic(&format!("x-access-token:{}", secret(&self.token_secret)?))))
            .or_else(|| Some(basic(self.login.as_deref()?)));
        let key = format!("http.{scheme}://{host}/.extraheader");
        header.map(|header| (key, format!("Authorization: {header}"))).into_iter().collect()
    }

    /// Fetches what is asked for and gives its commit.
    fn fetch(&self, git: &Git<'_>, repository: &Path) -> Result<String> {
        let commit_of =
            |name: &str| git.run(repository, &["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]);
        let is_hash = |text: &str| text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_whole = self.reference.len() == 40 && is_hash(&self.reference);
        if is_whole && let Ok(commit) = commit_of(&self.reference) {
            return Ok(commit);
        }
        let wanted = if self.reference.is_empty() { "HEAD" } else { &self.reference };
        let fetch =
            ["fetch", "--quiet", "--force", "--no-tags", "--depth=1", "--update-shallow", "--", &self.address, wanted];
        match git.run(repository, &fetch) {
            Ok(_) => commit_of("FETCH_HEAD"),
            Err(error @ GitError::Failed { .. }) if is_hash(wanted) => {
                // Not every server gives a commit that no reference names: ask for all history, and look there.
                let all = "+refs/*:refs/remotes/origin/*";
                git.run(repository, &["fetch", "--quiet", "--force", "--", &self.address, all])?;
                commit_of(wanted).map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the checkout beside its place and gives it its name when it is whole.
    fn make_checkout(&self, git: &Git<'_>, repository: &Path, commit: &str, checkout: &Path) -> Result<()> {
        let part = checkout.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part).map_err(io_error("remove", &part))?;
        }
        fs::create_dir_all(&part).map_err(io_error("make", &part))?;
        let from = repository.display().to_string();
        git.run(&part, &["init", "--quiet"])?;
        git.run_local(
            &part,
            &["-c", "uploadpack.allowAnySHA1InWant=true", "fetch", "--quiet", "--depth=1", "--", &from, commit],
        )?;
        git.run(&part, &["remote", "add", "--", "origin", &redact(&self.address, &self.address)])?;
        git.run(&part, &["checkout", "--quiet", "--detach", "--force", commit])?;
        if self.with_submodules && part.join(".gitmodules").is_file() {
            git.run(&part, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        if self.commit_times {
            let seconds = git.run(&part, &["show", "--no-patch", "--format=%ct", commit])?;
            set_times(&part, seconds.parse().unwrap_or_default(), 0)?;
        }
        if !self.keep_git_dir {
            remove_git_folders(&part, 0)?;
        }
        fs::rename(&part, checkout).map_err(io_error("keep", checkout))
    }
}

impl Op<Artifact> for GitSource {
    fn kind(&self) -> Kind {
        Kind::Source
    }

    fn is_fetched(&self) -> bool {
        true
    }

    fn class(&self) -> Class {
        Class::Light
    }

    fn execute(&self, _: &[Artifact], context: &ExecContext<'_>) -> std::result::Result<Vec<Artifact>, OpError> {
        let checkout = self.check_out(context).map_err(StepError::from)?;
        let local = LocalContext::open(&checkout, &[], &[]).map_err(StepError::from)?;
        Ok(vec![Artifact::Local(Arc::new(local))])
    }
}

/// An HTTP address without its user and password, and these as `user:password`.
fn without_login(remote: &str) -> (String, Option<String>) {
    let Some((scheme @ ("http" | "https"), rest)) = remote.split_once("://") else { return (remote.to_owned(), None) };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some((login, host)) = rest[..end].rsplit_once('@') else { return (remote.to_owned(), None) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let login = format!("{}:{}", percent_decode(user), percent_decode(password));
    (format!("{scheme}://{host}{}", &rest[end..]), Some(login))
}

fn io_error(action: &str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let action = format!("{action} {}", path.display());
    move |source| GitError::Io { action, source }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error("open", &path))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(file.as_fd(), FlockOperation::LockExclusive))
        .map_err(|errno| io_error("lock", &path)(errno.into()))?;
    Ok(file)
}

/// A folder of a checkout, reached without a symbolic link or `..`.
fn inside(checkout: &Path, folder: &str) -> Result<PathBuf> {
    let mut path = checkout.to_owned();
    for part in folder.split('/').filter(|part| !part.is_empty() && *part != ".") {
        path.push(part);
        let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        if part == ".." || !is_folder {
            return Err(GitError::Folder(folder.to_owned()));
        }
    }
    Ok(path)
}

/// Removes `.git` everywhere: folders, and the files of submodules.
fn remove_git_folders(folder: &Path, depth: usize) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(io_error("read", folder))?;
    for entry in entries {
        let entry = entry.map_err(io_error("read", folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(io_error("read", folder))?);
        match (entry.file_name() == ".git", kind.is_dir()) {
            (true, true) => fs::remove_dir_all(&path).map_err(io_error("remove", &path))?,
            (true, false) => fs::remove_file(&path).map_err(io_error("remove", &path))?,
            (false, true) if depth < DEPTH_LIMIT => remove_git_folders(&path, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

/// Gives everything the same modification time.
fn set_times(folder: &Path, seconds: i64, depth: usize) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let entry = entry.map_err(io_error("read", folder))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < DEPTH_LIMIT {
            set_times(&path, seconds, depth + 1)?;
        } else {
            set_time(&path, seconds)?;
        }
    }
    set_time(folder, seconds)
}

fn set_time(path: &Path, seconds: i64) -> Result<()> {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
    let times = Timestamps { last_access: omit, last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 } };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| io_error("set the time of", path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_cannot_be_left() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("a/link")).unwrap();
        assert_eq!(inside(root.path(), "/a/./b/").unwrap(), root.path().join("a/b"));
        assert_eq!(inside(root.path(), "").unwrap(), root.path());
        for folder in ["..", "a/../..", "a/link", "a/missing"] {
            assert!(matches!(inside(root.path(), folder), Err(GitError::Folder(_))), "{folder}");
        }
    }

    #[test]
    fn logins_leave_the_address() {
        let (address, login) = without_login("https://me:a%40b@host:81/x@y.git");
        assert_eq!((address.as_str(), login.as_deref()), ("https://host:81/x@y.git", Some("me:a@b")));
        assert_eq!(without_login("https://token@host/x").1.as_deref(), Some("token:"));
        assert_eq!(without_login("ssh://git@host/x"), ("ssh://git@host/x".to_owned(), None));
        assert_eq!(without_login("https://host/x@y"), ("https://host/x@y".to_owned(), None));
    }
}
