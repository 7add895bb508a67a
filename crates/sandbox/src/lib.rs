//! Processes in an image's root file system: namespaces, mounts, ids, capabilities, system call filters and emulation.
//!
//! A program that uses this crate starts with [`init_if_requested`]: the sandbox executes the program again, under another name, as the init
//! of each container. An ordinary user's program then calls [`enter_user_namespace`], before it has threads.
//!
//! [`Sandbox::spawn`] starts a [`ProcessSpec`] and gives a [`Process`]. The init makes namespaces' content (merged root, private `/proc`,
//! `/dev`, `/sys`), moves into it, drops what a container must not have, and executes. It watches its starter through a socket: when the
//! starter ends, however it ends, the container ends and leaves nothing behind.
//!
//! Programs of a foreign platform run under an emulator that is registered in a binfmt_misc of their own user namespace; the host's stays
//! as it is.
#![deny(unsafe_code)]

mod capabilities;
mod control_group;
mod device_nodes;
mod emulation;
mod error;
mod host;
mod init;
mod limits;
mod mounting;
mod network;
mod plan;
mod process;
mod seccomp;
mod spec;
#[allow(unsafe_code)]
mod sys;
mod user_namespace;
pub mod users;

pub use emulation::{BinfmtRow, EmulatorChoice, How, PlatformSupport, ProbeMemory, Registered};
pub use error::{Error, Result};
pub use host::{Finding, HostReport, Verdict, examine};
pub use mounting::mount_detached;
pub use network::{Network, NetworkHandle};
pub use process::{ExitStatus, Process, Sandbox, SandboxOptions};
pub use spec::{
    CapabilityChanges, Limits, Mount, MountKind, NetworkMode, ProcessSpec, ResourceLimit, RootFs, Security, Stdio,
};
pub use user_namespace::{Entered, enter_user_namespace, single_id_hint};

/// Runs the stage that this program was executed again for, if it was; it then never returns. MUST be the first statement of `main`.
pub fn init_if_requested() {
    use std::os::unix::ffi::OsStrExt;
    sys::run_at_start();
    let Some(name) = std::env::args_os().next() else { return };
    match name.as_bytes() {
        name if name == init::INIT_NAME.as_bytes() => init::run(),
        name if name == emulation::TABLE_NAME.as_bytes() => emulation::run_table_stage(),
        name if name == network::NETWORK_NAME.as_bytes() => network::run_network_stage(),
        _ => {}
    }
}
