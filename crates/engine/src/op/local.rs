//! `local://`: a folder of the host, read where it stands.
//!
//! Nothing is copied or hashed here: what reads it hashes what it selects. The paths that a build is known to need
//! (`local.followpaths`) would make it smaller; as it is read in place, they are not needed.

use std::sync::Arc;
use std::time::SystemTime;

use onetag_llb::{SourceOp, attribute};
use onetag_solver::{Class, ExecContext, Kind, Op, OpError, Status};
use onetag_store::tree::MergedTree;

use super::{Session, StepError};
use crate::context::LocalContext;
use crate::snapshot::Artifact;

/// See the module.
pub(super) struct LocalSource {
    session: Arc<Session>,
    name: String,
    exclude: Vec<String>,
    include: Vec<String>,
}

impl LocalSource {
    pub(super) fn new(session: Arc<Session>, name: &str, source: &SourceOp) -> Result<Self, StepError> {
        Ok(Self {
            session,
            name: name.to_owned(),
            exclude: patterns(source, attribute::EXCLUDE_PATTERNS)?,
            include: patterns(source, attribute::INCLUDE_PATTERNS)?,
        })
    }
}

fn patterns(source: &SourceOp, name: &'static str) -> Result<Vec<String>, StepError> {
    let Some(text) = source.attributes.get(name) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|_| StepError::Attribute { identifier: source.identifier.clone(), name })
}

impl Op<Artifact> for LocalSource {
    fn kind(&self) -> Kind {
        Kind::Source
    }

    fn class(&self) -> Class {
        Class::Light
    }

    fn execute(&self, _: &[Artifact], context: &ExecContext<'_>) -> Result<Vec<Artifact>, OpError> {
        let started = SystemTime::now();
        let root = self.session.contexts.get(&self.name);
        let root = root.ok_or_else(|| StepError::UnknownContext { name: self.name.clone() })?;
        let local = LocalContext::open(root, &self.exclude, &self.include).map_err(StepError::from)?;
        let completed = Some(SystemTime::now());
        context.status(Status { id: "transferring context:".to_owned(), current: 0, total: 0, started, completed });
        Ok(vec![Artifact::Local(Arc::new(local))])
    }
}

impl Session {
    /// The files of an artifact.
    pub(crate) fn tree(&self, artifact: &Artifact, context: &ExecContext<'_>) -> Result<MergedTree, StepError> {
        match artifact {
            Artifact::Local(local) => Ok(local.tree().clone()),
            Artifact::Snapshot(snapshot) => Ok(self.layers.tree(snapshot, &super::Parts::new(context).sink())?),
        }
    }
}
