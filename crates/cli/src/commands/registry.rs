//! `onetag registry`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use onetag_registry::server::{Options, Server};

use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Serve a registry
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Serve an OCI distribution registry until interrupted
    Serve(ServeArguments),
}

/// Serve an OCI distribution registry until interrupted
#[derive(Args, Debug)]
pub struct ServeArguments {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    addr: String,
    /// The folder of its content
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Listen where others can reach it, without TLS and password
    #[arg(long)]
    allow_unprotected: bool,
}

impl RegistryCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> CommandResult {
        match self {
            Self::Serve(arguments) => arguments.run(context),
        }
    }
}

impl ServeArguments {
    fn run(&self, context: &Context) -> CommandResult {
        let root = match &self.root {
            Some(root) => root.clone(),
            None => context.engine()?.options().root.join("registry"),
        };
        let mut options = Options::new(root);
        options.address = self.address()?;
        options.allow_unprotected = self.allow_unprotected;
        let server = Server::bind(&options)?;
        output::line(format!("listening on {}", server.local_address()))?;
        Ok(server.run_until_signal()?)
    }

    /// `:5000` and `5000` mean the loopback interface.
    fn address(&self) -> CommandResult<SocketAddr> {
        let text = match self.addr.as_str() {
            port if port.parse::<u16>().is_ok() => format!("127.0.0.1:{port}"),
            port if port.starts_with(':') => format!("127.0.0.1{port}"),
            address => address.to_owned(),
        };
        let mut addresses = text
            .to_socket_addrs()
            .map_err(|error| CommandError::from(error).context(format!("invalid address {:?}", self.addr)))?;
        addresses.next().ok_or_else(|| CommandError::new(format!("invalid address {:?}", self.addr)))
    }
}
