//! Changes to what containers of an image run with.

use std::collections::BTreeMap;

use serde_json::Value;

use super::EditError;
use super::document::Draft;

/// Changes to a config; what is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// Labels to set or, with none, to take away.
    pub labels: BTreeMap<String, Option<String>>,
    /// Variables to set or, with none, to take away, in order.
    pub variables: Vec<(String, Option<String>)>,
    /// The entry point; empty takes it away.
    pub entrypoint: Option<Vec<String>>,
    /// The default command; empty takes it away.
    pub command: Option<Vec<String>>,
    /// The user; empty takes it away.
    pub user: Option<String>,
    /// The working folder; empty takes it away.
    pub working_folder: Option<String>,
}

impl ConfigChanges {
    /// Whether they change nothing, whatever the config.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Applies them.
    pub(super) fn apply(&self, config: &mut Draft) -> Result<(), EditError> {
        for (key, value) in &self.labels {
            config.set_entry(&["config", "Labels"], "label", key, value.as_deref())?;
        }
        for (name, value) in &self.variables {
            config.set_variable(&["config", "Env"], name, value.as_deref())?;
        }
        for (member, what, words) in [("Entrypoint", "entrypoint", &self.entrypoint), ("Cmd", "cmd", &self.command)] {
            if let Some(words) = words {
                let value = (!words.is_empty()).then(|| Value::from(words.clone()));
                config.set_member(&["config", member], what, value, Value::to_string)?;
            }
        }
        for (member, what, text) in [("User", "user", &self.user), ("WorkingDir", "workdir", &self.working_folder)] {
            if let Some(text) = text {
                let value = (!text.is_empty()).then(|| Value::from(text.as_str()));
                let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                config.set_member(&["config", member], what, value, shown)?;
            }
        }
        Ok(())
    }
}
