//! File modes as `chmod` takes them: octal, or symbolic clauses such as `u=rwX,go-w`.

/// The set-user-id and set-group-id bits and all permission bits, without the sticky bit.
const STANDARD: u32 = 0o6777;
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;
const OTHERS: u32 = 0o007;

/// Why a mode is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// It looks like a number but is no octal one within range.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Octal(String),
    /// It is no symbolic mode either.
    #[error("invalid syntax")]
    Syntax,
}

/// What a mode does to the mode of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Replaces it.
    Octal(u32),
    /// Changes it, step by step.
    Symbolic(Vec<Change>),
}

/// One change of a symbolic mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    kind: ChangeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ChangeKind {
    Set(u32),
    Clear(u32),
    /// Set where the file is a folder or anyone may execute it.
    SetConditionally(u32),
    /// The permissions of one class go to, or are taken from, others.
    Copy {
        from_shift: u32,
        to_shifts: Vec<u32>,
        operator: char,
    },
}

impl Mode {
    /// Reads a mode.
    pub fn parse(text: &str) -> Result<Mode, ModeError> {
        let is_number = text.starts_with(|c: char| c.is_ascii_digit());
        if !is_number {
            return parse_symbolic(text).map(Mode::Symbolic);
        }
        match crate::values::parse_u32(text, 8) {
            Some(mode) if mode <= 0o7777 => Ok(Mode::Octal(mode)),
            _ => Err(ModeError::Octal(text.to_owned())),
        }
    }

    /// The mode that a file with these permission bits gets, without regard to any umask.
    pub fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match self {
            Mode::Octal(mode) => *mode,
            Mode::Symbolic(changes) => {
                let original = mode & 0o7777;
                changes.iter().fold(original, |mode, change| change.apply(original, mode, is_folder)) & 0o7777
            }
        }
    }
}

impl Change {
    fn apply(&self, original: u32, mode: u32, is_folder: bool) -> u32 {
        match &self.kind {
            ChangeKind::Set(bits) => mode | bits,
            ChangeKind::Clear(bits) => mode & !bits,
            ChangeKind::SetConditionally(bits) if is_folder || original & EXECUTE != 0 => mode | bits,
            ChangeKind::SetConditionally(_) => mode,
            ChangeKind::Copy { from_shift, to_shifts, operator } => {
                let value = mode >> from_shift & OTHERS;
                let cleared = match operator {
                    '=' => OTHERS,
                    '-' => value,
                    _ => 0,
                };
                let set = if *operator == '-' { 0 } else { value };
                to_shifts.iter().fold(mode, |mode, shift| mode & !(cleared << shift) | set << shift)
            }
        }
    }
}

fn parse_symbolic(text: &str) -> Result<Vec<Change>, ModeError> {
    let mut clauses = Clauses { changes: Vec::new(), equals_done: false };
    for clause in text.split(',') {
        let who_length = clause.find(|c| !matches!(c, 'a' | 'u' | 'g' | 'o')).ok_or(ModeError::Syntax)?;
        let (who, mut actions) = clause.split_at(who_length);
        let mut who = who.chars().fold(0, |bits, class| {
            bits | match class {
                'u' => SET_USER | 0o700,
                'g' => SET_GROUP | 0o070,
                'o' => OTHERS,
                _ => STANDARD,
            }
        });
        while !actions.is_empty() {
            let operator = actions.chars().next().filter(|c| matches!(c, '+' | '-' | '=')).ok_or(ModeError::Syntax)?;
            let rest = &actions[1..];
            let length = rest.find(|c| !"rstwXxugo".contains(c)).unwrap_or(rest.len());
            clauses.action(&mut who, operator, &rest[..length]);
            actions = &rest[length..];
        }
    }
    Ok(merge(clauses.changes))
}

struct Clauses {
    changes: Vec<Change>,
    /// Whether the current `=` has cleared what it replaces.
    equals_done: bool,
}

impl Clauses {
    /// One operator with its permissions.
    fn action(&mut self, who: &mut u32, operator: char, permissions: &str) {
        if operator == '=' {
            self.equals_done = false;
        }
        *who &= !STICKY;
        let (mut bits, mut conditional) = (0, 0);
        for permission in permissions.chars() {
            // The special bits are not for others alone.
            let special = *who == 0 || *who & !OTHERS != 0;
            match permission {
                'r' => bits |= 0o444,
                'w' => bits |= 0o222,
                'x' => bits |= EXECUTE,
                'X' if operator == '-' => bits |= EXECUTE,
                'X' => conditional = EXECUTE,
                's' if special => bits |= SET_USER | SET_GROUP,
                't' if special => {
                    *who |= STICKY;
                    bits |= STICKY;
                }
                'u' | 'g' | 'o' => {
                    if bits != 0 {
                        self.change(operator, *who, std::mem::take(&mut bits));
                    }
                    self.equals_done |= operator == '=';
                    if conditional != 0 {
                        self.change('X', *who, std::mem::take(&mut conditional));
                    }
                    self.copy(permission, *who, operator);
                }
                _ => {}
            }
        }
        if bits != 0 || (operator == '=' && !self.equals_done) {
            self.equals_done |= operator == '=';
            self.change(operator, *who, bits);
        }
        if conditional != 0 {
            self.change('X', *who, conditional);
        }
    }

    fn change(&mut self, operator: char, who: u32, bits: u32) {
        let affected = if who == 0 { bits } else { who & bits };
        let kind = match operator {
            '-' => ChangeKind::Clear(affected),
            'X' => ChangeKind::SetConditionally(affected),
            '=' => {
                let cleared = if who == 0 { STANDARD } else { who };
                self.changes.push(Change { kind: ChangeKind::Clear(cleared) });
                ChangeKind::Set(affected)
            }
            _ => ChangeKind::Set(affected),
        };
        self.changes.push(Change { kind });
    }

    fn copy(&mut self, class: char, who: u32, operator: char) {
        let from_shift = match class {
            'u' => 6,
            'g' => 3,
            _ => 0,
        };
        let to_shifts = [6, 3, 0].into_iter().filter(|shift| who == 0 || who & (0o4 << shift) != 0).collect();
        self.changes.push(Change { kind: ChangeKind::Copy { from_shift, to_shifts, operator } });
    }
}

/// Merges runs of changes that copy nothing: what is set later is no longer cleared, and the other
/// way round; conditional bits come last.
fn merge(changes: Vec<Change>) -> Vec<Change> {
    let mut merged = Vec::with_capacity(changes.len());
    let mut pending = Pending::default();
    for change in changes {
        match change.kind {
            ChangeKind::Clear(bits) => {
                pending.clear |= bits;
                pending.set &= !bits;
                pending.conditional &= !bits;
            }
            ChangeKind::Set(bits) => {
                pending.set |= bits;
                pending.clear &= !bits;
                pending.conditional &= !bits;
            }
            ChangeKind::SetConditionally(bits) => pending.conditional |= bits & !pending.set,
            ChangeKind::Copy { .. } => {
                merged.extend(std::mem::take(&mut pending).changes());
                merged.push(change);
            }
        }
    }
    merged.extend(pending.changes());
    merged
}

/// A run of changes, merged.
#[derive(Default)]
struct Pending {
    set: u32,
    clear: u32,
    conditional: u32,
}

impl Pending {
    fn changes(self) -> impl Iterator<Item = Change> {
        let clear = (self.clear != 0).then_some(ChangeKind::Clear(self.clear));
        let set = (self.set != 0).then_some(ChangeKind::Set(self.set));
        let conditional = (self.conditional != 0).then_some(ChangeKind::SetConditionally(self.conditional));
        [clear, set, conditional].into_iter().flatten().map(|kind| Change { kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_apply_one_after_the_other() {
        let apply = |text, mode| Mode::parse(text).unwrap().apply(mode, false);
        assert_eq!(apply("u=rwx,go=u-w", 0o600), 0o755);
        assert_eq!(apply("+X", 0o644), 0o644);
        assert_eq!(apply("+X", 0o744), 0o755);
        assert_eq!(apply("1755", 0), 0o1755);
        assert_eq!(Mode::parse("+X").unwrap().apply(0o644, true), 0o755);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_and_modes_stay_modes(text in "[augo+=,rwxXst0-9-]{0,12}", mode in 0u32..0o10000) {
            if let Ok(parsed) = Mode::parse(&text) {
                proptest::prop_assert!(parsed.apply(mode, true) <= 0o7777);
            }
        }
    }
}
