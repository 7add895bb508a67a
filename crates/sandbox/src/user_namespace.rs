//! The user namespace of an ordinary user's invocation.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{WaitOptions, getgid, getpid, getuid, waitpid};

use crate::capabilities::number;
use crate::error::{Error, Result, SUBORDINATE_IDS_HINT};
use crate::sys::{self, CloneFlags, Forked};

/// What [`enter_user_namespace`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Nothing: this process may mount already.
    Root,
    /// Root of a new namespace with this many ids.
    Ranges {
        /// The number of user ids, the user's own included.
        users: u64,
        /// The number of group ids, the user's own included.
        groups: u64,
    },
    /// Root of a new namespace where the user's own id is the only one.
    SingleId {
        /// Why there are no more.
        cause: String,
    },
}

static INSIDE: AtomicBool = AtomicBool::new(false);

/// Whether this process has entered a user namespace of its own.
pub(crate) fn is_inside() -> bool {
    INSIDE.load(Ordering::Relaxed)
}

/// Whether this process is in the host's first user namespace.
pub(crate) fn is_initial() -> bool {
    static INITIAL: OnceLock<bool> = OnceLock::new();
    *INITIAL.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
    })
}

/// Who this process was before it entered a user namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The user's id.
    pub user: u32,
    /// The inode of the user namespace; 0 where it is not to be seen.
    pub namespace: u64,
}

static ASKER: OnceLock<Asker> = OnceLock::new();

impl Asker {
    pub(crate) fn get() -> Self {
        *ASKER.get_or_init(|| {
            let namespace = fs::metadata("/proc/self/ns/user").map_or(0, |file| file.ino());
            Self { user: getuid().as_raw(), namespace }
        })
    }

    /// Whether that was in the host's first user namespace, whose number never changes.
    pub(crate) fn is_of_the_host(self) -> bool {
        self.namespace == 0xefff_fffd
    }
}

static SINGLE_ID: OnceLock<String> = OnceLock::new();

/// Why this process has one id only, when that is so.
pub(crate) fn single_id() -> Option<String> {
    SINGLE_ID.get().cloned()
}

/// What to type when a process failed that may have wanted to be, or to give files to, another user: `None` where there are ids for that.
#[must_use]
pub fn single_id_hint() -> Option<String> {
    let cause = single_id()?;
    Some(format!("{SUBORDINATE_IDS_HINT} (where it changes owners or users: {cause})"))
}

/// A range of subordinate ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub start: u32,
    pub count: u32,
}

/// The ranges that a subordinate id file gives a user, by name or number. Lines that are no entries are passed over.
pub(crate) fn subordinate_ranges(file: &[u8], name: Option<&str>, id: u32) -> Vec<Range> {
    let number = id.to_string();
    let mut ranges: Vec<Range> = Vec::new();
    for line in file.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        let mut fields = line.trim().split(':');
        let (Some(owner), Some(start), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if owner != number && Some(owner) != name {
            continue;
        }
        let (Ok(start), Ok(count)) = (start.parse::<u32>(), count.parse::<u32>()) else { continue };
        let overlaps = ranges.iter().any(|other| {
            u64::from(start) < u64::from(other.start) + u64::from(other.count)
                && u64::from(other.start) < u64::from(start) + u64::from(count)
        });
        if count > 0 && start.checked_add(count - 1).is_some() && !overlaps {
            ranges.push(Range { start, count });
        }
    }
    ranges.truncate(300);
    ranges
}

/// The lines of an id map: 0 is the user, 1 and up the ranges.
fn map(own: u32, ranges: &[Range]) -> Vec<[u64; 3]> {
    let mut lines = vec![[0, u64::from(own), 1]];
    let mut next = 1u64;
    for range in ranges {
        lines.push([next, u64::from(range.start), u64::from(range.count)]);
        next += u64::from(range.count);
    }
    lines
}

/// Makes an ordinary user's process root of a user namespace and a mount namespace of its own. A process that may mount already is left as
/// it is. MUST be called before the process has threads.
///
/// With subordinate ids (`/etc/subuid`, `/etc/subgid`, `newuidmap`, `newgidmap`) all ids of an image exist inside; else only one.
///
/// # Errors
/// [`Error::Denied`] when the host does not allow user namespaces, with the command that does.
pub fn enter_user_namespace() -> Result<Entered> {
    let asker = Asker::get();
    if may_mount() {
        return Ok(Entered::Root);
    }
    let (user, group) = (asker.user, getgid().as_raw());
    let plan = Maps::plan(user, group);
    let cause = match plan {
        Ok(maps) => match enter_with_helper(&maps)? {
            None => {
                let total = |lines: &[[u64; 3]]| lines.iter().map(|line| line[2]).sum();
                return Ok(Entered::Ranges { users: total(&maps.users), groups: total(&maps.groups) });
            }
            Some(cause) => cause,
        },
        Err(cause) => {
            unshare()?;
            cause
        }
    };
    map_single(user, group)?;
    Ok(Entered::SingleId { cause: SINGLE_ID.get_or_init(|| cause).clone() })
}

fn unshare() -> Result<()> {
    sys::unshare(CloneFlags::USER.with(CloneFlags::MOUNT)).map_err(|error| denied(&error))?;
    INSIDE.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether this process has the right to mount where it is.
fn may_mount() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.bits() >> number::SYS_ADMIN & 1 == 1)
}

struct Maps {
    users: Vec<[u64; 3]>,
    groups: Vec<[u64; 3]>,
}

impl Maps {
    /// The maps from the subordinate id files, or why there are none.
    fn plan(user: u32, group: u32) -> std::result::Result<Self, String> {
        let name = login_name(user);
        let ranges = |path: &str| {
            let file = fs::read(path).unwrap_or_default();
            let ranges = subordinate_ranges(&file, name.as_deref(), user);
            if ranges.is_empty() {
                let who = name.clone().unwrap_or_else(|| user.to_string());
                return Err(format!("{path} has no range for {who}"));
            }
            Ok(ranges)
        };
        let (users, groups) = (ranges("/etc/subuid")?, ranges("/etc/subgid")?);
        for program in ["newuidmap", "newgidmap"] {
            if find_program(program).is_none() {
                return Err(format!("{program} is not installed (package uidmap)"));
            }
        }
        Ok(Self { users: map(user, &users), groups: map(group, &groups) })
    }
}

/// The login name of a user, from `/etc/passwd` alone.
fn login_name(user: u32) -> Option<String> {
    let file = fs::read("/etc/passwd").ok()?;
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == user).then(|| name.to_owned())
    })
}

/// The helpers are setuid programs of the system's, so they are not looked for in PATH.
fn find_program(name: &str) -> Option<std::path::PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/wrappers/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// Unshares; a child, still outside, gives the new namespace its maps. The cause when it could not: the namespace then has none.
fn enter_with_helper(maps: &Maps) -> Result<Option<String>> {
    let failed = |error: io::Error| Error::setup("start the helper that maps ids", error);
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let own = getpid().as_raw_nonzero().get();
    let helper = match sys::fork().map_err(failed)? {
        Forked::Child => {
            drop(writer);
            // Ends when the parent has unshared, or is gone.
            let mut byte = [0];
            let started = matches!(rustix::io::read(&reader, &mut byte), Ok(1));
            let code = if started && write_maps(own, maps) { 0 } else { 1 };
            sys::exit_now(code)
        }
        Forked::Parent(pid) => pid,
    };
    drop(reader);
    let unshared = unshare();
    if unshared.is_ok() {
        // A helper that is gone shows in its status.
        let _ = rustix::io::write(&writer, &[1]);
    }
    drop(writer);
    let status = rustix::io::retry_on_intr(|| waitpid(Some(helper), WaitOptions::empty()))
        .map_err(|errno| failed(errno.into()))?;
    unshared?;
    Ok(match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => None,
        _ => Some("newuidmap or newgidmap refused the ranges of /etc/subuid and /etc/subgid".to_owned()),
    })
}

/// Runs newuidmap and newgidmap for a process, both at once.
fn write_maps(process: i32, maps: &Maps) -> bool {
    let start = |program: &str, lines: &[[u64; 3]]| {
        let path = find_program(program)?;
        let numbers = lines.iter().flatten().map(u64::to_string);
        Command::new(path)
            .arg(process.to_string())
            .args(numbers)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()
    };
    let children = [start("newuidmap", &maps.users), start("newgidmap", &maps.groups)];
    children.into_iter().all(|child| child.is_some_and(|mut child| child.wait().is_ok_and(|status| status.success())))
}

/// Maps the user's own id, and nothing else, into the namespace this process has just made.
fn map_single(user: u32, group: u32) -> Result<()> {
    let write =
        |path: &str, text: &str| fs::write(path, text).map_err(|error| Error::setup(format!("write {path}"), error));
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))
}

/// Why user namespaces are refused, by the switches that refuse them.
pub(crate) fn denied(error: &io::Error) -> Error {
    let switch = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let (cause, hint) = if switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        (
            "AppArmor restricts unprivileged user namespaces".to_owned(),
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned(),
        )
    } else if switch("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        (
            "kernel.unprivileged_userns_clone is 0".to_owned(),
            "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned(),
        )
    } else if switch("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        ("user.max_user_namespaces is 0".to_owned(), "sudo sysctl -w user.max_user_namespaces=15000".to_owned())
    } else {
        (format!("the kernel or a security policy refuses them ({error})"), crate::host::CONTAINER_HINT.to_owned())
    };
    Error::Denied { what: "user namespaces", cause, hint }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_never_overlap_and_never_wrap(
            lines in proptest::collection::vec(("[ab]|1000", any::<u32>(), prop_oneof![0u32..100_000, any::<u32>()]), 0..20),
            noise in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut file = noise;
            file.push(b'\n');
            for (owner, start, count) in lines {
                file.extend(format!("{owner}:{start}:{count}\n").bytes());
            }
            let ranges = subordinate_ranges(&file, Some("a"), 1000);
            let mut covered: Vec<(u64, u64)> =
                ranges.iter().map(|range| (range.start.into(), u64::from(range.start) + u64::from(range.count))).collect();
            covered.sort_unstable();
            prop_assert!(covered.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            prop_assert!(covered.iter().all(|(start, end)| start < end && *end <= 1 << 32));
            let map = map(1000, &ranges);
            prop_assert!(map.windows(2).all(|pair| pair[0][0] + pair[0][2] == pair[1][0]));
        }
    }

    #[test]
    fn ranges_by_name_and_number() {
        let file =
            b"other:1:2\nann:100000:65536\n# note\n1000:300000:10\nann:x:1\nann:4294967295:2\nann:100001:5\nann:7:0\n";
        let expected = [Range { start: 100_000, count: 65_536 }, Range { start: 300_000, count: 10 }];
        assert_eq!(subordinate_ranges(file, Some("ann"), 1000), expected);
        assert_eq!(subordinate_ranges(file, None, 7), []);
        assert_eq!(map(1000, &expected), [[0, 1000, 1], [1, 100_000, 65_536], [65_537, 300_000, 10]]);
    }
}
