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
mod mistakes;
mod mounts;
mod names;
mod nodes;
mod options;
mod part;
mod paths;
mod resolve;
mod run;
mod sources;
mod stage;

use onetag_llb::SourceFile;
use onetag_oci::Platform;

pub use context::{lower_context, lower_download, lower_source};
pub use error::{DockerfileError, DockerfileErrorKind};
pub use mistakes::mistakes;
pub use options::{LowerOptions, Lowered, MainContext, NoCache, UsedImage};

use crate::file::{Dockerfile, MAX_ERRORS};
use crate::resolver::Resolver;
use crate::shell::Lex;
use crate::suggest;
use arguments::GlobalArguments;
use environment::EnvironmentList;
use error::{At, Result};
use nodes::{NodeId, NodeKind, NodeOptions, Nodes};
use stage::{StageCommand, StageId, StageState, Stages};

/// How many bytes the configs and the steps of all stages may hold. A few lines that double a variable, expose every
/// port or build stage upon stage would fill any memory.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

/// The base that is no image.
const SCRATCH: &str = "scratch";

/// Lowers a Dockerfile for one platform. The Dockerfile MUST have been read without an error.
///
/// # Errors
/// An instruction that means nothing, a stage or an image that does not exist; see [`DockerfileErrorKind`].
pub fn lower(file: &Dockerfile, options: &LowerOptions, resolver: &dyn Resolver) -> Result<Lowered> {
    let mut lowering = Lowering::new(file, options, resolver);
    let lowered = lowering.apply().and_then(|target| lowering.finish(target));
    lowered.map_err(|error| error.located(file))
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
    /// What is wrong, in the order in which it was come to: the first is what BuildKit stops at.
    errors: Vec<DockerfileError>,
    /// Whether arguments may lack the values that they should have.
    is_doubtful: bool,
    /// How much text configs and steps hold: see [`MAX_TEXT_BYTES`].
    text_bytes: usize,
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
            errors: Vec::new(),
            is_doubtful: false,
            text_bytes: 0,
        }
    }

    /// Goes through everything that the target needs. Mistakes do not stop it, as long as what follows can be judged
    /// without what went wrong.
    fn apply(&mut self) -> Result<StageId> {
        let last = self.file.stages.last().ok_or(DockerfileErrorKind::NoStages)?;
        let stage_name = self.options.target.as_deref().filter(|target| !target.is_empty()).unwrap_or(&last.name);
        let globals = GlobalArguments::new(self.file, self.options, &self.target_platform, stage_name, &self.lex);
        self.globals = globals.list;
        for error in globals.errors {
            self.note_unless_doubtful("", error);
            self.is_doubtful = true;
        }
        let epoch = self.resolve_epoch();
        self.note(epoch);
        self.collect_stages();
        let target = self.target();
        let Some(target) = self.note(target) else { return Err(self.failure()) };
        self.tie_commands();
        if let Some(circle) = self.circle() {
            self.note::<()>(Err(circle));
            return Err(self.failure());
        }
        if let [only] = self.stages.all.as_mut_slice() {
            only.counter.stage.clear();
        }
        self.resolve_stages(target);
        self.dispatch_stages(target);
        if self.errors.is_empty() { Ok(target) } else { Err(self.failure()) }
    }
}

impl Lowering<'_> {
    /// Keeps what is wrong, as far as there is room.
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let room = MAX_ERRORS - self.errors.len().min(MAX_ERRORS);
        self.errors.extend(error.into_all().into_iter().filter(|error| !mistakes::was_not_asked(error)).take(room));
        None
    }

    /// As [`Lowering::note`], unless it may come of a variable that lacks its value.
    fn note_unless_doubtful(&mut self, code: &str, error: DockerfileError) {
        let is_doubtful = self.is_doubtful;
        let errors =
            error.into_all().into_iter().filter(|error| !(is_doubtful && error.kind.depends_on_variables(code)));
        for error in errors.collect::<Vec<_>>() {
            self.note::<()>(Err(error));
        }
    }

    /// All that is wrong, as one error.
    fn failure(&mut self) -> DockerfileError {
        let errors = std::mem::take(&mut self.errors);
        // Nothing at all is left of what could not be asked for.
        DockerfileError::first_of(errors).err().unwrap_or_else(|| DockerfileErrorKind::NoStages.into())
    }

    /// Counts text against the limit.
    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        if self.text_bytes > MAX_TEXT_BYTES { Err(DockerfileErrorKind::TooLarge.into()) } else { Ok(()) }
    }

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
    fn tie_commands(&mut self) {
        for id in 0..self.stages.all.len() {
            for position in 0..self.stages.all[id].commands.len() {
                let instruction = self.stages.all[id].commands[position].instruction.clone();
                let sources = self.sources_of(&instruction).at(Some(instruction.lines));
                let sources = self.note(sources).unwrap_or_default();
                sources.iter().for_each(|&source| self.stage(id).need(source, instruction.lines));
                self.stage(id).commands[position].sources = sources;
            }
        }
    }

    fn circle(&self) -> Option<DockerfileError> {
        let (stage, lines) = self.stages.circle()?;
        let name = self.stages.all[stage].counter.stage.clone();
        Some(DockerfileError { lines, ..DockerfileErrorKind::Circular(name).into() })
    }

    /// Puts the triggers of base images and base stages in front of a stage's instructions. Returns whether they
    /// take files from anywhere, which then has to be resolved.
    fn add_triggers(&mut self, id: StageId) -> bool {
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
            return false;
        }
        let mut commands = Vec::with_capacity(triggers.len());
        let mut has_sources = false;
        for trigger in &triggers {
            let trigger = crate::file::parse_trigger(trigger, lines)
                .map_err(|diagnostic| DockerfileErrorKind::Trigger(Box::new(diagnostic)))
                .at(Some(lines))
                .and_then(|instruction| {
                    let sources = self.sources_of(&instruction).at(Some(lines))?;
                    Ok((instruction, sources))
                });
            let Some((instruction, sources)) = self.note(trigger) else { continue };
            has_sources |= !sources.is_empty();
            sources.iter().for_each(|&source| self.stage(id).need(source, lines));
            commands.push(StageCommand { instruction, sources, is_on_build: true });
        }
        let stage = self.stage(id);
        stage.counter.total += commands.len();
        commands.append(&mut stage.commands);
        stage.commands = commands;
        stage.image.config.on_build.clear();
        has_sources
    }

    /// Everything is applied: makes the graph and the last changes of the config.
    fn finish(&mut self, target: StageId) -> Result<Lowered> {
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
            platform: self.target_platform.clone(),
            epoch: self.epoch,
            images: std::mem::take(&mut self.images),
        })
    }
}
