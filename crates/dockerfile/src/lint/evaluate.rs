//! The way through a Dockerfile, in the order in which BuildKit takes it: findings and errors come
//! in its order too.

use onetag_oci::{ImageConfig, Platform, Reference};

use super::expansion::{self, Globals, Platforms};
use super::stages::{State, States, Step};
use super::{
    BaseImages, Checked, INVALID_BASE_IMAGE_PLATFORM, LintConfig, LintRequest, Linter, NO_EMPTY_CONTINUATION,
    OutlineItems, failure, instructions, outline, sources, static_checks,
};
use crate::file::{Dockerfile, parse, parse_trigger};
use crate::ignore::Patterns;
use crate::instruction::{Command, Stage, parse_node};
use crate::parser::{Node, Parser, find_directive};
use crate::shell::Lex;
use crate::span::LineRange;
use crate::suggest;
use crate::values::quote;

/// The path that a container has without an image's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Checks everything; stops at the first error.
pub(super) fn run(
    text: &[u8],
    request: &LintRequest,
    images: &dyn BaseImages,
    linter: &mut Linter,
    all_stages: bool,
) -> Checked<OutlineItems> {
    if text.is_empty() {
        return failure("the Dockerfile cannot be empty", []);
    }
    let source = String::from_utf8_lossy(text);
    linter.config = match &request.config {
        Some(config) => config.clone(),
        None => {
            let options = find_directive(&source, "check").map(|directive| directive.value).unwrap_or_default();
            match LintConfig::parse(&options) {
                Ok(config) => config,
                Err(error) => return failure(format!("failed to parse check options: {error}"), []),
            }
        }
    };
    let file = read(&source, linter)?;
    let Some(last) = file.stages.last() else { return failure("dockerfile contains no stages to build", []) };
    static_checks::stage_names(linter, &file.stages);
    static_checks::casing(linter, &file.stages);

    let platforms = Platforms::new(request);
    let lex = Lex::new(file.escape);
    let target_name = request.target.as_deref().filter(|target| !target.is_empty()).unwrap_or(&last.name);
    let defaults = platforms.arguments(&request.build_args, target_name);
    expansion::default_arguments(linter, &lex, &file.stages, defaults.clone(), &file.meta_args);
    let globals = expansion::meta_arguments(defaults, &lex, &file.meta_args, &request.build_args)?;

    let mut evaluation = Evaluation {
        request,
        images,
        linter,
        platforms,
        lex,
        globals,
        ignored: None,
        states: States::default(),
        all_stages,
    };
    evaluation.stages(&file.stages)?;
    let target = evaluation.target()?;
    evaluation.dependencies()?;
    evaluation.bases(target)?;
    evaluation.dispatch(target)?;
    evaluation.linter.error()?;
    let description = file.stages.get(target).map(|stage| stage.description.clone()).unwrap_or_default();
    Ok(outline::collect(&evaluation, target, description))
}

/// Reads the file; errors of form come before anything is found.
fn read(source: &str, linter: &mut Linter) -> Checked<Dockerfile> {
    let mut parser = Parser::new(source);
    let nodes: Result<Vec<Node>, _> = parser.by_ref().collect();
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(error) => return failure(error.kind.to_string(), [error.lines]),
    };
    let config = linter.config.clone();
    for found in &parser.empty_continuations {
        let lines = LineRange::single(found.line);
        linter.report(&config, &NO_EMPTY_CONTINUATION, lines, "Empty continuation line".to_owned());
    }
    let (file, errors) = parse(source.as_bytes());
    let failed_at = errors.first().and_then(|error| error.first_line());
    for node in &nodes {
        let config = linter.config.with_comments(&node.comments);
        static_checks::before_parsing(linter, &config, node);
        if let Ok(parsed) = parse_node(node) {
            static_checks::after_parsing(linter, &config, &parsed);
        }
        if failed_at == Some(node.lines.start) {
            break;
        }
    }
    match errors.into_iter().next() {
        Some(error) => Err(Box::new(error)),
        None => Ok(file),
    }
}

/// What is known while the stages are followed.
pub(super) struct Evaluation<'a> {
    pub(super) request: &'a LintRequest,
    images: &'a dyn BaseImages,
    pub(super) linter: &'a mut Linter,
    pub(super) platforms: Platforms,
    pub(super) lex: Lex,
    pub(super) globals: Globals,
    /// The ignore patterns, where a copied file can be told to be ignored.
    pub(super) ignored: Option<Patterns>,
    pub(super) states: States,
    all_stages: bool,
}

impl Evaluation<'_> {
    /// Takes in the stages with their bases and platforms expanded.
    fn stages(&mut self, stages: &[Stage]) -> Checked<()> {
        for (index, stage) in stages.iter().enumerate() {
            let config = self.linter.config.with_comments(&stage.comments);
            let (base, mut used, unmatched) = match self.lex.process_word(&stage.base, &self.globals.variables) {
                Ok(done) => (Ok(done.value), done.matched, done.unmatched),
                Err(error) => (Err(error.to_string()), error.used.matched, error.used.unmatched),
            };
            expansion::undeclared_in_from(self.linter, &config, &self.globals, &unmatched, stage.lines);
            let base = match base {
                Ok(base) if base.is_empty() => {
                    return failure(format!("base name ({}) should not be blank", stage.base), [stage.lines]);
                }
                Ok(base) => base,
                Err(message) => return failure(message, [stage.lines]),
            };
            let host = self.platforms.build[0].clone();
            let platform = expansion::stage_platform(self.linter, &config, &self.lex, &self.globals, &host, stage)?;
            let platform = platform.map(|(platform, names)| {
                used.extend(names);
                platform
            });
            let mut state = State::of_stage(stage, base, platform, index);
            state.notes.arguments.clone_from(&self.globals.declared);
            let added = self.states.add(state);
            self.states.all[added].notes.used.extend(used);
            if !stage.name.is_empty() && self.images.is_named_context(&stage.name) {
                let state = &mut self.states.all[added];
                (state.is_context, state.base) = (true, None);
            }
        }
        Ok(())
    }

    fn target(&self) -> Checked<usize> {
        let Some(name) = self.request.target.as_deref().filter(|target| !target.is_empty()) else {
            return Ok(self.states.all.len() - 1);
        };
        match self.states.by_name(name) {
            Some(target) => Ok(target),
            None => {
                let mut message = format!("target stage {} could not be found", quote(name));
                if let Some(nearest) = suggest::nearest(name, self.states.names()) {
                    message.push_str(&format!(" (did you mean {nearest}?)"));
                }
                failure(message, [])
            }
        }
    }

    /// Finds out what each stage reads from.
    fn dependencies(&mut self) -> Checked<()> {
        let stages = self.states.all.len();
        for index in 0..stages {
            for step in 0..self.states.all[index].steps.len() {
                let instruction = self.states.all[index].steps[step].instruction.clone();
                let found = sources::find(&mut self.states, &self.lex, &instruction)?;
                self.depend(index, &found, instruction.lines);
                self.states.all[index].steps[step].sources = found;
            }
        }
        self.states.check_circles()?;
        if let [only] = self.states.all.as_mut_slice() {
            only.label.clear();
        }
        Ok(())
    }

    fn depend(&mut self, index: usize, sources: &[usize], lines: LineRange) {
        let dependencies = &mut self.states.all[index].dependencies;
        for source in sources {
            match dependencies.iter_mut().find(|(on, _)| on == source) {
                Some(known) => known.1 = lines,
                None => dependencies.push((*source, lines)),
            }
        }
    }

    /// Looks up base images, and what their triggers add, until nothing new is needed.
    fn bases(&mut self, target: usize) -> Checked<()> {
        loop {
            let reachable = self.states.reachable(target);
            for index in 0..self.states.all.len() {
                let is_reachable = self.all_stages || reachable.get(index).copied().unwrap_or_default();
                let state = &self.states.all[index];
                if state.base.is_none() && !state.is_dispatched && !state.is_resolved {
                    self.base_image(index, is_reachable)?;
                }
            }
            let mut is_done = true;
            for index in (0..reachable.len()).filter(|index| reachable[*index]) {
                is_done &= !self.triggers(index)?;
            }
            if is_done {
                return Ok(());
            }
        }
    }

    fn base_image(&mut self, index: usize, is_reachable: bool) -> Checked<()> {
        let state = &mut self.states.all[index];
        state.is_resolved = is_reachable;
        if state.base_name == "scratch" && !state.is_context {
            state.image = ImageConfig::new(&self.platforms.target);
            state.platform = Some(self.platforms.target.clone());
            state.is_dispatched = state.is_unregistered;
            return Ok(());
        }
        state.is_dispatched = state.is_unregistered;
        let lines = if state.lines.start == 0 { None } else { Some(state.lines) };
        let written = state.base_name.clone();
        let reference = match Reference::parse(&written) {
            Ok(reference) => reference,
            Err(error) => return failure(format!("failed to parse stage name {}: {error}", quote(&written)), lines),
        };
        let reference = reference.with_default_tag();
        let mut platform = state.platform.clone().unwrap_or_else(|| self.platforms.target.clone());
        let is_context = state.is_context || self.images.is_named_context(&written);
        if is_reachable && is_context {
            state.is_dispatched |= state.is_context;
            state.image = ImageConfig::new(&platform);
        } else if is_reachable {
            let image = match self.images.config(&reference, &platform) {
                Ok(image) => image,
                Err(error) => return failure(self.no_image(&written, &error.to_string()), lines),
            };
            let state = &mut self.states.all[index];
            if state.platform.is_none() && self.platforms.implicit {
                platform = detected(&image, platform, &self.platforms.build);
            }
            let is_empty = image.rootfs.diff_ids.is_empty() && image.history.iter().all(|step| step.empty_layer);
            let actual = image.platform();
            state.image = image;
            if !is_empty && (actual.os != platform.os || actual.architecture != platform.architecture) {
                let message = format!(
                    "Base image {written} was pulled with platform {}, expected {} for current build",
                    quote(&actual.normalize().format_all()),
                    quote(&platform.normalize().format_all()),
                );
                let config = self.linter.config.clone();
                let lines = lines.unwrap_or_default();
                self.linter.report(&config, &INVALID_BASE_IMAGE_PLATFORM, lines, message);
            }
        }
        self.states.all[index].platform = Some(platform);
        Ok(())
    }

    /// Why there is no such image; the name may be meant for a stage, or for a common image.
    fn no_image(&self, written: &str, error: &str) -> String {
        const COMMON: [&str; 7] = ["alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"];
        let mut message = format!("{written}: {error}");
        let stages = self.states.all.iter().filter(|state| !state.is_unregistered).map(|state| state.label.as_str());
        if let Some(nearest) = suggest::nearest(written, stages.chain(COMMON).filter(|name| !name.is_empty())) {
            message.push_str(&format!(" (did you mean {nearest}?)"));
        }
        message
    }

    /// Puts the triggers of a stage's base in front of its instructions; whether they read from
    /// other stages.
    fn triggers(&mut self, index: usize) -> Checked<bool> {
        self.states.inherit(index);
        let state = &mut self.states.all[index];
        let mut triggers = std::mem::take(&mut state.image.config.on_build);
        if let Some(base) = state.base
            && !std::mem::replace(&mut state.triggers_taken, true)
        {
            triggers.extend(self.states.all[base].steps.iter().filter_map(|step| match &step.instruction.command {
                Command::Onbuild(trigger) => Some(trigger.clone()),
                _ => None,
            }));
        }
        let lines = self.states.all[index].lines;
        let mut steps = Vec::with_capacity(triggers.len());
        let mut has_sources = false;
        for trigger in triggers {
            let instruction = parse_trigger(&trigger, lines).map_err(Box::new)?;
            let found = sources::find(&mut self.states, &self.lex, &instruction).map_err(|mut error| {
                error.lines = vec![lines];
                error
            })?;
            has_sources |= !found.is_empty();
            self.depend(index, &found, lines);
            steps.push(Step { instruction, sources: found });
        }
        self.states.all[index].steps.splice(0..0, steps);
        Ok(has_sources)
    }

    /// Follows the instructions of the stages.
    fn dispatch(&mut self, target: usize) -> Checked<()> {
        if !self.request.ignore_patterns.is_empty() {
            let patterns = match Patterns::new(&self.request.ignore_patterns) {
                Ok(patterns) => patterns,
                Err(error) => return failure(error.to_string(), []),
            };
            // Whether a file is taken back in cannot be told without the files.
            self.ignored = Some(patterns).filter(|patterns| !patterns.has_exclusions());
        }
        let reachable = self.states.reachable(target);
        for (index, is_reachable) in reachable.into_iter().enumerate() {
            let is_wanted = is_reachable && !self.states.all[index].is_dispatched;
            if !self.all_stages && !is_wanted {
                continue;
            }
            self.states.inherit(index);
            self.begin(index);
            for step in 0..self.states.all[index].steps.len() {
                let Step { instruction, sources } = self.states.all[index].steps[step].clone();
                let lines = instruction.lines;
                instructions::dispatch(self, index, instruction, &sources).map_err(|mut error| {
                    if error.lines.is_empty() {
                        error.lines.push(lines);
                    }
                    error
                })?;
            }
        }
        Ok(())
    }

    /// Sets a stage up with what its base image says.
    fn begin(&mut self, index: usize) {
        let target = self.platforms.target.clone();
        let state = &mut self.states.all[index];
        state.is_dispatched = true;
        let platform = state.platform.get_or_insert(target);
        let env = &mut state.image.config.env;
        if platform.os != "windows" && !env.iter().any(|line| line.starts_with("PATH=")) {
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for line in state.image.config.env.iter() {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            state.variables.set(name, value);
        }
    }
}

/// The platform that an image turns out to be for, if it is one that can be built on.
fn detected(image: &ImageConfig, wanted: Platform, supported: &[Platform]) -> Platform {
    let fits = |platform: &Platform| platform.os == image.os && platform.architecture == image.architecture;
    if fits(&wanted) {
        return wanted;
    }
    supported.iter().find(|platform| fits(platform)).cloned().unwrap_or(wanted)
}
