//! Capability sets by name.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::CapabilityChanges;

/// Names in the order of their numbers (`capabilities(7)`).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Capability numbers.
pub(crate) mod number {
    pub(crate) const SYS_ADMIN: u32 = 21;
    pub(crate) const LAST_KNOWN: u32 = 40;
}

/// A set of capabilities, one bit a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CapabilitySet(pub u64);

impl CapabilitySet {
    /// What Docker and BuildKit give a container.
    pub(crate) const DOCKER_DEFAULT: Self = Self(
        1 << 0 // CHOWN
            | 1 << 1 // DAC_OVERRIDE
            | 1 << 3 // FOWNER
            | 1 << 4 // FSETID
            | 1 << 5 // KILL
            | 1 << 6 // SETGID
            | 1 << 7 // SETUID
            | 1 << 8 // SETPCAP
            | 1 << 10 // NET_BIND_SERVICE
            | 1 << 13 // NET_RAW
            | 1 << 18 // SYS_CHROOT
            | 1 << 27 // MKNOD
            | 1 << 29 // AUDIT_WRITE
            | 1 << 31, // SETFCAP
    );

    const ALL: Self = Self((1 << NAMES.len()) - 1);

    pub(crate) fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    /// This set with `--cap-drop` and `--cap-add` applied as Docker does: ALL first, then names.
    pub(crate) fn changed(self, changes: &CapabilityChanges) -> Result<Self> {
        let is_all = |name: &String| name.eq_ignore_ascii_case("all");
        let mut set = self;
        if changes.drop.iter().any(is_all) {
            set = Self(0);
        }
        if changes.add.iter().any(is_all) {
            set = Self::ALL;
        }
        for name in changes.drop.iter().filter(|name| !is_all(name)) {
            set.0 &= !bit(name)?;
        }
        for name in changes.add.iter().filter(|name| !is_all(name)) {
            set.0 |= bit(name)?;
        }
        Ok(set)
    }
}

fn bit(name: &str) -> Result<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|known| *known == short)
        .map(|number| 1 << number)
        .ok_or_else(|| Error::Invalid(format!("unknown capability {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(add: &[&str], drop: &[&str]) -> CapabilityChanges {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        CapabilityChanges { add: own(add), drop: own(drop) }
    }

    #[test]
    fn the_default_set_is_dockers() {
        assert_eq!(CapabilitySet::DOCKER_DEFAULT.0, 0xa804_25fb);
    }

    #[test]
    fn changes_apply_all_before_names() {
        let set = CapabilitySet::DOCKER_DEFAULT;
        assert_eq!(set.changed(&changes(&["SYS_ADMIN"], &["ALL"])).unwrap().0, 1 << number::SYS_ADMIN);
        assert_eq!(set.changed(&changes(&["all"], &["cap_chown"])).unwrap().0, CapabilitySet::ALL.0 & !1);
        assert!(set.changed(&changes(&["NO_SUCH"], &[])).is_err());
    }
}
