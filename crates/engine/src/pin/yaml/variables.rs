//! Variables in compose files: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`; `$$` is a dollar.

use onetag_dockerfile::images::{Character, Expression, Obstacle};

/// How deep defaults in defaults are followed.
const MAX_DEPTH: usize = 16;

/// Expands the text as if no variable were set: what they are set to is known where the file is used.
pub(super) fn expand(text: &Expression) -> Result<Expression, Obstacle> {
    part(&text.characters, 0)
}

fn part(characters: &[Character], depth: usize) -> Result<Expression, Obstacle> {
    let mut result = Expression::default();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        let value = |at: usize| characters.get(at).map(|character| character.value);
        if character.value != '$' || value(at + 1) == Some('$') {
            at += usize::from(character.value == '$');
            result.characters.push(character.clone());
            at += 1;
            continue;
        }
        let is_braced = value(at + 1) == Some('{');
        let start = at + 1 + usize::from(is_braced);
        let is_part = |character: &Character| character.value == '_' || character.value.is_ascii_alphanumeric();
        let length =
            characters[start.min(characters.len())..].iter().take_while(|character| is_part(character)).count();
        let end = start + length;
        let name: String = characters[start.min(end)..end.min(characters.len())].iter().map(|c| c.value).collect();
        let unknown = || Obstacle::Substitution { variable: name.clone() };
        if name.is_empty() {
            return Err(Obstacle::Substitution { variable: "$".to_owned() });
        }
        if !is_braced || value(end) == Some('}') {
            result.append(&name, &Expression::default())?;
            at = end + usize::from(is_braced);
            continue;
        }
        let default = match (value(end), value(end + 1)) {
            (Some(':'), Some('-')) => end + 2,
            (Some('-'), _) => end + 1,
            // Whoever uses the file has to give it.
            (Some(':'), Some('?')) | (Some('?'), _) => return Err(Obstacle::NoValue { variable: name }),
            _ => return Err(unknown()),
        };
        let close = default + closing(&characters[default..]).ok_or_else(unknown)?;
        if depth >= MAX_DEPTH {
            return Err(unknown());
        }
        result.append(&name, &part(&characters[default..close], depth + 1)?)?;
        at = close + 1;
    }
    Ok(result)
}

/// Where the `}` is that closes what is open at the start.
fn closing(characters: &[Character]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in characters.iter().enumerate() {
        match character.value {
            '{' if at > 0 && characters[at - 1].value == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
