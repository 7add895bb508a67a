//! The regular expressions that ignore patterns turn into: literals, sets, `.`, `*`, `?`, groups,
//! `^`, `$` and RE2's escapes. Matching takes time proportional to expression times text.

use std::iter::Peekable;
use std::str::Chars;

/// A compiled expression; it is anchored at both ends by what it is made from.
#[derive(Debug)]
pub(super) struct Regex {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Set(Set),
    /// Any character but a line end.
    Any,
    Literal(char),
    Assert(Assertion),
    /// Goes on at both places, counted from here.
    Split(usize),
    Jump(isize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Assertion {
    Start,
    End,
    WordBoundary,
    NoWordBoundary,
}

/// A set of characters.
#[derive(Debug, Default)]
struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
    /// Sets inside the set (`\d`, `\W`, `[:alpha:]`).
    parts: Vec<Set>,
}

impl Set {
    fn contains(&self, c: char) -> bool {
        let inside = self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c))
            || self.parts.iter().any(|part| part.contains(c));
        inside != self.negated
    }

    fn of(negated: bool, ranges: &[(char, char)]) -> Self {
        Set { negated, ranges: ranges.to_vec(), parts: Vec::new() }
    }
}

impl Regex {
    /// None for what RE2 refuses.
    pub(super) fn compile(source: &str) -> Option<Self> {
        let mut parser = Parser { rest: source.chars().peekable(), steps: Vec::new() };
        parser.sequence(false)?;
        Some(Regex { steps: parser.steps })
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        let mut threads = Threads::new(self.steps.len());
        let mut next = Threads::new(self.steps.len());
        let mut characters = text.chars().peekable();
        self.add(&mut threads, 0, None, characters.peek().copied());
        while let Some(c) = characters.next() {
            if threads.matched || threads.list.is_empty() {
                break;
            }
            let after = characters.peek().copied();
            for step in &threads.list {
                let goes_on = match &self.steps[*step] {
                    Step::Literal(literal) => *literal == c,
                    Step::Any => c != '\n',
                    Step::Set(set) => set.contains(c),
                    Step::Assert(_) | Step::Split(_) | Step::Jump(_) => false,
                };
                if goes_on {
                    self.add(&mut next, step + 1, Some(c), after);
                }
            }
            std::mem::swap(&mut threads, &mut next);
            next.clear();
        }
        threads.matched
    }

    /// Adds the places that are reached without reading a character.
    fn add(&self, threads: &mut Threads, start: usize, before: Option<char>, after: Option<char>) {
        let mut stack = vec![start];
        while let Some(at) = stack.pop() {
            if std::mem::replace(&mut threads.seen[at], true) {
                continue;
            }
            match self.steps.get(at) {
                None => threads.matched = true,
                Some(Step::Jump(distance)) => stack.push(at.saturating_add_signed(*distance)),
                Some(Step::Split(distance)) => stack.extend([at + 1, at + distance]),
                Some(Step::Assert(assertion)) => {
                    if assertion.holds(before, after) {
                        stack.push(at + 1);
                    }
                }
                Some(_) => threads.list.push(at),
            }
        }
    }
}

impl Assertion {
    fn holds(self, before: Option<char>, after: Option<char>) -> bool {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        match self {
            Assertion::Start => before.is_none(),
            Assertion::End => after.is_none(),
            Assertion::WordBoundary => is_word(before) != is_word(after),
            Assertion::NoWordBoundary => is_word(before) == is_word(after),
        }
    }
}

struct Threads {
    list: Vec<usize>,
    seen: Vec<bool>,
    matched: bool,
}

impl Threads {
    fn new(steps: usize) -> Self {
        Threads { list: Vec::new(), seen: vec![false; steps + 1], matched: false }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.seen.fill(false);
        self.matched = false;
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    steps: Vec<Step>,
}

impl Parser<'_> {
    /// Reads up to the end, or to the closing parenthesis.
    fn sequence(&mut self, in_group: bool) -> Option<()> {
        while let Some(c) = self.rest.next() {
            let start = self.steps.len();
            match c {
                ')' if in_group => return Some(()),
                '(' => self.sequence(true)?,
                '^' => self.steps.push(Step::Assert(Assertion::Start)),
                '$' => self.steps.push(Step::Assert(Assertion::End)),
                '.' => self.steps.push(Step::Any),
                '[' => {
                    let set = self.set()?;
                    self.steps.push(Step::Set(set));
                }
                '\\' => self.escape()?,
                c => self.steps.push(Step::Literal(c)),
            }
            let length = self.steps.len() - start;
            if self.rest.next_if_eq(&'*').is_some() {
                self.steps.push(Step::Jump(-(length as isize + 1)));
                self.steps.insert(start, Step::Split(length + 2));
            } else if self.rest.next_if_eq(&'?').is_some() {
                self.steps.insert(start, Step::Split(length + 1));
            }
        }
        (!in_group).then_some(())
    }

    /// What follows a backslash outside a set.
    fn escape(&mut self) -> Option<()> {
        let c = *self.rest.peek()?;
        let assertion = match c {
            'A' => Assertion::Start,
            'z' => Assertion::End,
            'b' => Assertion::WordBoundary,
            'B' => Assertion::NoWordBoundary,
            'Q' => {
                self.rest.next();
                self.quoted();
                return Some(());
            }
            _ => {
                let step = match class(c) {
                    Some(set) => {
                        self.rest.next();
                        Step::Set(set)
                    }
                    None => Step::Literal(self.escaped_character()?),
                };
                self.steps.push(step);
                return Some(());
            }
        };
        self.rest.next();
        self.steps.push(Step::Assert(assertion));
        Some(())
    }

    /// Everything up to `\E` is literal.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.steps.push(Step::Literal(c));
        }
    }

    /// The character that an escape stands for, after its backslash.
    fn escaped_character(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        match c {
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            'x' => {
                let digits = [self.rest.next()?.to_digit(16)?, self.rest.next()?.to_digit(16)?];
                char::from_u32(digits[0] * 16 + digits[1])
            }
            '0'..='7' => {
                let is_octal = |c: &char| ('0'..='7').contains(c);
                // A single digit other than zero would refer to a group.
                if c != '0' && !self.rest.peek().is_some_and(is_octal) {
                    return None;
                }
                let mut value = c.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(is_octal).and_then(|c| c.to_digit(8)) else { break };
                    value = value * 8 + digit;
                }
                char::from_u32(value)
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        }
    }

    /// What follows a `[`.
    fn set(&mut self) -> Option<Set> {
        let mut set = Set { negated: self.rest.next_if_eq(&'^').is_some(), ..Set::default() };
        let mut is_first = true;
        loop {
            if !is_first && self.rest.next_if_eq(&']').is_some() {
                return Some(set);
            }
            is_first = false;
            if let Some(part) = self.named_set()? {
                set.parts.push(part);
                continue;
            }
            if self.rest.peek() == Some(&'\\') {
                let mut ahead = self.rest.clone();
                ahead.next();
                if let Some(part) = ahead.next().and_then(class) {
                    self.rest = ahead;
                    set.parts.push(part);
                    continue;
                }
            }
            let low = self.member()?;
            let mut high = low;
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('-') && ahead.peek().is_some_and(|c| *c != ']') {
                self.rest = ahead;
                high = self.member()?;
            }
            if high < low {
                return None;
            }
            set.ranges.push((low, high));
        }
    }

    fn member(&mut self) -> Option<char> {
        match self.rest.next()? {
            '\\' => self.escaped_character(),
            c => Some(c),
        }
    }

    /// `[:alpha:]` and the like; None inside where it is not one, None outside for a wrong name.
    fn named_set(&mut self) -> Option<Option<Set>> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('[') || ahead.next() != Some(':') {
            return Some(None);
        }
        let inner: String = ahead.collect();
        let Some((name, _)) = inner.split_once(":]") else { return Some(None) };
        let (negated, plain) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
        let ranges: &[(char, char)] = match plain {
            "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
            "alpha" => &[('A', 'Z'), ('a', 'z')],
            "ascii" => &[('\0', '\u{7f}')],
            "blank" => &[('\t', '\t'), (' ', ' ')],
            "cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
            "digit" => &[('0', '9')],
            "graph" => &[('!', '~')],
            "lower" => &[('a', 'z')],
            "print" => &[(' ', '~')],
            "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            "space" => &[('\t', '\r'), (' ', ' ')],
            "upper" => &[('A', 'Z')],
            "word" => &[('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')],
            "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
            _ => return None,
        };
        for _ in 0..name.chars().count() + 4 {
            self.rest.next();
        }
        Some(Some(Set::of(negated, ranges)))
    }
}

/// The set that a letter stands for after a backslash.
fn class(letter: char) -> Option<Set> {
    let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
        'd' => &[('0', '9')],
        's' => &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
        'w' => &[('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')],
        _ => return None,
    };
    Some(Set::of(letter.is_ascii_uppercase(), ranges))
}
