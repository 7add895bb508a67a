//! Users and passwords: an htpasswd file with bcrypt hashes.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use onetag_oci::Digest;

/// Verified pairs remembered, so that not every request of a client costs a bcrypt.
const REMEMBERED: usize = 1024;
/// Compared with when there is no such user, so that the answer takes as long. It is the hash of nothing anybody knows.
const NOBODY: &str = "$2b$10$CwTycUXWue0Thq9StjUM0uJ4mGJ8e3U4Yq5yHk0lYbqk4W0t2n1cC";

/// The htpasswd file and what was verified against it.
pub(crate) struct Passwords {
    path: PathBuf,
    state: Mutex<State>,
    /// Hashing is expensive on purpose; more of it at once would be a way to keep the registry busy.
    hashing: tokio::sync::Semaphore,
}

#[derive(Default)]
struct State {
    modified: Option<SystemTime>,
    hashes: HashMap<String, String>,
    verified: HashMap<Digest, String>,
}

impl Passwords {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or has a line that is no bcrypt entry.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let passwords = Passwords { path, state: Mutex::default(), hashing: tokio::sync::Semaphore::new(2) };
        passwords.refresh()?;
        Ok(passwords)
    }

    /// Reads the file again when it has changed.
    fn refresh(&self) -> io::Result<()> {
        let modified = fs::metadata(&self.path)?.modified()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.modified == Some(modified) {
            return Ok(());
        }
        let hashes = parse(&fs::read_to_string(&self.path)?)?;
        *state = State { modified: Some(modified), hashes, verified: HashMap::new() };
        Ok(())
    }

    /// The user that an `Authorization` header proves to be, if it does.
    pub(crate) async fn user(&self, header: Option<&HeaderValue>) -> Option<String> {
        // A file that is being replaced or broken leaves what was read before in force.
        let _ = self.refresh();
        let (user, password) = basic(header?.to_str().ok()?)?;
        let (known, hash, key) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let hash = state.hashes.get(&user);
            let key = Digest::sha256(format!("{user}\0{password}\0{}", hash.map_or("", String::as_str)).as_bytes());
            if let Some(user) = state.verified.get(&key) {
                return Some(user.clone());
            }
            (hash.is_some(), hash.map_or(NOBODY, String::as_str).to_owned(), key)
        };
        let _permit = self.hashing.acquire().await.ok()?;
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        if !(known && verified.unwrap_or(false)) {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.verified.len() >= REMEMBERED {
            state.verified.clear();
        }
        state.verified.insert(key, user.clone());
        Some(user)
    }
}

fn parse(text: &str) -> io::Result<HashMap<String, String>> {
    let mut hashes = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = line.split_once(':').filter(|(user, hash)| {
            let bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
            !user.is_empty() && bcrypt && hash.len() == 60
        });
        let Some((user, hash)) = entry else {
            let problem = format!("line {}: not user:bcrypt-hash (htpasswd -B makes them)", index + 1);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        };
        hashes.insert(user.to_owned(), hash.to_owned());
    }
    Ok(hashes)
}

fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files() {
        let hash = bcrypt::hash("secret", 4).expect("hash");
        let parsed = parse(&format!("# users\n\nann:{hash}\n")).expect("parses");
        assert_eq!(parsed.get("ann"), Some(&hash));
        assert!(parse("ann:$apr1$x$y").is_err());
        assert!(parse("ann").is_err());
        assert!(parse(&format!(":{hash}")).is_err());
    }

    #[tokio::test]
    async fn users_are_verified_and_files_read_again() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("htpasswd");
        fs::write(&path, format!("ann:{}\n", bcrypt::hash("secret", 4).expect("hash"))).expect("written");
        let passwords = Passwords::open(path.clone()).expect("opened");
        let header = |text: &str| HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).expect("header");
        for _ in 0..2 {
            assert_eq!(passwords.user(Some(&header("ann:secret"))).await.as_deref(), Some("ann"));
        }
        for wrong in ["ann:wrong", "bob:secret", "ann", ":", ""] {
            assert_eq!(passwords.user(Some(&header(wrong))).await, None, "{wrong}");
        }
        assert_eq!(passwords.user(None).await, None);
        fs::write(&path, "").expect("written");
        let file = fs::File::options().write(true).open(&path).expect("file");
        file.set_modified(SystemTime::now() + std::time::Duration::from_secs(5)).expect("modified");
        assert_eq!(passwords.user(Some(&header("ann:secret"))).await, None);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = (basic(&text), parse(&text));
        }
    }
}
