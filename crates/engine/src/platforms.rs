//! Words about platforms that several errors share.

use onetag_oci::Platform;

/// Platforms as a sentence has them: `are linux/amd64, linux/arm64`.
pub fn listed(platforms: &[Platform]) -> String {
    match platforms {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        several => format!("are {}", several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}
