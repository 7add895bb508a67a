//! User and group names, resolved from the root file system's own `passwd` and `group` files.
//!
//! Both files are untrusted: they are read up to a bound and parsed line by line; a line that is not an entry is passed over, as the C
//! library and Docker do.

use std::io::{BufRead, Read};

/// How much of `/etc/passwd` or `/etc/group` is read. Beyond it, names are not looked for.
pub const FILE_LIMIT_BYTES: u64 = 16 << 20;

/// The largest id: 2³¹ − 1, as in Docker.
const LARGEST_ID: u32 = i32::MAX as u32;

/// Why a user specification has no ids.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserError {
    /// The user's name is in no entry.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    /// The group's name is in no entry.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    /// The number is no id.
    #[error("uids and gids must be in range 0-2147483647: {0}")]
    OutOfRange(String),
}

/// The identity of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user id.
    pub user: u32,
    /// The primary group id.
    pub group: u32,
    /// Supplementary group ids, those of the user's entries in the group file first.
    pub groups: Vec<u32>,
    /// The home folder of the user's entry, `/` without one.
    pub home: String,
}

struct PasswdEntry {
    name: Vec<u8>,
    user: u32,
    group: u32,
    home: String,
}

struct GroupEntry {
    name: Vec<u8>,
    group: u32,
    members: Vec<Vec<u8>>,
}

/// Resolves `user[:group]` (names or numbers; empty is root) and additional groups against the two files' content.
///
/// # Errors
/// A name without an entry, or a number that is no id.
pub fn resolve(
    specification: &str,
    additional: &[String],
    passwd: impl Read,
    group: impl Read,
) -> Result<Identity, UserError> {
    let (user_part, group_part) = match specification.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (specification, None),
    };
    let user_number = if user_part.is_empty() { Some(0) } else { number(user_part)? };
    let group_number = group_part.map(number).transpose()?.flatten();

    let mut identity = Identity { user: user_number.unwrap_or(0), group: 0, groups: Vec::new(), home: "/".to_owned() };
    let mut name = None;
    for entry in lines(passwd).filter_map(|line| passwd_entry(&line)) {
        let found = entry.name == user_part.as_bytes() || (user_number == Some(entry.user));
        if found {
            identity.user = entry.user;
            identity.group = entry.group;
            if !entry.home.is_empty() {
                identity.home = entry.home;
            }
            name = Some(entry.name);
            break;
        }
    }
    if name.is_none() && user_number.is_none() {
        return Err(UserError::NoSuchUser(user_part.to_owned()));
    }
    if let Some(number) = group_number {
        identity.group = number;
    }
    let named_group = group_part.filter(|_| group_number.is_none());
    let needs_groups = named_group.is_some() || (group_part.is_none() && name.is_some()) || !additional.is_empty();
    if !needs_groups {
        return Ok(identity);
    }
    let mut found_group = None;
    let mut more = vec![None; additional.len()];
    for (slot, wanted) in more.iter_mut().zip(additional) {
        *slot = number(wanted)?;
    }
    for entry in lines(group).filter_map(|line| group_entry(&line)) {
        if named_group.is_some_and(|wanted| entry.name == wanted.as_bytes()) && found_group.is_none() {
            found_group = Some(entry.group);
        }
        let member = name.as_ref().is_some_and(|name| entry.members.contains(name));
        if group_part.is_none() && member && identity.groups.len() < 65_536 {
            identity.groups.push(entry.group);
        }
        for (slot, wanted) in more.iter_mut().zip(additional) {
            if slot.is_none() && entry.name == wanted.as_bytes() {
                *slot = Some(entry.group);
            }
        }
    }
    if let Some(wanted) = named_group {
        identity.group = found_group.ok_or_else(|| UserError::NoSuchGroup(wanted.to_owned()))?;
    }
    for (slot, wanted) in more.into_iter().zip(additional) {
        let group = slot.ok_or_else(|| UserError::NoSuchGroup(wanted.clone()))?;
        if !identity.groups.contains(&group) {
            identity.groups.push(group);
        }
    }
    Ok(identity)
}

/// A decimal id, or `None` when the text is a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(value) if value <= LARGEST_ID => Ok(Some(value)),
        _ => Err(UserError::OutOfRange(text.to_owned())),
    }
}

/// The lines of a file, up to the bound; an error of the reader ends them.
fn lines(file: impl Read) -> impl Iterator<Item = Vec<u8>> {
    std::io::BufReader::new(file.take(FILE_LIMIT_BYTES)).split(b'\n').map_while(Result::ok)
}

fn passwd_entry(line: &[u8]) -> Option<PasswdEntry> {
    let mut fields = line.trim_ascii().split(|byte| *byte == b':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_vec();
    let _password = fields.next()?;
    let user = id(fields.next()?)?;
    let group = id(fields.next()?)?;
    let _comment = fields.next();
    let home = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
    Some(PasswdEntry { name, user, group, home })
}

fn group_entry(line: &[u8]) -> Option<GroupEntry> {
    let mut fields = line.trim_ascii().split(|byte| *byte == b':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_vec();
    let _password = fields.next()?;
    let group = id(fields.next()?)?;
    let members = fields
        .next()
        .unwrap_or_default()
        .split(|byte| *byte == b',')
        .filter(|member| !member.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    Some(GroupEntry { name, group, members })
}

fn id(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok().filter(|id| *id <= LARGEST_ID)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_files_are_survived(
            specification in "[a-z0-9:]{0,12}|.{0,8}",
            passwd in proptest::collection::vec(any::<u8>(), 0..300),
            group in "([a-z:,0-9\n]|\\PC){0,200}",
            more in proptest::collection::vec("[a-z0-9]{1,6}", 0..3),
        ) {
            if let Ok(identity) = resolve(&specification, &more, passwd.as_slice(), group.as_bytes()) {
                prop_assert!(identity.user <= LARGEST_ID && identity.group <= LARGEST_ID);
                prop_assert!(identity.groups.iter().all(|id| *id <= LARGEST_ID));
            }
        }

        #[test]
        fn entries_are_found_by_name_and_by_number(
            entries in proptest::collection::btree_map("[a-z][a-z0-9_-]{0,8}", (0..=LARGEST_ID, 0..=LARGEST_ID), 1..6),
            noise in proptest::collection::vec("[^\n]{0,20}", 0..4),
        ) {
            let mut passwd = String::new();
            for ((name, (user, group)), line) in entries.iter().zip(noise.iter().map(String::as_str).chain(std::iter::repeat(""))) {
                // Noise that happens to be an entry would come first.
                let line = line.replace(':', "");
                passwd.push_str(&format!("{line}\n{name}:x:{user}:{group}::/home/{name}:/bin/sh\n"));
            }
            for (name, (user, group)) in &entries {
                let found = resolve(name, &[], passwd.as_bytes(), std::io::empty()).unwrap();
                prop_assert_eq!((found.user, found.group), (*user, *group));
                let found = resolve(&format!("{user}:{group}"), &[], passwd.as_bytes(), std::io::empty()).unwrap();
                prop_assert_eq!((found.user, found.group), (*user, *group));
            }
        }
    }

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:App,,:/home/app:/bin/sh\n77:x:5:6::/seven:\n";
    const GROUP: &[u8] = b"root:x:0:\napp:x:1001:\nwheel:x:10:root,app\nvideo:x:44:app\n";

    fn ids(specification: &str) -> Result<Identity, UserError> {
        resolve(specification, &[], PASSWD, GROUP)
    }

    #[test]
    fn names_and_numbers() {
        let app = Identity { user: 1000, group: 1001, groups: vec![10, 44], home: "/home/app".into() };
        assert_eq!(ids("app").unwrap(), app);
        assert_eq!(ids("1000").unwrap(), app);
        assert_eq!(ids("app:video").unwrap(), Identity { group: 44, groups: vec![], ..app.clone() });
        assert_eq!(ids("app:7").unwrap(), Identity { group: 7, groups: vec![], ..app });
        assert_eq!(ids("").unwrap(), Identity { user: 0, group: 0, groups: vec![10], home: "/root".into() });
        assert_eq!(ids("4242").unwrap(), Identity { user: 4242, group: 0, groups: vec![], home: "/".into() });
        assert_eq!(ids(":video").unwrap().group, 44);
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(ids("nobody"), Err(UserError::NoSuchUser("nobody".into())));
        assert_eq!(ids("app:nobody"), Err(UserError::NoSuchGroup("nobody".into())));
        assert_eq!(ids("2147483648"), Err(UserError::OutOfRange("2147483648".into())));
        assert_eq!(ids("0:4294967296"), Err(UserError::OutOfRange("4294967296".into())));
    }

    #[test]
    fn additional_groups_are_added_once() {
        let wanted = ["video".to_owned(), "99".to_owned()];
        assert_eq!(resolve("app", &wanted, PASSWD, GROUP).unwrap().groups, [10, 44, 99]);
        assert!(resolve("app", &["none".to_owned()], PASSWD, GROUP).is_err());
    }

    #[test]
    fn an_endless_file_ends() {
        let endless = std::io::repeat(b'a');
        assert_eq!(
            resolve("app", &[], endless, GROUP),
            Err(UserError::NoSuchUser("app".into())),
            "sixteen mebibytes are read, no more"
        );
    }
}
