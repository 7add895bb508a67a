//! `build --verify-reproducible`: the result of building twice, told.

use onetag_engine::build::{Difference, Verification};

use crate::error::{CommandError, CommandResult};
use crate::output;

/// Prints what differs, or that nothing does.
///
/// # Errors
/// When the builds differ.
pub(super) fn tell(verification: &Verification, has_epoch: bool) -> CommandResult {
    if verification.differences.is_empty() {
        output::line(format!("reproducible: both builds gave {}", verification.digest))?;
        return Ok(());
    }
    output::write(text(&verification.differences))?;
    let error = CommandError::new("the two builds differ").context("failed to build");
    let is_time =
        |difference: &Difference| difference.what.starts_with("mtime") || difference.path.ends_with("created");
    Err(match verification.differences.iter().any(is_time) && !has_epoch {
        true => error
            .with_hint("SOURCE_DATE_EPOCH sets the times: SOURCE_DATE_EPOCH=0 onetag build --verify-reproducible …"),
        false => error,
    })
}

/// The differences by platform.
fn text(differences: &[Difference]) -> String {
    let mut text = String::new();
    let mut platform = None;
    for difference in differences {
        if platform != Some(&difference.platform) {
            text += &format!("{}\n", difference.platform);
            platform = Some(&difference.platform);
        }
        let place = match difference.layer {
            Some(number) => format!("layer {} ({})", number + 1, difference.origin),
            None => difference.origin.clone(),
        };
        text += &format!("  {place}: {}: {}\n", difference.path, difference.what);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_platform() {
        let difference = |platform: &str, layer| Difference {
            platform: platform.parse().unwrap(),
            layer,
            origin: "RUN date".to_owned(),
            path: "/x".to_owned(),
            what: "size 1, 2".to_owned(),
        };
        let differences =
            [difference("linux/amd64", Some(1)), difference("linux/amd64", None), difference("linux/arm64", Some(0))];
        assert_eq!(
            text(&differences),
            "linux/amd64\n  layer 2 (RUN date): /x: size 1, 2\n  RUN date: /x: size 1, 2\n\
             linux/arm64\n  layer 1 (RUN date): /x: size 1, 2\n"
        );
    }
}
