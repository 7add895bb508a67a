//! What to type when a local image is not what a command needs: one answer for all commands.

use onetag_engine::content::ContentError;
use onetag_engine::images::ImageError;
use onetag_oci::{Platform, Reference};
use onetag_store::Error as StoreError;
use onetag_store::layer::LayerError;

use crate::error::CommandError;

/// An error of a local image with the ways out that it leaves `command`, which takes `--platform`.
pub fn image_error(error: ImageError, command: &str) -> CommandError {
    let hints = hints(&error, command);
    hints.into_iter().fold(CommandError::from(error), CommandError::with_hint)
}

fn hints(error: &ImageError, command: &str) -> Vec<String> {
    let with = |platform: &Platform, name: &str| format!("onetag {command} --platform {platform} {name}");
    match error {
        ImageError::NoDefault { available, name } | ImageError::NoMatch { available, name, .. } => {
            available.first().map(|platform| with(platform, name)).into_iter().collect()
        }
        ImageError::NotHere { name, platform, here, registry_name } => {
            let pull = registry_name.iter().filter(|_| command != "rmi");
            let pull = pull.map(|name| format!("onetag pull --platform {platform} {name}"));
            let others = here.first().map(|platform| format!("{}    (that one is here)", with(platform, name)));
            pull.chain(others).collect()
        }
        ImageError::NotFound { name } if command != "push" && command != "rmi" => match Reference::parse(name) {
            Ok(_) if !is_digest(name) => vec![format!("onetag pull {name}")],
            _ => vec!["onetag images".to_owned()],
        },
        ImageError::NotFound { .. } => vec!["onetag images".to_owned()],
        ImageError::SeveralNames { digest, .. } => vec![format!("onetag rmi --force {digest}")],
        ImageError::SharedPlatform { name, platform, .. } => {
            vec![format!("onetag rmi --force --platform {platform} {name}    (takes it from all of them)")]
        }
        ImageError::Content(ContentError::DigestMismatch { .. })
        | ImageError::Content(ContentError::Store(StoreError::DigestMismatch { .. })) => {
            vec!["onetag fsck --repair".to_owned()]
        }
        _ => Vec::new(),
    }
}

/// The error with where the limit is raised that a layer exceeds, if it is about that.
pub fn with_limit_hint(error: CommandError) -> CommandError {
    let is_limit = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(LayerError::LimitExceeded { .. }))
    };
    if !error.source.chain().any(is_limit) {
        return error;
    }
    error.with_hint("if you trust the image, raise the limit under [layers] in ~/.config/onetag/config.toml")
}

/// Whether a name reads as a digest or the beginning of one.
fn is_digest(name: &str) -> bool {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    hex.len() >= 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}
