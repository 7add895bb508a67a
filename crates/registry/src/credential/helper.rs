//! Credential helpers: programs `docker-credential-<name>` that keep secrets elsewhere.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::{Credential, CredentialError};

/// Bytes read of a helper's answer.
const ANSWER_LIMIT: u64 = 1024 * 1024;

/// Runs credential helpers.
pub trait HelperRunner: Send + Sync {
    /// Runs `docker-credential-<name> <action>` with the input and gives what it printed, and whether it succeeded.
    ///
    /// # Errors
    /// When it cannot be run.
    fn run(&self, name: &str, action: &str, input: &[u8]) -> Result<(bool, Vec<u8>), CredentialError>;
}

/// Runs helpers as processes found in folders.
#[derive(Debug, Clone, Default)]
pub struct ProcessHelpers {
    /// Folders to look in, in order: what PATH says.
    pub folders: Vec<PathBuf>,
    /// Whole environment of the helpers.
    pub environment: Vec<(OsString, OsString)>,
}

impl HelperRunner for ProcessHelpers {
    fn run(&self, name: &str, action: &str, input: &[u8]) -> Result<(bool, Vec<u8>), CredentialError> {
        let program = program_of(name);
        let failed = |source| CredentialError::Helper { program: program.clone(), source };
        // A name with a slash would be a path of the configuration's choosing.
        let found = (!name.contains('/') && !name.is_empty())
            .then(|| self.folders.iter().map(|folder| folder.join(&program)).find(|path| path.is_file()))
            .flatten();
        let Some(path) = found else { return Err(failed(std::io::ErrorKind::NotFound.into())) };
        let mut child = Command::new(path)
            .arg(action)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input still may answer.
            let _ = stdin.write_all(input);
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(ANSWER_LIMIT).read_to_end(&mut answer).map_err(failed)?;
        }
        let status = child.wait().map_err(failed)?;
        Ok((status.success(), answer))
    }
}

/// What helpers speak.
#[derive(Serialize, Deserialize)]
struct HelperRecord {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// Asks a helper for the credentials of a server; `None` when it has none.
pub(super) fn get(runner: &dyn HelperRunner, name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    let (success, answer) = runner.run(name, "get", server.as_bytes())?;
    if !success {
        let message = String::from_utf8_lossy(&answer).trim().to_owned();
        if message.is_empty() || message.to_ascii_lowercase().contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(name, message));
    }
    let Ok(record) = serde_json::from_slice::<HelperRecord>(&answer) else {
        return Err(failed(name, "it printed no credentials".to_owned()));
    };
    Ok(match (record.username.as_str(), record.secret) {
        (_, secret) if secret.is_empty() => None,
        ("<token>", secret) => Some(Credential::IdentityToken(secret)),
        (username, password) => Some(Credential::Basic { username: username.to_owned(), password }),
    })
}

/// Gives credentials of a server to a helper to keep.
pub(super) fn store(
    runner: &dyn HelperRunner,
    name: &str,
    server: &str,
    credential: &Credential,
) -> Result<(), CredentialError> {
    let (username, secret) = match credential {
        Credential::Basic { username, password } => (username.clone(), password.clone()),
        Credential::IdentityToken(token) | Credential::RegistryToken(token) => ("<token>".to_owned(), token.clone()),
    };
    let record = HelperRecord { server_url: server.to_owned(), username, secret };
    expect(runner, name, "store", &onetag_oci::go_json(&record))
}

/// Makes a helper forget a server.
pub(super) fn erase(runner: &dyn HelperRunner, name: &str, server: &str) -> Result<(), CredentialError> {
    expect(runner, name, "erase", server.as_bytes())
}

fn expect(runner: &dyn HelperRunner, name: &str, action: &str, input: &[u8]) -> Result<(), CredentialError> {
    match runner.run(name, action, input)? {
        (true, _) => Ok(()),
        (false, answer) => Err(failed(name, String::from_utf8_lossy(&answer).trim().to_owned())),
    }
}

fn failed(name: &str, message: String) -> CredentialError {
    let message = message.chars().filter(|c| !c.is_control()).take(400).collect();
    CredentialError::HelperFailed { program: program_of(name), message }
}

fn program_of(name: &str) -> String {
    format!("docker-credential-{name}")
}
