//! The network of a build's steps: one namespace of their own, made when the first of them needs it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use onetag_sandbox::{Network, NetworkMode};
use onetag_solver::ExecContext;

/// See the module. Where none can be made, steps have the host's network, and one line says so.
#[derive(Clone)]
pub(crate) struct StepNetwork {
    search_path: Arc<Vec<PathBuf>>,
    made: Arc<OnceLock<Made>>,
}

struct Made {
    mode: NetworkMode,
    refusal: Option<String>,
    said: OnceLock<()>,
}

impl StepNetwork {
    pub(crate) fn new(search_path: Vec<PathBuf>) -> Self {
        Self { search_path: Arc::new(search_path), made: Arc::default() }
    }

    /// Begins to make the network beside other work.
    pub(crate) fn begin(&self) {
        if self.made.get().is_none() {
            let network = self.clone();
            // Without a thread it is made when it is asked for.
            let _ =
                std::thread::Builder::new().name("network".to_owned()).spawn(move || drop(network.make().mode.clone()));
        }
    }

    fn make(&self) -> &Made {
        self.made.get_or_init(|| {
            let (mode, refusal) = match Network::start(&self.search_path) {
                Ok(handle) => (NetworkMode::Shared(handle), None),
                Err(error) => (NetworkMode::Host, Some(error.to_string())),
            };
            Made { mode, refusal, said: OnceLock::new() }
        })
    }

    /// The network, made by now.
    pub(crate) fn mode(&self, context: &ExecContext<'_>) -> NetworkMode {
        let made = self.make();
        if let Some(refusal) = &made.refusal {
            made.said.get_or_init(|| context.warn(format!("steps use the host's network: {refusal}")));
        }
        made.mode.clone()
    }
}
