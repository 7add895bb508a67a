//! Caches that a build reads beside the store's own.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use onetag_oci::{Digest, Reference};
use onetag_solver::{CacheRecord, CacheStorage, Claim};
use onetag_store::{Resource, Store};

use super::document::{CacheLayer, Entry};
use super::options::{CacheImport, CachePlace};
use super::place::Place;
use super::storage::StoreCache;
use crate::Engine;
use crate::catalog::Catalog;
use crate::progress::{Activity, Event, Sink, chain};
use crate::snapshot::{ImageLayer, Layer, Made, Snapshot};

/// The name of a result that is nowhere: only its identity is known.
const NOWHERE: &str = "";

/// Where the blobs of a cache are.
struct Source {
    origin: Option<Reference>,
    layout: Option<PathBuf>,
}

/// What caches elsewhere know.
#[derive(Default)]
pub(crate) struct Imported {
    sources: Vec<Source>,
    records: HashMap<Digest, (Entry, usize)>,
    aliases: HashMap<Digest, Digest>,
}

impl Imported {
    /// Reads caches. One that is not there is told, one that cannot be used is a warning; neither ends a build.
    pub(crate) fn read(engine: &Engine, imports: &[CacheImport], sink: &Sink<'_>) -> Self {
        let mut imported = Self::default();
        for import in imports {
            imported.add(engine, import, sink);
        }
        imported
    }

    /// Whether nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.aliases.is_empty()
    }

    fn add(&mut self, engine: &Engine, import: &CacheImport, sink: &Sink<'_>) {
        let name = format!("importing cache manifest from {}", import.place);
        let activity = Activity::start(&name, sink);
        match Place::new(engine, &import.place).read() {
            Ok(Some(found)) => {
                activity.note(&format!("{} records of {}", found.table.records.len(), found.digest));
                let source = match &import.place {
                    CachePlace::Registry(reference) => Source { origin: Some(reference.name_only()), layout: None },
                    CachePlace::Local { folder, .. } => Source { origin: None, layout: Some(folder.clone()) },
                    CachePlace::Inline => Source { origin: None, layout: None },
                };
                let number = self.sources.len();
                self.sources.push(source);
                for (key, entry) in found.table.records {
                    let known = self.records.entry(key).or_insert_with(|| (entry.clone(), number));
                    if known.0.outputs.is_none() && known.0.identity == entry.identity {
                        *known = (entry, number);
                    }
                }
                for (fast, (key, _)) in found.table.aliases {
                    self.aliases.entry(fast).or_insert(key);
                }
            }
            Ok(None) => activity.note("there is no cache yet"),
            Err(error) => {
                let message = format!("cache {} is not used: {}", import.place, chain(&error));
                sink(Event::Warning { vertex: Activity::vertex(&name), message });
            }
        }
        // What went wrong is said as a warning: the build goes on.
        let _ = activity.finish(Ok::<(), std::fmt::Error>(()));
    }

    /// The record of a key, its layers found: those of base images among the images of this build, the others where
    /// the cache is.
    fn record(&self, key: &Digest, catalog: &Catalog) -> Option<CacheRecord> {
        let (entry, source) = self.records.get(key)?;
        let outputs = entry.outputs.as_ref();
        let results = outputs.and_then(|outputs| {
            let snapshot = |layers: &Vec<Arc<CacheLayer>>| {
                let layers: Option<Vec<Layer>> =
                    layers.iter().map(|layer| self.layer(layer, *source, catalog)).collect();
                serde_json::to_string(&Snapshot::new(layers?)).ok()
            };
            outputs.iter().map(snapshot).collect::<Option<Vec<String>>>()
        });
        let results = results.unwrap_or_else(|| vec![NOWHERE.to_owned()]);
        Some(CacheRecord { identity: entry.identity.clone(), results })
    }

    fn layer(&self, layer: &CacheLayer, source: usize, catalog: &Catalog) -> Option<Layer> {
        let Some(step) = &layer.step else {
            return catalog.layer(&layer.diff_id).map(|layer| Layer::Image(Box::new(layer)));
        };
        let source = self.sources.get(source)?;
        let made = Made {
            created: step.created.clone(),
            description: step.description.clone(),
            level: step.level,
            layout: source.layout.clone(),
        };
        Some(Layer::Image(Box::new(ImageLayer {
            diff_id: layer.diff_id.clone(),
            descriptor: layer.blob.as_ref()?.descriptor(),
            origin: source.origin.clone(),
            made: Some(made),
        })))
    }
}

/// The memory of one build: the store's, and behind it what was imported. Only the store's is written.
pub(crate) struct BuildCache<'a> {
    local: StoreCache,
    store: Store,
    imported: &'a Imported,
    catalog: Arc<Catalog>,
    used: Mutex<BTreeSet<Digest>>,
}

impl<'a> BuildCache<'a> {
    pub(crate) fn new(store: &Store, imported: &'a Imported, catalog: &Arc<Catalog>) -> Self {
        let local = StoreCache::new(store);
        Self { local, store: store.clone(), imported, catalog: Arc::clone(catalog), used: Mutex::default() }
    }

    /// The records that were taken from what was imported.
    pub(crate) fn used(&self) -> BTreeSet<Digest> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes imported records whose layers came here meanwhile the store's own: the next build needs no import.
    pub(crate) fn adopt(&self, used: &BTreeSet<Digest>) {
        for key in used {
            let Some(record) = self.imported.record(key, &self.catalog) else { continue };
            let whole = |text: &String| self.adopted(text).filter(|(_, is_whole)| *is_whole).map(|(text, _)| text);
            if let Some(results) = record.results.iter().map(whole).collect() {
                self.local.put_record(key, &CacheRecord { results, ..record });
            }
        }
    }

    /// A result that takes from the store what came here of it, and whether that is everything.
    fn adopted(&self, text: &str) -> Option<(String, bool)> {
        let mut snapshot: Snapshot = serde_json::from_str(text).ok()?;
        let mut is_whole = true;
        for layer in &mut snapshot.layers {
            let Layer::Image(layer) = layer else { continue };
            let Some(made) = &mut layer.made else { continue };
            self.store.hold(&Resource::Blob(layer.descriptor.digest.clone())).ok()?;
            match self.store.has_blob(&layer.descriptor.digest) {
                true => (layer.origin, made.layout) = (None, None),
                false => is_whole = false,
            }
        }
        Some((serde_json::to_string(&snapshot).ok()?, is_whole))
    }
}

impl CacheStorage for BuildCache<'_> {
    fn record(&self, key: &Digest) -> Option<CacheRecord> {
        let local = self.local.record(key);
        if self.imported.is_empty() {
            return local;
        }
        let is_usable = |record: &CacheRecord| {
            let is_there = |text: &String| Snapshot::load(text, &self.store, true).is_some();
            record.results.iter().all(is_there)
        };
        if local.as_ref().is_some_and(is_usable) {
            return local;
        }
        match self.imported.record(key, &self.catalog) {
            Some(record) if record.results.iter().all(|name| name != NOWHERE) => {
                self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
                Some(record)
            }
            imported => local.or(imported),
        }
    }

    fn put_record(&self, key: &Digest, record: &CacheRecord) {
        // What was made on imported layers is kept with those that came here for it.
        let own = |text: &String| match text.contains("\"made\"") {
            true => self.adopted(text).map_or_else(|| text.clone(), |(text, _)| text),
            false => text.clone(),
        };
        let results = record.results.iter().map(own).collect();
        self.local.put_record(key, &CacheRecord { results, identity: record.identity.clone() });
    }

    fn alias(&self, fast: &Digest) -> Option<Digest> {
        self.local.alias(fast).or_else(|| self.imported.aliases.get(fast).cloned())
    }

    fn put_alias(&self, fast: &Digest, key: &Digest) {
        self.local.put_alias(fast, key);
    }

    fn claim(&self, key: &Digest) -> Claim {
        self.local.claim(key)
    }
}
