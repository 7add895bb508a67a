//! Writing a cache: what a build knows, merged with what others wrote.
//!
//! A registry cannot compare and set a name, so writers of one reference do it together: each reads what is there,
//! merges, looks whether the name still means what was read, writes, and looks again after a while. Who finds another's
//! writing there begins anew with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use onetag_dockerfile::export::rfc3339_seconds;
use onetag_oci::{DiffId, Digest, Reference};
use onetag_solver::{Cancellation, SolveRecord};
use onetag_store::{LayerId, LayerOptions};

use super::document::{CacheBlob, CacheLayer, CacheStep, DocumentError, Entry, Table};
use super::options::{CacheExport, CacheMode, CachePlace};
use super::place::{FoundCache, Place, StoreBlob, lock};
use super::{CacheError, Result};
use crate::Engine;
use crate::export::{Assembler, BuiltLayer};
use crate::layers::{Layers, unheard};
use crate::progress::Activity;
use crate::snapshot::{Layer, Snapshot};

/// So often is the cache read and written before others are left to have it.
const ATTEMPT_LIMIT: usize = 20;
/// At least so long after writing it is looked again.
const SETTLE: Duration = Duration::from_millis(30);
/// At most so long.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// What the cache of a build is made of.
pub(crate) struct CacheWriter<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) layers: &'a Layers,
    pub(crate) assembler: &'a Assembler<'a>,
    /// What the solver knows of the vertices.
    pub(crate) records: &'a [SolveRecord],
    /// The results.
    pub(crate) finals: Vec<Arc<Snapshot>>,
    /// Repositories that this build pushed its layers to.
    pub(crate) pushed: Vec<Reference>,
}

/// The layers of a cache that have blobs, by the digests of these.
type Blobs = BTreeMap<Digest, BuiltLayer>;

impl CacheWriter<'_> {
    /// Writes one cache.
    pub(crate) fn write(
        &self,
        export: &CacheExport,
        cancellation: &Cancellation,
        activity: &Activity<'_>,
    ) -> Result<()> {
        let (known, blobs) = activity.part("preparing build cache for export", || self.contribution(export))?;
        let place = Place::new(self.engine, &export.place);
        let _alone = lock(self.engine, &export.place)?;
        for attempt in 0..ATTEMPT_LIMIT {
            if cancellation.is_cancelled() {
                return Err(CacheError::Cancelled);
            }
            if attempt > 0 {
                std::thread::sleep(pause(attempt));
            }
            let found = self.found(&place, export)?;
            let mut table = found.as_ref().map(|found| found.table.clone()).unwrap_or_default();
            table.merge(&known);
            table.trim(today());
            if let Some(found) = &found
                && found.table == table
            {
                activity.note(&format!("cache manifest {} has it all", found.digest));
                return Ok(());
            }
            activity.part("writing cache layers", || self.put_layers(&place, &table, &blobs, found.as_ref()))?;
            let before = found.as_ref().map(|found| &found.digest);
            let began = Instant::now();
            let written = place.write(&table, || Ok(place.current()?.as_ref() != before))?;
            let Some(digest) = written else { continue };
            if matches!(export.place, CachePlace::Local { .. }) {
                activity.note(&format!("writing cache manifest {digest}"));
                return Ok(());
            }
            std::thread::sleep((began.elapsed() * 4).clamp(SETTLE, SETTLE_LIMIT));
            if place.current()?.as_ref() == Some(&digest) {
                activity.note(&format!("writing cache manifest {digest}"));
                return Ok(());
            }
        }
        Err(CacheError::Contended { place: export.place.to_string() })
    }

    /// What may be merged with. What is of this format and broken counts as empty: it is replaced.
    fn found(&self, place: &Place<'_>, export: &CacheExport) -> Result<Option<FoundCache>> {
        match place.read() {
            Ok(Some(found)) if !found.is_own => Err(CacheError::NoCache { place: export.place.to_string() }),
            Err(CacheError::Document(error)) if !matches!(error, DocumentError::Version(_)) => {
                let digest = place.current()?;
                Ok(digest.map(|digest| FoundCache { digest, table: Table::default(), is_own: true }))
            }
            found => found,
        }
    }

    /// What this build knows, with the layers that it needs.
    fn contribution(&self, export: &CacheExport) -> Result<(Table, Blobs)> {
        let finals: BTreeSet<LayerId> = self.finals.iter().flat_map(|snapshot| snapshot.ids()).collect();
        let mut table = Table::default();
        let mut blobs = Blobs::new();
        for record in self.records {
            let is_wanted = |snapshot: &Snapshot| match export.mode {
                CacheMode::Max => true,
                CacheMode::Min => snapshot.ids().iter().all(|id| finals.contains(id)),
            };
            let outputs = match snapshots(record) {
                Some(snapshots) if snapshots.iter().all(is_wanted) => {
                    let outputs: Result<Vec<_>> =
                        snapshots.iter().map(|snapshot| self.output(snapshot, export, &mut blobs)).collect();
                    Some(outputs?)
                }
                _ => None,
            };
            add(&mut table, record, outputs);
        }
        Ok((table.dated(today()), blobs))
    }

    fn output(&self, snapshot: &Snapshot, export: &CacheExport, blobs: &mut Blobs) -> Result<Vec<Arc<CacheLayer>>> {
        let options = LayerOptions { compression: export.compression, latest_mtime: None };
        let mut layers = Vec::with_capacity(snapshot.layers.len());
        for (position, layer) in snapshot.layers.iter().enumerate() {
            let Some(step) = step(layer, export.compression.effective_level()) else {
                layers.push(Arc::new(CacheLayer { diff_id: diff_id(layer), step: None, blob: None }));
                continue;
            };
            let built = match layer {
                Layer::Image(image) => BuiltLayer {
                    descriptor: image.descriptor.clone(),
                    diff_id: image.diff_id.clone(),
                    image: Some(image.as_ref().clone()),
                },
                Layer::Step(_) => self.assembler.layer(snapshot, position, &options, false)?,
            };
            let blob = Some(CacheBlob::of(&built.descriptor));
            layers.push(Arc::new(CacheLayer { diff_id: built.diff_id.clone(), step: Some(step), blob }));
            blobs.entry(built.descriptor.digest.clone()).or_insert(built);
        }
        Ok(layers)
    }

    /// Brings the layers there that what was found has not.
    fn put_layers(&self, place: &Place<'_>, table: &Table, blobs: &Blobs, found: Option<&FoundCache>) -> Result<()> {
        let there: BTreeSet<Digest> =
            found.into_iter().flat_map(|found| found.table.blobs()).map(|blob| blob.digest).collect();
        for blob in table.blobs().iter().filter(|blob| !there.contains(&blob.digest)) {
            let Some(built) = blobs.get(&blob.digest) else { continue };
            let fetch = || match &built.image {
                Some(image) => self.layers.fetch(image, &unheard).map_err(std::io::Error::other),
                None => Ok(()),
            };
            let source =
                StoreBlob { engine: self.engine, digest: blob.digest.clone(), size: blob.size, fetch: Box::new(fetch) };
            let mut near = self.pushed.clone();
            near.extend(built.image.as_ref().and_then(|image| image.origin.clone()));
            place.put_layer(&blob.descriptor(), &source, &near)?;
        }
        Ok(())
    }
}

/// The results of a record, if all of them are file systems.
fn snapshots(record: &SolveRecord) -> Option<Vec<Snapshot>> {
    record.record.results.iter().map(|text| serde_json::from_str(text).ok()).collect()
}

fn add(table: &mut Table, record: &SolveRecord, outputs: Option<Vec<Vec<Arc<CacheLayer>>>>) {
    let identity = record.record.identity.clone();
    if outputs.is_some() || identity != record.key {
        table.records.insert(record.key.clone(), Entry { identity, outputs, day: 0 });
    }
    if let Some(fast) = &record.fast {
        table.aliases.insert(fast.clone(), (record.key.clone(), 0));
    }
}

/// The step that made a layer; none for a base's.
fn step(layer: &Layer, level: i32) -> Option<CacheStep> {
    match layer {
        Layer::Step(step) => {
            Some(CacheStep { created: step.created.clone(), description: step.description.clone(), level })
        }
        Layer::Image(image) => image.made.as_ref().map(|made| CacheStep {
            created: made.created.clone(),
            description: made.description.clone(),
            level: made.level,
        }),
    }
}

fn diff_id(layer: &Layer) -> DiffId {
    match layer.id() {
        LayerId::Diff(diff_id) => diff_id,
        LayerId::Step(step) => DiffId(Digest::sha256(step.as_str().as_bytes())),
    }
}

/// The day, counted from 1970.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400)
}

/// How long to wait before the next attempt: longer each time, and not as long as others do.
fn pause(attempt: usize) -> Duration {
    let noise = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()));
    let noise = ((noise / 1000) ^ u64::from(std::process::id()).wrapping_mul(2_654_435_761)) % 40;
    Duration::from_millis(10 * attempt.min(10) as u64 + noise)
}

/// The records that an image carries itself: those whose layers it has. `level` is how these were compressed; nothing
/// in it is later than `epoch`, in seconds since 1970; with one, what goes back to a result that was renewed in spite of
/// the cache is left out, so that every build of the same gives the same image.
pub(crate) fn inline(
    records: &[SolveRecord],
    snapshot: &Snapshot,
    built: &[BuiltLayer],
    level: i32,
    epoch: Option<i64>,
) -> Table {
    let diff_ids: BTreeMap<LayerId, &DiffId> =
        snapshot.ids().into_iter().zip(built.iter().map(|layer| &layer.diff_id)).collect();
    let convert = |layer: &Layer| {
        let diff_id = (*diff_ids.get(&layer.id())?).clone();
        let step = step(layer, level).map(|step| match epoch {
            Some(epoch) => CacheStep { created: rfc3339_seconds(epoch), ..step },
            None => step,
        });
        Some(Arc::new(CacheLayer { diff_id, step, blob: None }))
    };
    let mut table = Table::default();
    // What tells of a `--no-cache` once would make each such image another.
    for record in records.iter().filter(|record| epoch.is_none() || !record.renewed) {
        let output = |snapshot: &Snapshot| snapshot.layers.iter().map(convert).collect::<Option<Vec<_>>>();
        let outputs = snapshots(record).and_then(|snapshots| snapshots.iter().map(output).collect());
        add(&mut table, record, outputs);
        if let Some(fast) = record.fast.as_ref().filter(|_| epoch.is_some() && record.fast_renewed) {
            table.aliases.remove(fast);
        }
    }
    table
}
