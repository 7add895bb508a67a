//! `onetag login` and `onetag logout`.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;

use clap::Args;
use onetag_registry::credential::{CredentialError, normalize_registry};
use onetag_registry::{Credential, CredentialProvider};

use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;

/// The registry that is meant where none is named.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Keep credentials of a registry
#[derive(Args, Debug)]
pub struct LoginArguments {
    /// The registry; Docker Hub where none is named
    #[arg(value_name = "SERVER")]
    server: Option<String>,
    /// Password or Personal Access Token; better given with --password-stdin
    #[arg(long, short, value_name = "PASSWORD")]
    password: Option<String>,
    /// Take the password from stdin
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// User name
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,
}

/// Forget credentials of a registry
#[derive(Args, Debug)]
pub struct LogoutArguments {
    /// The registry; Docker Hub where none is named
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl LoginArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let server = self.server.as_deref().unwrap_or(DEFAULT_REGISTRY);
        let username = match &self.username {
            Some(username) => username.clone(),
            None if self.password_stdin => {
                return Err(CommandError::new("must provide --username with --password-stdin"));
            }
            None => ask("Username: ", true)?,
        };
        let password = if self.password_stdin {
            let mut password = String::new();
            std::io::stdin().read_to_string(&mut password)?;
            password.trim_end_matches(['\r', '\n']).to_owned()
        } else if let Some(password) = &self.password {
            output::note("warning: a password on the command line is seen by others; use --password-stdin");
            password.clone()
        } else {
            ask("Password: ", false)?
        };
        if username.is_empty() || password.is_empty() {
            return Err(CommandError::new("user name and password are both needed"));
        }
        let server = normalize_registry(server);
        let engine = context.engine()?;
        let credential = Credential::Basic { username, password };
        // What does not work is not kept, and what was kept before stays.
        let client = engine.client_with(Arc::new(Given(credential.clone())))?;
        let checked = client.check_access(&server).map_err(super::registry_error);
        checked.map_err(|error| error.context(format!("login to {server} failed")))?;
        engine.credentials().store(&server, &credential)?;
        Ok(output::line("Login Succeeded")?)
    }
}

/// The credentials that were given, for the registry that they were given for: this client asks no other.
struct Given(Credential);

impl CredentialProvider for Given {
    fn credential(&self, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(Some(self.0.clone()))
    }
}

impl LogoutArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let server = normalize_registry(self.server.as_deref().unwrap_or(DEFAULT_REGISTRY));
        match context.engine()?.credentials().erase(&server)? {
            true => Ok(output::line(format!("Removing login credentials for {server}"))?),
            false => Ok(output::line(format!("Not logged in to {server}"))?),
        }
    }
}

/// Asks on the terminal; without `echo` what is typed is not shown.
fn ask(prompt: &str, echo: bool) -> CommandResult<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(CommandError::new("cannot ask: standard input is not a terminal")
            .with_hint("onetag login --username NAME --password-stdin < FILE"));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    let before = rustix::termios::tcgetattr(&stdin).map_err(std::io::Error::from)?;
    if !echo {
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &silent)
            .map_err(std::io::Error::from)?;
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if !echo {
        let restored = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &before);
        restored.map_err(std::io::Error::from)?;
        writeln!(stderr)?;
    }
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
