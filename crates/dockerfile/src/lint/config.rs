//! Which checks run: `# check=skip=A,B;error=true;experimental=all`.

use std::collections::BTreeSet;

use super::Rule;
use crate::parser::directive_in_comment;
use crate::values::{parse_bool, quote};

/// Which checks run, and whether a finding fails the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LintConfig {
    /// Whether all checks are skipped.
    pub skip_all: bool,
    /// The checks that are skipped.
    pub skip: BTreeSet<String>,
    /// Whether all experimental checks run.
    pub experimental_all: bool,
    /// The experimental checks that run.
    pub experimental: BTreeSet<String>,
    /// Whether a finding is an error.
    pub error: bool,
}

/// What is wrong with check options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LintConfigError {
    /// An option that is none, or has no value.
    #[error("invalid check option {}", quote(.0))]
    Option(String),
    /// `error=` with something that is neither true nor false.
    #[error("failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax", quote(.option), quote(.value))]
    Boolean {
        /// The option.
        option: String,
        /// Its value.
        value: String,
    },
}

impl LintConfig {
    /// Reads the value of the directive or of the flag.
    pub fn parse(text: &str) -> Result<Self, LintConfigError> {
        let mut config = LintConfig::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(config);
        }
        for part in text.splitn(3, ';') {
            let (key, value) = part.split_once('=').ok_or_else(|| LintConfigError::Option(part.to_owned()))?;
            let (key, value) = (key.trim(), value.trim());
            let names = || value.split(',').map(|name| name.trim().to_owned()).collect();
            match key {
                "skip" if value == "all" => config.skip_all = true,
                "skip" => config.skip = names(),
                "experimental" if value == "all" => config.experimental_all = true,
                "experimental" => config.experimental = names(),
                "error" => {
                    config.error = parse_bool(value)
                        .ok_or_else(|| LintConfigError::Boolean { option: part.to_owned(), value: value.to_owned() })?;
                }
                _ => return Err(LintConfigError::Option(key.to_owned())),
            }
        }
        Ok(config)
    }

    /// With what a `# check=` comment above an instruction adds. A comment that is wrong adds nothing.
    pub(super) fn with_comments(&self, comments: &[String]) -> Self {
        let mut config = self.clone();
        let directive = comments.iter().find_map(|comment| directive_in_comment(comment, "check"));
        let Some(Ok(other)) = directive.map(|directive| LintConfig::parse(&directive.value)) else { return config };
        config.skip_all |= other.skip_all;
        config.skip.extend(other.skip);
        config.experimental_all |= other.experimental_all;
        config.experimental.extend(other.experimental);
        config
    }

    /// Whether a check runs.
    pub fn runs(&self, rule: &Rule) -> bool {
        if rule.experimental {
            return self.experimental_all || self.experimental.contains(rule.name);
        }
        !self.skip_all && !self.skip.contains(rule.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_comments_add_to_them() {
        let config = LintConfig::parse("skip=A, B;error=true").unwrap();
        assert!(config.error && config.skip.contains("A") && config.skip.contains("B"));
        assert!(config.with_comments(&["check=skip=all".into()]).skip_all);
        assert_eq!(LintConfig::parse("x=y").unwrap_err().to_string(), "invalid check option \"x\"");
        assert!(LintConfig::parse("error=perhaps").is_err());
    }
}
