//! What a request needs to be allowed, in the words of token services: `repository:<name>:<actions>`.

use std::collections::{BTreeMap, BTreeSet};

/// Most resources in one scope; a challenge that names more is not believed.
const RESOURCE_LIMIT: usize = 64;

/// Resources and the actions wanted on each; equal scopes are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scope {
    resources: BTreeMap<String, BTreeSet<String>>,
}

impl Scope {
    /// Reading a repository.
    pub(crate) fn pull(repository: &str) -> Self {
        Scope::default().with(&format!("repository:{repository}"), "pull")
    }

    /// Writing a repository, which includes reading it.
    pub(crate) fn push(repository: &str) -> Self {
        Scope::default().with(&format!("repository:{repository}"), "pull,push")
    }

    /// Deleting in a repository.
    pub(crate) fn delete(repository: &str) -> Self {
        Scope::default().with(&format!("repository:{repository}"), "delete,pull,push")
    }

    /// Listing the repositories of a registry.
    pub(crate) fn catalog() -> Self {
        Scope::default().with("registry:catalog", "*")
    }

    fn with(mut self, resource: &str, actions: &str) -> Self {
        let wanted = self.resources.entry(resource.to_owned()).or_default();
        wanted.extend(actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned));
        self
    }

    /// Both together.
    pub(crate) fn and(mut self, other: &Scope) -> Self {
        for (resource, actions) in &other.resources {
            if self.resources.len() < RESOURCE_LIMIT || self.resources.contains_key(resource) {
                self.resources.entry(resource.clone()).or_default().extend(actions.iter().cloned());
            }
        }
        self
    }

    /// Reads the `scope` parameter of a challenge.
    pub(crate) fn parse(text: &str) -> Self {
        text.split_ascii_whitespace().take(RESOURCE_LIMIT).fold(Scope::default(), |scope, part| {
            match part.rsplit_once(':') {
                Some((resource, actions)) => scope.with(resource, actions),
                None => scope,
            }
        })
    }

    /// One text a resource, as token services want them.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |(resource, actions): (&String, &BTreeSet<String>)| {
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        };
        self.resources.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scopes_are_merged() {
        let scope =
            Scope::push("a/b").and(&Scope::pull("c")).and(&Scope::parse("repository:a/b:pull repository:h:1/x:pull"));
        assert_eq!(scope.texts(), ["repository:a/b:pull,push", "repository:c:pull", "repository:h:1/x:pull"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = Scope::parse(&text).texts();
        }
    }
}
