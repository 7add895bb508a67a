//! The system calls that have no safe wrapper: the only `unsafe` code of the workspace.
//!
//! Every function here is safe to call; what must hold for the kernel's sake is checked or arranged inside.

mod clone;
mod descriptors;
mod kernel;
mod notify;
mod signals;
mod start;

pub(crate) use clone::{Child, CloneFlags, Launch, launch};
pub(crate) use descriptors::{at_least, close_from, inherited};
pub(crate) use kernel::{
    Forked, MountAttributes, attach_seccomp, drop_bounding, execute, exit_now, fork, kill_all, loopback_up,
    make_controlling_terminal, mount_attributes, no_new_privileges, set_all_capabilities, set_groups, set_limit,
    set_window_size, unshare,
};
pub(crate) use notify::{Notification, Notifications, attach_seccomp_with_listener};
pub(crate) use signals::{SignalDescriptor, block_all, reset_for_exec};
pub(crate) use start::run_at_start;

use std::io;

/// Turns a C return value into a result.
fn check(value: libc::c_int) -> io::Result<libc::c_int> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Turns a raw system call's return value into a result.
fn check_long(value: libc::c_long) -> io::Result<libc::c_long> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
