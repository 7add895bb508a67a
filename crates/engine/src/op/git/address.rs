//! Addresses and references: what git could misunderstand, and what nobody is to see.

use onetag_dockerfile::git::percent_decode;

/// Whether git takes the address for nothing else: no option, no program that would be asked for it.
pub(super) fn is_address(remote: &str) -> bool {
    let after_word = remote.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    !remote.is_empty() && !remote.starts_with('-') && is_printable(remote) && !after_word.starts_with("::")
}

pub(super) fn is_reference(text: &str) -> bool {
    !text.starts_with(['-', '+', '/'])
        && !text.contains(['^', '~', ':', '?', '*', '[', '\\'])
        && !text.contains("..")
        && !text.contains("@{")
        && is_printable(text)
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Whether a text is the whole name of an object.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn is_sha256(commit: &str) -> bool {
    commit.len() == 64
}

/// An address without what is secret in it, and for HTTP that as `user:password`. SSH asks its agent, and who sends a
/// password to `git://` sends it nowhere.
pub(super) fn without_login(remote: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = remote.split_once("://") else { return (remote.to_owned(), None) };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some((login, host)) = rest[..end].rsplit_once('@') else { return (remote.to_owned(), None) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let path = &rest[end..];
    match scheme {
        "http" | "https" => {
            let login = format!("{}:{}", percent_decode(user), percent_decode(password));
            (format!("{scheme}://{host}{path}"), Some(login))
        }
        "ssh" => (format!("{scheme}://{user}@{host}{path}"), None),
        _ => (format!("{scheme}://{host}{path}"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_references_are_neither_options_nor_programs() {
        for address in ["git@host:a", "http://[::1]:80/a.git", "ssh://git@[::1]/a", "git://host/a"] {
            assert!(is_address(address), "{address}");
        }
        for address in ["", "-a", "--upload-pack=x", "ext::sh -c x", "ext::x", "a b", "git://h/\n"] {
            assert!(!is_address(address), "{address}");
        }
        for reference in ["main", "v1.0", "refs/heads/a-b", "feature/x", ""] {
            assert!(is_reference(reference), "{reference}");
        }
        for reference in ["-a", "--upload-pack=x", "+a", "a:b", "a..b", "@{1}", "a b", "a^"] {
            assert!(!is_reference(reference), "{reference}");
        }
    }

    #[test]
    fn logins_leave_the_address() {
        let (address, login) = without_login("https://me:a%40b@host:81/x@y.git");
        assert_eq!((address.as_str(), login.as_deref()), ("https://host:81/x@y.git", Some("me:a@b")));
        assert_eq!(without_login("https://token@host/x").1.as_deref(), Some("token:"));
        assert_eq!(without_login("ssh://git@host/x"), ("ssh://git@host/x".to_owned(), None));
        assert_eq!(without_login("ssh://git:pw@host:22/x"), ("ssh://git@host:22/x".to_owned(), None));
        assert_eq!(without_login("git://me:pw@host/x"), ("git://host/x".to_owned(), None));
        assert_eq!(without_login("git@host:x"), ("git@host:x".to_owned(), None));
        assert_eq!(without_login("https://host/x@y"), ("https://host/x@y".to_owned(), None));
    }
}
