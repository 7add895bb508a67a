//! Collecting stages, and which stages and images an instruction takes files from.

use super::error::{At, Result};
use super::part::Part;
use super::stage::{FoundContext, StageCommand, StageId, StageState};
use super::{DockerfileErrorKind, Lowering, SCRATCH};
use crate::instruction::{Command, Instruction, Stage};
use crate::resolver::NamedContext;
use crate::shell::{Environment, Expanded, Variables};
use crate::span::LineRange;
use crate::suggest;

use onetag_oci::{Platform, Reference};

impl Lowering<'_> {
    /// Expands what `FROM` says and numbers the steps.
    pub(crate) fn collect_stages(&mut self) {
        let file = self.file;
        for (position, stage) in file.stages.iter().enumerate() {
            if let Err(error) = self.collect_stage(position, stage) {
                self.note_unless_doubtful(&stage.code, error);
                // It keeps its place and its name, so that the others can be judged.
                let mut state = self.new_stage(position, stage, SCRATCH);
                (state.is_broken, state.is_doubtful) = (true, true);
                self.stages.add(state);
            }
        }
    }

    fn new_stage(&mut self, position: usize, stage: &Stage, base: &str) -> StageState {
        let mut state = StageState::new(base, Some(stage.lines), &mut self.nodes);
        state.origin = Some((stage.lines, Part::Argument(0)));
        state.is_doubtful = self.is_doubtful;
        state.given_name.clone_from(&stage.name);
        state.code.clone_from(&stage.code);
        state.counter.stage = if stage.name.is_empty() { format!("stage-{position}") } else { stage.name.clone() };
        state.counter.with_platform = self.options.multi_platform;
        let command = |instruction: &Instruction| StageCommand {
            instruction: instruction.clone(),
            sources: Vec::new(),
            is_on_build: false,
        };
        state.commands = stage.instructions.iter().map(command).collect();
        state
    }

    fn collect_stage(&mut self, position: usize, stage: &Stage) -> Result<()> {
        let lines = Some(stage.lines);
        let base = self.stage_base(&stage.base).about(|| Part::Argument(0)).at(lines)?;
        let base = self.target_of(&base).map_or(base, |stage| self.stages.all[stage].given_name.clone());
        let mut state = self.new_stage(position, stage, &base);
        if !stage.platform.is_empty() {
            let platform = self.stage_platform(&stage.platform).about(|| Part::Flag("platform", 0)).at(lines)?;
            state.platform = Some(platform);
        }
        if !stage.name.is_empty() {
            let platform = state.platform.clone();
            let found = self.find_context(&stage.name, platform.as_ref());
            state.named_context = found.about(|| Part::Argument(2)).at(lines)?;
            if state.named_context.is_some() {
                let id = self.stages.add(state);
                self.stage(id).base = None;
                return Ok(());
            }
        }
        state.ignore_cache = self.options.no_cache.covers(&stage.name);
        let id = self.stages.add(state);
        let state = self.stage(id);
        let is_image = state.base_name != SCRATCH && state.base.is_none();
        let steps = state.commands.iter().filter(|command| is_step(&command.instruction.command)).count();
        state.counter.total = steps + usize::from(is_image);
        Ok(())
    }

    fn stage_base(&self, expression: &str) -> Result<String> {
        let base = self.lex.process_word(expression, &self.globals)?.value;
        if base.is_empty() { Err(DockerfileErrorKind::BlankBase(expression.to_owned()).into()) } else { Ok(base) }
    }

    fn stage_platform(&self, expression: &str) -> Result<Platform> {
        let expanded = self.lex.process_word(expression, &self.globals)?;
        let nearest = |expanded: &Expanded| {
            expanded.unmatched.iter().find_map(|name| suggest::nearest(name, self.globals.names()))
        };
        if expanded.value.is_empty() {
            let (expression, nearest) = (expression.to_owned(), nearest(&expanded));
            return Err(DockerfileErrorKind::EmptyPlatform { expression, nearest }.into());
        }
        expanded.value.parse().map_err(|source| {
            let (expression, nearest) = (expression.to_owned(), nearest(&expanded));
            DockerfileErrorKind::Platform { expression, nearest, source }.into()
        })
    }

    /// The named context that takes the place of a stage or an image. The name is first looked for with the platform.
    pub(crate) fn find_context(&self, name: &str, platform: Option<&Platform>) -> Result<Option<FoundContext>> {
        if name.eq_ignore_ascii_case(SCRATCH) || name.eq_ignore_ascii_case("context") {
            return Ok(None);
        }
        let reference = Reference::parse(name)
            .map_err(|source| DockerfileErrorKind::ContextName { name: name.to_owned(), source })?;
        let familiar = reference.familiar();
        let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let platform = platform.unwrap_or(&self.target_platform).normalize();
        for key in [format!("{name}::{}", platform.format_all()), name.to_owned()] {
            let found = self
                .resolver
                .named_context(&key)
                .map_err(|source| DockerfileErrorKind::Context { name: key.clone(), source })?;
            if let Some(context) = found {
                return Ok(Some(FoundContext { key, name: name.to_owned(), context }));
            }
        }
        Ok(None)
    }

    /// The stages that an instruction takes files from, one for a `COPY --from`, one for every mount of a `RUN`.
    pub(crate) fn sources_of(&mut self, instruction: &Instruction) -> Result<Vec<StageId>> {
        match &instruction.command {
            Command::Copy(copy) if !copy.from.is_empty() => {
                let origin = (instruction.lines, Part::Flag("from", 0));
                Ok(vec![self.copy_source(&copy.from, origin).about(|| Part::Flag("from", 0))?])
            }
            Command::Run(run) => {
                let from = |from: &String| if from.is_empty() { SCRATCH.to_owned() } else { from.clone() };
                let names: Vec<String> = run.mounts().iter().map(|mount| from(&mount.from)).collect();
                let origin = |index| (instruction.lines, Part::Flag("mount", index));
                let images = names.iter().enumerate();
                Ok(images.map(|(index, name)| self.stage_or_image(name, None, origin(index))).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn copy_source(&mut self, from: &str, origin: (LineRange, Part)) -> Result<StageId> {
        if self.lex.process_word(from, &Variables::new())?.value != from {
            return Err(DockerfileErrorKind::FromVariable.into());
        }
        match from.parse::<i64>() {
            Ok(index) => usize::try_from(index)
                .ok()
                .filter(|&position| position < self.stages.all.len())
                .ok_or_else(|| DockerfileErrorKind::StageIndex(index).into()),
            Err(_) => Ok(self.stage_or_image(from, Some(origin.0), origin)),
        }
    }

    /// The stage that a `--build-context NAME=target:STAGE` puts in the place of a name.
    fn target_of(&self, name: &str) -> Option<StageId> {
        match self.find_context(name, None).ok()??.context {
            NamedContext::Stage(stage) => self.stages.by_name(&stage),
            _ => None,
        }
    }

    /// `lines` are what the graph says of an image, `origin` is where it is named.
    fn stage_or_image(&mut self, name: &str, lines: Option<LineRange>, origin: (LineRange, Part)) -> StageId {
        if let Some(id) = self.target_of(name).or_else(|| self.stages.by_name(name)) {
            return id;
        }
        let mut image = StageState::new(name, lines, &mut self.nodes);
        image.is_unregistered = true;
        image.origin = Some(origin);
        self.stages.add(image)
    }
}

/// Whether an instruction is a step that progress numbers.
fn is_step(command: &Command) -> bool {
    matches!(command, Command::Add(_) | Command::Copy(_) | Command::Run(_) | Command::Workdir(_))
}
