//! Names of images: the entries of the layout's `index.json`.
//!
//! An entry carries its canonical name (`docker.io/library/app:latest`) as `org.opencontainers.image.ref.name`, by
//! which `skopeo copy oci:ROOT:NAME` and other readers of layouts find it, and as `io.containerd.image.name`.
//! Entries without a name, which other tools may have written, are kept as they are.

use std::collections::HashMap;
use std::io::ErrorKind;

use onetag_oci::{Descriptor, Index};
use rustix::fs::FlockOperation;

use crate::error::{At, Error, Result};
use crate::files;
use crate::leases::Resource;
use crate::store::{EMPTY_INDEX, Store};

/// The annotation that readers of image layouts look names up by.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation in which containerd keeps the canonical name.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

impl Store {
    /// Gives `name`, a canonical reference, to a stored index or manifest; a former bearer of the name loses it.
    /// On return the name survives a crash.
    pub fn set_reference(&self, name: &str, descriptor: Descriptor) -> Result<()> {
        self.set_references(vec![(name.to_owned(), descriptor)])
    }

    /// As [`Store::set_reference`] for several names, all at once. Of equal names the last counts.
    pub fn set_references(&self, references: Vec<(String, Descriptor)>) -> Result<()> {
        for (_, descriptor) in &references {
            self.hold(&Resource::Blob(descriptor.digest.clone()))?;
        }
        self.settle()?;
        self.update_index(|entries| {
            let known = entries.iter().enumerate().filter_map(|(at, entry)| Some((name_of(entry)?.to_owned(), at)));
            // of entries that another tool gave the same name, the first is the one that is read
            let mut places: HashMap<String, usize> = known.rev().collect();
            let mut is_changed = false;
            for (name, mut entry) in references {
                entry.annotations.insert(IMAGE_NAME.to_owned(), name.clone());
                entry.annotations.insert(REF_NAME.to_owned(), name.clone());
                let place = places.entry(name).or_insert(entries.len());
                match entries.get_mut(*place) {
                    Some(known) if *known == entry => continue,
                    Some(known) => *known = entry,
                    None => entries.push(entry),
                }
                is_changed = true;
            }
            is_changed
        })
        .map(drop)
    }

    /// What `name` means, with the two annotations of the name taken off.
    pub fn reference(&self, name: &str) -> Result<Option<Descriptor>> {
        let index = self.read_index()?;
        Ok(index.manifests.into_iter().find(|entry| name_of(entry) == Some(name)).map(without_name))
    }

    /// All names in byte order, with what they mean.
    pub fn references(&self) -> Result<Vec<(String, Descriptor)>> {
        let index = self.read_index()?;
        let mut named: Vec<(String, Descriptor)> = index
            .manifests
            .into_iter()
            .filter_map(|entry| Some((name_of(&entry)?.to_owned(), without_name(entry))))
            .collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(named)
    }

    /// Takes a name away. Gives whether it was there. Content stays until it is collected.
    pub fn remove_reference(&self, name: &str) -> Result<bool> {
        self.update_index(|entries| {
            let before = entries.len();
            entries.retain(|entry| name_of(entry) != Some(name));
            entries.len() != before
        })
    }

    /// All entries of the layout's index, named or not.
    pub(crate) fn read_index(&self) -> Result<Index> {
        let path = self.index_path();
        let content = match std::fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => EMPTY_INDEX.to_vec(),
            Err(error) => return Err(error).at("read", &path),
        };
        serde_json::from_slice(&content).map_err(|source| Error::DamagedIndex { path, source })
    }

    /// Changes the index under its lock. `change` tells whether it changed anything.
    pub(crate) fn update_index(&self, change: impl FnOnce(&mut Vec<Descriptor>) -> bool) -> Result<bool> {
        let _alone = self.lock("index", FlockOperation::LockExclusive)?;
        let mut index = self.read_index()?;
        if !change(&mut index.manifests) {
            return Ok(false);
        }
        let path = self.index_path();
        let content = onetag_oci::go_json(&index);
        files::replace_file(&path, &self.temporary("index")?, &content).at("write", &path)?;
        // The copy is for mending a damaged index. It need not survive a crash, so nothing is synced.
        let (copy, temporary) = (self.index_copy_path(), self.temporary("index")?);
        std::fs::write(&temporary, &content).at("write", &temporary)?;
        std::fs::rename(&temporary, &copy).at("name", &copy)?;
        Ok(true)
    }

    /// The names as this program wrote them last.
    pub(crate) fn index_copy_path(&self) -> std::path::PathBuf {
        self.root().join("locks").join("index.json")
    }
}

pub(crate) fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(IMAGE_NAME).or_else(|| entry.annotations.get(REF_NAME)).map(String::as_str)
}

fn without_name(mut entry: Descriptor) -> Descriptor {
    entry.annotations.remove(IMAGE_NAME);
    entry.annotations.remove(REF_NAME);
    entry
}
