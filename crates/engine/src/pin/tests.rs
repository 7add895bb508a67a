//! Pinning and unpinning are inverse, and pinning twice is pinning once.

use std::ops::Range;

use onetag_dockerfile::images::ImageOptions;
use onetag_oci::Digest;
use proptest::prelude::*;

use super::*;

/// The file with a digest of its own for every reference.
fn pin(text: &str, kind: SourceKind) -> (String, Vec<(Range<usize>, usize)>) {
    let source = Source { name: "f".into(), path: None, content: text.as_bytes().to_vec(), kind };
    let mut edits = Vec::new();
    for occurrence in source.occurrences(&ImageOptions::default()).unwrap() {
        let (Ok(reference), Ok(site)) = (&occurrence.reference, &occurrence.site) else { continue };
        let name = reference.without_digest().with_default_tag();
        let digest = Digest::sha256(name.to_string().as_bytes());
        edits.push(Edit::new(site, edit_text(&occurrence, &digest)));
    }
    edits.sort();
    edits.dedup();
    let mut inserted = Vec::new();
    let mut shift = 0;
    for edit in &edits {
        let start = edit.bytes.0 + shift;
        inserted.push((start..start + edit.text.len(), edit.bytes.1 - edit.bytes.0));
        shift = shift + edit.text.len() - (edit.bytes.1 - edit.bytes.0);
    }
    (String::from_utf8(apply(text.as_bytes(), edits).unwrap()).unwrap(), inserted)
}

fn name() -> impl Strategy<Value = String> {
    let registry = prop_oneof![Just(""), Just("localhost:5000/"), Just("ghcr.io/a/")];
    let tag = prop_oneof![Just(""), Just(":1"), Just(":3.20-slim")];
    (registry, "[a-z]{1,6}", tag).prop_map(|(registry, name, tag)| format!("{registry}img-{name}{tag}"))
}

fn dockerfile() -> impl Strategy<Value = String> {
    let line_end = prop_oneof![Just("\n"), Just("\r\n")];
    let space = prop_oneof![Just(" "), Just("\t"), Just("  "), Just(" \\\n  # a comment\n "), Just(" \\\n\t")];
    let base = (name(), space.clone(), any::<bool>(), 0..4_u8).prop_map(|(name, space, quoted, form)| {
        let name = if quoted { format!("\"{name}\"") } else { name };
        match form {
            0 => format!("FROM{space}{name}{space}AS stage-é").replace('é', "x"),
            1 => format!("from{space}--platform=$BUILDPLATFORM{space}{name}"),
            2 => format!("FROM ${{NONE:-{name}}}"),
            _ => format!("# é\nFROM {name}"),
        }
    });
    let step = (name(), space, any::<bool>(), 0..6_u8).prop_map(|(name, space, quoted, form)| {
        let name = if quoted { format!("'{name}'") } else { name };
        match form {
            0 => format!("COPY{space}--from={name}{space}/a /b"),
            1 => format!("RUN{space}--mount=type=bind,from={name},target=/x{space}--network=none{space}true"),
            2 => format!("RUN <<EOF\nFROM {name}\nCOPY --from={name} a b\nEOF"),
            3 => format!("ONBUILD COPY --from={name}:x /a /b").replace("':x", ":x'"),
            4 => format!("LABEL x={name} é=\"FROM {name}\""),
            _ => format!("# COPY --from={name} a b"),
        }
    });
    (any::<bool>(), proptest::collection::vec((base, proptest::collection::vec(step, 0..4)), 1..4), line_end).prop_map(
        |(mark, stages, line_end)| {
            let mut lines: Vec<String> = Vec::new();
            for (base, steps) in stages {
                lines.push(base);
                lines.extend(steps);
            }
            let text = lines.join("\n").replace('\n', line_end);
            if mark { format!("\u{feff}{text}") } else { text }
        },
    )
}

fn yaml() -> impl Strategy<Value = String> {
    let quoted = (name(), 0..4_u8).prop_map(|(name, quotes)| match quotes {
        0 => format!("\"{name}\""),
        1 => format!("'{name}'"),
        2 => format!("{name}   # é"),
        _ => name,
    });
    let service = (quoted, 0..3_u8).prop_map(|(image, form)| match form {
        0 => format!("    image: {image}\n"),
        1 => format!("    # é\n    command: [\"é\", image: x]\n    image:   {image}\n"),
        _ => format!("    x: &a {{image: no:1}}\n    image: &i {image}\n"),
    });
    (proptest::collection::vec(service, 1..5), any::<bool>(), any::<bool>()).prop_map(|(services, carriage, pods)| {
        let mut text = String::new();
        if pods {
            text.push_str("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n");
            services.iter().for_each(|service| text.push_str(&format!("  -\n{service}")));
        } else {
            text.push_str("# é\nservices:\n");
            for (at, service) in services.iter().enumerate() {
                text.push_str(&format!("  s{at}:\n{service}"));
            }
        }
        if carriage { text.replace('\n', "\r\n") } else { text }
    })
}

fn check(text: &str, kind: SourceKind) -> Result<(), TestCaseError> {
    let (pinned, inserted) = pin(text, kind);
    let (again, _) = pin(&pinned, kind);
    prop_assert_eq!(&again, &pinned);
    let mut bytes = pinned.clone().into_bytes();
    for (range, replaced) in inserted.into_iter().rev() {
        prop_assert_eq!(replaced, 0);
        bytes.splice(range, []);
    }
    prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
    // The bytes that the user sees are the only ones that came: with a tag, the digest alone.
    prop_assert!(pinned.matches("@sha256:").count() <= text.matches("img-").count());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn dockerfiles(text in dockerfile()) {
        check(&text, SourceKind::Dockerfile)?;
    }

    #[test]
    fn yaml_files(text in yaml()) {
        prop_assert!(pin(&text, SourceKind::Yaml).0.contains("@sha256:"));
        check(&text, SourceKind::Yaml)?;
    }
}

#[test]
fn a_tag_that_was_only_meant_is_written_out() {
    let (pinned, _) = pin("FROM alpine\n", SourceKind::Dockerfile);
    assert!(pinned.starts_with("FROM alpine:latest@sha256:"), "{pinned}");
}
