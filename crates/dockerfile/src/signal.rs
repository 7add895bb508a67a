//! Names of Linux signals, as `STOPSIGNAL` takes them.

use crate::suggest;

const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether a text is a signal: a number other than 0, or a name with or without `SIG`, in any case of letters.
pub fn is_known(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if NAMES.contains(&name) {
        return true;
    }
    let offset = |prefix: &str, limit: u32| {
        let digits = name.strip_prefix(prefix)?;
        let number: u32 = digits.parse().ok()?;
        (digits == number.to_string() && (1..=limit).contains(&number)).then_some(())
    };
    offset("RTMIN+", 15).or(offset("RTMAX-", 14)).is_some()
}

/// The signal that was probably meant.
pub fn nearest(text: &str) -> Option<String> {
    let names = NAMES.map(|name| format!("SIG{name}"));
    let upper = text.to_uppercase();
    // Everything is near what is so short.
    if upper.trim_start_matches("SIG").len() < 3 {
        return None;
    }
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    suggest::nearest(&full, &names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["9", "KILL", "SIGTERM", "sigint", "SIGRTMIN+3", "RTMAX-14", "RTMIN"] {
            assert!(is_known(text), "{text}");
        }
        for (text, meant) in [("SIGTREM", Some("SIGTERM")), ("kil", Some("SIGKILL")), ("x", None), ("SIGNOTHING", None)]
        {
            assert_eq!(nearest(text).as_deref(), meant, "{text}");
        }
        for text in ["0", "", "SIGNOTHING", "RTMIN+16", "RTMAX-0", "1 2"] {
            assert!(!is_known(text), "{text}");
        }
    }
}
