//! When a source was last changed, which SOURCE_DATE_EPOCH may ask for by the source's name.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use onetag_dockerfile::lower_source;
use onetag_llb::{SourceOp, attribute};
use onetag_solver::ExecContext;
use onetag_store::layer::Decompressor;
use onetag_store::tree::{MergedTree, Node};

use super::remote::Fetcher;
use super::{BuildError, BuildRequest, Cancellation, Sink, is_archive};
use crate::Engine;
use crate::catalog::Catalog;
use crate::layers::Layers;
use crate::op::{KnownSources, Session, commit_time};
use crate::provenance::Pin;

/// How much of a file tells whether it is an archive.
const HEADER_BYTES: u64 = 1024;
/// How many times an archive may be as large as what was fetched.
const RATIO: u64 = 1100;

/// Asks sources for their times, each once; what is fetched for that is known to the build that follows.
pub(super) struct SourceTimes<'a> {
    engine: &'a Engine,
    pub(super) request: &'a BuildRequest,
    sources: &'a KnownSources,
    cancellation: &'a Cancellation,
    pub(super) sink: &'a Sink<'a>,
    known: Mutex<BTreeMap<String, Option<i64>>>,
}

impl<'a> SourceTimes<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        request: &'a BuildRequest,
        sources: &'a KnownSources,
        cancellation: &'a Cancellation,
        sink: &'a Sink<'a>,
    ) -> Self {
        Self { engine, request, sources, cancellation, sink, known: Mutex::default() }
    }

    /// Seconds since 1970: a commit's time, else the time a server gives, else that of the newest file of an archive.
    pub(super) fn of(&self, source: &SourceOp, log_name: &str) -> Result<Option<i64>, BuildError> {
        // Held while it is asked, so that several platforms ask once.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{} {:?}", source.identifier, source.attributes);
        if let Some(&time) = known.get(&key) {
            return Ok(time);
        }
        let time = self.ask(source, log_name)?;
        known.insert(key, time);
        Ok(time)
    }

    fn ask(&self, source: &SourceOp, log_name: &str) -> Result<Option<i64>, BuildError> {
        let catalog = Arc::new(Catalog::new(self.engine.clone()));
        let layers = Arc::new(Layers::new(self.engine.clone()));
        let session: Arc<Session> = Arc::new(self.engine.session(self.request, &catalog, &layers, self.sources)?);
        let (cancellation, sink) = (self.cancellation, self.sink);
        let fetcher = Fetcher { engine: self.engine, request: self.request, session: &session, cancellation, sink };
        let (tree, vertex) =
            fetcher.solve(|options, resolver| lower_source(source.clone(), log_name, &options, resolver))?;
        match session.sources.pins.get(&vertex) {
            Some(Pin::Commit(commit)) => {
                let context = ExecContext::new(&vertex, cancellation, sink);
                let time = commit_time(&session, source, &commit, &context);
                time.map(Some).map_err(|error| BuildError::Step {
                    vertex: vertex.clone(),
                    name: log_name.to_owned(),
                    source: Arc::new(error),
                    excerpt: None,
                    hint: None,
                })
            }
            _ => file_time(&tree, source),
        }
    }
}

/// The time of a download. One that no server told is 1970, with which every file begins.
fn file_time(tree: &MergedTree, source: &SourceOp) -> Result<Option<i64>, BuildError> {
    let Some(name) = source.attributes.get(attribute::HTTP_FILENAME) else { return Ok(None) };
    let Some(Node::Leaf(leaf)) = tree.lookup(Path::new(name))? else { return Ok(None) };
    let seconds = leaf.metadata()?.mtime.0;
    if seconds != 0 {
        return Ok(Some(seconds));
    }
    let mut head = Vec::new();
    // What cannot be read here cannot be read by the build, which says so.
    let _ = leaf.open()?.take(HEADER_BYTES).read_to_end(&mut head);
    Ok(if is_archive(&head) { newest(leaf.open()?) } else { None })
}

/// The time of the newest file of an archive. What is no archive has none, as with BuildKit.
fn newest(archive: impl Read) -> Option<i64> {
    let mut archive = tar::Archive::new(Decompressor::of_archive(archive, RATIO).ok()?);
    let mut newest = None;
    for entry in archive.entries().ok()? {
        let entry = entry.ok()?;
        if entry.header().entry_type().is_file() {
            newest = newest.max(i64::try_from(entry.header().mtime().ok()?).ok());
        }
    }
    newest
}
