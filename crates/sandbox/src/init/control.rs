//! The messages between the init stage and the process that started it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// What init tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A terminal's descriptor comes with this message.
    Terminal,
    /// The receiving end of the payload's filter comes with this message.
    Listener,
    /// The payload is executing.
    Started,
    /// The payload could not be started; nothing is left running.
    Failed(Failure),
    /// The payload exited; nothing is left running.
    Exited(i32),
    /// The payload was ended by a signal; nothing is left running.
    Signaled(i32),
}

/// Why the payload could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub kind: FailureKind,
    /// The kernel's error number, 0 without one.
    pub errno: i32,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// The action, with the path it was about.
    Setup(String),
    /// Mounting proc was refused.
    ProcDenied,
    /// An action that needs more ids than there are.
    Ids(String),
    /// The user specification.
    User(UserFailure),
    /// No such program in the PATH.
    NotFound,
    /// No such file.
    NoSuchFile,
    /// Not allowed to be executed.
    NotExecutable,
    /// The loader or script interpreter is missing.
    MissingLoader(String),
    /// An ELF file of this class and machine that the kernel does not run.
    Foreign { machine: u16, class: u8 },
    /// Neither ELF nor script.
    UnknownFormat,
    /// Any other refusal.
    Execute,
    /// The specification cannot be carried out.
    Invalid(String),
}

/// [`crate::users::UserError`], as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UserFailure {
    User(String),
    Group(String),
    Range(String),
}

impl Failure {
    pub(crate) fn new(kind: FailureKind) -> Self {
        Self { kind, errno: 0 }
    }

    pub(crate) fn setup(action: &str, error: &io::Error) -> Self {
        Self { kind: FailureKind::Setup(action.to_owned()), errno: error.raw_os_error().unwrap_or(0) }
    }

    /// The kernel's error.
    pub(crate) fn source(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Setup { action, source } => Self::setup(&action, &source),
            other => Self::new(FailureKind::Invalid(other.to_string())),
        }
    }
}

/// Sends a report; the other side may be gone, which the caller notices otherwise.
pub(crate) fn send(control: BorrowedFd<'_>, report: &Report) {
    if let Ok(bytes) = serde_json::to_vec(report) {
        let _ = rustix::io::retry_on_intr(|| rustix::net::send(control, &bytes, SendFlags::NOSIGNAL));
    }
}

/// Sends a report with a descriptor.
pub(crate) fn send_descriptor(control: BorrowedFd<'_>, report: &Report, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let bytes = serde_json::to_vec(report).map_err(io::Error::other)?;
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(control, &[io::IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the next report, `None` when the other side is gone.
pub(crate) fn receive(control: BorrowedFd<'_>) -> io::Result<Option<(Report, Option<OwnedFd>)>> {
    let mut buffer = [0u8; 16 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut parts = [io::IoSliceMut::new(&mut buffer)];
        match recvmsg(control, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            result => break result?,
        }
    };
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut descriptor = None;
    for received in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = received {
            descriptor = rights.last().or(descriptor);
        }
    }
    let report = serde_json::from_slice(&buffer[..message.bytes]).map_err(io::Error::other)?;
    Ok(Some((report, descriptor)))
}

/// Whether the process that started us is gone or has hung up.
pub(crate) fn is_closed(control: BorrowedFd<'_>) -> bool {
    let mut entry = [PollFd::new(&control, PollFlags::IN | PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut entry, Some(&now)), Ok(count) if count > 0)
}
