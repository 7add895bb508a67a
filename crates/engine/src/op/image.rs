//! `docker-image://`: the layers of an image, none of them fetched.

use std::sync::Arc;
use std::time::SystemTime;

use onetag_dockerfile::resolver::ResolveMode;
use onetag_llb as llb;
use onetag_oci::{Digest, Platform, Reference};
use onetag_solver::{Class, ExecContext, Kind, Op, OpError, Status};

use super::{Session, StepError};
use crate::snapshot::Artifact;

/// See the module.
pub(super) struct ImageSource {
    session: Arc<Session>,
    reference: Reference,
    platform: Platform,
}

impl ImageSource {
    pub(super) fn new(session: Arc<Session>, reference: &str, op: &llb::Op) -> Result<Self, StepError> {
        let reference = Reference::parse(reference)?.with_default_tag();
        let platform = op.platform.clone().unwrap_or_else(|| session.native.clone());
        Ok(Self { session, reference, platform })
    }
}

impl Op<Artifact> for ImageSource {
    fn kind(&self) -> Kind {
        Kind::Source
    }

    fn class(&self) -> Class {
        Class::Light
    }

    fn identity(&self, outputs: &[Artifact]) -> Option<Digest> {
        match outputs.first()? {
            Artifact::Snapshot(snapshot) => Some(snapshot.identity()),
            Artifact::Local(_) => None,
        }
    }

    fn execute(&self, _: &[Artifact], context: &ExecContext<'_>) -> Result<Vec<Artifact>, OpError> {
        let started = SystemTime::now();
        let image = self.session.catalog.find(&self.reference, &self.platform, ResolveMode::Default);
        let image = image.map_err(StepError::from)?;
        let completed = Some(SystemTime::now());
        context.status(Status { id: format!("resolve {}", self.reference), current: 0, total: 0, started, completed });
        Ok(vec![Artifact::Snapshot(Arc::new(image.snapshot()))])
    }
}
