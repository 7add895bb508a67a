//! Rules that the recorded vectors do not show, and the pages of our own.

use std::error::Error;
use std::path::PathBuf;

use onetag_dockerfile::lint::{BaseImages, LintConfig, LintRequest, PLATFORM_RULES, RULES, lint};
use onetag_oci::{DiffId, Digest, ImageConfig, Platform, Reference};

struct Images;

impl BaseImages for Images {
    fn config(&self, reference: &Reference, platform: &Platform) -> Result<ImageConfig, Box<dyn Error + Send + Sync>> {
        if !reference.path().ends_with("only-arm64") {
            return Ok(ImageConfig::new(platform));
        }
        let mut config = ImageConfig::new(&Platform::linux("arm64"));
        config.rootfs.diff_ids.push(DiffId(Digest::sha256(b"layer")));
        Ok(config)
    }
}

/// What the rule of that name says, with the line.
fn found(text: &str, rule: &str) -> Vec<(u32, String)> {
    let request = LintRequest { target_platform: Some(Platform::linux("amd64")), ..LintRequest::default() };
    let report = lint(text.as_bytes(), &request, &Images);
    assert_eq!(report.error, None);
    let of_rule = report.warnings.iter().filter(|warning| warning.rule.is_some_and(|known| known.name == rule));
    of_rule.map(|warning| (warning.first_line().unwrap_or_default(), warning.message.clone())).collect()
}

#[test]
fn stages_do_not_take_reserved_names() {
    let say = |name: &str| format!("Stage name should not use the same name as reserved stage \"{name}\"");
    let text = "FROM scratch AS scratch\nFROM alpine AS context\nFROM alpine AS other\n";
    assert_eq!(found(text, "ReservedStageName"), [(1, say("scratch")), (2, say("context"))]);
}

#[test]
fn platforms_of_stages_are_not_constants_unless_the_name_says_so() {
    let text = "FROM --platform=linux/amd64 alpine AS a\nFROM --platform=linux/arm64 alpine AS build_arm64\n\
                FROM --platform=$BUILDPLATFORM alpine AS c\n";
    let say = "FROM --platform flag should not use constant value \"linux/amd64\"".to_owned();
    assert_eq!(found(text, "FromPlatformFlagConstDisallowed"), [(1, say)]);
}

#[test]
fn comments_of_definitions_describe_them() {
    let text = "# check=experimental=InvalidDefinitionDescription\n# a tool\nFROM scratch AS tool\n# tool is good\n\
                ARG VERSION=1\n# VERSION is the version\nARG VERSION=2\n\n# not about it\n\nARG OTHER=1\n";
    let shown = found(text, "InvalidDefinitionDescription");
    assert_eq!(
        shown[..2],
        [
            (3, "Comment for FROM should follow the format: `# tool <description>`".to_owned()),
            (5, "Comment for ARG should follow the format: `# VERSION <description>`".to_owned()),
        ]
    );
    assert_eq!(
        found(&text[text.find("# a tool").unwrap()..], "InvalidDefinitionDescription"),
        [],
        "it is experimental"
    );
}

fn page_name(rule: &str) -> String {
    let mut name = String::new();
    let characters: Vec<char> = rule.chars().collect();
    for (index, &character) in characters.iter().enumerate() {
        let follows_small = index > 0 && characters[index - 1].is_lowercase();
        let starts_word = index > 0 && characters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if character.is_uppercase() && (follows_small || starts_word) {
            name.push('-');
        }
        name.push(character.to_ascii_lowercase());
    }
    format!("{name}.md")
}

fn page(rule: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/checks")).join(page_name(rule));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first example of a page is what its rule finds; the second is what to write, in which it finds nothing.
#[test]
fn the_examples_of_the_pages_are_true() {
    for rule in RULES {
        let page = page(rule.name);
        let examples: Vec<&str> =
            page.split("```dockerfile\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let [bad, good] = examples.as_slice() else { panic!("{} has {} examples", rule.name, examples.len()) };
        let finds = |text: &str| {
            let config = LintConfig { experimental_all: true, ..LintConfig::default() };
            let request = LintRequest {
                config: Some(config),
                ignore_patterns: vec!["secret.txt".to_owned()],
                target_platform: Some(Platform::linux("amd64")),
                ..LintRequest::default()
            };
            let report = lint(text.as_bytes(), &request, &Images);
            report.warnings.iter().any(|warning| warning.rule.is_some_and(|known| known.name == rule.name))
        };
        assert!(finds(bad), "{} does not find its example:\n{bad}", rule.name);
        assert!(!finds(good), "{} finds what is good:\n{good}", rule.name);
        let skip = format!("`# check=skip={}`", rule.name);
        assert!(page.contains(&skip), "{} does not say how to skip it", rule.name);
    }
}

#[test]
fn every_rule_has_a_page() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let list = std::fs::read_to_string(root.join("docs/checks/README.md")).unwrap();
    for rule in PLATFORM_RULES {
        assert_eq!(rule.url, format!("docs/checks/{}", page_name(rule.name)));
    }
    for rule in RULES.iter().chain(PLATFORM_RULES) {
        let page = page(rule.name);
        assert!(page.starts_with(&format!("# {}\n", rule.name)), "{}", rule.name);
        let link = format!("[{}]({})", rule.name, page_name(rule.name));
        assert!(list.contains(&link), "{link} is not listed");
    }
    for rule in RULES {
        // BuildKit has no page for this one.
        let is_known = rule.url.is_empty() && rule.name == "InvalidBaseImagePlatform";
        assert!(is_known || rule.url.starts_with("https://docs.docker.com/go/dockerfile/rule/"), "{}", rule.name);
    }
}
