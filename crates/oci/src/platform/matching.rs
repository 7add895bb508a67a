//! Which entries of an index suit a platform, and which of them best.

use std::cmp::Ordering;

use super::Platform;
use super::windows::WindowsVersion;

/// Compatible older variants that are looked for at most; real architectures have fewer than ten.
const VARIANTS_MAX: i64 = 64;

/// Decides which platforms suit, and which of two suits better.
pub trait PlatformMatcher {
    /// Whether the platform suits.
    fn matches(&self, platform: &Platform) -> bool;

    /// Whether `left` is preferred to `right`. MUST be a strict weak order.
    fn less(&self, left: &Platform, right: &Platform) -> bool;
}

/// Matches one normalized platform; the features that a candidate needs must be among the features here.
#[derive(Clone, Debug)]
pub struct Exact {
    platform: Platform,
    windows: Option<WindowsVersion>,
}

impl PlatformMatcher for Exact {
    fn matches(&self, platform: &Platform) -> bool {
        let candidate = platform.normalize();
        let mut needed: Vec<&String> = candidate.os_features.iter().collect();
        if self.windows.is_some() {
            // One occurrence was stripped before normalizing, where duplicates still count.
            let repeated = platform.os_features.iter().filter(|feature| *feature == "win32k").count() > 1;
            needed.retain(|feature| *feature != "win32k" || repeated);
        }
        let version = platform.os_version.as_deref().unwrap_or_default();
        self.platform.os == candidate.os
            && self.platform.architecture == candidate.architecture
            && self.platform.variant == candidate.variant
            && self.windows.is_none_or(|host| host.runs(version))
            && needed.iter().all(|feature| self.platform.os_features.contains(feature))
    }

    fn less(&self, left: &Platform, right: &Platform) -> bool {
        self.matches(left) && !self.matches(right)
    }
}

/// Matches any of several platforms, preferring the earlier, and among equals the one that uses more features.
#[derive(Clone, Debug)]
pub struct Only {
    matchers: Vec<Exact>,
}

impl Only {
    fn rank(&self, platform: &Platform) -> Option<usize> {
        self.matchers.iter().position(|matcher| matcher.matches(platform))
    }
}

impl PlatformMatcher for Only {
    fn matches(&self, platform: &Platform) -> bool {
        self.rank(platform).is_some()
    }

    fn less(&self, left: &Platform, right: &Platform) -> bool {
        match (self.rank(left), self.rank(right)) {
            (Some(left_rank), Some(right_rank)) if left_rank == right_rank => {
                left.os_features.len() > right.os_features.len()
            }
            (Some(left_rank), Some(right_rank)) => left_rank < right_rank,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) if left.os_features.is_empty() && right.os_features.is_empty() => false,
            (None, None) => {
                let without = |platform: &Platform| Platform { os_features: Vec::new(), ..platform.clone() };
                self.less(&without(left), &without(right))
            }
        }
    }
}

/// Matches the platform alone, in any spelling.
pub fn exact(platform: &Platform) -> Exact {
    let windows =
        (platform.os == "windows").then(|| WindowsVersion::parse(platform.os_version.as_deref().unwrap_or_default()));
    Exact { platform: platform.normalize(), windows }
}

/// Matches the platform and what its hardware also runs: older variants, 32-bit ARM on 64-bit, 386 on amd64.
pub fn only(platform: &Platform) -> Only {
    ordered(&compatible(&platform.normalize()))
}

/// Matches the platform alone, in any spelling, with an order among equals.
pub fn only_strict(platform: &Platform) -> Only {
    ordered(&[platform.normalize()])
}

/// Matches any of the platforms, preferring the earlier.
pub fn ordered(platforms: &[Platform]) -> Only {
    Only { matchers: platforms.iter().map(exact).collect() }
}

/// The entries that match, best first; entries without a platform stay in, last. Positions in `entries`.
pub fn order<T>(
    matcher: &(impl PlatformMatcher + ?Sized),
    entries: &[T],
    platform: impl Fn(&T) -> Option<&Platform>,
) -> Vec<usize> {
    let mut candidates: Vec<(usize, Option<&Platform>)> = entries.iter().map(platform).enumerate().collect();
    candidates.retain(|(_, platform)| platform.is_none_or(|platform| matcher.matches(platform)));
    candidates.sort_by(|(_, left), (_, right)| match (left, right) {
        (Some(left), Some(right)) if matcher.less(left, right) => Ordering::Less,
        (Some(left), Some(right)) if matcher.less(right, left) => Ordering::Greater,
        (Some(_), Some(_)) | (None, None) => Ordering::Equal,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
    });
    candidates.into_iter().map(|(position, _)| position).collect()
}

/// The entry of an index to use: the first of [`order`]. Where it has no platform, its config must be asked.
pub fn select<T>(
    matcher: &(impl PlatformMatcher + ?Sized),
    entries: &[T],
    platform: impl Fn(&T) -> Option<&Platform>,
) -> Option<usize> {
    order(matcher, entries, platform).first().copied()
}

/// What runs on a normalized platform, best first.
fn compatible(platform: &Platform) -> Vec<Platform> {
    let variant = platform.variant.as_deref().unwrap_or_default();
    match platform.architecture.as_str() {
        "amd64" => {
            let mut platforms = vec![platform.clone()];
            platforms.extend(older_variants(platform, variant, 1));
            platforms.push(Platform { architecture: "386".to_owned(), variant: None, ..platform.clone() });
            platforms
        }
        "arm" => {
            let mut platforms = vec![platform.clone()];
            platforms.extend(older_variants(platform, variant, 5));
            platforms
        }
        "arm64" => compatible_arm64(platform, if variant.is_empty() { "v8" } else { variant }),
        _ => vec![platform.clone()],
    }
}

/// `vN-1` down to `vLOWEST` for `vN`.
fn older_variants(platform: &Platform, variant: &str, lowest: i64) -> Vec<Platform> {
    match variant.strip_prefix('v').unwrap_or(variant).parse::<i64>() {
        Ok(version) if version > lowest => (lowest..version)
            .rev()
            .take(VARIANTS_MAX as usize)
            .map(|older| Platform { variant: Some(format!("v{older}")), ..platform.clone() })
            .collect(),
        _ => Vec::new(),
    }
}

/// Armv9.N includes Armv8.(N+5), at most 8.9; every 64-bit variant also runs 32-bit v8 and older.
fn compatible_arm64(platform: &Platform, variant: &str) -> Vec<Platform> {
    let Some((major, minor)) = arm64_version(variant) else { return Vec::new() };
    let named = |major: u8, minor: u8| Platform {
        variant: Some(if minor == 0 { format!("v{major}") } else { format!("v{major}.{minor}") }),
        ..platform.clone()
    };
    let mut platforms: Vec<Platform> = (0..=minor).rev().map(|minor| named(major, minor)).collect();
    if major == 9 {
        platforms.extend((0..=(minor + 5).min(9)).rev().map(|minor| named(8, minor)));
    }
    let arm = Platform { architecture: "arm".to_owned(), variant: Some("v8".to_owned()), ..platform.clone() };
    platforms.extend(compatible(&arm));
    platforms
}

fn arm64_version(variant: &str) -> Option<(u8, u8)> {
    let (major, minor) = match variant.split_once('.') {
        Some((major, minor)) => (major, minor),
        None => (variant, "0"),
    };
    let minor = match minor.as_bytes() {
        [digit @ b'0'..=b'9'] => digit - b'0',
        _ => return None,
    };
    match (major, minor) {
        ("v8", 0..=9) => Some((8, minor)),
        ("v9", 0..=7) => Some((9, minor)),
        _ => None,
    }
}
