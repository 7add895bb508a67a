//! Owners of files, also where this process may not give files away.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Uid};
use rustix::io::Errno;

use super::xattr;

/// The prefix of the store's own attributes; they never leave the store.
pub(crate) const PREFIX: &[u8] = b"user.onetag.";

/// The attribute that holds an owner which the file itself could not be given: `UID:GID`.
const OWNER: &[u8] = b"user.onetag.owner";

/// How files get their owners.
///
/// With the ids of a whole range (root, or an ordinary user's namespace with a range from `/etc/subuid`) files
/// truly belong to whom the image says. Without, the owner is recorded beside the file (user.onetag.owner, on
/// regular files and folders) and every reader in this crate answers with the recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The ids that a newly made file gets by itself.
    effective: (u32, u32),
    /// Whether owners may have to be recorded.
    recorded: bool,
}

impl Ownership {
    /// What this process can do, seen from its effective ids and its id map.
    pub fn of_this_process() -> Ownership {
        let effective = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let recorded = effective.0 != 0 || !maps_a_range("/proc/self/uid_map") || !maps_a_range("/proc/self/gid_map");
        Ownership { effective, recorded }
    }

    /// Whether some owners are recorded beside the files instead of being theirs.
    pub fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// The same, believing no records: for trees that the store did not make.
    pub(crate) fn without_records(self) -> Ownership {
        Ownership { recorded: false, ..self }
    }

    /// Gives an open file or folder, newly made by this process, its owner.
    pub(crate) fn set(&self, fd: impl AsFd, uid: u32, gid: u32, inherits_group: bool) -> io::Result<()> {
        if (uid, gid) == self.effective && !inherits_group {
            return Ok(());
        }
        match rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            Ok(()) if self.recorded => self.forget(fd),
            Ok(()) => Ok(()),
            Err(Errno::PERM | Errno::INVAL) if self.recorded => {
                xattr::set(&fd, OWNER, format!("{uid}:{gid}").as_bytes()).map(drop)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a link, pipe or device its owner; where that is refused it stays with this process's user.
    pub(crate) fn set_at(&self, folder: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        if (uid, gid) == self.effective {
            return Ok(());
        }
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match rustix::fs::chownat(folder, name, owner, group, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::PERM | Errno::INVAL) if self.recorded => Ok(()),
            result => Ok(result?),
        }
    }

    /// The owner of an open file whose state says `actual`. Files of this process's own user in a tree without
    /// records belong to the image's root.
    pub(crate) fn owner(&self, fd: impl AsFd, actual: (u32, u32)) -> io::Result<(u32, u32)> {
        if !self.recorded {
            return Ok(actual);
        }
        let recorded = xattr::get(fd, OWNER)?.and_then(|value| {
            let text = String::from_utf8(value).ok()?;
            let (uid, gid) = text.split_once(':')?;
            Some((uid.parse().ok()?, gid.parse().ok()?))
        });
        Ok(recorded.unwrap_or_else(|| self.owner_of_state(actual)))
    }

    /// The owner that a state stands for where no record can exist: links, pipes, devices.
    pub(crate) fn owner_of_state(&self, actual: (u32, u32)) -> (u32, u32) {
        if self.recorded && actual == self.effective { (0, 0) } else { actual }
    }

    fn forget(&self, fd: impl AsFd) -> io::Result<()> {
        match rustix::fs::fremovexattr(fd, OWNER) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether an id map covers the ids of ordinary images (0 to 65534).
fn maps_a_range(path: &str) -> bool {
    let Ok(map) = std::fs::read_to_string(path) else { return true };
    let covered: u64 = map
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u64>().ok());
            let (inside, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
            Some(if inside > 65_534 { 0 } else { count })
        })
        .sum();
    covered > 65_534
}
