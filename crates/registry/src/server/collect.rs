//! The collection of garbage: what no repository needs any more is removed, while the registry goes on serving.
//!
//! A repository needs its manifests, whatever they are made of, and every blob that was pushed to it lately. Tagged manifests, all that
//! they refer to and the referrers of those stay in any case; untagged manifests go only when asked for. References are removed
//! under the exclusive lock of the storage, which those who add references hold shared.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use onetag_oci::Digest;

use super::manifests::references;
use super::repository::{Linked, Repository, repositories};
use super::storage::{Result, Storage};
use crate::wire::name::Tag;

/// What may be collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectOptions {
    /// Only say what would be removed.
    pub dry_run: bool,
    /// Remove manifests too that no tag leads to.
    pub untagged: bool,
    /// Content younger than this stays: a manifest that refers to it may be on its way.
    pub grace: Duration,
}

impl Default for CollectOptions {
    fn default() -> Self {
        CollectOptions { dry_run: false, untagged: false, grace: Duration::from_secs(60 * 60) }
    }
}

/// What was collected, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests removed from their repositories.
    pub manifests: Vec<(String, Digest)>,
    /// Blobs removed from repositories that do not need them.
    pub blobs: Vec<(String, Digest)>,
    /// Content removed from storage, with the bytes each gave back.
    pub content: Vec<(Digest, u64)>,
}

impl Collected {
    /// Bytes given back by all content removed.
    pub fn freed_bytes(&self) -> u64 {
        self.content.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Collects the garbage of a registry. Safe while servers use the same storage.
///
/// # Errors
/// When storage fails; what was removed until then was garbage.
pub fn collect(storage: &Arc<dyn Storage>, options: CollectOptions) -> Result<Collected> {
    let mut collected = Collected::default();
    let mut kept = HashSet::new();
    for name in repositories(storage.as_ref())? {
        let repository = Repository::new(storage.clone(), name);
        let _guard = storage.lock(true)?;
        let plan = plan(&repository, options)?;
        kept.extend(plan.kept);
        for digest in plan.manifests {
            if !options.dry_run {
                repository.remove_manifest(&digest)?;
            }
            collected.manifests.push((repository.name().to_string(), digest));
        }
        for digest in plan.blobs {
            if !options.dry_run {
                repository.unlink_blob(&digest)?;
            }
            collected.blobs.push((repository.name().to_string(), digest));
        }
    }
    let _guard = storage.lock(true)?;
    if !options.dry_run {
        // References may have been added since a repository was looked at.
        for name in repositories(storage.as_ref())? {
            let repository = Repository::new(storage.clone(), name);
            kept.extend(repository.digests(Linked::Blobs)?);
            kept.extend(repository.digests(Linked::Manifests)?);
        }
    }
    for entry in storage.contents()? {
        if kept.contains(&entry.digest) || entry.age < options.grace {
            continue;
        }
        let freed = if options.dry_run { entry.size_bytes } else { storage.remove_content(&entry.digest)? };
        collected.content.push((entry.digest, freed));
    }
    Ok(collected)
}

/// What of one repository stays and goes.
struct Plan {
    kept: HashSet<Digest>,
    manifests: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
}

fn plan(repository: &Repository, options: CollectOptions) -> Result<Plan> {
    let all: BTreeSet<Digest> = repository.digests(Linked::Manifests)?.into_iter().collect();
    let live = if options.untagged { reachable(repository, &all, options.grace)? } else { all.clone() };
    let mut needed: HashSet<Digest> = live.iter().cloned().collect();
    for digest in &live {
        if let Some((_, bytes)) = repository.manifest(digest)? {
            needed.extend(references(&bytes));
        }
    }
    let mut blobs = BTreeSet::new();
    let mut kept: HashSet<Digest> = live.iter().cloned().collect();
    for digest in repository.digests(Linked::Blobs)? {
        let young = repository.link_age(Linked::Blobs, &digest)?.is_none_or(|age| age < options.grace);
        if young || needed.contains(&digest) {
            kept.insert(digest);
        } else {
            blobs.insert(digest);
        }
    }
    Ok(Plan { kept, manifests: all.difference(&live).cloned().collect(), blobs })
}

/// Manifests that a tag leads to: directly, as a child of an index, or as a referrer of such a one; and those that are young.
fn reachable(repository: &Repository, all: &BTreeSet<Digest>, grace: Duration) -> Result<BTreeSet<Digest>> {
    let mut waiting = Vec::new();
    for name in repository.tags()? {
        if let Ok(tag) = Tag::parse(&name) {
            waiting.extend(repository.tag(&tag)?);
        }
    }
    for digest in all {
        if repository.link_age(Linked::Manifests, digest)?.is_none_or(|age| age < grace) {
            waiting.push(digest.clone());
        }
    }
    let mut live = BTreeSet::new();
    while let Some(digest) = waiting.pop() {
        if !all.contains(&digest) || !live.insert(digest.clone()) {
            continue;
        }
        if let Some((_, bytes)) = repository.manifest(&digest)? {
            waiting.extend(references(&bytes));
        }
        for name in repository.referrer_names(&digest)? {
            waiting.extend(repository.referrer(&digest, &name)?.map(|descriptor| descriptor.digest));
        }
    }
    Ok(live)
}
