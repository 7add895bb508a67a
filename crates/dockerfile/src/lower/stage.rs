//! A stage, or an image that a stage takes files from, while it is lowered.

use std::collections::{BTreeSet, HashMap};

use onetag_llb::NetworkMode;
use onetag_oci::{ImageConfig, Platform};

use super::environment::EnvironmentList;
use super::names::StepCounter;
use super::nodes::{Nodes, Output, PathSet};
use super::part::Part;
use crate::instruction::{ArgDefinition, Instruction};
use crate::resolver::NamedContext;
use crate::span::LineRange;

/// Position of a stage among [`Stages::all`].
pub(crate) type StageId = usize;

/// A file system with what the next command in it gets.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub output: Output,
    pub environment: EnvironmentList,
    pub directory: String,
    pub user: String,
    pub hostname: String,
    pub network: NetworkMode,
    pub platform: Option<Platform>,
}

impl State {
    /// A result with nothing said about commands in it.
    pub(crate) fn of(output: Output) -> State {
        State { output, directory: "/".to_owned(), ..State::default() }
    }

    /// The same for a platform.
    pub(crate) fn on(mut self, platform: &Platform) -> State {
        self.platform = Some(platform.normalize());
        self
    }
}

/// An instruction with the stages that it takes files from.
#[derive(Clone, Debug)]
pub(crate) struct StageCommand {
    pub instruction: Instruction,
    pub sources: Vec<StageId>,
    pub is_on_build: bool,
}

/// A context that stands for a stage or an image.
#[derive(Clone, Debug)]
pub(crate) struct FoundContext {
    /// Its key: a name or `name::platform`.
    pub key: String,
    pub name: String,
    pub context: NamedContext,
}

/// A stage while it is lowered.
pub(crate) struct StageState {
    /// What `FROM` names; complete and pinned once it is resolved.
    pub base_name: String,
    /// The stage's name as given after `AS`, in lower case; empty when there is none.
    pub given_name: String,
    /// The text of the `FROM`.
    pub code: String,
    /// The lines of the `FROM`, or of the instruction that takes files from an image.
    pub lines: Option<LineRange>,
    /// Where its name stands, for messages.
    pub origin: Option<(LineRange, Part)>,
    pub state: State,
    pub image: ImageConfig,
    pub named_context: Option<FoundContext>,
    pub platform: Option<Platform>,
    /// The stage that this one continues.
    pub base: Option<StageId>,
    /// The config of the image at the bottom, as it was.
    pub base_image: Option<ImageConfig>,
    pub is_dispatched: bool,
    pub is_resolved: bool,
    pub on_build_done: bool,
    /// Whether it is not known what it begins with, because its `FROM` is wrong.
    pub is_broken: bool,
    /// Whether variables may lack the values that they should have.
    pub is_doubtful: bool,
    /// Stages that instructions take files from, with the instructions' lines.
    pub needs: Vec<(StageId, LineRange)>,
    pub build_args: Vec<ArgDefinition>,
    pub commands: Vec<StageCommand>,
    /// Paths of the main context that the stage needs.
    pub context_paths: BTreeSet<String>,
    /// Paths of this stage that others need.
    pub paths: PathSet,
    pub ignore_cache: bool,
    /// An image that is no stage.
    pub is_unregistered: bool,
    pub counter: StepCounter,
    /// Whether a `CMD` of this stage came before.
    pub has_cmd: bool,
}

impl StageState {
    pub(crate) fn new(base_name: &str, lines: Option<LineRange>, nodes: &mut Nodes) -> StageState {
        StageState {
            base_name: base_name.to_owned(),
            given_name: String::new(),
            code: String::new(),
            lines,
            origin: None,
            state: State::of(None),
            image: ImageConfig::default(),
            named_context: None,
            platform: None,
            base: None,
            base_image: None,
            is_dispatched: false,
            is_resolved: false,
            on_build_done: false,
            is_broken: false,
            is_doubtful: false,
            needs: Vec::new(),
            build_args: Vec::new(),
            commands: Vec::new(),
            context_paths: BTreeSet::new(),
            paths: nodes.path_set(),
            ignore_cache: false,
            is_unregistered: false,
            counter: StepCounter { stage: String::new(), index: 0, total: 0, is_on_build: false, with_platform: false },
            has_cmd: false,
        }
    }

    pub(crate) fn need(&mut self, stage: StageId, lines: LineRange) {
        if !self.needs.iter().any(|(known, _)| *known == stage) {
            self.needs.push((stage, lines));
        }
    }
}

/// All stages, in the order of the Dockerfile, and after them the images that instructions take files from.
#[derive(Default)]
pub(crate) struct Stages {
    pub all: Vec<StageState>,
    by_name: HashMap<String, StageId>,
}

impl Stages {
    /// Adds a stage; a base that is the name of an earlier stage becomes that stage.
    pub(crate) fn add(&mut self, mut stage: StageState) -> StageId {
        let id = self.all.len();
        stage.base = self.by_name.get(&stage.base_name).copied();
        if !stage.given_name.is_empty() {
            self.by_name.insert(stage.given_name.to_lowercase(), id);
        }
        self.all.push(stage);
        id
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<StageId> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// The names of all stages that have one.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all.iter().map(|stage| stage.counter.stage.clone()).filter(|name| !name.is_empty()).collect()
    }

    /// Which stages a stage needs, itself among them; a list of flags by stage.
    pub(crate) fn reachable(&self, target: StageId) -> Vec<bool> {
        let mut found = vec![false; self.all.len()];
        let mut open = vec![target];
        while let Some(id) = open.pop() {
            if !std::mem::replace(&mut found[id], true) {
                let stage = &self.all[id];
                open.extend(stage.base.iter().copied().chain(stage.needs.iter().map(|(needed, _)| *needed)));
            }
        }
        found
    }

    /// Takes over what the base stage has become.
    pub(crate) fn inherit(&mut self, id: StageId) {
        let Some(base) = self.all[id].base else { return };
        let base = &self.all[base];
        let (state, platform, paths) = (base.state.clone(), base.platform.clone(), base.paths);
        let (mut image, base_image) = (base.image.clone(), base.base_image.clone());
        let (build_args, is_doubtful) = (base.build_args.clone(), base.is_doubtful);
        // Triggers are for the stage that builds upon the image, not for those that build upon that stage.
        image.config.on_build.clear();
        let stage = &mut self.all[id];
        stage.state = state;
        stage.platform = platform;
        stage.image = image;
        stage.base_image = base_image;
        stage.paths = paths;
        stage.build_args.extend(build_args);
        stage.is_doubtful |= is_doubtful;
    }

    /// The first stage that needs itself, with the lines of the instructions on the way.
    pub(crate) fn circle(&self) -> Option<(StageId, Vec<LineRange>)> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.all.len()];
        for start in 0..self.all.len() {
            if marks[start] != Mark::New {
                continue;
            }
            marks[start] = Mark::Open;
            let mut path: Vec<(StageId, usize)> = vec![(start, 0)];
            while let Some((id, next)) = path.last_mut() {
                let id = *id;
                let Some(&(needed, _)) = self.all[id].needs.get(*next) else {
                    marks[id] = Mark::Done;
                    path.pop();
                    continue;
                };
                *next += 1;
                match marks[needed] {
                    Mark::Done => {}
                    Mark::New => {
                        marks[needed] = Mark::Open;
                        path.push((needed, 0));
                    }
                    Mark::Open => {
                        let lines = path.iter().map(|&(stage, next)| self.all[stage].needs[next - 1].1).collect();
                        return Some((start, lines));
                    }
                }
            }
        }
        None
    }
}
