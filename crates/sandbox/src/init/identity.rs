//! The payload's identity: ids, groups, capabilities, filters.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, Gid, OFlags, Uid, fstat};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use super::control::{Failure, FailureKind, Report, UserFailure, send_descriptor};
use crate::capabilities::{CapabilitySet, number};
use crate::mounting::open_in_root;
use crate::plan::Plan;
use crate::seccomp;
use crate::sys;
use crate::users::{Identity, UserError, resolve};

/// Finds the payload's ids in the root file system, which this process stands in.
pub(super) fn find(plan: &Plan) -> Result<Identity, Failure> {
    resolve(&plan.user, &plan.additional_groups, database("etc/passwd"), database("etc/group")).map_err(|error| {
        Failure::new(FailureKind::User(match error {
            UserError::NoSuchUser(name) => UserFailure::User(name),
            UserError::NoSuchGroup(name) => UserFailure::Group(name),
            UserError::OutOfRange(text) => UserFailure::Range(text),
        }))
    })
}

/// One of the two files; empty when it is missing or no regular file.
fn database(path: &str) -> Box<dyn Read> {
    let open = || -> io::Result<File> {
        let root = crate::mounting::open_path(Path::new("/"))?;
        // Without O_NONBLOCK a pipe of that name would hold us up.
        let file = open_in_root(root.as_fd(), Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(file.into())
    };
    match open() {
        Ok(file) => Box::new(file),
        Err(_) => Box::new(io::empty()),
    }
}

/// Becomes the payload's identity for good.
pub(super) fn assume(plan: &Plan, identity: &Identity, control: BorrowedFd<'_>) -> Result<(), Failure> {
    for (resource, soft, hard) in &plan.resource_limits {
        sys::set_limit(*resource, *soft, *hard).map_err(|error| Failure::setup("set a resource limit", &error))?;
    }
    if let Some(kept) = plan.bounding {
        for capability in 0..64 {
            if kept.has(capability) {
                continue;
            }
            match sys::drop_bounding(capability) {
                Ok(()) => {}
                // Beyond the last capability that the kernel knows.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > number::LAST_KNOWN => break,
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => return Err(Failure::setup("drop a capability", &error)),
            }
        }
    }
    if plan.no_new_privileges {
        sys::no_new_privileges().map_err(|error| Failure::setup("forbid new privileges", &error))?;
    }
    if plan.filtered {
        let rights = plan.bounding.unwrap_or_default();
        install_filter(plan, rights, control)?;
    }
    set_ids(plan, identity)?;
    // Nothing is inherited: exec gives root what is in the bounding set and others nothing, as Docker's processes have it.
    if let (Some(kept), 0) = (plan.bounding, identity.user) {
        let current = rustix::thread::capabilities(None).map_or(0, |sets| sets.permitted.bits());
        let rights = current & kept.0;
        sys::set_all_capabilities(rights, rights, 0).map_err(|error| Failure::setup("set capabilities", &error))?;
    }
    Ok(())
}

fn install_filter(plan: &Plan, rights: CapabilitySet, control: BorrowedFd<'_>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::setup("install the system call filter", &error);
    let filter = seccomp::filter(rights, plan.hand_devices_over);
    if !plan.hand_devices_over {
        return sys::attach_seccomp(&filter).map_err(failed);
    }
    let listener = sys::attach_seccomp_with_listener(&filter).map_err(failed)?;
    send_descriptor(control, &Report::Listener, listener.as_fd()).map_err(failed)
}

fn set_ids(plan: &Plan, identity: &Identity) -> Result<(), Failure> {
    let ids = |action: String| move |_: rustix::io::Errno| Failure::new(FailureKind::Ids(action));
    let mut groups = vec![identity.group];
    groups.extend(identity.groups.iter().copied().filter(|group| *group != identity.group));
    if let Err(error) = sys::set_groups(&groups) {
        // With one id only, groups cannot be set; root's own is all that such an image needs.
        let forbidden = std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny");
        if plan.single_id.is_none() && !forbidden {
            return Err(if error.raw_os_error() == Some(libc::EINVAL) {
                Failure::new(FailureKind::Ids(format!("joining the groups {groups:?}")))
            } else {
                Failure::setup("set the supplementary groups", &error)
            });
        }
    }
    let group = Gid::from_raw(identity.group);
    set_thread_res_gid(group, group, group).map_err(ids(format!("becoming group {}", identity.group)))?;
    let user = Uid::from_raw(identity.user);
    set_thread_res_uid(user, user, user).map_err(ids(format!("becoming user {}", identity.user)))
}
