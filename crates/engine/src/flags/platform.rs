//! `--platform`

use onetag_oci::Platform;

use super::Result;

/// Reads all occurrences of the flag, each a list; `local` is the host. Platforms come out
/// normalized, in order, repeats included.
///
/// # Errors
/// Not a platform; an empty field is none.
pub fn parse_platforms<S: AsRef<str>>(values: &[S], host: &Platform) -> Result<Vec<Platform>> {
    let mut platforms = Vec::new();
    for specifier in values.iter().flat_map(|value| value.as_ref().split(',')) {
        let platform =
            if specifier.eq_ignore_ascii_case("local") { host.clone() } else { Platform::parse_on(specifier, host)? };
        platforms.push(platform.normalize());
    }
    Ok(platforms)
}

/// The platforms without those that look like an earlier one.
pub fn deduplicate_platforms(platforms: &[Platform]) -> Vec<Platform> {
    let mut seen = std::collections::HashSet::new();
    platforms.iter().map(Platform::normalize).filter(|platform| seen.insert(platform.to_string())).collect()
}
