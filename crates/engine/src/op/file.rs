//! Copying, making and removing files, without a mount: the store reads stacks and writes upper folders itself.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use onetag_dockerfile::chmod::Mode;
use onetag_llb::{self as llb, CopyAction, CopyMode, FileAction, FileActionKind, FileOp};
use onetag_oci::Digest;
use onetag_solver::{Class, ExecContext, Kind, Op, OpError};
use onetag_store::checksum::{self, Captured};
use onetag_store::copy::{CopyRequest, MakeDirectory, MakeFile, ModeChange, Remove, Workspace};
use onetag_store::tree::MergedTree;

use super::content::selection_of;
use super::definition::{definition_key, selection_key};
use super::{Session, StepError};
use crate::context::path_filter;
use crate::snapshot::{Artifact, Snapshot};

/// See the module.
pub(super) struct FileStep {
    session: Arc<Session>,
    definition: Digest,
    selection: Digest,
    file: FileOp,
    inputs: usize,
    name: String,
}

/// What a copy reads.
enum Source {
    Tree(MergedTree),
    Captured(Arc<Captured>),
}

/// The copies of an operation that does nothing but copy from its inputs, each onto the result of the one before.
fn plain_copies(actions: &[FileAction], inputs: usize) -> Option<Vec<&CopyAction>> {
    let mut copies = Vec::with_capacity(actions.len());
    for (position, action) in actions.iter().enumerate() {
        let FileActionKind::Copy(copy) = &action.kind else { return None };
        let is_chained = match position {
            0 => action.input.is_none_or(|input| input < inputs),
            _ => action.input == Some(inputs + position - 1),
        };
        let is_last = position + 1 == actions.len();
        let is_from_input = action.secondary_input.is_some_and(|input| input < inputs);
        if !is_chained || !is_from_input || action.output != is_last.then_some(0) {
            return None;
        }
        // Names of owners may be those of the result so far.
        if owners(action).flatten().any(|input| input >= inputs) {
            return None;
        }
        copies.push(copy.as_ref());
    }
    (!copies.is_empty()).then_some(copies)
}

/// The result of an action: finished, or still being changed.
enum State {
    Finished(Artifact),
    Open { below: Arc<Snapshot>, workspace: Box<Workspace> },
}

impl FileStep {
    pub(super) fn new(session: Arc<Session>, op: &llb::Op, file: &FileOp, name: String) -> Self {
        Self {
            session,
            definition: definition_key(op),
            selection: selection_key(op),
            file: file.clone(),
            inputs: op.inputs.len(),
            name,
        }
    }

    /// How an input is used: whether only as the source of copies.
    fn is_content(&self, index: usize) -> bool {
        let mut is_source = false;
        for action in &self.file.actions {
            let is_owner = owners(action).any(|input| input == Some(index));
            if action.input == Some(index) || is_owner {
                return false;
            }
            is_source |= action.secondary_input == Some(index);
        }
        is_source
    }

    fn copies_from(&self, index: usize) -> impl Iterator<Item = &CopyAction> {
        self.file.actions.iter().filter_map(move |action| match &action.kind {
            FileActionKind::Copy(copy) if action.secondary_input == Some(index) => Some(copy.as_ref()),
            _ => None,
        })
    }
}

/// The inputs in which names of owners are looked up.
fn owners(action: &FileAction) -> impl Iterator<Item = Option<usize>> {
    let owner = owner_of(action);
    let names = owner.into_iter().flat_map(|owner| [owner.user.as_ref(), owner.group.as_ref()]).flatten();
    names.filter_map(|owner| match owner {
        llb::Owner::Name { input, .. } => Some(*input),
        llb::Owner::Id(_) => None,
    })
}

fn owner_of(action: &FileAction) -> Option<&llb::Chown> {
    match &action.kind {
        FileActionKind::Copy(copy) => copy.owner.as_ref(),
        FileActionKind::Mkfile(file) => file.owner.as_ref(),
        FileActionKind::Mkdir(folder) => folder.owner.as_ref(),
        FileActionKind::Symlink(link) => link.owner.as_ref(),
        FileActionKind::Rm(_) => None,
    }
}

impl Op<Artifact> for FileStep {
    fn kind(&self) -> Kind {
        Kind::Step(self.definition.clone())
    }

    fn selection(&self) -> Option<Digest> {
        Some(self.selection.clone())
    }

    fn class(&self) -> Class {
        Class::Light
    }

    fn content_inputs(&self) -> Vec<usize> {
        (0..self.inputs).filter(|&index| self.is_content(index)).collect()
    }

    fn content_key(
        &self,
        index: usize,
        input: &Artifact,
        context: &ExecContext<'_>,
    ) -> Result<Option<Digest>, OpError> {
        let tree = self.session.tree(input, context)?;
        let digests: Result<Vec<Digest>, StepError> =
            self.copies_from(index).map(|copy| self.session.content_of_copy(input, &tree, copy)).collect();
        Ok(Some(super::content::combine(&digests?)))
    }

    fn is_at_hand(&self, _: usize, input: &Artifact) -> bool {
        self.session.is_at_hand(input)
    }

    fn execute(&self, inputs: &[Artifact], context: &ExecContext<'_>) -> Result<Vec<Artifact>, OpError> {
        let run = Run { step: self, inputs, context, states: HashMap::new() };
        match run.defer()? {
            Some(artifact) => Ok(vec![artifact]),
            None => Ok(run.finish()?),
        }
    }
}

/// One execution.
struct Run<'a> {
    step: &'a FileStep,
    inputs: &'a [Artifact],
    context: &'a ExecContext<'a>,
    states: HashMap<usize, State>,
}

impl Run<'_> {
    /// Where all that happens is copying from inputs onto one result, the result is put together in memory: its files
    /// are read when it is written as a layer, or when somebody needs them. `None` where it has to be made now.
    fn defer(&self) -> Result<Option<Artifact>, StepError> {
        let session = &self.step.session;
        let actions = &self.step.file.actions;
        let Some(copies) = plain_copies(actions, self.inputs.len()) else { return Ok(None) };
        let below = match actions.first().and_then(|action| action.input).map(|input| self.inputs.get(input)) {
            None => Arc::default(),
            Some(Some(Artifact::Snapshot(snapshot))) => Arc::clone(snapshot),
            Some(_) => return Ok(None),
        };
        let tree = session.tree(&Artifact::Snapshot(Arc::clone(&below)), self.context)?;
        let mut layer = session.store.deferred_copy(tree)?;
        for (action, copy) in actions.iter().zip(copies) {
            let request = copy_request(copy, self.owner(action)?)?;
            let Some(captured) = self.captured(action, copy)? else { return Ok(None) };
            if !layer.copy(&captured, &request)? {
                return Ok(None);
            }
        }
        let layer = layer.commit()?;
        session.layers.note_deferred(layer.clone());
        session.finish_layer(&below, layer, &self.step.name).map(Some)
    }

    /// What a copy from an input reads; `None` where it reads something else, or cannot.
    fn captured(&self, action: &FileAction, copy: &CopyAction) -> Result<Option<Arc<Captured>>, StepError> {
        let session = &self.step.session;
        Ok(match action.secondary_input.and_then(|input| self.inputs.get(input)) {
            Some(Artifact::Local(local)) => Some(session.captured(local, copy)?),
            Some(artifact @ Artifact::Snapshot(_)) => {
                let tree = session.tree(artifact, self.context)?;
                // What cannot be read is told by the copy itself.
                checksum::capture_names(&tree, &selection_of(copy)?).ok().map(Arc::new)
            }
            None => None,
        })
    }

    fn finish(mut self) -> Result<Vec<Artifact>, StepError> {
        let actions = &self.step.file.actions;
        for (position, action) in actions.iter().enumerate() {
            let state = self.act(position, action)?;
            self.states.insert(self.inputs.len() + position, state);
        }
        let count = actions.iter().filter_map(|action| action.output).max().map_or(0, |last| last + 1);
        let mut results = vec![Artifact::Snapshot(Arc::default()); count];
        for (position, action) in actions.iter().enumerate() {
            if let Some(output) = action.output {
                results[output] = self.artifact(self.inputs.len() + position)?;
            }
        }
        Ok(results)
    }

    /// The finished result at a position.
    fn artifact(&mut self, position: usize) -> Result<Artifact, StepError> {
        if let Some(input) = self.inputs.get(position) {
            return Ok(input.clone());
        }
        let state = self.states.remove(&position).ok_or(StepError::Input { index: position, operation: "file" })?;
        let artifact = match state {
            State::Finished(artifact) => artifact,
            State::Open { below, workspace } => {
                self.step.session.finish_layer(&below, workspace.commit()?, &self.step.name)?
            }
        };
        self.states.insert(position, State::Finished(artifact.clone()));
        Ok(artifact)
    }

    /// Whether anything but the action after it needs the result of an action.
    fn is_needed_later(&self, position: usize, after: usize) -> bool {
        let actions = &self.step.file.actions;
        let is_output = actions[position - self.inputs.len()].output.is_some();
        let uses = |action: &FileAction| {
            action.input == Some(position)
                || action.secondary_input == Some(position)
                || owners(action).any(|input| input == Some(position))
        };
        is_output || actions.iter().skip(after + 1).any(uses)
    }

    /// Something that can be changed, beginning with the result at `input`.
    fn open(&mut self, input: Option<usize>, action: usize) -> Result<(Arc<Snapshot>, Box<Workspace>), StepError> {
        let below = match input {
            None => Arc::default(),
            Some(input) => {
                if input >= self.inputs.len()
                    && !self.is_needed_later(input, action)
                    && let Some(State::Open { below, workspace }) = self.states.remove(&input)
                {
                    return Ok((below, workspace));
                }
                let artifact = self.artifact(input)?;
                self.step.session.snapshot(&artifact)?
            }
        };
        let stack = self.step.session.stack(&below, self.context)?;
        let workspace = self.step.session.store.workspace(&stack)?;
        Ok((below, Box::new(workspace)))
    }

    /// The files of the result at `position`.
    fn tree(&self, position: Option<usize>) -> Result<MergedTree, StepError> {
        let session = &self.step.session;
        let Some(position) = position else {
            return session.tree(&Artifact::Snapshot(Arc::default()), self.context);
        };
        if let Some(input) = self.inputs.get(position) {
            return session.tree(input, self.context);
        }
        match self.states.get(&position) {
            Some(State::Finished(artifact)) => session.tree(artifact, self.context),
            Some(State::Open { workspace, .. }) => Ok(workspace.tree().clone()),
            None => Err(StepError::Input { index: position, operation: "file" }),
        }
    }

    fn act(&mut self, position: usize, action: &FileAction) -> Result<State, StepError> {
        let owner = self.owner(action)?;
        // Read before it is opened for changing: a copy within one result reads what was there before.
        let source = match &action.kind {
            FileActionKind::Copy(copy) => Some(self.source(action, copy)?),
            _ => None,
        };
        let (below, mut workspace) = self.open(action.input, position)?;
        match &action.kind {
            FileActionKind::Mkdir(folder) => {
                let request = MakeDirectory {
                    mode: folder.mode,
                    parents: folder.make_parents,
                    owner,
                    mtime: time(folder.timestamp),
                };
                workspace.make_directory(Path::new(&folder.path), &request)?;
            }
            FileActionKind::Mkfile(file) => {
                let request = MakeFile { mode: file.mode, owner, mtime: time(file.timestamp) };
                workspace.make_file(Path::new(&file.path), &file.data, &request)?;
            }
            FileActionKind::Symlink(link) => {
                workspace.make_symlink(Path::new(&link.target), Path::new(&link.path), owner, time(link.timestamp))?;
            }
            FileActionKind::Rm(rm) => {
                let request = Remove { wildcard: rm.allow_wildcard, allow_not_found: rm.allow_not_found };
                workspace.remove(Path::new(&rm.path), &request)?;
            }
            FileActionKind::Copy(copy) => {
                let request = copy_request(copy, owner)?;
                match &source {
                    Some(Source::Captured(captured)) => workspace.copy_captured(captured, &request)?,
                    Some(Source::Tree(tree)) => workspace.copy(tree, &request)?,
                    None => {}
                }
            }
        }
        Ok(State::Open { below, workspace })
    }

    /// What a copy reads: of a folder of the host what was digested, unless archives in it have to be unpacked.
    fn source(&self, action: &FileAction, copy: &CopyAction) -> Result<Source, StepError> {
        if let Some(Artifact::Local(local)) = action.secondary_input.and_then(|input| self.inputs.get(input)) {
            let captured = self.step.session.captured(local, copy)?;
            if !copy.attempt_unpack || captured.is_folders() {
                return Ok(Source::Captured(captured));
            }
        }
        self.tree(action.secondary_input).map(Source::Tree)
    }

    /// The ids that an action's files get. A name that is not there is root's, as in BuildKit.
    fn owner(&self, action: &FileAction) -> Result<Option<(u32, u32)>, StepError> {
        let Some(chown) = owner_of(action) else { return Ok(None) };
        let mut ids = (0, 0);
        match &chown.user {
            Some(llb::Owner::Id(id)) => ids = (*id, *id),
            Some(llb::Owner::Name { name, input }) => {
                let passwd = super::content::read_small(&self.tree(*input)?, "/etc/passwd")?;
                ids = super::owners::user(&passwd, name).unwrap_or(ids);
            }
            None => {}
        }
        match &chown.group {
            Some(llb::Owner::Id(id)) => ids.1 = *id,
            Some(llb::Owner::Name { name, input }) => {
                let group = super::content::read_small(&self.tree(*input)?, "/etc/group")?;
                ids.1 = super::owners::group(&group, name).unwrap_or(ids.1);
            }
            None => {}
        }
        Ok(Some(ids))
    }
}

/// Nanoseconds since 1970 as seconds and nanoseconds.
fn time(timestamp: Option<i64>) -> Option<(i64, u32)> {
    const BILLION: i64 = 1_000_000_000;
    timestamp.map(|time| (time.div_euclid(BILLION), u32::try_from(time.rem_euclid(BILLION)).unwrap_or_default()))
}

fn copy_request(copy: &CopyAction, owner: Option<(u32, u32)>) -> Result<CopyRequest, StepError> {
    let mode: Option<ModeChange> = match &copy.mode {
        CopyMode::Keep => None,
        CopyMode::Octal(mode) => {
            let mode = *mode;
            Some(Arc::new(move |_, _| mode))
        }
        CopyMode::Symbolic(text) => {
            let mode = Mode::parse(text).map_err(StepError::Mode)?;
            Some(Arc::new(move |old, is_directory| mode.apply(old, is_directory)))
        }
    };
    let parent_mode = match &copy.mode {
        // Folders made on the way get permission bits only, as in BuildKit.
        CopyMode::Octal(mode) => Some(*mode & 0o777),
        CopyMode::Keep | CopyMode::Symbolic(_) => None,
    };
    Ok(CopyRequest {
        source: copy.source.clone().into(),
        destination: copy.destination.clone().into(),
        wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        follow_symlinks: copy.follow_symlink,
        copy_directory_contents: copy.dir_copy_contents,
        create_destination: copy.create_dest_path,
        unpack_archives: copy.attempt_unpack,
        replace_existing: copy.always_replace_existing_dest_paths,
        owner,
        mode,
        mtime: time(copy.timestamp),
        parent_mode,
        filter: path_filter(&copy.exclude_patterns, &copy.include_patterns)?,
    })
}
