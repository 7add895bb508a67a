//! Texts without the users and passwords of the URLs in them.

/// What stands where a user and a password stood.
const HIDDEN: &str = "xxxxx";

/// The text with the user info of every URL in it hidden: `https://xxxxx@host/path`. The user of an SSH address is no
/// secret and stays, unless a password follows it.
///
/// ```
/// use onetag_dockerfile::redact::user_info;
/// assert_eq!(user_info("ADD https://me:secret@host/a b"), "ADD https://xxxxx@host/a b");
/// assert_eq!(user_info("ssh://git@host/a.git"), "ssh://git@host/a.git");
/// ```
pub fn user_info(text: &str) -> String {
    hide(text, |_| HIDDEN.to_owned())
}

/// As [`user_info`], every character hidden by itself, so that what follows keeps its column.
pub fn user_info_in_place(text: &str) -> String {
    hide(text, |user| "x".repeat(user.chars().count()))
}

fn hide(text: &str, hidden: impl Fn(&str) -> String) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find("://") {
        let (before, after) = rest.split_at(found);
        let scheme = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.')).next();
        let is_end = |c: char| matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>') || c.is_whitespace();
        let authority = &after["://".len()..];
        let authority = &authority[..authority.find(is_end).unwrap_or(authority.len())];
        shown.push_str(before);
        shown.push_str("://");
        rest = &after["://".len()..];
        if let Some((user, _)) = authority.rsplit_once('@') {
            let is_login = matches!(scheme, Some("ssh" | "git+ssh")) && !user.contains(':');
            shown.push_str(&if is_login { user.to_owned() } else { hidden(user) });
            rest = &rest[user.len()..];
        }
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("no url: a@b", "no url: a@b"),
            ("https://token@h/a.git#main", "https://xxxxx@h/a.git#main"),
            ("a \"https://u:p@h\" b http://x:y@z/q?e=f@g", "a \"https://xxxxx@h\" b http://xxxxx@z/q?e=f@g"),
            ("ssh://git:pw@h/a", "ssh://xxxxx@h/a"),
            ("https://h/path@x", "https://h/path@x"),
            ("https://a@b@h/x", "https://xxxxx@h/x"),
            ("https://@h/x ://", "https://xxxxx@h/x ://"),
            ("git@host:org/a.git", "git@host:org/a.git"),
        ] {
            assert_eq!(user_info(text), shown, "{text}");
        }
    }

    #[test]
    fn what_is_hidden_in_place_keeps_the_columns() {
        assert_eq!(user_info_in_place("ADD https://me:pé@h/a /"), "ADD https://xxxxx@h/a /");
    }
}
