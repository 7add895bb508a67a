//! A text that was put together of literals and variables, each character with where it comes from.

use std::ops::Range;
use std::rc::Rc;

use onetag_oci::Reference;

use super::Obstacle;

/// Longer texts are no reference.
const MAX_CHARACTERS: usize = 4096;

/// Where a character is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which of the caller's sources: an instruction, a scalar.
    pub source: usize,
    /// Its bytes there.
    pub bytes: Range<usize>,
}

/// A character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Character {
    /// What it is.
    pub value: char,
    /// Where it is written; None where its value came from outside.
    pub place: Option<Place>,
    /// The variables that it came through, outermost first.
    pub through: Rc<[String]>,
}

/// The text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expression {
    /// Its characters.
    pub characters: Vec<Character>,
    /// Variables that gave nothing, with the position where something of theirs would be.
    pub empty: Vec<(usize, String)>,
}

impl Expression {
    /// Adds a character that is written at `bytes` of a source.
    pub fn push(&mut self, value: char, source: usize, bytes: Range<usize>) {
        self.characters.push(Character { value, place: Some(Place { source, bytes }), through: Rc::new([]) });
    }

    /// Adds what a variable gives.
    ///
    /// # Errors
    /// The text becomes longer than any reference.
    pub fn append(&mut self, variable: &str, value: &Expression) -> Result<(), Obstacle> {
        if self.characters.len() + value.characters.len() > MAX_CHARACTERS {
            return Err(Obstacle::Substitution { variable: variable.to_owned() });
        }
        let start = self.characters.len();
        if value.characters.is_empty() {
            self.empty.push((start, variable.to_owned()));
        }
        self.empty.extend(value.empty.iter().map(|(at, name)| (start + at, name.clone())));
        for character in &value.characters {
            let through = std::iter::once(variable.to_owned()).chain(character.through.iter().cloned()).collect();
            self.characters.push(Character { through, ..character.clone() });
        }
        Ok(())
    }

    /// A value that is given from outside.
    pub fn given(value: &str) -> Self {
        let characters =
            value.chars().take(MAX_CHARACTERS).map(|value| Character { value, place: None, through: Rc::new([]) });
        Expression { characters: characters.collect(), empty: Vec::new() }
    }

    /// A part of it.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let empty = self.empty.iter().filter(|(at, _)| range.contains(at));
        Expression {
            characters: self.characters.get(range.clone()).unwrap_or_default().to_vec(),
            empty: empty.map(|(at, name)| (at - range.start, name.clone())).collect(),
        }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.characters.iter().map(|character| character.value).collect()
    }

    /// Whether any character came through a variable.
    pub fn comes_through(&self, variable: &str) -> bool {
        self.characters.iter().any(|character| character.through.iter().any(|name| name == variable))
            || self.empty.iter().any(|(_, name)| name == variable)
    }

    /// The reference that it is.
    ///
    /// # Errors
    /// It is none; where a variable gave nothing, that is why.
    pub fn reference(&self) -> Result<Reference, Obstacle> {
        let text = self.text();
        Reference::parse(&text).map_err(|source| match self.empty.first() {
            Some((_, variable)) => Obstacle::NoValue { variable: variable.clone() },
            None => Obstacle::Reference { text, source },
        })
    }

    /// The bytes of one source that a digest would take the place of: those of `@DIGEST`, or none behind the name
    /// where there is no digest yet. With whose value it goes: the innermost variable, where it is written in one.
    ///
    /// A digest has to go when the name or the tag becomes another one. So everything from the last `/` on must be
    /// written in the same place as the digest or around it; what comes before may be any variable, for a mirror
    /// serves the same content.
    ///
    /// # Errors
    /// No such place.
    pub fn site(&self) -> Result<Site, Obstacle> {
        let end = self.characters.iter().position(|character| character.value == '@').unwrap_or(self.characters.len());
        let Some(last) = end.checked_sub(1).map(|at| &self.characters[at]) else {
            return Err(Obstacle::Spread);
        };
        let start = self.characters[..end].iter().rposition(|character| character.value == '/').map_or(0, |at| at + 1);
        for character in &self.characters[start..end] {
            if let Some(variable) = outside(&character.through, &last.through) {
                return Err(Obstacle::Composed { variable });
            }
        }
        if let Some((_, variable)) = self.empty.iter().find(|(at, _)| *at > start && *at <= end) {
            return Err(Obstacle::Composed { variable: variable.clone() });
        }
        let variable = last.through.last().cloned();
        let Some(place) = &last.place else {
            return Err(Obstacle::Given { variable: variable.unwrap_or_default() });
        };
        // A value that is used twice would have the digest in the middle, too.
        if self.characters.iter().filter(|character| character.place.as_ref() == Some(place)).count() > 1 {
            return Err(Obstacle::Composed { variable: variable.unwrap_or_default() });
        }
        let mut bytes = place.bytes.end..place.bytes.end;
        for character in &self.characters[end..] {
            if let Some(variable) = outside(&character.through, &last.through) {
                return Err(Obstacle::Composed { variable });
            }
            match &character.place {
                Some(next) if next.source == place.source && next.bytes.start == bytes.end => {
                    bytes.end = next.bytes.end;
                }
                _ => return Err(Obstacle::Spread),
            }
        }
        Ok(Site { source: place.source, last: place.bytes.clone(), bytes, variable })
    }
}

/// Where a digest would stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The source.
    pub source: usize,
    /// The bytes of the character before it.
    pub last: Range<usize>,
    /// The bytes of `@DIGEST`, or none.
    pub bytes: Range<usize>,
    /// The variable whose value it is written in.
    pub variable: Option<String>,
}

/// A variable among `through` that is not on the way to the digest.
fn outside(through: &[String], way: &[String]) -> Option<String> {
    if way.starts_with(through) { None } else { through.last().cloned() }
}
