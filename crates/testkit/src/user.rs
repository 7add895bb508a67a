//! The two users that everything is tested as: root, and an ordinary user with subordinate ids.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The user that `scripts/ci-setup` creates.
const TEST_USER: &str = "onetag-test";

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    uid: u32,
    gid: u32,
    switch: bool,
}

impl User {
    /// Whoever runs the tests.
    pub fn current() -> User {
        let (uid, gid) = fs::metadata("/proc/self").map(|metadata| (metadata.uid(), metadata.gid())).unwrap_or((0, 0));
        let name = passwd_entries().find(|entry| entry.1 == uid).map_or_else(|| uid.to_string(), |entry| entry.0);
        User { name, uid, gid, switch: false }
    }

    /// Root.
    ///
    /// # Errors
    /// The tests do not run as root.
    pub fn root() -> Result<User, String> {
        let user = User::current();
        if user.uid == 0 { Ok(user) } else { Err("the tests do not run as root".to_owned()) }
    }

    /// An ordinary user with subordinate ids: whoever runs the tests, or the test user where that is root.
    ///
    /// # Errors
    /// There is no such user, or it has no subordinate ids.
    pub fn ordinary() -> Result<User, String> {
        let current = User::current();
        let user = if current.uid == 0 {
            let (name, uid, gid) = passwd_entries()
                .find(|entry| entry.0 == TEST_USER)
                .ok_or_else(|| format!("no user {TEST_USER}: scripts/ci-setup creates it"))?;
            User { name, uid, gid, switch: true }
        } else {
            current
        };
        for file in ["/etc/subuid", "/etc/subgid"] {
            if !user.has_range(Path::new(file)) {
                return Err(format!("user {} has no range in {file}", user.name));
            }
        }
        Ok(user)
    }

    /// A user without an entry anywhere: no name, no home, no subordinate ids.
    ///
    /// # Errors
    /// Only root may become such a user.
    pub fn without_ranges() -> Result<User, String> {
        User::root()?;
        Ok(User { name: "54321".to_owned(), uid: 54_321, gid: 54_321, switch: true })
    }

    fn has_range(&self, file: &Path) -> bool {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split(':').next())
            .any(|owner| owner == self.name || owner == self.uid.to_string())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is root.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Makes a command run as this user.
    pub fn apply(&self, command: &mut Command) {
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives a file or folder (not what is in it) to this user.
    ///
    /// # Panics
    /// When the tests may not.
    pub fn own(&self, path: &Path) {
        if self.switch {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).expect("root may give files away");
        }
    }

    /// Gives a whole tree to this user; symbolic links are not followed.
    ///
    /// # Panics
    /// As [`User::own`].
    pub fn own_tree(&self, path: &Path) {
        if !self.switch {
            return;
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid)).expect("root may give files away");
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            for entry in fs::read_dir(path).expect("a readable folder").flatten() {
                self.own_tree(&entry.path());
            }
        }
    }
}

/// Name, uid and gid of every entry of /etc/passwd.
fn passwd_entries() -> impl Iterator<Item = (String, u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entries: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            Some((fields.first()?.to_string(), fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
        })
        .collect();
    entries.into_iter()
}
