//! From a Dockerfile to the build graph and the image config, for one platform at a time.
//!
//! Lowering is pure: what it must know of images, ignore files and named contexts it asks a [`Resolver`]. It goes
//! through the Dockerfile as BuildKit's front end does, so that ops, digests, names and configs are the same:
//!
//! 1. stages are collected and their bases expanded with the global arguments;
//! 2. instructions are tied to the stages and images that they take files from;
//! 3. the stages that the target needs are resolved, others never;
//! 4. their instructions are applied in order, which makes nodes and changes configs;
//! 5. nodes become vertices once all paths needed of the contexts are known.

mod arguments;
mod config;
mod context;
mod copy;
mod dispatch;
mod environment;
mod epoch;
mod error;
mod mounts;
mod names;
mod nodes;
mod options;
mod paths;
mod resolve;
mod run;
mod sources;
mod stage;

use onetag_llb::SourceFile;
use onetag_oci::Platform;

pub use context::{lower_context, lower_download};
pub use error::{DockerfileError, DockerfileErrorKind};
pub use options::{LowerOptions, Lowered, MainContext, NoCache, UsedImage};

use crate::file::Dockerfile;
use crate::resolver::Resolver;
use crate::shell::Lex;
use crate::suggest;
use arguments::GlobalArguments;
use environment::EnvironmentList;
use error::{At, Result};
use nodes::{NodeId, NodeKind, NodeOptions, Nodes};
use stage::{StageCommand, StageId, StageState, Stages};

/// The base that is no image.
const SCRATCH: &str = "scratch";

/// Lowers a Dockerfile for one platform. The Dockerfile MUST have been read without an error.
///
/// # Errors
/// An instruction that means nothing, a stage or an image that does not exist; see [`DockerfileErrorKind`].
pub fn lower(file: &Dockerfile, options: &LowerOptions, resolver: &dyn Resolver) -> Result<Lowered> {
    let last = file.stages.last().ok_or(DockerfileErrorKind::NoStages)?;
    let stage_name = options.target.as_deref().filter(|target| !target.is_empty()).unwrap_or(&last.name);
    let mut lowering = Lowering::new(file, options, resolver);
    let globals = GlobalArguments::new(file, options, &lowering.target_platform, stage_name, &lowering.lex)?;
    lowering.globals = globals.list;
    lowering.resolve_epoch()?;
    lowering.collect_stages()?;
    let target = lowering.target()?;
    lowering.tie_commands()?;
    lowering.resolve_stages(target)?;
    lowering.dispatch_stages(target)?;
    lowering.finish(target)
}

/// The lowering at work.
struct Lowering<'a> {
    file: &'a Dockerfile,
    options: &'a LowerOptions,
    resolver: &'a dyn Resolver,
    lex: Lex,
    /// `--build-arg`, with SOURCE_DATE_EPOCH resolved.
    build_args: std::collections::BTreeMap<String, String>,
    /// Automatic and global arguments.
    globals: EnvironmentList,
    /// SOURCE_DATE_EPOCH in seconds since 1970.
    epoch: Option<i64>,
    target_platform: Platform,
    nodes: Nodes,
    stages: Stages,
    /// Stands for the main context until all paths are known.
    context: NodeId,
    images: Vec<UsedImage>,
}

impl<'a> Lowering<'a> {
    fn new(file: &'a Dockerfile, options: &'a LowerOptions, resolver: &'a dyn Resolver) -> Self {
        let mut nodes = Nodes::default();
        let context = nodes.add(NodeKind::Alias(None), NodeOptions::default());
        Lowering {
            file,
            options,
            resolver,
            lex: Lex::new(file.escape),
            build_args: options.build_args.clone(),
            globals: EnvironmentList::default(),
            epoch: None,
            target_platform: options.target_platform.clone().unwrap_or_else(|| options.build_platform.clone()),
            nodes,
            stages: Stages::default(),
            context,
            images: Vec::new(),
        }
    }
}

impl Lowering<'_> {
    fn stage(&mut self, id: StageId) -> &mut StageState {
        &mut self.stages.all[id]
    }

    fn target(&self) -> Result<StageId> {
        let Some(target) = self.options.target.as_deref().filter(|target| !target.is_empty()) else {
            return Ok(self.stages.all.len() - 1);
        };
        self.stages.by_name(target).ok_or_else(|| {
            let nearest = suggest::nearest(target, &self.stages.names());
            DockerfileErrorKind::UnknownTarget { target: target.to_owned(), nearest }.into()
        })
    }

    /// Ties instructions to the stages and images that they take files from.
    fn tie_commands(&mut self) -> Result<()> {
        for id in 0..self.stages.all.len() {
            for position in 0..self.stages.all[id].commands.len() {
                let instruction = self.stages.all[id].commands[position].instruction.clone();
                let sources = self.sources_of(&instruction)?;
                sources.iter().for_each(|&source| self.stage(id).need(source, instruction.lines));
                self.stage(id).commands[position].sources = sources;
            }
        }
        if let Some((stage, lines)) = self.stages.circle() {
            let name = self.stages.all[stage].counter.stage.clone();
            let kind = Box::new(DockerfileErrorKind::Circular(name));
            return Err(DockerfileError { kind, lines, others: Vec::new() });
        }
        if let [only] = self.stages.all.as_mut_slice() {
            only.counter.stage.clear();
        }
        Ok(())
    }

    /// Puts the triggers of base images and base stages in front of a stage's instructions. Returns whether they
    /// take files from anywhere, which then has to be resolved.
    fn add_triggers(&mut self, id: StageId) -> Result<bool> {
        let stage = self.stage(id);
        let mut triggers = stage.image.config.on_build.clone();
        let lines = stage.lines.unwrap_or_default();
        if let (Some(base), false) = (stage.base, stage.on_build_done) {
            stage.on_build_done = true;
            triggers.extend(self.stages.all[base].commands.iter().filter_map(|command| {
                match &command.instruction.command {
                    crate::instruction::Command::Onbuild(text) => Some(text.clone()),
                    _ => None,
                }
            }));
        }
        if triggers.is_empty() {
            return Ok(false);
        }
        let mut commands = Vec::with_capacity(triggers.len());
        let mut has_sources = false;
        for trigger in &triggers {
            let instruction = crate::file::parse_trigger(trigger, lines)
                .map_err(|diagnostic| DockerfileErrorKind::Trigger(Box::new(diagnostic)))
                .at(Some(lines))?;
            let sources = self.sources_of(&instruction).at(Some(lines))?;
            has_sources |= !sources.is_empty();
            sources.iter().for_each(|&source| self.stage(id).need(source, lines));
            commands.push(StageCommand { instruction, sources, is_on_build: true });
        }
        let stage = self.stage(id);
        stage.counter.total += commands.len();
        commands.append(&mut stage.commands);
        stage.commands = commands;
        stage.image.config.on_build.clear();
        Ok(has_sources)
    }

    /// Everything is applied: makes the graph and the last changes of the config.
    fn finish(mut self, target: StageId) -> Result<Lowered> {
        let labels = self.options.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
        self.stages.all[target].image.config.labels.extend(labels);
        let needed = self.nodes.path_set();
        for stage in self.stages.all.iter().filter(|stage| stage.is_dispatched) {
            stage.context_paths.iter().for_each(|path| self.nodes.need_path(needed, path));
        }
        let context = self.main_context(needed)?;
        self.nodes.resolve_alias(self.context, context);
        let source = SourceFile {
            filename: self.options.filename.clone(),
            language: "Dockerfile".to_owned(),
            data: self.file.source.clone().into_bytes(),
        };
        let stage = &self.stages.all[target];
        let graph = self.nodes.graph(stage.state.output, &self.target_platform, source)?;
        let mut image = stage.image.clone();
        if self.options.target_platform.is_some() {
            config::set_target_platform(&mut image, &self.target_platform);
        }
        let normalized = image.platform().normalize();
        image.set_platform(&normalized);
        Ok(Lowered {
            result: graph.roots().first().cloned(),
            graph,
            image,
            base: stage.base_image.clone(),
            platform: self.target_platform,
            epoch: self.epoch,
            images: self.images,
        })
    }
}
