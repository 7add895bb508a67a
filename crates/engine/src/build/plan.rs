//! `--plan`: what a build would do, told before it does anything.

use std::sync::Arc;

use onetag_llb as llb;
use onetag_oci::Digest;
use onetag_solver::{Class, Expectation};

use super::solve::GraphRun;
use super::times::SourceTimes;
use super::{BuildError, BuildRequest, Cancellation};
use crate::Engine;
use crate::cache::Imported;
use crate::layers::Layers;
use crate::op::KnownSources;
use crate::progress::Sink;

/// What a build would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPlan {
    /// The platforms, in their order.
    pub platforms: Vec<String>,
    /// The steps, inputs before what uses them.
    pub steps: Vec<PlannedStep>,
}

/// A step and what would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// Its digest.
    pub digest: Digest,
    /// Its name as progress shows it.
    pub name: String,
    /// The digests of the steps whose results it needs.
    pub inputs: Vec<Digest>,
    /// Whether it is a process, and under emulation; `Light` for work on files and metadata.
    pub class: Class,
    /// The platforms whose images need it.
    pub platforms: Vec<String>,
    /// What would become of it.
    pub expectation: Expectation,
}

impl Engine {
    /// Tells what [`Engine::build`] would do. Resolves base images and reads the context; executes and writes nothing.
    ///
    /// # Errors
    /// As those of a build, before its first step.
    pub fn plan(
        &self,
        request: &BuildRequest,
        cancellation: &Cancellation,
        sink: &Sink<'_>,
    ) -> Result<BuildPlan, BuildError> {
        let sources = KnownSources::default();
        let definition = self.define(request, &sources, cancellation, sink)?;
        let catalog = self.locked_catalog(request, &definition, sink)?;
        let layers = Arc::new(Layers::new(self.clone()));
        let times = SourceTimes::new(self, request, &sources, cancellation, sink);
        let mut lowered = self.lower_all(&times, &definition, &catalog)?;
        if let Some(failed) = lowered.take_failed().into_iter().next() {
            return Err(failed.error);
        }
        let lowered = lowered.into_made();
        let imported = Imported::read(self, &request.cache_from, sink);
        let session = Arc::new(self.session(request, &catalog, &layers, &sources)?);
        let merged = llb::Graph::merge(lowered.iter().map(|lowered| &lowered.graph));
        let with_result = || lowered.iter().filter(|lowered| lowered.result.is_some());
        let roots: Vec<_> = with_result().filter_map(|lowered| lowered.result.clone()).collect();
        let labels = with_result().map(|lowered| lowered.image.platform().to_string()).collect();
        let (session, imported) = (&session, &imported);
        let (keep_going, exports_all) = (false, false);
        let run = GraphRun { engine: self, session, imported, keep_going, exports_all, labels, cancellation, sink };
        let plan = run.plan(&merged, &roots, &definition)?;
        let step = |planned: onetag_solver::PlannedVertex| PlannedStep {
            digest: planned.info.digest,
            name: planned.info.name,
            inputs: planned.info.inputs,
            class: planned.info.class.unwrap_or(Class::Light),
            platforms: planned.info.targets,
            expectation: planned.expectation,
        };
        Ok(BuildPlan {
            platforms: lowered.iter().map(|lowered| lowered.image.platform().to_string()).collect(),
            steps: plan.vertices.into_iter().map(step).collect(),
        })
    }
}
