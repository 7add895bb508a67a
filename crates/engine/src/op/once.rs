//! Remote sources are asked once a build: the Dockerfile is read from the commit that is then built.

use std::sync::{Arc, PoisonError};

use onetag_llb as llb;
use onetag_oci::Digest;
use onetag_solver::{Class, ExecContext, Kind, Op, OpError};

use super::Session;
use crate::snapshot::Artifact;

/// A source whose first result stands for the whole build.
pub(super) struct OnceSource<S> {
    session: Arc<Session>,
    key: Digest,
    source: S,
}

impl<S: Op<Artifact>> OnceSource<S> {
    pub(super) fn new(session: &Arc<Session>, op: &llb::Op, source: S) -> Self {
        Self { session: Arc::clone(session), key: op.digest(), source }
    }
}

impl<S: Op<Artifact>> Op<Artifact> for OnceSource<S> {
    fn kind(&self) -> Kind {
        self.source.kind()
    }

    fn selection(&self) -> Option<Digest> {
        self.source.selection()
    }

    fn class(&self) -> Class {
        self.source.class()
    }

    fn identity(&self, outputs: &[Artifact]) -> Option<Digest> {
        self.source.identity(outputs)
    }

    fn execute(&self, inputs: &[Artifact], context: &ExecContext<'_>) -> Result<Vec<Artifact>, OpError> {
        let known = self.session.sources.results.lock().unwrap_or_else(PoisonError::into_inner).get(&self.key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let result = self.source.execute(inputs, context)?;
        let mut known = self.session.sources.results.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(self.key.clone(), result.clone());
        Ok(result)
    }
}
