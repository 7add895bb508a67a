//! Several platforms, of which some may fail without the others (`--keep-going`, `--allow-partial`).

use onetag_oci::Platform;

use super::{BuildError, BuildRequest};
use crate::progress::chain;

/// A platform that could not be built.
#[derive(Debug)]
pub struct FailedPlatform {
    /// The platform.
    pub platform: Platform,
    /// Why not.
    pub error: BuildError,
}

impl FailedPlatform {
    /// Why not, in one line, without what all errors of builds begin with.
    pub fn cause(&self) -> String {
        let text = chain(&self.error);
        text.strip_prefix("failed to solve: ").map(str::to_owned).unwrap_or(text)
    }
}

/// What came of each platform, in the order in which they were asked for.
pub(super) struct Platforms<T> {
    labels: Vec<Platform>,
    results: Vec<Option<T>>,
    failed: Vec<FailedPlatform>,
}

impl<T> Platforms<T> {
    /// # Errors
    /// The first failure, unless the build keeps going.
    pub(super) fn new(
        results: impl IntoIterator<Item = (Platform, Result<T, BuildError>)>,
        keep_going: bool,
    ) -> Result<Self, BuildError> {
        let mut platforms = Self { labels: Vec::new(), results: Vec::new(), failed: Vec::new() };
        for (platform, result) in results {
            platforms.labels.push(platform.clone());
            platforms.results.push(match result {
                Ok(made) => Some(made),
                Err(error) if keep_going => {
                    platforms.failed.push(FailedPlatform { platform, error });
                    None
                }
                Err(error) => return Err(error),
            });
        }
        Ok(platforms)
    }

    /// The failures, which are then the caller's.
    pub(super) fn take_failed(&mut self) -> Vec<FailedPlatform> {
        std::mem::take(&mut self.failed)
    }

    /// Whether a platform failed, and nobody has taken the failures.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The platforms that did not fail.
    pub(super) fn labels(&self) -> Vec<Platform> {
        let made = |(label, result): (&Platform, &Option<T>)| result.as_ref().map(|_| label.clone());
        self.labels.iter().zip(&self.results).filter_map(made).collect()
    }

    /// What was made, nothing where it failed.
    pub(super) fn results(&self) -> &[Option<T>] {
        &self.results
    }

    /// What was made.
    pub(super) fn into_made(self) -> Vec<T> {
        self.results.into_iter().flatten().collect()
    }
}

/// Whether there is something to export that may be exported.
///
/// # Errors
/// The failure of the only platform, or the failures of several.
pub(super) fn settle(
    request: &BuildRequest,
    failed: &mut Vec<FailedPlatform>,
    built: Vec<Platform>,
) -> Result<(), BuildError> {
    if failed.is_empty() || (request.allow_partial && !built.is_empty()) {
        return Ok(());
    }
    let mut failed = std::mem::take(failed);
    match failed.pop() {
        Some(only) if failed.is_empty() && built.is_empty() => Err(only.error),
        last => {
            failed.extend(last);
            Err(BuildError::Platforms { failed, built })
        }
    }
}

/// Platforms by cause, causes in the order of their first platform.
fn by_cause(failed: &[FailedPlatform]) -> Vec<(String, Vec<&FailedPlatform>)> {
    let mut causes: Vec<(String, Vec<&FailedPlatform>)> = Vec::new();
    for platform in failed {
        let cause = platform.cause();
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, platforms)) => platforms.push(platform),
            None => causes.push((cause, vec![platform])),
        }
    }
    causes
}

fn names<'a>(platforms: impl IntoIterator<Item = &'a Platform>) -> String {
    platforms.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// All causes in one line.
pub(super) fn summary(failed: &[FailedPlatform]) -> String {
    let cause = |(cause, platforms): (String, Vec<&FailedPlatform>)| {
        format!("{}: {cause}", names(platforms.iter().map(|failed| &failed.platform)))
    };
    by_cause(failed).into_iter().map(cause).collect::<Vec<_>>().join("; ")
}

/// The lines that the failures are about, each once.
pub(super) fn excerpts(failed: &[FailedPlatform]) -> Option<String> {
    let mut excerpts: Vec<String> = Vec::new();
    for excerpt in failed.iter().filter_map(|failed| failed.error.excerpt()) {
        let excerpt = if excerpt.ends_with('\n') { excerpt } else { excerpt + "\n" };
        if !excerpts.contains(&excerpt) {
            excerpts.push(excerpt);
        }
    }
    (!excerpts.is_empty()).then(|| excerpts.concat())
}

/// The way out: that of a failure, else that what was built can be had.
pub(super) fn hint(failed: &[FailedPlatform], built: &[Platform]) -> Option<String> {
    let hint = failed.iter().find_map(|failed| failed.error.hints().into_iter().next());
    let partial = || format!("{} built and not exported: --allow-partial exports without the rest", names(built));
    hint.or_else(|| (!built.is_empty()).then(partial))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(platform: &str, name: &str) -> FailedPlatform {
        let error = BuildError::DockerfileNotFound { name: name.to_owned() };
        FailedPlatform { platform: platform.parse().unwrap(), error }
    }

    #[test]
    fn equal_causes_are_told_once() {
        let failed = [failed("linux/amd64", "x"), failed("linux/arm64", "y"), failed("linux/s390x", "x")];
        let cause = |name: &str| format!("failed to read dockerfile: open {name}: no such file or directory");
        assert_eq!(summary(&failed), format!("linux/amd64, linux/s390x: {}; linux/arm64: {}", cause("x"), cause("y")));
    }

    #[test]
    fn nothing_partial_goes_out_unless_that_is_allowed() {
        let mut request = BuildRequest::new(".".into());
        let built = || vec!["linux/arm64".parse().unwrap()];
        let one = || vec![failed("linux/amd64", "x")];
        assert!(matches!(settle(&request, &mut one(), built()), Err(BuildError::Platforms { .. })));
        assert!(matches!(settle(&request, &mut one(), Vec::new()), Err(BuildError::DockerfileNotFound { .. })));
        assert!(settle(&request, &mut Vec::new(), built()).is_ok());
        request.allow_partial = true;
        assert!(settle(&request, &mut one(), built()).is_ok());
        assert!(settle(&request, &mut one(), Vec::new()).is_err());
    }
}
