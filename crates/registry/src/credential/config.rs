//! Docker's `config.json` and podman's `auth.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::helper::{self, HelperRunner};
use super::{Credential, CredentialError, CredentialProvider};

/// Largest file read, in bytes.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;
/// Docker Hub's key in `auths` and for helpers.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What of the files matters here; everything else is kept when writing.
#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credsStore", default)]
    default_helper: String,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(rename = "identitytoken", default)]
    identity_token: String,
    #[serde(rename = "registrytoken", default)]
    registry_token: String,
}

impl Auth {
    fn credential(&self) -> Option<Credential> {
        if !self.identity_token.is_empty() {
            return Some(Credential::IdentityToken(self.identity_token.clone()));
        }
        if !self.registry_token.is_empty() {
            return Some(Credential::RegistryToken(self.registry_token.clone()));
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((username, password)) = decoded.as_deref().and_then(|decoded| decoded.split_once(':')) {
            // Docker pads with zero bytes.
            let password = password.trim_matches('\0').to_owned();
            return Some(Credential::Basic { username: username.to_owned(), password });
        }
        (!self.username.is_empty())
            .then(|| Credential::Basic { username: self.username.clone(), password: self.password.clone() })
    }
}

/// Credentials from files, in the order given: the first that knows a registry decides.
#[derive(Clone)]
pub struct ConfigFiles {
    paths: Vec<PathBuf>,
    helpers: Arc<dyn HelperRunner>,
}

impl ConfigFiles {
    /// Reads from these files, which need not exist.
    pub fn new(paths: Vec<PathBuf>, helpers: Arc<dyn HelperRunner>) -> Self {
        ConfigFiles { paths, helpers }
    }

    /// Stores credentials in the first file, or with the helper that it names for the registry.
    ///
    /// # Errors
    /// When the file or the helper cannot be used.
    pub fn store(&self, registry: &str, credential: &Credential) -> Result<(), CredentialError> {
        let Some(path) = self.paths.first() else { return Ok(()) };
        let registry = normalize_registry(registry);
        let key = key_of(&registry);
        let mut document = read_document(path)?;
        let file = parse_file(path, &document)?;
        let mut entry = Map::new();
        if let Some(name) = helper_for(&file, &registry) {
            helper::store(self.helpers.as_ref(), name, key, credential)?;
        } else {
            let (name, value) = match credential {
                Credential::Basic { username, password } => ("auth", STANDARD.encode(format!("{username}:{password}"))),
                Credential::IdentityToken(token) => ("identitytoken", token.clone()),
                Credential::RegistryToken(token) => ("registrytoken", token.clone()),
            };
            entry.insert(name.into(), value.into());
        }
        edit_object(&mut document, "auths", |auths| auths.insert(key.to_owned(), Value::Object(entry)));
        write_document(path, &document)
    }

    /// Removes the credentials of a registry from the first file and its helper; `false` when there were none.
    ///
    /// # Errors
    /// When the file or the helper cannot be used.
    pub fn erase(&self, registry: &str) -> Result<bool, CredentialError> {
        let Some(path) = self.paths.first() else { return Ok(false) };
        let registry = normalize_registry(registry);
        let key = key_of(&registry);
        let mut document = read_document(path)?;
        let file = parse_file(path, &document)?;
        let mut erased = false;
        if let Some(name) = helper_for(&file, &registry) {
            let known = helper::get(self.helpers.as_ref(), name, key)?.is_some();
            if known {
                helper::erase(self.helpers.as_ref(), name, key)?;
            }
            erased |= known;
        }
        let listed = edit_object(&mut document, "auths", |auths| {
            let before = auths.len();
            auths.retain(|key, _| normalize_registry(key) != registry);
            auths.len() != before
        });
        if listed {
            write_document(path, &document)?;
        }
        Ok(erased || listed)
    }
}

impl CredentialProvider for ConfigFiles {
    fn credential(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let registry = normalize_registry(registry);
        for path in &self.paths {
            let document = read_document(path)?;
            let file = parse_file(path, &document)?;
            if let Some(name) = helper_for(&file, &registry)
                && let Some(credential) = helper::get(self.helpers.as_ref(), name, key_of(&registry))?
            {
                return Ok(Some(credential));
            }
            let exact = file.auths.get(&registry);
            let same = || file.auths.iter().find(|(key, _)| normalize_registry(key) == registry).map(|(_, auth)| auth);
            if let Some(credential) = exact.or_else(same).and_then(Auth::credential) {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }
}

/// The host that a key of `auths` is about: scheme and path removed, Docker Hub's several names made one.
pub fn normalize_registry(key: &str) -> String {
    let host = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = host.split('/').next().unwrap_or(host);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

fn key_of(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB_KEY } else { registry }
}

fn helper_for<'a>(file: &'a File, registry: &str) -> Option<&'a str> {
    let own = file.helpers.iter().find(|(key, _)| normalize_registry(key) == registry).map(|(_, name)| name);
    own.or(Some(&file.default_helper)).map(String::as_str).filter(|name| !name.is_empty())
}

fn read_document(path: &Path) -> Result<Map<String, Value>, CredentialError> {
    let read = (|| {
        let file = fs::File::open(path)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, FILE_LIMIT), &mut bytes)?;
        Ok(bytes)
    })();
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if is_absent(&error) => Vec::new(),
        Err(source) => return Err(CredentialError::Read { path: path.to_owned(), source }),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(&bytes).map_err(|source| CredentialError::Malformed { path: path.to_owned(), source })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn parse_file(path: &Path, document: &Map<String, Value>) -> Result<File, CredentialError> {
    File::deserialize(document).map_err(|source| CredentialError::Malformed { path: path.to_owned(), source })
}

/// Changes a member that is an object, or becomes one.
fn edit_object<T>(document: &mut Map<String, Value>, name: &str, edit: impl FnOnce(&mut Map<String, Value>) -> T) -> T {
    let slot = document.entry(name).or_insert(Value::Null);
    let mut object = match slot.take() {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    let result = edit(&mut object);
    *slot = Value::Object(object);
    result
}

/// Writes beside the file and renames, so that readers never see half of it; only its owner may read it.
fn write_document(path: &Path, document: &Map<String, Value>) -> Result<(), CredentialError> {
    let failed = |source| CredentialError::Write { path: path.to_owned(), source };
    // A symbolic link, as dotfile managers make, stays one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let temporary = folder.join(format!(".{}-{:x}", std::process::id(), rand::random::<u64>()));
    let bytes = onetag_oci::go_json_indent(document, "\t");
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}
