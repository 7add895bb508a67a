//! What a target can be given: noted while its stages are followed.

use std::collections::{BTreeMap, BTreeSet};

use super::evaluate::Evaluation;
use crate::call::{OutlineArgument, OutlineSecret};
use crate::instruction::{Mount, MountType};
use crate::span::LineRange;

/// What a stage declares and uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// Every argument that is declared, with what its default uses.
    pub(super) arguments: BTreeMap<String, (OutlineArgument, BTreeSet<String>)>,
    /// The arguments that are used.
    pub(super) used: BTreeSet<String>,
    secrets: BTreeMap<String, OutlineSecret>,
    ssh: BTreeMap<String, OutlineSecret>,
}

/// The parameters of a target, unsorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutlineItems {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) arguments: Vec<OutlineArgument>,
    pub(crate) secrets: Vec<OutlineSecret>,
    pub(crate) ssh: Vec<OutlineSecret>,
}

impl Notes {
    /// Notes what a mount asks for.
    pub(super) fn mount(&mut self, mount: &Mount, lines: LineRange) {
        let (list, name) = match mount.kind {
            MountType::Ssh if mount.id.is_empty() => (&mut self.ssh, "default"),
            MountType::Ssh => (&mut self.ssh, mount.id.as_str()),
            MountType::Secret if !mount.source.is_empty() => (&mut self.secrets, mount.source.as_str()),
            MountType::Secret if !mount.id.is_empty() => (&mut self.secrets, mount.id.as_str()),
            MountType::Secret => {
                (&mut self.secrets, mount.target.trim_end_matches('/').rsplit('/').next().unwrap_or_default())
            }
            _ => return,
        };
        let entry = OutlineSecret { name: name.to_owned(), required: mount.required, lines };
        list.entry(name.to_owned()).or_insert(entry);
    }

    /// The arguments that are used, those that their defaults use included.
    fn all_used(&self) -> BTreeSet<&str> {
        let mut used = BTreeSet::new();
        let mut pending: Vec<&str> = self.used.iter().map(String::as_str).collect();
        while let Some(name) = pending.pop() {
            if used.insert(name)
                && let Some((_, uses)) = self.arguments.get(name)
            {
                pending.extend(uses.iter().map(String::as_str));
            }
        }
        used
    }
}

/// Collects the parameters of a stage and of those it needs; each name counts once.
pub(super) fn collect(evaluation: &Evaluation<'_>, target: usize, description: String) -> OutlineItems {
    let states = &evaluation.states.all;
    let mut items = OutlineItems { name: states[target].name.clone(), description, ..OutlineItems::default() };
    let (mut arguments, mut secrets, mut ssh) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut visited = BTreeSet::new();
    let mut pending = vec![target];
    while let Some(index) = pending.pop() {
        if !visited.insert(index) {
            continue;
        }
        let notes = &states[index].notes;
        for name in notes.all_used() {
            if let Some((argument, _)) = notes.arguments.get(name)
                && arguments.insert(name)
            {
                items.arguments.push(argument.clone());
            }
        }
        items.secrets.extend(notes.secrets.values().filter(|secret| secrets.insert(&secret.name)).cloned());
        items.ssh.extend(notes.ssh.values().filter(|agent| ssh.insert(&agent.name)).cloned());
        pending.extend(states[index].dependencies.iter().rev().map(|(on, _)| *on));
        pending.extend(states[index].base);
    }
    items
}
