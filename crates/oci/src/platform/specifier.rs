//! Platform specifiers: reading, writing, normal forms.

use super::Platform;

/// Why a text is not a platform specifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// `*` is reserved.
    #[error("{specifier:?}: wildcards not yet supported")]
    Wildcard {
        /// The specifier.
        specifier: String,
    },
    /// The first component is not `os` or `os(version+feature…)`.
    #[error("{component:?} is an invalid OS component of {specifier:?}")]
    Os {
        /// The component.
        component: String,
        /// The specifier.
        specifier: String,
    },
    /// A component has characters beyond letters, digits, `_`, `.` and `-`, or is empty.
    #[error("{component:?} is an invalid component of {specifier:?}")]
    Component {
        /// The component.
        component: String,
        /// The specifier.
        specifier: String,
    },
    /// A percent escape in version or features is broken.
    #[error("{specifier:?} has an invalid escape in {option:?}")]
    Escape {
        /// The version or feature.
        option: String,
        /// The specifier.
        specifier: String,
    },
    /// One component that is neither a known operating system nor a known architecture.
    #[error("{specifier:?}: unknown operating system or architecture")]
    Unknown {
        /// The specifier.
        specifier: String,
    },
    /// More than three components.
    #[error("{specifier:?}: cannot parse platform specifier")]
    TooMany {
        /// The specifier.
        specifier: String,
    },
}

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const KNOWN_ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

pub(super) fn parse(specifier: &str, host: &Platform) -> Result<Platform, PlatformError> {
    if specifier.contains('*') {
        return Err(PlatformError::Wildcard { specifier: specifier.to_owned() });
    }
    let components: Vec<&str> = specifier.splitn(4, '/').collect();
    let mut platform = parse_os(components[0], specifier)?;
    if let Some(component) = components[1..].iter().find(|component| !is_component(component)) {
        return Err(PlatformError::Component { component: (*component).to_owned(), specifier: specifier.to_owned() });
    }
    match components[..] {
        [_] if KNOWN_OS.contains(&platform.os.as_str()) => {
            platform.architecture.clone_from(&host.architecture);
            if host.architecture == "arm" {
                platform.variant = host.variant.clone().filter(|variant| variant != "v7");
            }
        }
        [only] => {
            set_architecture(&mut platform, only, "");
            if !KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
                return Err(PlatformError::Unknown { specifier: specifier.to_owned() });
            }
            platform.os.clone_from(&host.os);
        }
        [_, architecture] => set_architecture(&mut platform, architecture, ""),
        [_, architecture, variant] => {
            (platform.architecture, platform.variant) = normalize_architecture(architecture, variant);
            if platform.architecture == "arm64" && platform.variant.is_none() {
                platform.variant = Some("v8".to_owned());
            }
        }
        _ => return Err(PlatformError::TooMany { specifier: specifier.to_owned() }),
    }
    Ok(platform)
}

/// An architecture without a variant: `arm` alone means v7 and is written without it.
fn set_architecture(platform: &mut Platform, architecture: &str, variant: &str) {
    (platform.architecture, platform.variant) = normalize_architecture(architecture, variant);
    if platform.architecture == "arm" && platform.variant.as_deref() == Some("v7") {
        platform.variant = None;
    }
}

/// `os`, or `os(version+feature+feature)` with percent escapes inside the parentheses.
fn parse_os(component: &str, specifier: &str) -> Result<Platform, PlatformError> {
    let invalid = || PlatformError::Os { component: component.to_owned(), specifier: specifier.to_owned() };
    let (os, options) = match component.split_once('(') {
        Some((os, options)) => (os, Some(options.strip_suffix(')').ok_or_else(invalid)?)),
        None => (component, None),
    };
    if os.is_empty() || !os.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Err(invalid());
    }
    let mut platform = Platform { os: normalize_os(os), ..Platform::default() };
    let Some(options) = options else { return Ok(platform) };
    for (position, option) in options.split('+').enumerate() {
        if (position > 0 && option.is_empty()) || !option.bytes().all(is_option_byte) {
            return Err(invalid());
        }
    }
    let mut decoded = options.split('+').map(|option| {
        unescape(option)
            .ok_or_else(|| PlatformError::Escape { option: option.to_owned(), specifier: specifier.to_owned() })
    });
    platform.os_version = decoded.next().transpose()?.filter(|version| !version.is_empty());
    platform.os_features = decoded.collect::<Result<_, _>>()?;
    Ok(platform)
}

fn is_option_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'%' | b'-')
}

fn is_component(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Undoes percent escapes; none where one is broken.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digit = |index: usize| char::from(*after.get(index)?).to_digit(16);
            bytes.push((digit(0)? * 16 + digit(1)?) as u8);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '%' => escaped.push_str("%25"),
            '+' => escaped.push_str("%2B"),
            '(' => escaped.push_str("%28"),
            ')' => escaped.push_str("%29"),
            '/' => escaped.push_str("%2F"),
            other => escaped.push(other),
        }
    }
    escaped
}

pub(super) fn format(platform: &Platform) -> String {
    if platform.os.is_empty() {
        return "unknown".to_owned();
    }
    join(&[&platform.os, &platform.architecture, platform.variant.as_deref().unwrap_or_default()])
}

pub(super) fn format_all(platform: &Platform) -> String {
    let version = platform.os_version.as_deref().map(escape).unwrap_or_default();
    let features = format_features(&platform.os_features);
    if platform.os.is_empty() || (version.is_empty() && features.is_empty()) {
        return format(platform);
    }
    let os = if features.is_empty() {
        format!("{}({version})", platform.os)
    } else {
        format!("{}({version}+{features})", platform.os)
    };
    join(&[&os, &platform.architecture, platform.variant.as_deref().unwrap_or_default()])
}

fn format_features(features: &[String]) -> String {
    let mut sorted: Vec<&String> = features.iter().filter(|feature| !feature.is_empty()).collect();
    sorted.sort();
    sorted.dedup();
    sorted.into_iter().map(|feature| escape(feature)).collect::<Vec<_>>().join("+")
}

/// Go's `path.Join`: empty parts are left out and the result is cleaned lexically.
fn join(parts: &[&str]) -> String {
    let joined = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
    let rooted = joined.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            ".." if rooted => {}
            other => kept.push(other),
        }
    }
    let cleaned = kept.join("/");
    match (rooted, cleaned.is_empty()) {
        (true, _) => format!("/{cleaned}"),
        (false, true) => ".".to_owned(),
        (false, false) => cleaned,
    }
}

pub(super) fn is_known(platform: &Platform) -> bool {
    // Names of runtimes in containers that are no names of Go's.
    const OTHERS: [&str; 2] = ["wasip1", "wasi"];
    let os = platform.os.as_str();
    (KNOWN_OS.contains(&os) || OTHERS.contains(&os)) && KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str())
}

pub(super) fn normalize(platform: &Platform) -> Platform {
    let variant = platform.variant.as_deref().unwrap_or_default();
    let (architecture, variant) = normalize_architecture(&platform.architecture, variant);
    let mut os_features = platform.os_features.clone();
    os_features.sort();
    os_features.dedup();
    Platform {
        os: normalize_os(&platform.os),
        architecture,
        variant,
        os_version: platform.os_version.clone(),
        os_features,
    }
}

fn normalize_os(os: &str) -> String {
    match os.to_lowercase().as_str() {
        "" => "linux".to_owned(),
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normalize_architecture(architecture: &str, variant: &str) -> (String, Option<String>) {
    let architecture = architecture.to_lowercase();
    let variant = variant.to_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), Some(variant.to_owned()).filter(|variant| !variant.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn joins_as_go_does() {
        assert_eq!(join(&["linux", "", "v1"]), "linux/v1");
        assert_eq!(join(&["linux", ".."]), ".");
        assert_eq!(join(&["..", "..", "x"]), "../../x");
        assert_eq!(join(&["/", "..", "x/"]), "/x");
    }

    proptest! {
        #[test]
        fn parsing_inverts_formatting(
            os in "(linux|windows|freebsd|x_y-z)",
            architecture in "[a-z][a-z0-9]{1,6}",
            variant in "(v[0-9](\\.[0-9])?)?",
            version in "[0-9.]{0,8}",
            features in proptest::collection::vec("[a-z%+()/]{1,4}", 0..3),
        ) {
            let os_version = Some(version).filter(|version| !version.is_empty());
            let given = Platform { os_version, os_features: features, ..Platform::new(os, architecture) }
                .with_variant(variant)
                .normalize();
            let parsed: Platform = given.format_all().parse().unwrap();
            prop_assert_eq!(parsed.normalize(), given.clone());
            let json = serde_json::to_string(&given).unwrap();
            prop_assert_eq!(serde_json::from_str::<Platform>(&json).unwrap(), given);
        }

        #[test]
        fn any_text_parses_or_fails_without_panic(text in "[a-zA-Z0-9/()+%*. é_-]{0,24}") {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert_eq!(platform.normalize().normalize(), platform.normalize());
            }
        }
    }
}
