//! The image config that a stage is building up.

use onetag_oci::{History, ImageConfig, Platform};

use super::environment::split_line;
use crate::export::rfc3339_seconds;

/// What history says of every step of ours.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_PATH_WINDOWS: &str = "c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0";

/// The variable PATH where an image does not set it.
pub(crate) fn default_path(os: &str) -> &'static str {
    if os == "windows" { DEFAULT_PATH_WINDOWS } else { DEFAULT_PATH }
}

/// The config of an image without layers.
pub(crate) fn empty_image(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig::new(platform);
    image.config.working_dir = "/".to_owned();
    if platform.os != "windows" {
        image.config.env.push(format!("PATH={}", default_path(&platform.os)));
    }
    image
}

/// Sets a variable; one that is set already keeps its place.
pub(crate) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let line = format!("{name}={value}");
    match env.iter_mut().find(|known| split_line(known).0 == name) {
        Some(known) => *known = line,
        None => env.push(line),
    }
}

/// Adds an entry to the history.
pub(crate) fn commit(image: &mut ImageConfig, created_by: String, has_layer: bool, epoch: Option<i64>) {
    image.history.push(History {
        created: epoch.map(rfc3339_seconds),
        created_by: Some(created_by).filter(|text| !text.is_empty()),
        comment: Some(HISTORY_COMMENT.to_owned()),
        empty_layer: !has_layer,
        ..History::default()
    });
}

/// About how much memory the texts of a config take that grow with its instructions.
pub(crate) fn text_bytes(image: &ImageConfig) -> usize {
    let history: usize = image.history.iter().map(history_bytes).sum();
    history + image.config.env.iter().map(String::len).sum::<usize>()
}

/// About how much memory an entry of the history takes.
pub(crate) fn history_bytes(entry: &History) -> usize {
    size_of::<History>() + entry.created_by.as_ref().map_or(0, String::len)
}

/// The command with the image's shell in front.
pub(crate) fn with_shell(image: &ImageConfig, args: &[String]) -> Vec<String> {
    let mut line = match image.config.shell.as_slice() {
        [] if image.os == "windows" => vec!["cmd".to_owned(), "/S".to_owned(), "/C".to_owned()],
        [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        shell => shell.to_vec(),
    };
    line.push(args.join(" "));
    line
}

/// Makes an image one for the platform that was asked for.
pub(crate) fn set_target_platform(image: &mut ImageConfig, target: &Platform) {
    let is_same = image.os == target.os && image.architecture == target.architecture;
    image.os.clone_from(&target.os);
    image.architecture.clone_from(&target.architecture);
    if target.variant.is_some() || !is_same {
        image.variant.clone_from(&target.variant);
    }
    if target.os_version.is_some() || !is_same {
        image.os_version.clone_from(&target.os_version);
    }
    if !target.os_features.is_empty() {
        image.os_features.clone_from(&target.os_features);
    }
}
