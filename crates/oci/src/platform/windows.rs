//! Which Windows images run on which Windows hosts.

/// Builds from which on a host also runs the images of the long-term release before it, ascending.
const COMPATIBLE_RELEASES: [u16; 2] = [20348, 26100];

/// `major.minor.build` of a version; all zero where the text is not one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowsVersion {
    major: u8,
    minor: u8,
    build: u16,
}

impl WindowsVersion {
    pub(super) fn parse(text: &str) -> WindowsVersion {
        let mut parts = text.split('.');
        let mut read = || {
            let digits = parts.next()?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u16>().ok())?
        };
        let parsed = (|| {
            let (major, minor, build) = (read()?, read()?, read()?);
            Some(WindowsVersion { major: major.try_into().ok()?, minor: minor.try_into().ok()?, build })
        })();
        parsed.unwrap_or_default()
    }

    /// Whether a host of this version runs an image of that version; no version on either side is no constraint.
    pub(super) fn runs(self, image: &str) -> bool {
        if self == WindowsVersion::default() || image.is_empty() {
            return true;
        }
        let image = WindowsVersion::parse(image);
        if (self.major, self.minor) != (image.major, image.minor) {
            return false;
        }
        let [first_compatible, ..] = COMPATIBLE_RELEASES;
        if self.build < first_compatible {
            return self.build == image.build;
        }
        let oldest = COMPATIBLE_RELEASES.into_iter().rev().find(|release| self.build > *release);
        (oldest.unwrap_or(first_compatible)..=self.build).contains(&image.build)
    }
}
