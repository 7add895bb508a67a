//! The embedded registry inside the test's own process.

use std::net::SocketAddr;
use std::path::Path;

use onetag_registry::server::{Options, Running, Server};
use tempfile::TempDir;

/// A registry on a free loopback port with an empty folder; ended with the value.
pub struct InProcess {
    // Before the folder, which it writes to until it has ended.
    server: Running,
    folder: TempDir,
}

impl InProcess {
    /// Starts one.
    ///
    /// # Panics
    /// When no port is free or no folder can be made.
    pub fn start() -> InProcess {
        InProcess::with(|_| {})
    }

    /// Starts one with other options than the defaults.
    ///
    /// # Panics
    /// As [`InProcess::start`].
    pub fn with(adjust: impl FnOnce(&mut Options)) -> InProcess {
        let folder = TempDir::with_prefix("onetag-registry-").expect("a temporary folder");
        let mut options = Options::new(folder.path());
        options.address = SocketAddr::from(([127, 0, 0, 1], 0));
        adjust(&mut options);
        let server = Server::bind(&options).expect("a free port").spawn();
        InProcess { server, folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `host:port`, the first part of references to it.
    pub fn name(&self) -> String {
        self.address().to_string()
    }

    /// The folder of its content.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }
}
