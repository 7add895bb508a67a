//! The stages of a build and what they depend on.

use std::collections::HashMap;

use onetag_oci::{ImageConfig, Platform};

use super::outline::Notes;
use super::{Checked, failure};
use crate::instruction::{ArgDefinition, Instruction, Stage};
use crate::shell::Variables;
use crate::span::LineRange;

/// A stage of the file, or an image that is only copied from.
#[derive(Debug)]
pub(super) struct State {
    /// The name that messages use.
    pub(super) label: String,
    /// The name after `AS`, or empty.
    pub(super) name: String,
    /// The base with its variables expanded.
    pub(super) base_name: String,
    pub(super) lines: LineRange,
    /// The stage that it continues.
    pub(super) base: Option<usize>,
    pub(super) platform: Option<Platform>,
    pub(super) steps: Vec<Step>,
    /// The stages that it copies or mounts from, with the instruction that does.
    pub(super) dependencies: Vec<(usize, LineRange)>,
    /// Whether it is an image that no `FROM` names.
    pub(super) is_unregistered: bool,
    /// Whether a build context of its name takes its place.
    pub(super) is_context: bool,
    pub(super) is_dispatched: bool,
    pub(super) is_resolved: bool,
    pub(super) triggers_taken: bool,
    pub(super) image: ImageConfig,
    /// What variables are set at this point, arguments included.
    pub(super) variables: Variables,
    pub(super) arguments: Vec<ArgDefinition>,
    pub(super) workdir_set: bool,
    pub(super) cmd: Option<LineRange>,
    pub(super) entrypoint: Option<LineRange>,
    pub(super) healthcheck: Option<LineRange>,
    /// What it can be given.
    pub(super) notes: Notes,
}

/// An instruction with the stages it reads from.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) instruction: Instruction,
    pub(super) sources: Vec<usize>,
}

impl State {
    pub(super) fn of_stage(stage: &Stage, base_name: String, platform: Option<Platform>, index: usize) -> Self {
        let steps =
            stage.instructions.iter().map(|instruction| Step { instruction: instruction.clone(), sources: Vec::new() });
        let label = if stage.name.is_empty() { format!("stage-{index}") } else { stage.name.clone() };
        State {
            label,
            name: stage.name.clone(),
            lines: stage.lines,
            platform,
            steps: steps.collect(),
            ..State::of_image(base_name, stage.lines, false)
        }
    }

    pub(super) fn of_image(base_name: String, lines: LineRange, is_unregistered: bool) -> Self {
        State {
            label: String::new(),
            name: String::new(),
            base_name,
            lines,
            base: None,
            platform: None,
            steps: Vec::new(),
            dependencies: Vec::new(),
            is_unregistered,
            is_context: false,
            is_dispatched: false,
            is_resolved: false,
            triggers_taken: false,
            image: ImageConfig::default(),
            variables: Variables::new(),
            arguments: Vec::new(),
            workdir_set: false,
            cmd: None,
            entrypoint: None,
            healthcheck: None,
            notes: Notes::default(),
        }
    }
}

/// All stages, in the order of the file, then the images that are copied from.
#[derive(Default)]
pub(super) struct States {
    pub(super) all: Vec<State>,
    by_name: HashMap<String, usize>,
}

impl States {
    pub(super) fn add(&mut self, mut state: State) -> usize {
        let index = self.all.len();
        state.base = self.by_name.get(&state.base_name).copied();
        if let Some(base) = state.base {
            state.notes = self.all[base].notes.clone();
        }
        if !state.name.is_empty() {
            self.by_name.insert(state.name.to_lowercase(), index);
        }
        self.all.push(state);
        index
    }

    pub(super) fn by_name(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.all.iter().map(|state| state.label.as_str()).filter(|label| !label.is_empty()).collect()
    }

    /// Takes over what the base stage has come to.
    pub(super) fn inherit(&mut self, index: usize) {
        let Some(base) = self.all[index].base.filter(|base| *base != index) else { return };
        let [state, base] = match self.all.get_disjoint_mut([index, base]) {
            Ok(pair) => pair,
            Err(_) => return,
        };
        state.platform = base.platform.clone();
        state.image = base.image.clone();
        state.image.config.on_build.clear();
        state.variables = base.variables.clone();
        state.workdir_set = base.workdir_set;
        state.arguments.extend(base.arguments.iter().cloned());
    }

    /// The stages that a stage needs, itself included.
    pub(super) fn reachable(&self, target: usize) -> Vec<bool> {
        let mut reached = vec![false; self.all.len()];
        let mut pending = vec![target];
        while let Some(index) = pending.pop() {
            if !std::mem::replace(&mut reached[index], true) {
                let state = &self.all[index];
                pending.extend(state.base.iter().chain(state.dependencies.iter().map(|(on, _)| on)));
            }
        }
        reached
    }

    /// Fails where a stage copies from itself, also by way of others.
    pub(super) fn check_circles(&self) -> Checked<()> {
        let mut visited = vec![false; self.all.len()];
        let mut on_path = vec![false; self.all.len()];
        for root in 0..self.all.len() {
            // The stages on the way down, each with the dependency that is looked at next.
            let mut path: Vec<(usize, usize)> = Vec::new();
            if !visited[root] {
                path.push((root, 0));
                (visited[root], on_path[root]) = (true, true);
            }
            while let Some((index, next)) = path.last_mut() {
                let Some((on, _)) = self.all[*index].dependencies.get(*next).copied() else {
                    on_path[*index] = false;
                    path.pop();
                    continue;
                };
                *next += 1;
                if on_path[on] {
                    let lines = path.iter().map(|(index, next)| self.all[*index].dependencies[next - 1].1);
                    let message = format!("circular dependency detected on stage: {}", self.all[root].label);
                    return failure(message, lines);
                }
                if !visited[on] {
                    (visited[on], on_path[on]) = (true, true);
                    path.push((on, 0));
                }
            }
        }
        Ok(())
    }
}
