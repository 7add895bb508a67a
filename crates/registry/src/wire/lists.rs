//! Lists of tags and repositories, and the answers of token services.

use serde::{Deserialize, Deserializer, Serialize};

/// Answer to `GET /v2/<name>/tags/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagList {
    /// The repository.
    #[serde(default)]
    pub name: String,
    /// Its tags in ASCII order. Some registries send `null` for none.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub tags: Vec<String>,
}

/// Answer to `GET /v2/_catalog`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Names of repositories in ASCII order.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub repositories: Vec<String>,
}

/// Answer of a token service.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Token {
    /// The token, as the Docker form names it.
    #[serde(default)]
    pub token: Option<String>,
    /// The token, as OAuth2 names it.
    #[serde(default)]
    pub access_token: Option<String>,
    /// For how many seconds it is valid; 60 when absent.
    #[serde(default)]
    pub expires_in: Option<u64>,
    /// A token to get further tokens with.
    #[serde(default)]
    pub refresh_token: Option<String>,
}

impl Token {
    /// The token under either name, when it is not empty.
    pub fn bearer(&self) -> Option<&str> {
        [&self.token, &self.access_token].into_iter().flatten().map(String::as_str).find(|token| !token.is_empty())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_no_tags() {
        let list: TagList = serde_json::from_str(r#"{"name":"a","tags":null}"#).expect("parses");
        assert!(list.tags.is_empty());
    }

    #[test]
    fn tokens_under_either_name() {
        let token: Token = serde_json::from_str(r#"{"token":"","access_token":"x","expires_in":300}"#).expect("parses");
        assert_eq!(token.bearer(), Some("x"));
        assert!(!format!("{token:?}").contains('x') || !format!("{token:?}").contains("\"x\""));
    }
}
