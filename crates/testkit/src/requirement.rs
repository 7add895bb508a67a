//! Skipping what a machine cannot run, audibly.

use std::io::Write;

/// Whether every skip is a failure (`ONETAG_REQUIRE=all`).
pub fn is_required() -> bool {
    std::env::var_os("ONETAG_REQUIRE").is_some_and(|value| value == "all")
}

/// Reports that the running test is skipped. The line passes by the capture of output, so that it is always seen.
///
/// # Panics
/// With `ONETAG_REQUIRE=all`.
#[track_caller]
pub fn skip(cause: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    assert!(!is_required(), "{name} cannot run here, and every test is required: {cause}");
    let _ = writeln!(std::io::stderr().lock(), "skipped: {name}: {cause}");
}

/// Returns from the running test, saying why, unless a condition holds; or unless an `Option` or `Result` has a value,
/// which the macro then gives.
///
/// ```text
/// require!(user.is_root(), "only root may mount");
/// let skopeo = require!(some program("skopeo"), "skopeo is not installed");
/// ```
#[macro_export]
macro_rules! require {
    (some $option:expr, $($cause:tt)+) => {
        match $option {
            Some(value) => value,
            None => {
                $crate::skip(&format!($($cause)+));
                return;
            }
        }
    };
    (ok $result:expr) => {
        match $result {
            Ok(value) => value,
            Err(cause) => {
                $crate::skip(&cause.to_string());
                return;
            }
        }
    };
    ($condition:expr, $($cause:tt)+) => {
        if !$condition {
            $crate::skip(&format!($($cause)+));
            return;
        }
    };
}
