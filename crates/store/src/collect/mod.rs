//! Collection: what nothing needs any more goes, and the file system gets its bytes back.
//!
//! Needed is what a name in `index.json` leads to, what a living process holds, and what a cache record names.
//! Under the lock `gc` the rest is found and renamed into `tmp/`; it is removed after the lock is given back, so
//! that builds and pulls wait for the finding only. A collection that is killed leaves its finds in `tmp/`, where
//! the next one removes them.

mod mark;
mod mounts;
mod release;
mod usage;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::database;
use crate::error::{At, Result};
use crate::files;
use crate::leases::{self, Living, Resource};
use crate::store::Store;

use usage::DiskCounter;
pub use usage::{Usage, UsageKind};

/// What may be collected beyond what nothing needs.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Cache records that were not used for this long are dropped, and what only they needed goes; zero drops all.
    /// Absent, all records stay.
    pub unused_for: Option<Duration>,
    /// Cache records are dropped, the longest unused first, until what they keep takes at most this many bytes.
    pub keep_bytes: Option<u64>,
    /// Whether folders of cache mounts that nothing uses, and what builds downloaded, go, too (those unused for
    /// `unused_for` where that is given).
    pub cache_mounts: bool,
    /// Whether unpacked layers of images go, too, unless they are in use; they are unpacked again when needed.
    pub unpacked_layers: bool,
    /// Only tell what would go.
    pub dry_run: bool,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// What went, in the order of its kind and name.
    pub removed: Vec<Usage>,
    /// Bytes that the file system got back; what is shared with things that stay is not counted.
    pub reclaimed_bytes: u64,
    /// Cache records dropped.
    pub records: u64,
}

impl Store {
    /// Collects. Safe beside everything that other processes do.
    pub fn prune(&self, options: &PruneOptions) -> Result<PruneReport> {
        let mut report = PruneReport::default();
        let mut trash = Vec::new();
        let mut places = Vec::new();
        {
            // The own lease is asked for before: a thread that has it may be waiting for the lock taken here.
            let session = self.session_name()?;
            let _alone = self.lock("gc", FlockOperation::LockExclusive)?;
            let mut living = leases::living(self)?;
            living.names.insert(session.clone());
            if !options.dry_run {
                report.records = self.drop_records(options, &living)?;
            }
            let dropped = if options.dry_run { self.droppable(options, &living)? } else { HashSet::new() };
            let needed = mark::mark(self, &living, &dropped, !options.unpacked_layers)?;
            for item in self.items()? {
                let kept = item.resource.as_ref().is_some_and(|resource| needed.contains(resource));
                if !kept && !mark::is_kept_chain(&item, &needed) {
                    trash.push(item);
                }
            }
            if options.cache_mounts {
                trash.extend(mounts::unused(self, options.unused_for)?);
            }
            trash.extend(self.abandoned(&living)?);
            let mut counter = DiskCounter::default();
            for item in &mut trash {
                item.bytes = counter.add(&item.path)?;
            }
            report.reclaimed_bytes = counter.bytes();
            if !options.dry_run {
                // What a tree can be made of goes after what names it: killed between, nothing is there by half.
                trash.sort_by_key(|item| item.kind == UsageKind::Blob);
                for item in &trash {
                    let place = self.temporary_of(&session, "trash");
                    std::fs::rename(&item.path, &place).at("remove", &item.path)?;
                    places.push(place);
                }
                self.remove_empty_folders()?;
                self.remove_dead_claims()?;
            }
        }
        if !options.dry_run {
            // One tree that resists does not keep the others; the first failure is told in the end.
            let failures = places.iter().map(|place| self.remove_temporary(place)).filter_map(Result::err);
            let failed = failures.fold(None, |first, error| first.or(Some(error)));
            if let Some(error) = failed {
                return Err(error);
            }
        }
        trash.retain(|item| item.kind != UsageKind::Abandoned);
        trash.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        report.removed = trash;
        Ok(report)
    }

    /// Everything that takes room in the store, with what it takes and whether something needs it.
    pub fn usage(&self) -> Result<Vec<Usage>> {
        self.session_name()?;
        let _shared = self.lock("gc", FlockOperation::LockShared)?;
        let needed = mark::mark(self, &Living::default(), &HashSet::new(), true)?;
        let used = self.database().kept_resources()?;
        let mut items = self.items()?;
        items.extend(mounts::all(self)?);
        let mut counter = DiskCounter::default();
        for item in &mut items {
            item.bytes = counter.add(&item.path)?;
            if let Some(resource) = &item.resource {
                item.needed = needed.contains(resource);
                item.last_used = used.iter().find(|(known, _)| known == resource).map(|(_, used)| *used);
            }
        }
        Ok(items)
    }

    /// Makes everything unpacked so far survive a crash of the machine. Gives how many trees were not safe before.
    pub fn sync_trees(&self) -> Result<u64> {
        let items = self.items()?;
        let folders: Vec<PathBuf> =
            items.into_iter().filter(|item| item.kind != UsageKind::Blob).map(|item| item.path).collect();
        let root = files::open_folder(self.root()).at("open", self.root())?;
        rustix::fs::syncfs(&root).at("sync", self.root())?;
        crate::record::mark_synced(self, folders.iter().map(PathBuf::as_path))
    }

    /// Drops the cache records that the options name.
    fn drop_records(&self, options: &PruneOptions, living: &Living) -> Result<u64> {
        // A step's result that is gone, by a crash of the machine or by hand, makes its records useless.
        let kept = self.database().kept_resources()?;
        let is_gone = |resource: &Resource| match resource {
            Resource::Step(step) => !self.step_path(step).exists(),
            _ => false,
        };
        let gone: Vec<Resource> = kept.into_iter().map(|(resource, _)| resource).filter(is_gone).collect();
        let mut dropped = self.database().remove_needing(&gone)?;
        if let Some(age) = options.unused_for {
            dropped += self.database().remove_unused_since(horizon(age))?;
        }
        if options.keep_bytes.is_some() {
            let doomed: Vec<Resource> = self.over_budget(options, living)?.into_iter().collect();
            dropped += self.database().remove_needing(&doomed)?;
        }
        Ok(dropped)
    }

    /// The resources whose records the options would drop.
    fn droppable(&self, options: &PruneOptions, living: &Living) -> Result<HashSet<Resource>> {
        let mut doomed = self.over_budget(options, living)?;
        if let Some(age) = options.unused_for {
            let horizon = horizon(age);
            let kept = self.database().kept_resources()?;
            doomed.extend(kept.into_iter().filter(|(_, used)| *used < horizon).map(|(resource, _)| resource));
        }
        Ok(doomed)
    }

    /// The longest unused resources of the cache beyond the budget.
    fn over_budget(&self, options: &PruneOptions, living: &Living) -> Result<HashSet<Resource>> {
        let mut doomed = HashSet::new();
        let Some(budget) = options.keep_bytes else { return Ok(doomed) };
        let mut kept = self.database().kept_resources()?;
        let all: HashSet<Resource> = kept.iter().map(|(resource, _)| resource.clone()).collect();
        let without_cache = mark::mark(self, living, &all, true)?;
        kept.retain(|(resource, _)| !without_cache.contains(resource));
        // The latest used are counted first and stay.
        kept.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        let items = self.items()?;
        let mut counter = DiskCounter::default();
        for (resource, _) in kept {
            if let Some(item) = items.iter().find(|item| item.resource.as_ref() == Some(&resource)) {
                counter.add(&item.path)?;
            }
            if counter.bytes() > budget {
                doomed.insert(resource);
            }
        }
        Ok(doomed)
    }

    /// What ended processes left in `tmp/`.
    fn abandoned(&self, living: &Living) -> Result<Vec<Usage>> {
        let folder = self.root().join("tmp");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let owner = name.split('.').next().unwrap_or_default();
            if !living.names.contains(owner) {
                found.push(Usage::new(UsageKind::Abandoned, name, path, None));
            }
        }
        Ok(found)
    }

    /// Removes the folders of layers that have no unpacked tree left. One that is in use again just stays.
    fn remove_empty_folders(&self) -> Result<()> {
        let layers = self.root().join("layers");
        for algorithm in std::fs::read_dir(&layers).at("list", &layers)? {
            let folder = algorithm.at("list", &layers)?.path();
            if folder.file_name().is_some_and(|name| name == "steps") {
                continue;
            }
            for layer in std::fs::read_dir(&folder).at("list", &folder)? {
                let _ = std::fs::remove_dir(layer.at("list", &folder)?.path());
            }
        }
        Ok(())
    }
}

/// The second before which a record counts as unused.
fn horizon(age: Duration) -> u64 {
    let now = u64::try_from(database::now()).unwrap_or(0);
    if age.is_zero() { u64::MAX } else { now.saturating_sub(age.as_secs()) }
}
