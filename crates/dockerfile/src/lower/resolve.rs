//! Resolving what stages build upon: images, the empty file system, named contexts; and the main context.

use std::collections::BTreeMap;

use onetag_llb::{CopyAction, FileActionKind, SourceOp, attribute, capability};
use onetag_oci::{ImageConfig, Platform, Reference};

use super::environment::{EnvironmentList, split_line};
use super::error::{At, Result};
use super::nodes::{FileNode, LocalNode, NodeKind, NodeOptions, Output, PathSet};
use super::part::Part;
use super::stage::{FoundContext, StageId, State};
use super::{DockerfileErrorKind, Lowering, MainContext, SCRATCH, UsedImage, config};
use crate::git::GitReference;
use crate::ignore;
use crate::redact;
use crate::resolver::{NamedContext, ResolveMode, ResolveOptions};
use crate::suggest;

impl Lowering<'_> {
    /// Resolves everything that the target needs. Triggers of base images may need more, which is then resolved too.
    pub(crate) fn resolve_stages(&mut self, target: StageId) {
        loop {
            let reachable = self.stages.reachable(target);
            let wanted: Vec<StageId> = (0..self.stages.all.len())
                .filter(|&id| reachable[id])
                .filter(|&id| {
                    let stage = &self.stages.all[id];
                    stage.base.is_none() && !stage.is_dispatched && !stage.is_resolved
                })
                .collect();
            self.prefetch(&wanted);
            for id in wanted {
                let (lines, part) = self.stages.all[id].origin.clone().unzip();
                let resolved = self.resolve_base(id).about(|| part.unwrap_or(Part::Whole)).at(lines);
                if self.note(resolved).is_none() {
                    let platform = self.target_platform.clone();
                    let stage = self.stage(id);
                    stage.image = config::empty_image(&platform);
                    stage.is_doubtful = true;
                }
                let stage = self.stage(id);
                stage.is_resolved = true;
                stage.is_dispatched |= stage.is_unregistered;
            }
            let mut has_new_sources = false;
            for id in (0..reachable.len()).filter(|&id| reachable[id]) {
                self.stages.inherit(id);
                has_new_sources |= self.add_triggers(id);
            }
            if !has_new_sources {
                return;
            }
        }
    }

    fn prefetch(&self, wanted: &[StageId]) {
        let image = |&id: &StageId| {
            let stage = &self.stages.all[id];
            if stage.named_context.is_some() || stage.base_name == SCRATCH || stage.is_broken {
                return None;
            }
            let reference = Reference::parse(&stage.base_name).ok()?.with_default_tag();
            let platform = stage.platform.clone().unwrap_or_else(|| self.target_platform.clone());
            if self.find_context(&reference.to_string(), Some(&platform)).ok()?.is_some() {
                return None;
            }
            let options = self.resolve_options(&reference, &platform, stage.is_unregistered);
            Some((reference, platform, options))
        };
        let images: Vec<_> = wanted.iter().filter_map(image).collect();
        if !images.is_empty() {
            self.resolver.prefetch(&images);
        }
    }

    fn resolve_options(&self, reference: &Reference, platform: &Platform, files_only: bool) -> ResolveOptions {
        let prefix = match self.options.multi_platform {
            true => format!("[{} internal]", platform.format_all()),
            false => "[internal]".to_owned(),
        };
        ResolveOptions {
            log_name: format!("{prefix} load metadata for {reference}"),
            mode: self.options.resolve_mode,
            layout: None,
            files_only,
        }
    }

    fn resolve_base(&mut self, id: StageId) -> Result<()> {
        let stage = &self.stages.all[id];
        if stage.is_broken {
            let image = config::empty_image(&self.target_platform);
            self.stage(id).image = image;
            return Ok(());
        }
        if let Some(found) = stage.named_context.clone() {
            return self.resolve_named_stage(id, &found);
        }
        if stage.base_name == SCRATCH {
            let platform = self.target_platform.clone();
            let stage = self.stage(id);
            stage.image = config::empty_image(&platform);
            stage.platform = Some(platform);
            return Ok(());
        }
        let name = stage.base_name.clone();
        let platform = stage.platform.clone().unwrap_or_else(|| self.target_platform.clone());
        let reference = Reference::parse(&name)
            .map_err(|source| DockerfileErrorKind::BaseReference { name: name.clone(), source })?
            .with_default_tag();
        match self.find_context(&reference.to_string(), Some(&platform))? {
            Some(found) => self.resolve_replaced_base(id, &found, platform),
            None => self.resolve_image(id, &name, reference, platform),
        }
    }

    fn resolve_image(&mut self, id: StageId, name: &str, reference: Reference, platform: Platform) -> Result<()> {
        let options = self.resolve_options(&reference, &platform, self.stages.all[id].is_unregistered);
        let resolved = self.resolver.image_config(&reference, &platform, &options).map_err(|source| {
            let nearest = suggest::nearest(name, &self.stages.names());
            let (name, reference) = (name.to_owned(), reference.to_string());
            DockerfileErrorKind::BaseImage { name, reference, nearest, source }
        })?;
        self.images.push(UsedImage {
            reference: resolved.reference.without_digest(),
            platform: platform.clone(),
            digest: resolved.digest.clone(),
        });
        let (asked, build) = (self.options.target_platform.is_some(), self.options.build_platform.clone());
        let pinned = resolved.reference.with_digest(resolved.digest).to_string();
        let stage = &mut self.stages.all[id];
        let platform = match stage.platform.is_none() && !asked {
            true => detect_platform(&resolved.config, platform, &build),
            false => platform,
        };
        stage.base_image = Some(resolved.config.clone());
        let is_empty =
            resolved.config.rootfs.diff_ids.is_empty() && resolved.config.history.iter().all(|entry| entry.empty_layer);
        stage.image = ImageConfig { created: None, ..resolved.config };
        stage.base_name.clone_from(&pinned);
        stage.platform = Some(platform.clone());
        if is_empty {
            return Ok(());
        }
        let text = format!("FROM {pinned}");
        let step = stage.counter.next(&text, Some(&platform), &EnvironmentList::default());
        let mut options = NodeOptions::named(step).command(&stage.code).platform(&platform);
        options.lines = stage.lines;
        let output = self.add_image(&pinned, self.options.resolve_mode, options);
        self.stage(id).state = State::of(output).on(&platform);
        Ok(())
    }

    fn add_image(&mut self, reference: &str, mode: ResolveMode, options: NodeOptions) -> Output {
        let mut options = options.capability(capability::SOURCE_IMAGE);
        let mut attributes = BTreeMap::new();
        if mode != ResolveMode::Default {
            attributes.insert(attribute::IMAGE_RESOLVE_MODE.to_owned(), mode.as_str().to_owned());
        }
        if mode == ResolveMode::ForcePull {
            options = options.capability(capability::SOURCE_IMAGE_RESOLVE_MODE);
        }
        let source = SourceOp { identifier: format!("docker-image://{reference}"), attributes };
        Some(self.nodes.add(NodeKind::Source(source), options))
    }

    /// A stage whose name is that of a context: the context takes its place, its instructions are not applied.
    fn resolve_named_stage(&mut self, id: StageId, found: &FoundContext) -> Result<()> {
        let stage = &self.stages.all[id];
        let (platform, paths) = (stage.platform.clone(), stage.paths);
        let wanted = platform.unwrap_or_else(|| self.target_platform.clone());
        let (state, image) = self.load_context(found, &wanted, paths)?;
        let stage = self.stage(id);
        stage.is_dispatched = true;
        stage.state = state;
        if let Some(image) = image {
            if !image.architecture.is_empty() && !image.os.is_empty() {
                stage.platform = Some(image.platform());
            }
            stage.image = ImageConfig { created: None, ..image };
        } else {
            stage.image = config::empty_image(&wanted);
        }
        Ok(())
    }

    /// A base image whose name is that of a context.
    fn resolve_replaced_base(&mut self, id: StageId, found: &FoundContext, platform: Platform) -> Result<()> {
        let paths = self.stages.all[id].paths;
        let (state, image) = self.load_context(found, &platform, paths)?;
        let image = image.unwrap_or_else(|| config::empty_image(&platform));
        let stage = self.stage(id);
        stage.base_image = Some(image.clone());
        stage.image = ImageConfig { created: None, ..image };
        stage.state = state.on(&platform);
        stage.platform = Some(platform);
        Ok(())
    }

    fn load_context(
        &mut self,
        found: &FoundContext,
        platform: &Platform,
        paths: PathSet,
    ) -> Result<(State, Option<ImageConfig>)> {
        let prefix = format!("[context {}]", found.key);
        let output = match &found.context {
            NamedContext::Image(name) if name == SCRATCH => None,
            NamedContext::Image(name) => return self.load_context_image(found, name, platform),
            NamedContext::OciLayout { .. } => return self.load_context_layout(found, platform),
            NamedContext::Local { name, ignore } => {
                let excludes = ignore.as_deref().map(ignore::read).unwrap_or_default();
                let shared_key = format!("context:{}-", found.key);
                let unique = self.options.local_unique.clone();
                let local = LocalNode { name: name.clone(), excludes, shared_key, unique, paths };
                let options = NodeOptions::named(format!("{prefix} load from client"));
                Some(self.nodes.add(NodeKind::Local(local), options))
            }
            NamedContext::Git(url) => self.add_git_context(url, false)?,
            NamedContext::Http(url) => match GitReference::parse(url)? {
                Some(_) => self.add_git_context(url, false)?,
                None => {
                    let options = NodeOptions::named(format!("{prefix} {}", redact::user_info(url)));
                    self.add_http(url, "context", None, options)
                }
            },
            NamedContext::Stage(stage) => return self.load_context_stage(found, stage),
        };
        Ok((State::of(output), None))
    }

    fn load_context_image(
        &mut self,
        found: &FoundContext,
        name: &str,
        platform: &Platform,
    ) -> Result<(State, Option<ImageConfig>)> {
        let reference = Reference::parse(name)
            .map_err(|source| DockerfileErrorKind::BaseReference { name: name.to_owned(), source })?
            .with_default_tag();
        let options = ResolveOptions {
            files_only: false,
            log_name: format!("[context {}] load metadata for {name}", found.key),
            mode: self.options.resolve_mode,
            layout: None,
        };
        let resolved = self
            .resolver
            .image_config(&reference, platform, &options)
            .map_err(|source| DockerfileErrorKind::Context { name: found.key.clone(), source })?;
        self.images.push(UsedImage {
            reference: resolved.reference.without_digest(),
            platform: platform.clone(),
            digest: resolved.digest.clone(),
        });
        let pinned = resolved.reference.with_digest(resolved.digest).to_string();
        let options = NodeOptions::named(format!("[context {}] {name}", found.key)).platform(platform);
        let output = self.add_image(&pinned, ResolveMode::Default, options);
        Ok((image_state(output, platform, &resolved.config), Some(resolved.config)))
    }

    fn load_context_layout(
        &mut self,
        found: &FoundContext,
        platform: &Platform,
    ) -> Result<(State, Option<ImageConfig>)> {
        let NamedContext::OciLayout { store, digest } = &found.context else { return Ok((State::of(None), None)) };
        let reference = Reference::parse(&found.name)
            .map_err(|source| DockerfileErrorKind::ContextName { name: found.name.clone(), source })?
            .with_digest(digest.clone());
        let options = ResolveOptions {
            files_only: false,
            log_name: format!("[context {}] load metadata for {reference}", found.key),
            mode: ResolveMode::Default,
            layout: Some(store.clone()),
        };
        let resolved = self
            .resolver
            .image_config(&reference, platform, &options)
            .map_err(|source| DockerfileErrorKind::Context { name: found.key.clone(), source })?;
        let attributes = BTreeMap::from([(attribute::OCI_STORE.to_owned(), store.clone())]);
        let source = SourceOp { identifier: format!("oci-layout://{reference}"), attributes };
        let options = NodeOptions::named(format!("[context {}] OCI load from client", found.key))
            .platform(platform)
            .capability(capability::SOURCE_OCI_LAYOUT);
        let output = Some(self.nodes.add(NodeKind::Source(source), options));
        Ok((image_state(output, platform, &resolved.config), Some(resolved.config)))
    }

    /// `target:STAGE`: the stage's own result, which is lowered like any other stage.
    fn load_context_stage(&mut self, found: &FoundContext, stage: &str) -> Result<(State, Option<ImageConfig>)> {
        let missing = || DockerfileErrorKind::ContextStage { name: found.key.clone(), stage: stage.to_owned() };
        let id = self.stages.by_name(stage).ok_or_else(missing)?;
        let stage = &self.stages.all[id];
        if !stage.is_dispatched {
            return Err(missing().into());
        }
        Ok((stage.state.clone(), Some(stage.image.clone())))
    }

    /// The source of files that `COPY` takes without `--from`.
    pub(crate) fn main_context(&mut self, paths: PathSet) -> Result<Output> {
        match &self.options.context {
            MainContext::Local { name } => {
                let excludes = self.ignore_patterns()?;
                let local = LocalNode {
                    name: name.clone(),
                    excludes,
                    shared_key: name.clone(),
                    unique: self.options.local_unique.clone(),
                    paths,
                };
                let options = NodeOptions::named("[internal] load build context");
                Ok(Some(self.nodes.add(NodeKind::Local(local), options)))
            }
            MainContext::Archive { name } => {
                let local = LocalNode {
                    name: name.clone(),
                    excludes: Vec::new(),
                    shared_key: name.clone(),
                    unique: self.options.local_unique.clone(),
                    paths: self.nodes.path_set(),
                };
                let options = NodeOptions::named("[internal] load remote build context");
                let archive = Some(self.nodes.add(NodeKind::Local(local), options));
                Ok(self.unpacked(archive))
            }
            MainContext::Git { url, keep_git_dir } => self.add_git_context(url, *keep_git_dir),
            MainContext::Http { url, archive } => {
                let options = NodeOptions::named("[internal] load remote build context");
                let download = self.add_http(url, "context", None, options);
                Ok(if *archive { self.unpacked(download) } else { download })
            }
        }
    }

    /// What is in the archive `context` of a source.
    fn unpacked(&mut self, source: Output) -> Output {
        let copy = CopyAction {
            source: "/context".to_owned(),
            destination: "/".to_owned(),
            attempt_unpack: true,
            ..CopyAction::default()
        };
        let action = FileNode { source, kind: FileActionKind::Copy(Box::new(copy)) };
        let options = NodeOptions::default().capability(capability::FILE_BASE);
        Some(self.nodes.add(NodeKind::File(None, vec![action]), options))
    }

    fn ignore_patterns(&self) -> Result<Vec<String>> {
        let file = self.resolver.ignore_file().map_err(DockerfileErrorKind::IgnoreFile)?;
        Ok(file.map(|file| ignore::read(&file.content)).unwrap_or_default())
    }

    /// What a context at a repository's address means: with SOURCE_DATE_EPOCH its files are of the commit's time.
    pub(crate) fn git_context(&self, url: &str, keep_git_dir: bool) -> Result<GitReference> {
        let mut git =
            GitReference::parse(url)?.ok_or_else(|| DockerfileErrorKind::GitContext(redact::user_info(url)))?;
        git.keep_git_dir = Some(keep_git_dir || git.keep_git_dir == Some(true));
        if git.mtime.is_empty() && self.options.build_args.get("SOURCE_DATE_EPOCH").is_some_and(|v| !v.is_empty()) {
            git.mtime = "commit".to_owned();
        }
        Ok(git)
    }

    fn add_git_context(&mut self, url: &str, keep_git_dir: bool) -> Result<Output> {
        let git = self.git_context(url, keep_git_dir)?;
        let options = NodeOptions::named(format!("[internal] load git source {}", redact::user_info(url)));
        Ok(self.add_git(&git, options))
    }
}

/// The state of an image: its variables, folder and platform.
fn image_state(output: Output, platform: &Platform, image: &ImageConfig) -> State {
    let mut state = State::of(output).on(platform);
    for line in &image.config.env {
        let (name, value) = split_line(line);
        state.environment.set(name, value);
    }
    if !image.config.working_dir.is_empty() {
        state.directory.clone_from(&image.config.working_dir);
    }
    if image.architecture.is_empty() || image.os.is_empty() { state } else { state.on(&image.platform()) }
}

/// Without a platform asked for, a base of the builder's platform decides.
fn detect_platform(image: &ImageConfig, target: Platform, build: &Platform) -> Platform {
    let is = |platform: &Platform| platform.os == image.os && platform.architecture == image.architecture;
    if !is(&target) && is(build) { build.clone() } else { target }
}
