//! Sizes and ages as Docker prints them.

/// A size in powers of 1000 with four significant digits: `1.185MB`.
pub fn decimal_size(bytes: u64) -> String {
    const NAMES: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < NAMES.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, 4), NAMES[unit])
}

/// A size as build progress shows it: two decimals above a kilobyte, none below.
pub fn progress_size(bytes: u64) -> String {
    const NAMES: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < NAMES.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.2}{}", NAMES[unit]) }
}

/// A number with at most so many significant digits, as C's `%g`.
fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let whole = value.abs().log10().floor() as i32 + 1;
    let decimals = usize::try_from((digits - whole).max(0)).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How long ago, in words: `3 minutes ago`.
pub fn age(seconds: i64) -> String {
    format!("{} ago", duration(seconds))
}

/// A duration in words.
fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds as f64 / 3600.0).round() as i64;
    match seconds {
        i64::MIN..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::{age, decimal_size, progress_size};

    #[test]
    fn sizes() {
        assert_eq!(decimal_size(0), "0B");
        assert_eq!(decimal_size(999), "999B");
        assert_eq!(decimal_size(1_184_825), "1.185MB");
        assert_eq!(decimal_size(1_000_000), "1MB");
        assert_eq!(progress_size(361), "361B");
        assert_eq!(progress_size(1_184_825), "1.18MB");
    }

    #[test]
    fn ages() {
        assert_eq!(age(0), "Less than a second ago");
        assert_eq!(age(59), "59 seconds ago");
        assert_eq!(age(60), "About a minute ago");
        assert_eq!(age(3600), "About an hour ago");
        assert_eq!(age(86_400 * 3), "3 days ago");
        assert_eq!(age(86_400 * 365 * 56), "56 years ago");
    }
}
