//! Rules that the recorded vectors do not show, and the pages of our own.

use std::error::Error;
use std::path::PathBuf;

use onetag_dockerfile::lint::{BaseImages, LintRequest, PLATFORM_RULES, RULES, lint};
use onetag_oci::{ImageConfig, Platform, Reference};

struct Images;

impl BaseImages for Images {
    fn config(&self, _reference: &Reference, platform: &Platform) -> Result<ImageConfig, Box<dyn Error + Send + Sync>> {
        Ok(ImageConfig::new(platform))
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

#[test]
fn every_rule_has_a_page() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let list = std::fs::read_to_string(root.join("docs/checks/README.md")).unwrap();
    for rule in PLATFORM_RULES {
        let page = std::fs::read_to_string(root.join(rule.url)).unwrap_or_else(|error| panic!("{}: {error}", rule.url));
        assert!(page.starts_with(&format!("# {}\n", rule.name)), "{}", rule.url);
        assert!(list.contains(&format!("[{}](", rule.name)), "{} is not listed", rule.name);
    }
    for rule in RULES {
        // BuildKit has no page for this one.
        let is_known = rule.url.is_empty() && rule.name == "InvalidBaseImagePlatform";
        assert!(is_known || rule.url.starts_with("https://docs.docker.com/go/dockerfile/rule/"), "{}", rule.name);
    }
}
