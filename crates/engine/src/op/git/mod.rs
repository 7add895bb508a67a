//! `git://`: a commit of a repository, fetched with the git program and checked out once.
//!
//! ```text
//! <root>/git/<sha256 of the address>/
//!   lock                        held while anything below changes
//!   repository/                 bare, shallow; what was fetched so far
//!   home/                       what git takes for its user's home
//!   <commit>-<options>/         a checkout; never changed once it has its name, which ends in that of the branch or tag
//!                               where .git stays
//! ```
//! Nothing here is needed again: a build without it fetches.
//!
//! An SSH host may show any key at first, and has to show the same one until the source is there: what BuildKit asks of
//! it. Keys come from an agent alone, the one that `--ssh` hands over.
//!
//! Neither the address, nor a reference, nor what a repository holds can become an option of git, run a program or
//! leave the checkout: see [`command`] and the checks below.

mod address;
mod command;
mod error;
mod tree;
mod watch;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onetag_llb::{SourceOp, attribute};
use onetag_oci::Digest;
use onetag_solver::{Class, ExecContext, Kind, Op, OpError};
use rustix::fs::FlockOperation;

use self::address::{is_address, is_commit, is_reference, is_sha256, without_login};
use self::command::{Git, HostKeys, redact};
pub use self::error::GitError;
use self::error::{Result, io_error};
use self::tree::{inside, remove_git_folders, remove_leftovers, set_times};
use super::{Session, StepError};
use crate::context::LocalContext;
use crate::encoding::base64;
use crate::provenance::Pin;
use crate::snapshot::Artifact;

/// No more files are checked out.
const FILE_LIMIT: usize = 5_000_000;

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
    by_commit: bool,
    token_secret: String,
    header_secret: String,
    /// The identifier of the SSH agent; empty where none is needed.
    agent: String,
    /// Keys of SSH hosts; empty where none are known.
    host_keys: String,
}

/// When a commit was made that a source has been found to be, in seconds since 1970.
pub(crate) fn commit_time(
    session: &Arc<Session>,
    source: &SourceOp,
    commit: &str,
    context: &ExecContext<'_>,
) -> Result<i64> {
    let source = GitSource::new(Arc::clone(session), source)?;
    let root = source.root();
    let _lock = lock(&root)?;
    let home = root.join("home");
    let git = source.git(&home, context)?;
    seconds(&git, &root.join("repository"), commit)
}

/// What a reference means.
struct Fetched {
    commit: String,
    /// The commit, or the tag that points to it.
    object: String,
    /// The branch or tag in full.
    name: Option<String>,
}

impl GitSource {
    pub(super) fn new(session: Arc<Session>, source: &SourceOp) -> Result<Self> {
        let attribute = |name: &str| source.attributes.get(name).cloned().unwrap_or_default();
        let remote = attribute(attribute::FULL_REMOTE_URL);
        let fragment = source.identifier.split_once('#').map_or("", |(_, fragment)| fragment);
        let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
        if !is_address(&remote) {
            return Err(GitError::Address(redact(&remote, &remote)));
        }
        if !is_reference(reference) {
            return Err(GitError::Reference(reference.to_owned()));
        }
        let checksum = attribute(attribute::GIT_CHECKSUM);
        if !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(GitError::InvalidChecksum(checksum));
        }
        let (address, login) = without_login(&remote);
        Ok(Self {
            session,
            address,
            login,
            remote,
            reference: reference.to_owned(),
            folder: folder.to_owned(),
            checksum: checksum.to_lowercase(),
            keep_git_dir: attribute(attribute::KEEP_GIT_DIR) == "true",
            with_submodules: attribute(attribute::GIT_SKIP_SUBMODULES) != "true",
            commit_times: attribute(attribute::GIT_MTIME) == "commit",
            by_commit: attribute(attribute::GIT_FETCH_BY_COMMIT) == "true",
            token_secret: attribute(attribute::AUTH_TOKEN_SECRET),
            header_secret: attribute(attribute::AUTH_HEADER_SECRET),
            agent: attribute(attribute::MOUNT_SSH_SOCK),
            host_keys: attribute(attribute::KNOWN_SSH_HOSTS),
        })
    }

    fn root(&self) -> PathBuf {
        let key = Digest::sha256(self.remote.as_bytes());
        self.session.store.root().join("git").join(key.encoded())
    }

    fn check_out(&self, context: &ExecContext<'_>) -> Result<PathBuf> {
        let root = self.root();
        let (repository, home) = (root.join("repository"), root.join("home"));
        for folder in [&root, &home] {
            fs::create_dir_all(folder).map_err(io_error("make", folder))?;
        }
        let _lock = lock(&root)?;
        let git = self.git(&home, context)?;
        let fetched = match self.fetch(&git, &repository) {
            Err(GitError::Failed { message, .. }) if message.contains("server sha256") => {
                make_repository(&git, &repository, true)?;
                self.fetch(&git, &repository)?
            }
            other => other?,
        };
        self.verify(&fetched)?;
        self.session.sources.pins.note(context.vertex(), Pin::Commit(fetched.commit.clone()));
        let checkout = root.join(self.checkout_name(&fetched));
        if !checkout.is_dir() {
            self.make_checkout(&git, &repository, &fetched, &checkout)?;
        }
        inside(&checkout, &self.folder)
    }

    /// What is in a checkout follows from the commit and these options.
    fn checkout_name(&self, fetched: &Fetched) -> String {
        let options = [self.keep_git_dir, self.with_submodules, self.commit_times];
        let mut name = format!("{}-", fetched.commit);
        name.extend(options.map(|option| if option { '1' } else { '0' }));
        if let (true, Some(reference)) = (self.keep_git_dir, &fetched.name) {
            let digest = Digest::sha256(format!("{reference} {}", fetched.object).as_bytes());
            name.push('-');
            name.push_str(&digest.encoded()[..16]);
        }
        name
    }

    fn git<'a>(&'a self, home: &'a Path, context: &'a ExecContext<'a>) -> Result<Git<'a>> {
        let options = self.session.engine.options();
        let program = options.search_path.iter().map(|folder| folder.join("git")).find(|path| path.is_file());
        let search_path: OsString = std::env::join_paths(&options.search_path).unwrap_or_default();
        let agent = match self.agent.as_str() {
            "" => None,
            id => Some(self.session.ssh.get(id).ok_or_else(|| GitError::NoAgent(id.to_owned()))?),
        };
        let host_keys = HostKeys { file: home.join("known_hosts"), are_given: !self.host_keys.is_empty() };
        fs::write(&host_keys.file, &self.host_keys).map_err(io_error("write", &host_keys.file))?;
        Ok(Git {
            program: program.ok_or(GitError::NoProgram)?,
            search_path,
            environment: &options.environment,
            home,
            configuration: self.authorization(),
            agent: agent.map(PathBuf::as_path),
            host_keys,
            patience: options.stall,
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

    /// Fetches what is asked for. A name is a branch's rather than a tag's where it is both, as for git-checkout.
    fn fetch(&self, git: &Git<'_>, repository: &Path) -> Result<Fetched> {
        if repository.join("HEAD").is_file() {
            remove_leftovers(repository);
        } else {
            make_repository(git, repository, false)?;
        }
        let by_commit = self.by_commit && !self.checksum.is_empty();
        let wanted = if by_commit { &self.checksum } else { &self.reference };
        if is_commit(wanted)
            && let Ok(commit) = resolve(git, repository, &format!("{wanted}^{{commit}}"))
        {
            return Ok(Fetched { object: commit.clone(), commit, name: None });
        }
        let is_hash = wanted.len() >= 7 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        let names = match wanted.as_str() {
            "" => vec!["HEAD".to_owned()],
            name if is_commit(name) || name.starts_with("refs/") => vec![name.to_owned()],
            name => vec![format!("refs/heads/{name}"), name.to_owned()],
        };
        let mut failure = None;
        for name in names {
            match self.fetch_name(git, repository, &name) {
                Ok(()) => return fetched(git, repository),
                Err(GitError::Failed { message, .. }) if message.contains("couldn't find remote ref") => {}
                Err(error @ GitError::Failed { .. }) if is_hash => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        let failure = failure.unwrap_or_else(|| GitError::NoReference(wanted.clone()));
        if !is_hash {
            return Err(failure);
        }
        // Not every server gives a commit that no reference names: ask for all history, and look there.
        let mut fetch = vec!["fetch", "--quiet", "--force"];
        if repository.join("shallow").exists() {
            fetch.push("--unshallow");
        }
        fetch.extend(["--", &self.address, "+refs/*:refs/remotes/origin/*"]);
        git.run(repository, &fetch)?;
        let commit = resolve(git, repository, &format!("{wanted}^{{commit}}")).map_err(|_| failure)?;
        Ok(Fetched { object: commit.clone(), commit, name: None })
    }

    /// Fetches one reference, its history too where the server gives nothing less.
    fn fetch_name(&self, git: &Git<'_>, repository: &Path, name: &str) -> Result<()> {
        let shallow = ["--depth=1", "--update-shallow"];
        let with = |depth: &[&str]| {
            let fetch = [&["fetch", "--quiet", "--force", "--no-tags"], depth, &["--", &self.address, name]].concat();
            git.run(repository, &fetch).map(drop)
        };
        match with(&shallow) {
            Err(GitError::Failed { message, .. }) if message.contains("shallow") || message.contains("--depth") => {
                with(&[])
            }
            other => other,
        }
    }

    fn verify(&self, fetched: &Fetched) -> Result<()> {
        let Fetched { commit, object, .. } = fetched;
        if commit.starts_with(&self.checksum) || object.starts_with(&self.checksum) {
            return Ok(());
        }
        let actual = if commit == object { commit.clone() } else { format!("{object} or {commit}") };
        Err(GitError::Checksum { expected: self.checksum.clone(), actual })
    }

    /// Makes the checkout beside its place and gives it its name when it is whole.
    fn make_checkout(&self, git: &Git<'_>, repository: &Path, fetched: &Fetched, checkout: &Path) -> Result<()> {
        let Fetched { commit, object, name } = fetched;
        if git.exceeds(repository, &["ls-tree", "-r", "-z", "--name-only", commit], FILE_LIMIT)? {
            return Err(GitError::TooManyFiles);
        }
        let part = checkout.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part).map_err(io_error("remove", &part))?;
        }
        make_work_tree(git, &part, is_sha256(commit))?;
        let from = repository.display().to_string();
        let wanted = match name {
            Some(name) => format!("{object}:{name}"),
            None => object.clone(),
        };
        let fetch = ["fetch", "--quiet", "--depth=1", "--update-head-ok", "--no-tags", "--", &from, &wanted];
        git.run_local(&part, &[&["-c", "uploadpack.allowAnySHA1InWant=true"], &fetch[..]].concat())?;
        git.run(&part, &["remote", "add", "--", "origin", &self.address])?;
        git.run(&part, &["checkout", "--quiet", "--detach", "--force", commit])?;
        if self.with_submodules && part.join(".gitmodules").is_file() {
            git.run(&part, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        if self.keep_git_dir {
            forget_the_way(git, &part)?;
        } else {
            remove_git_folders(&part, 0)?;
        }
        if self.commit_times {
            set_times(&part, seconds(git, repository, commit)?, 0)?;
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

fn resolve(git: &Git<'_>, repository: &Path, name: &str) -> Result<String> {
    git.run(repository, &["rev-parse", "--verify", "--quiet", name])
}

fn seconds(git: &Git<'_>, repository: &Path, commit: &str) -> Result<i64> {
    let seconds = git.run(repository, &["show", "--no-patch", "--format=%ct", commit])?;
    Ok(seconds.parse().unwrap_or_default())
}

/// What the last fetch brought.
fn fetched(git: &Git<'_>, repository: &Path) -> Result<Fetched> {
    let path = repository.join("FETCH_HEAD");
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let name = ["branch", "tag"].into_iter().zip(["refs/heads/", "refs/tags/"]).find_map(|(kind, prefix)| {
        let (_, rest) = text.lines().next()?.split_once(&format!("\t{kind} '"))?;
        let name = &rest[..rest.find("' of ")?];
        is_reference(name).then(|| format!("{prefix}{name}"))
    });
    let commit = resolve(git, repository, "FETCH_HEAD^{commit}")?;
    Ok(Fetched { commit, object: resolve(git, repository, "FETCH_HEAD")?, name })
}

/// Makes a bare repository, in the place of one that is there.
fn make_repository(git: &Git<'_>, repository: &Path, is_sha256: bool) -> Result<()> {
    if repository.exists() {
        fs::remove_dir_all(repository).map_err(io_error("remove", repository))?;
    }
    make_git_folder(git, repository, is_sha256, &["--bare"])
}

fn make_work_tree(git: &Git<'_>, folder: &Path, is_sha256: bool) -> Result<()> {
    make_git_folder(git, folder, is_sha256, &[])
}

fn make_git_folder(git: &Git<'_>, folder: &Path, is_sha256: bool, options: &[&str]) -> Result<()> {
    fs::create_dir_all(folder).map_err(io_error("make", folder))?;
    // Older gits know one kind of hash and no option.
    let format: &[&str] = if is_sha256 { &["--object-format=sha256"] } else { &[] };
    git.run(folder, &[&["init", "--quiet"], options, format].concat()).map(drop)
}

/// Takes out of a `.git` that stays what tells of this machine.
fn forget_the_way(git: &Git<'_>, checkout: &Path) -> Result<()> {
    git.run(checkout, &["reflog", "expire", "--all", "--expire=now"])?;
    let path = checkout.join(".git/FETCH_HEAD");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
        _ => Ok(()),
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error("open", &path))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(file.as_fd(), FlockOperation::LockExclusive))
        .map_err(|errno| io_error("lock", &path)(errno.into()))?;
    Ok(file)
}
