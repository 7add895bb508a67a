//! Names of users and groups in the files of an image. Pure.

/// The user and primary group ids of a name in `/etc/passwd`.
pub(super) fn user(passwd: &[u8], name: &str) -> Option<(u32, u32)> {
    let fields = entry(passwd, name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// The id of a name in `/etc/group`.
pub(super) fn group(group: &[u8], name: &str) -> Option<u32> {
    entry(group, name)?.get(2)?.parse().ok()
}

fn entry(file: &[u8], name: &str) -> Option<Vec<String>> {
    file.split(|&byte| byte == b'\n').find_map(|line| {
        let line = String::from_utf8_lossy(line);
        let fields: Vec<String> = line.trim().split(':').map(str::to_owned).collect();
        (fields[0] == name).then_some(fields)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        let passwd = b"root:x:0:0::/root:/bin/sh\n# comment\nbroken\napp:x:1000:1001::/:/bin/false\n";
        assert_eq!(user(passwd, "app"), Some((1000, 1001)));
        assert_eq!((user(passwd, "broken"), user(passwd, "nobody")), (None, None));
        assert_eq!(group(b"wheel:x:10:\nstaff:x:50:a,b", "staff"), Some(50));
    }
}
