//! Merge and diff: layers laid over each other, and taken off again. No file is touched.

use std::sync::Arc;

use onetag_llb::{self as llb, DiffOp, MergeOp};
use onetag_oci::Digest;
use onetag_solver::{Class, ExecContext, Kind, Op, OpError};

use super::StepError;
use super::definition::definition_key;
use crate::snapshot::{Artifact, Snapshot};

/// Lays results over each other.
pub(super) struct MergeStep {
    definition: Digest,
    inputs: Vec<usize>,
}

impl MergeStep {
    pub(super) fn new(op: &llb::Op, merge: &MergeOp) -> Self {
        Self { definition: definition_key(op), inputs: merge.inputs.clone() }
    }
}

fn input<'a>(inputs: &'a [Artifact], index: usize, operation: &'static str) -> Result<&'a Snapshot, StepError> {
    match inputs.get(index) {
        Some(Artifact::Snapshot(snapshot)) => Ok(snapshot),
        Some(Artifact::Local(_)) => Err(StepError::Unsupported("merging a local folder")),
        None => Err(StepError::Input { index, operation }),
    }
}

impl Op<Artifact> for MergeStep {
    fn kind(&self) -> Kind {
        Kind::Step(self.definition.clone())
    }

    fn class(&self) -> Class {
        Class::Light
    }

    fn execute(&self, inputs: &[Artifact], _: &ExecContext<'_>) -> Result<Vec<Artifact>, OpError> {
        let mut layers = Vec::new();
        for (position, &index) in self.inputs.iter().enumerate() {
            let snapshot = input(inputs, index, "merge")?;
            if position == 0 {
                layers.clone_from(&snapshot.layers);
            } else {
                layers.extend(snapshot.detached(0));
            }
        }
        Ok(vec![Artifact::Snapshot(Arc::new(Snapshot::new(layers)))])
    }
}

/// What the upper result has beyond the lower one.
pub(super) struct DiffStep {
    definition: Digest,
    lower: Option<usize>,
    upper: Option<usize>,
}

impl DiffStep {
    pub(super) fn new(op: &llb::Op, diff: &DiffOp) -> Self {
        Self { definition: definition_key(op), lower: diff.lower, upper: diff.upper }
    }
}

impl Op<Artifact> for DiffStep {
    fn kind(&self) -> Kind {
        Kind::Step(self.definition.clone())
    }

    fn class(&self) -> Class {
        Class::Light
    }

    fn execute(&self, inputs: &[Artifact], _: &ExecContext<'_>) -> Result<Vec<Artifact>, OpError> {
        let empty = Snapshot::default();
        let side = |index: Option<usize>| index.map_or(Ok(&empty), |index| input(inputs, index, "diff"));
        let (lower, upper) = (side(self.lower)?, side(self.upper)?);
        let is_below = upper.layers.len() >= lower.layers.len() && upper.ids().starts_with(&lower.ids());
        if !is_below {
            return Err(StepError::Unsupported("the difference of results that do not stand on each other").into());
        }
        let layers = upper.detached(lower.layers.len());
        Ok(vec![Artifact::Snapshot(Arc::new(Snapshot::new(layers)))])
    }
}
