//! Which crate may depend on which, and what may be depended upon at all; asked of cargo.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// The permitted arrows between the crates. There are no others.
const ARROWS: [(&str, &[&str]); 10] = [
    ("oci", &[]),
    ("llb", &["oci"]),
    ("dockerfile", &["llb", "oci"]),
    ("solver", &["llb", "oci"]),
    ("store", &["oci"]),
    ("registry", &["oci"]),
    ("sandbox", &["oci"]),
    ("engine", &["oci", "llb", "dockerfile", "solver", "store", "registry", "sandbox"]),
    ("cli", &["oci", "llb", "dockerfile", "solver", "store", "registry", "sandbox", "engine"]),
    ("testkit", &["oci", "store", "registry"]),
];

/// Dependencies that only some crates may have.
const RESERVED: [(&str, &[&str]); 5] = [
    ("anyhow", &["cli"]),
    ("tokio", &["registry", "cli"]),
    ("hyper", &["registry"]),
    ("rusqlite", &["store"]),
    ("clap", &["cli"]),
];

/// Never, not even through others; the reasons are in `deny.toml`.
const BANNED: [&str; 9] = [
    "oci-spec",
    "oci-client",
    "libcontainer",
    "seccompiler",
    "reqwest",
    "openssl-sys",
    "native-tls",
    "ring",
    "async-std",
];

/// As in `deny.toml`.
const LICENCES: [&str; 14] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "bzip2-1.0.6",
];

/// The workspace's own packages and what they name.
fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")).no_deps();
    command.other_options(["--offline", "--locked"].map(str::to_owned));
    command.exec().expect("cargo metadata")
}

/// The name of one of our crates without its prefix.
fn own_name(package: &str) -> Option<&str> {
    package.strip_prefix("onetag-")
}

fn own_packages(metadata: &Metadata) -> BTreeMap<&str, &Package> {
    metadata.workspace_packages().into_iter().filter_map(|package| Some((own_name(&package.name)?, package))).collect()
}

#[test]
fn arrows_are_those_of_the_architecture() {
    let metadata = metadata();
    let permitted: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let packages = own_packages(&metadata);
    let names: BTreeSet<&str> = packages.keys().copied().collect();
    assert_eq!(names, permitted.keys().copied().collect(), "the crates of the workspace");
    for (name, package) in packages {
        for dependency in &package.dependencies {
            let Some(target) = own_name(&dependency.name) else { continue };
            // Tests may use the kit, and a crate may name itself to turn on a feature for its own tests.
            let for_tests = dependency.kind == DependencyKind::Development && (target == "testkit" || target == name);
            assert!(for_tests || permitted[name].contains(&target), "{name} must not depend on {target}");
        }
    }
}

#[test]
fn reserved_dependencies_stay_where_they_belong() {
    let metadata = metadata();
    let reserved: BTreeMap<&str, &[&str]> = RESERVED.into_iter().collect();
    for (name, package) in own_packages(&metadata) {
        for dependency in package.dependencies.iter().filter(|one| one.kind != DependencyKind::Development) {
            if let Some(owners) = reserved.get(dependency.name.as_str()) {
                assert!(owners.contains(&name), "{name} must not depend on {}", dependency.name);
            }
        }
    }
}

/// Name, origin and licence of everything that is compiled here, tests included. `cargo metadata` would also list
/// optional dependencies that no feature turns on.
fn compiled() -> Vec<(String, String, String)> {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["tree", "--offline", "--locked", "--workspace", "--prefix", "none", "--format", "{p}\t{l}"]);
    command.args(["--edges", "normal,build,dev", "--no-dedupe", "--target", &onetag_testkit::host::rust_target()]);
    command.current_dir(onetag_testkit::folder::repository());
    let tree = onetag_testkit::Running::start(&mut command).finish(std::time::Duration::from_secs(60)).success();
    let lines: BTreeSet<&str> =
        tree.text().lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect();
    let split = |line: &&str| {
        let (package, licence) = line.split_once('\t').unwrap_or((line, ""));
        let (name, rest) = package.split_once(' ').unwrap_or((package, ""));
        let origin = rest.split('(').skip(1).find(|part| !part.starts_with("proc-macro")).unwrap_or_default();
        (name.to_owned(), origin.trim_end_matches([')', ' ']).to_owned(), licence.to_owned())
    };
    lines.iter().map(split).collect()
}

#[test]
fn foreign_dependencies_are_permitted_ones() {
    let mut wrong = Vec::new();
    let compiled = compiled();
    assert!(compiled.len() > 100, "cargo tree lists {} packages", compiled.len());
    for (name, origin, licence) in compiled {
        if BANNED.contains(&name.as_str()) {
            wrong.push(format!("{name} is banned"));
        }
        if own_name(&name).is_none() && !origin.is_empty() {
            wrong.push(format!("{name} comes from {origin}, not from the default registry"));
        }
        if !is_permitted(&licence) {
            wrong.push(format!("{name} has the licence {licence:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An SPDX expression of `AND`, `OR` and parentheses over the permitted licences; `/` is an old spelling of `OR`.
fn is_permitted(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "_WITH_");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>) -> bool {
    let mut permitted = both(words);
    while words.next_if_eq(&"OR").is_some() {
        permitted |= both(words);
    }
    permitted
}

fn both(words: &mut Words<'_>) -> bool {
    let mut permitted = one(words);
    while words.next_if_eq(&"AND").is_some() {
        permitted &= one(words);
    }
    permitted
}

fn one(words: &mut Words<'_>) -> bool {
    match words.next() {
        Some("(") => either(words) && words.next() == Some(")"),
        Some(word) => LICENCES.contains(&word.replace("_WITH_", " WITH ").as_str()),
        None => false,
    }
}

#[test]
fn licence_expressions_are_understood() {
    assert!(is_permitted("MIT OR Apache-2.0"));
    assert!(is_permitted("GPL-3.0 OR MIT"));
    assert!(is_permitted("ISC AND (Apache-2.0 OR ISC) AND OpenSSL"));
    assert!(is_permitted("Apache-2.0 WITH LLVM-exception OR MIT"));
    assert!(is_permitted("Unlicense/MIT"));
    assert!(!is_permitted("GPL-3.0"));
    assert!(!is_permitted("MIT AND GPL-3.0"));
    assert!(!is_permitted(""));
}
