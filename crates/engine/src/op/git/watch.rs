//! How long git may say nothing and how much it may write.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long nothing may arrive, unless something else is configured: a server may need its time to pack a large
/// repository, and nothing arrives either while what came is unpacked.
const PATIENCE: Duration = Duration::from_secs(600);
/// A repository and its checkout take no more than this each.
const SIZE_LIMIT_BYTES: u64 = 64 << 30;
/// What a file takes at least, however little it holds.
const FILE_BYTES: u64 = 4096;
const INTERVAL: Duration = Duration::from_millis(200);
/// Looking takes at most this part of the time.
const SHARE: u32 = 20;

/// Why git is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing came for so long.
    Stalled(Duration),
    /// More came than this.
    TooLarge(u64),
}

/// Watches a folder that git writes to.
pub(super) struct Watch {
    folder: PathBuf,
    patience: Duration,
    limit_bytes: u64,
    seen_bytes: u64,
    since: Instant,
    next: Instant,
}

impl Watch {
    pub(super) fn new(folder: &Path, patience: Option<Duration>) -> Watch {
        let now = Instant::now();
        Watch {
            folder: folder.to_owned(),
            patience: patience.unwrap_or(PATIENCE),
            limit_bytes: SIZE_LIMIT_BYTES,
            seen_bytes: 0,
            since: now,
            next: now + INTERVAL,
        }
    }

    /// Whether git has to be ended, after it has printed so much.
    pub(super) fn check(&mut self, printed_bytes: u64) -> Option<Broken> {
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        let written = written(&self.folder);
        self.next = Instant::now() + INTERVAL.max(now.elapsed() * SHARE);
        if written > self.limit_bytes {
            return Some(Broken::TooLarge(self.limit_bytes));
        }
        if written + printed_bytes != self.seen_bytes {
            self.seen_bytes = written + printed_bytes;
            self.since = now;
        }
        (now - self.since > self.patience).then_some(Broken::Stalled(self.patience))
    }
}

/// What a folder holds. Files come and go meanwhile, and what cannot be read counts as nothing.
fn written(folder: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.len().max(FILE_BYTES);
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(folder: &Path) -> Watch {
        Watch { next: Instant::now(), limit_bytes: 100_000, ..Watch::new(folder, Some(Duration::from_millis(50))) }
    }

    #[test]
    fn silence_ends_it_and_whatever_comes_prolongs_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = watch(folder.path());
        assert_eq!(watch.check(0), None);
        for step in 1..4 {
            std::thread::sleep(Duration::from_millis(60));
            watch.next = Instant::now();
            // By turns a file grows and something is printed.
            fs::write(folder.path().join("pack"), vec![0; 5_000 * (1 + step / 2)]).unwrap();
            assert_eq!(watch.check(step as u64 % 2), None);
        }
        std::thread::sleep(Duration::from_millis(60));
        watch.next = Instant::now();
        assert_eq!(watch.check(1), Some(Broken::Stalled(Duration::from_millis(50))));
    }

    #[test]
    fn what_is_written_is_counted_in_folders_and_by_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        (0..20).for_each(|name| fs::write(folder.path().join(format!("below/{name}")), "").unwrap());
        assert_eq!(watch(folder.path()).check(0), None);
        fs::write(folder.path().join("below/large"), vec![0; 20_000]).unwrap();
        assert_eq!(watch(folder.path()).check(0), Some(Broken::TooLarge(100_000)));
    }
}
