//! Where the values of variables come from.

/// A source of variables.
pub trait Environment {
    /// The value, if the variable is set.
    fn get(&self, name: &str) -> Option<&str>;

    /// The names that are set, in order; suggestions are made from them.
    fn names(&self) -> Vec<&str>;
}

/// Variables in the order in which they were first set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    entries: Vec<(String, String)>,
    index: std::collections::HashMap<String, usize>,
}

impl Variables {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// From `NAME=value` lines; a line without `=` sets an empty value, a later one wins.
    pub fn from_lines<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Self {
        let mut variables = Self::new();
        for line in lines {
            let line = line.as_ref();
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            variables.set(name, value);
        }
        variables
    }

    /// Sets a variable; one that is set already keeps its place.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.index.get(name) {
            Some(at) => self.entries[*at].1 = value.to_owned(),
            None => {
                self.index.insert(name.to_owned(), self.entries.len());
                self.entries.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// Unsets a variable.
    pub fn remove(&mut self, name: &str) {
        if let Some(at) = self.index.remove(name) {
            self.entries.remove(at);
            for place in self.index.values_mut().filter(|place| **place > at) {
                *place -= 1;
            }
        }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Environment for Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|at| self.entries[*at].1.as_str())
    }

    fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|(name, _)| name.as_str()).collect()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut variables = Variables::new();
        for (name, value) in pairs {
            variables.set(&name.into(), &value.into());
        }
        variables
    }
}
