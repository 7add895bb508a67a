//! Near misses: the word that was probably meant.

/// The option that differs from `value` by at most two edits; the first of the nearest wins.
/// None where an option equals the value, since the value is not what was wrong then.
pub fn nearest<'a, I, S>(value: &str, options: I) -> Option<String>
where
    I: IntoIterator<Item = &'a S>,
    S: AsRef<str> + ?Sized + 'a,
{
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        let option = option.as_ref();
        if option == value {
            return None;
        }
        let limit = best.map_or(3, |(distance, _)| distance);
        if let Some(distance) = distance_below(value, option, limit) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option.to_owned())
}

/// As [`nearest`], without regard to case; the answer is given in the case of `value` where that
/// is all upper or all lower case.
pub fn nearest_ignoring_case<'a, I, S>(value: &str, options: I) -> Option<String>
where
    I: IntoIterator<Item = &'a S>,
    S: AsRef<str> + ?Sized + 'a,
{
    let lower = value.to_lowercase();
    let options: Vec<String> = options.into_iter().map(|option| option.as_ref().to_lowercase()).collect();
    let found = nearest(&lower, &options)?;
    Some(if value == value.to_uppercase() && value != lower { found.to_uppercase() } else { found })
}

/// The Levenshtein distance if it is below `limit`.
fn distance_below(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if limit == 0 || a.len().abs_diff(b.len()) >= limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    Some(row[b.len()]).filter(|distance| *distance < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("abd", ["abc", "xyz"]), Some("abc".into()));
        assert_eq!(nearest("wholly-else", ["abc"]), None);
        assert_eq!(nearest("abc", ["abd", "abc"]), None);
        assert_eq!(nearest_ignoring_case("RUNN", ["RUN", "CMD"]), Some("RUN".into()));
        assert_eq!(nearest_ignoring_case("cpoy", ["RUN", "COPY"]), Some("copy".into()));
    }
}
