//! `COPY` and `ADD`.

use std::collections::BTreeMap;

use onetag_llb::{
    Chown, CopyAction, CopyMode, FileActionKind, Mkfile, Owner, ProgressGroup, SourceOp, attribute, capability,
};
use onetag_oci::Digest;

use super::error::{At, DockerfileError, Result};
use super::names::step_text;
use super::nodes::{FileNode, NodeKind, NodeOptions, Output};
use super::part::Part;
use super::stage::StageId;
use super::{DockerfileErrorKind, Lowering, config, paths};
use crate::chmod;
use crate::git::GitReference;
use crate::instruction::{Instruction, SourceContent, Sources};
use crate::redact;

/// What `COPY` and `ADD` have in common.
pub(crate) struct CopyStep<'a> {
    pub instruction: &'a Instruction,
    pub sources: &'a Sources,
    /// Where paths are taken from.
    pub from: Output,
    pub is_add: bool,
    pub chown: &'a str,
    pub chmod: &'a str,
    pub exclude: &'a [String],
    pub link: bool,
    pub parents: bool,
    pub keep_git_dir: Option<bool>,
    pub checksum: &'a str,
    pub unpack: Option<bool>,
}

impl CopyStep<'_> {
    /// What every action of the step has.
    fn action(&self, mode: &CopyMode, source: String, destination: &str) -> CopyAction {
        CopyAction {
            source,
            destination: paths::normalized(destination, true),
            owner: owner(self.chown),
            mode: mode.clone(),
            create_dest_path: true,
            exclude_patterns: self.exclude.to_vec(),
            ..CopyAction::default()
        }
    }

    fn mode(&self) -> Result<CopyMode> {
        if self.chmod.is_empty() {
            return Ok(CopyMode::Keep);
        }
        let is_octal = self.chmod.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        if is_octal {
            return match u32::from_str_radix(self.chmod, 8) {
                Ok(bits) if bits <= 0o7777 => Ok(CopyMode::Octal(bits)),
                _ => Err(DockerfileErrorKind::Chmod(self.chmod.to_owned()).into()),
            };
        }
        if self.chmod.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(DockerfileErrorKind::Chmod(self.chmod.to_owned()).into());
        }
        match chmod::Mode::parse(self.chmod) {
            Ok(_) => Ok(CopyMode::Symbolic(self.chmod.to_owned())),
            Err(source) => Err(DockerfileErrorKind::ChmodSymbolic { value: self.chmod.to_owned(), source }.into()),
        }
    }

    fn check_checksum(&self) -> Result<()> {
        match self.sources.paths.as_slice() {
            _ if self.checksum.is_empty() => Ok(()),
            [only] if is_url(only) || GitReference::is_source(only) => Ok(()),
            [_] => Err(DockerfileErrorKind::ChecksumLocal.into()),
            _ => Err(DockerfileErrorKind::ChecksumSources.into()),
        }
    }

    fn history(&self) -> String {
        let mut text = String::from(if self.is_add { "ADD" } else { "COPY" });
        if self.parents {
            text.push_str(" --parents");
        }
        for (flag, value) in [(" --chown=", self.chown), (" --chmod=", self.chmod)] {
            if !value.is_empty() {
                text.push_str(flag);
                text.push_str(value);
            }
        }
        for path in &self.sources.paths {
            text.push(' ');
            text.push_str(&redact::user_info(path));
        }
        for content in &self.sources.contents {
            text.push_str(" <<");
            text.push_str(&content.path);
        }
        text.push(' ');
        text.push_str(&self.sources.destination);
        text.push_str(" # buildkit");
        text
    }
}

impl Lowering<'_> {
    pub(crate) fn copy(&mut self, id: StageId, step: &CopyStep<'_>) -> Result<()> {
        let lex = self.lex.clone();
        let stage = &mut self.stages.all[id];
        let destination = paths::destination(&stage.state.directory, &step.sources.destination);
        // All that is wrong with it is told.
        let mut errors = Vec::new();
        let mode = step.mode().about(|| Part::Flag("chmod", 0)).map_err(|error| errors.push(error));
        let mode = mode.unwrap_or(CopyMode::Keep);
        errors.extend(step.check_checksum().about(|| Part::Flag("checksum", 0)).err());
        let platform = stage.platform.clone().unwrap_or_else(|| self.target_platform.clone());
        let text = step_text(&lex, &step.instruction.code, &stage.state.environment);
        let name = stage.counter.next(&text, Some(&platform), &stage.state.environment);
        let mut actions = Vec::new();
        for (index, path) in step.sources.paths.iter().enumerate() {
            match self.copy_path(step, path, &mode, &destination, &name).about(|| Part::Source(index)) {
                Ok(action) => actions.push(action),
                Err(error) => errors.push(error),
            }
        }
        DockerfileError::first_of(errors)?;
        for content in &step.sources.contents {
            actions.push(self.copy_content(step, content, &mode, &destination));
        }
        let stage = &mut self.stages.all[id];
        let options = NodeOptions::named(name.as_str())
            .lines(step.instruction.lines)
            .ignore_cache(stage.ignore_cache)
            .capability(capability::FILE_BASE);
        let base = stage.state.output;
        let output = if step.link && step.chmod.is_empty() {
            let group = link_group(id, &name);
            let mut options = options;
            options.metadata.progress_group = Some(group.clone());
            let copied = self.nodes.add(NodeKind::File(None, actions), options);
            match base {
                None => copied,
                Some(base) => self.merge(id, base, copied, step, &text, group),
            }
        } else {
            self.nodes.add(NodeKind::File(base, actions), options)
        };
        self.stages.all[id].state.output = Some(output);
        config::commit(&mut self.stages.all[id].image, step.history(), true, self.epoch);
        Ok(())
    }

    fn merge(
        &mut self,
        id: StageId,
        base: super::NodeId,
        copied: super::NodeId,
        step: &CopyStep<'_>,
        text: &str,
        group: ProgressGroup,
    ) -> super::NodeId {
        let stage = &self.stages.all[id];
        let platform = stage.platform.clone().unwrap_or_else(|| self.target_platform.clone());
        let name = stage.counter.name(&format!("LINK {text}"), Some(&platform), &stage.state.environment);
        let mut options = NodeOptions::named(name)
            .lines(step.instruction.lines)
            .ignore_cache(stage.ignore_cache)
            .capability(capability::MERGE_OP);
        options.metadata.progress_group = Some(ProgressGroup { weak: false, ..group });
        self.nodes.add(NodeKind::Merge(vec![base, copied]), options)
    }

    fn copy_path(
        &mut self,
        step: &CopyStep<'_>,
        path: &str,
        mode: &CopyMode,
        destination: &str,
        name: &str,
    ) -> Result<FileNode> {
        if let Some(git) = GitReference::parse(path)?.filter(|git| !git.like_local_path) {
            return self.copy_git(step, git, mode, destination, name);
        }
        if is_url(path) {
            return self.copy_url(step, path, mode, destination, name);
        }
        let (source, include, required) = match step.parents {
            true => with_parents(path),
            false => (path.to_owned(), Vec::new(), Vec::new()),
        };
        let mut action =
            step.action(mode, paths::normalized(&paths::absolute("/", &source, false), false), destination);
        action.follow_symlink = true;
        action.dir_copy_contents = true;
        action.include_patterns = include;
        action.required_paths = required;
        action.attempt_unpack = step.unpack.unwrap_or(step.is_add);
        action.allow_wildcard = true;
        action.allow_empty_wildcard = true;
        Ok(FileNode { source: step.from, kind: FileActionKind::Copy(Box::new(action)) })
    }

    fn copy_content(
        &mut self,
        step: &CopyStep<'_>,
        content: &SourceContent,
        mode: &CopyMode,
        destination: &str,
    ) -> FileNode {
        let file = self.inline_file(&content.path, 0o644, content.data.as_bytes());
        let action = step.action(mode, paths::normalized(&content.path, false), destination);
        FileNode { source: file, kind: FileActionKind::Copy(Box::new(action)) }
    }

    /// A file system that holds one file.
    pub(crate) fn inline_file(&mut self, path: &str, mode: u32, data: &[u8]) -> Output {
        let file =
            Mkfile { path: paths::normalized(path, false), mode, data: data.to_vec(), owner: None, timestamp: None };
        let options = NodeOptions::named("[internal] preparing inline document").capability(capability::FILE_BASE);
        let action = FileNode { source: None, kind: FileActionKind::Mkfile(file) };
        Some(self.nodes.add(NodeKind::File(None, vec![action]), options))
    }

    fn copy_git(
        &mut self,
        step: &CopyStep<'_>,
        mut git: GitReference,
        mode: &CopyMode,
        destination: &str,
        name: &str,
    ) -> Result<FileNode> {
        if !step.is_add {
            return Err(DockerfileErrorKind::CopyGit.into());
        }
        match (step.keep_git_dir, git.keep_git_dir) {
            (Some(flag), Some(query)) if flag != query => {
                return Err(DockerfileErrorKind::KeepGitDir).about(|| Part::Flag("keep-git-dir", 0));
            }
            (flag, query) => git.keep_git_dir = query.or(flag),
        }
        if !step.checksum.is_empty() {
            if !git.checksum.is_empty() && git.checksum != step.checksum {
                let (flag, query) = (step.checksum.to_owned(), git.checksum);
                let error = DockerfileErrorKind::ChecksumMismatch { flag, query };
                return Err(error).about(|| Part::Flag("checksum", 0));
            }
            git.checksum = step.checksum.to_owned();
        }
        git.mtime.clear();
        let source = self.add_git(&git, NodeOptions::named(name));
        let action = step.action(mode, "/".to_owned(), destination);
        Ok(FileNode { source, kind: FileActionKind::Copy(Box::new(action)) })
    }

    fn copy_url(
        &mut self,
        step: &CopyStep<'_>,
        url: &str,
        mode: &CopyMode,
        destination: &str,
        name: &str,
    ) -> Result<FileNode> {
        if !step.is_add {
            return Err(DockerfileErrorKind::CopyUrl.into());
        }
        let checksum = match step.checksum {
            "" => None,
            text => Some(
                text.parse::<Digest>()
                    .map_err(|source| DockerfileErrorKind::Checksum { value: text.to_owned(), source })
                    .about(|| Part::Flag("checksum", 0))?,
            ),
        };
        let filename = url_filename(url);
        // BuildKit describes the download with the sources, which have no text.
        let options = NodeOptions::named(name).command("");
        let source = self.add_http(url, &filename, checksum.as_ref(), options);
        let mut action = step.action(mode, paths::normalized(&filename, false), destination);
        action.attempt_unpack = step.unpack.unwrap_or(false);
        Ok(FileNode { source, kind: FileActionKind::Copy(Box::new(action)) })
    }

    pub(crate) fn add_http(
        &mut self,
        url: &str,
        filename: &str,
        checksum: Option<&Digest>,
        options: NodeOptions,
    ) -> Output {
        let mut options = options.capability(capability::SOURCE_HTTP);
        let mut attributes = BTreeMap::from([(attribute::HTTP_FILENAME.to_owned(), filename.to_owned())]);
        if let Some(checksum) = checksum {
            attributes.insert(attribute::HTTP_CHECKSUM.to_owned(), checksum.to_string());
            options = options.capability(capability::SOURCE_HTTP_CHECKSUM);
        }
        Some(self.nodes.add(NodeKind::Source(SourceOp { identifier: url.to_owned(), attributes }), options))
    }

    pub(crate) fn add_git(&mut self, git: &GitReference, mut options: NodeOptions) -> Output {
        let source = git_source(git, &mut options);
        Some(self.nodes.add(NodeKind::Source(source), options))
    }
}

/// The group that shows a linked copy as one step. Its identifier is the same in every build.
fn link_group(id: StageId, name: &str) -> ProgressGroup {
    let seed = format!("{id}/{name}");
    let id = Digest::sha256(seed.as_bytes()).encoded()[..25].to_owned();
    ProgressGroup { id, name: name.to_owned(), weak: true }
}

/// The source of a git repository, with its capabilities.
pub(crate) fn git_source(git: &GitReference, options: &mut NodeOptions) -> SourceOp {
    let mut attributes = BTreeMap::new();
    let mut set = |name: &str, value: &str, capability: Option<&str>| {
        attributes.insert(name.to_owned(), value.to_owned());
        capability.into_iter().for_each(|name| options.metadata.add_capability(name));
    };
    if git.keep_git_dir == Some(true) {
        set(attribute::KEEP_GIT_DIR, "true", Some(capability::SOURCE_GIT_KEEP_DIR));
    }
    set(attribute::FULL_REMOTE_URL, &git.clone_url(), Some(capability::SOURCE_GIT_FULL_URL));
    set(attribute::AUTH_TOKEN_SECRET, "GIT_AUTH_TOKEN", None);
    set(attribute::AUTH_HEADER_SECRET, "GIT_AUTH_HEADER", None);
    if git.scheme == "ssh" {
        // Host keys are the executor's matter: finding them means asking the host.
        set(attribute::MOUNT_SSH_SOCK, "default", Some(capability::SOURCE_GIT_MOUNT_SSH_SOCK));
    }
    if !git.checksum.is_empty() {
        set(attribute::GIT_CHECKSUM, &git.checksum, Some(capability::SOURCE_GIT_CHECKSUM));
    }
    if git.submodules == Some(false) {
        set(attribute::GIT_SKIP_SUBMODULES, "true", Some(capability::SOURCE_GIT_SKIP_SUBMODULES));
    }
    if !git.mtime.is_empty() {
        set(attribute::GIT_MTIME, &git.mtime, Some(capability::SOURCE_GIT_MTIME));
    }
    if git.fetch_by_commit {
        set(attribute::GIT_FETCH_BY_COMMIT, "true", Some(capability::SOURCE_GIT_FETCH_BY_COMMIT));
    }
    options.metadata.add_capability(capability::SOURCE_GIT);
    SourceOp { identifier: git.identifier(), attributes }
}

/// Whether a source of `ADD` is a file at a URL.
pub(crate) fn is_url(path: &str) -> bool {
    (path.starts_with("http://") || path.starts_with("https://")) && !GitReference::is_source(path)
}

/// The name that a downloaded file gets.
pub(crate) fn url_filename(url: &str) -> String {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.find('/').map_or("", |slash| &path[slash..]);
    match paths::base(path) {
        "." | "/" => "__unnamed__".to_owned(),
        name => crate::git::percent_decode(name),
    }
}

/// `COPY --parents`: the folder that is copied from, the pattern below it, and the path that must be there unless
/// there are wildcards.
fn with_parents(path: &str) -> (String, Vec<String>, Vec<String>) {
    let (parent, pattern) = path.split_once("/./").unwrap_or(("/", path));
    let pattern = paths::absolute("/", pattern, false);
    let required = if paths::has_wildcard(parent) || paths::has_wildcard(&pattern) {
        Vec::new()
    } else {
        vec![paths::absolute("/", &paths::join(parent, &pattern), false)]
    };
    (parent.to_owned(), vec![pattern.strip_prefix('/').unwrap_or(&pattern).to_owned()], required)
}

/// `user[:group]` by name or number.
pub(crate) fn owner(chown: &str) -> Option<Chown> {
    if chown.is_empty() {
        return None;
    }
    let one = |text: &str| match text {
        "root" => Owner::Id(0),
        text => match text.parse::<i32>() {
            Ok(id) => Owner::Id(id as u32),
            // The input is the base, which is filled in when its position is known.
            Err(_) if !text.is_empty() => Owner::Name { name: text.to_owned(), input: None },
            Err(_) => Owner::Id(0),
        },
    };
    let (user, group) = match chown.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (chown, None),
    };
    Some(Chown { user: Some(one(user)), group: group.map(one) })
}
