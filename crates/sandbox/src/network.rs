//! The network of build steps: a namespace of their own behind a user-mode network stack.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A network namespace that processes join.
#[derive(Clone, Debug)]
pub struct NetworkHandle {
    namespace: Arc<OwnedFd>,
}

impl NetworkHandle {
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

/// A network of a build's own; it ends when this is dropped.
#[derive(Debug)]
pub struct Network {
    handle: NetworkHandle,
}

impl Network {
    /// What processes join it by.
    #[must_use]
    pub fn handle(&self) -> NetworkHandle {
        self.handle.clone()
    }
}
