//! `WWW-Authenticate` (RFC 9110, section 11): what a registry wants to be shown before it answers.

/// Longest header value looked at; anything longer is no challenge of a registry.
const LENGTH_LIMIT: usize = 16 * 1024;
/// Most parameters kept of one challenge.
const PARAMETER_LIMIT: usize = 32;

/// One challenge: a scheme and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Scheme in lower case, such as `basic` or `bearer`.
    pub scheme: String,
    /// Parameters in the order received; names in lower case, values unquoted.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Value of the first parameter of that (lower-case) name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Parses one header value, which may hold several challenges. What cannot be read ends the list; what came before it is kept.
pub fn parse(value: &str) -> Vec<Challenge> {
    if value.len() > LENGTH_LIMIT {
        return Vec::new();
    }
    let mut cursor = Cursor { rest: value };
    let mut challenges: Vec<Challenge> = Vec::new();
    loop {
        cursor.skip_separators();
        let Some(word) = cursor.token() else {
            return challenges;
        };
        let spaced = cursor.skip_spaces();
        if cursor.rest.starts_with('=') && !is_token68_end(cursor.rest) {
            let Some(challenge) = challenges.last_mut() else {
                return challenges;
            };
            cursor.advance(1);
            cursor.skip_spaces();
            let Some(text) = cursor.value() else {
                return challenges;
            };
            if challenge.parameters.len() < PARAMETER_LIMIT {
                challenge.parameters.push((word.to_ascii_lowercase(), text));
            }
        } else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            if spaced {
                cursor.skip_token68();
            }
        }
        if challenges.len() > PARAMETER_LIMIT {
            return challenges;
        }
    }
}

/// Whether the equals signs at the front are the padding of a token68 rather than the sign of a parameter.
fn is_token68_end(rest: &str) -> bool {
    let after = rest.trim_start_matches('=');
    let after = after.trim_start_matches([' ', '\t']);
    after.is_empty() || after.starts_with(',')
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or("");
    }

    fn skip_separators(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }

    fn skip_spaces(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        self.rest.len() != before
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c: char| !is_token_character(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return None;
        }
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(token)
    }

    /// Skips credentials of the form `Negotiate YII=`, which carry no parameters.
    fn skip_token68(&mut self) {
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/".contains(c))).unwrap_or(self.rest.len());
        let tail = self.rest.get(end..).unwrap_or("");
        if end > 0 && (tail.is_empty() || tail.starts_with('=') && is_token68_end(tail)) {
            self.rest = tail.trim_start_matches('=');
        }
    }

    fn value(&mut self) -> Option<String> {
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let mut text = String::new();
            let mut escaped = false;
            for (index, c) in quoted.char_indices() {
                if escaped {
                    text.push(c);
                    escaped = false;
                } else if c == '\\' {
                    escaped = true;
                } else if c == '"' {
                    self.rest = quoted.get(index + 1..).unwrap_or("");
                    return Some(text);
                } else {
                    text.push(c);
                }
            }
            return None;
        }
        // Some registries leave URLs and scopes unquoted: a value then ends at a comma or a space.
        let end = self.rest.find([',', ' ', '\t']).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(text.to_owned())
    }
}

fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bearer_with_commas_inside_the_scope() {
        let challenges = parse(
            r#"Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:a/b:pull,push""#,
        );
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameter("realm"), Some("https://auth.example.com/token"));
        assert_eq!(challenges[0].parameter("scope"), Some("repository:a/b:pull,push"));
    }

    #[test]
    fn several_challenges_in_one_value() {
        let challenges = parse(r#"Negotiate YII==, Basic realm="a \"b\"", Bearer realm=https://x/t, service=y"#);
        let schemes: Vec<_> = challenges.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer"]);
        assert_eq!(challenges[1].parameter("realm"), Some(r#"a "b""#));
        assert_eq!(challenges[2].parameter("realm"), Some("https://x/t"));
        assert_eq!(challenges[2].parameter("service"), Some("y"));
    }

    #[test]
    fn empty_and_broken() {
        assert!(parse("").is_empty());
        assert!(parse("=").is_empty());
        assert_eq!(parse("Basic").len(), 1);
        assert_eq!(parse(r#"Basic realm="open"#)[0].parameters, []);
        assert!(parse(&"a".repeat(20_000)).is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn quoted_values_come_back(realm in "[ -~]{0,40}", service in "[a-z.]{1,20}") {
            let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let challenges = parse(&format!("Bearer realm=\"{escaped}\", service={service}"));
            prop_assert_eq!(challenges.len(), 1);
            prop_assert_eq!(challenges[0].parameter("realm"), Some(realm.as_str()));
            prop_assert_eq!(challenges[0].parameter("service"), Some(service.as_str()));
        }
    }
}
