//! What a user sees of a Dockerfile with mistakes.

use onetag_dockerfile::diagnostic::render;
use onetag_dockerfile::resolver::{IgnoreFile, NamedContext};
use onetag_dockerfile::{LowerOptions, ResolveError, ResolveOptions, ResolvedImage, Resolver, lower, mistakes, parse};
use onetag_oci::{Digest, ImageConfig, Platform, Reference};

const DOCKERFILE: &str = "\
FROM alpine AS build
RUNN make
COPY --form=x a \\
  b /c
RUN --mount=type=cash,target=/c true
HEALTHCHECK --interval=5 CMD true
SHELL /bin/bash
EXPOSE
";

#[test]
fn all_errors_are_shown_with_place_cause_and_remedy() {
    let (file, errors) = parse(DOCKERFILE.as_bytes());
    let errors = mistakes(&file, &LowerOptions::default(), errors);
    let shown = render("Dockerfile", &file.source, &errors);
    let expected = "\
Dockerfile:2
--------------------
   1 |     FROM alpine AS build
   2 | >>> RUNN make
   3 |     COPY --form=x a \\
   4 |       b /c
--------------------
Dockerfile:2:1: unknown instruction: RUNN (did you mean RUN?)
    RUNN make
    ^^^^
Dockerfile:3:6: unknown flag: --form (did you mean from?)
    COPY --form=x a \\
         ^^^^^^^^
    hint: the flags are --chown, --from, --chmod, --link, --exclude, --parents
Dockerfile:5:5: unsupported mount type \"cash\" (did you mean cache?)
    RUN --mount=type=cash,target=/c true
        ^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: the types are bind, cache, tmpfs, secret, ssh
Dockerfile:6:13: time: missing unit in duration \"5\"
    HEALTHCHECK --interval=5 CMD true
                ^^^^^^^^^^^^
    hint: give the unit: 5s for seconds, 5m for minutes
Dockerfile:7:1: SHELL requires the arguments to be in JSON form
    SHELL /bin/bash
    ^^^^^^^^^^^^^^^
    hint: write the words as a JSON array: SHELL [\"/bin/sh\", \"-c\"]
Dockerfile:8:1: EXPOSE requires at least one argument
    EXPOSE
    ^^^^^^
";
    assert_eq!(shown, expected);
}

/// Has every image whose name does not begin with `absent`.
struct Images;

impl Resolver for Images {
    fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
        _options: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError> {
        if reference.path().contains("absent") {
            return Err(ResolveError::new("not found"));
        }
        Ok(ResolvedImage {
            reference: reference.clone(),
            digest: Digest::sha256(b"index"),
            config: ImageConfig::new(platform),
            config_bytes: Vec::new(),
        })
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        Ok(None)
    }

    fn named_context(&self, _key: &str) -> Result<Option<NamedContext>, ResolveError> {
        Ok(None)
    }

    fn source_time(&self, _source: &onetag_llb::SourceOp, _log_name: &str) -> Result<Option<i64>, ResolveError> {
        Ok(None)
    }
}

fn refused(text: &str) -> String {
    let (file, errors) = parse(text.as_bytes());
    assert_eq!(errors, []);
    let options = LowerOptions { target_platform: Some(Platform::linux("amd64")), ..LowerOptions::default() };
    let error = lower(&file, &options, &Images).expect_err("an error");
    render("Dockerfile", &file.source, &error.diagnostics())
}

#[test]
fn what_instructions_mean_is_looked_at_to_the_end() {
    insta::assert_snapshot!(refused(
        "\
ARG VERSION=${NONE:?no version}
FROM --platform=linux/x68 alpine AS a
FROM absent AS b
RUN true
FROM alpine AS build
ENV A=1 B=${A
COPY --from=biuld --chmod=999 \\
  --chown=1 x /y
COPY --from=7 x /y
COPY --chmod=u~x https://example.org/x /y
ADD --checksum=md5:1 https://example.org/x git@example.org:a.git#main:sub?x /y
ADD --checksum=sha256:zz https://example.org/x /y
EXPOSE 80 99999 53/upd 1-x
STOPSIGNAL SIGTREM
VOLUME $NOTHING
RUN --mount=type=bind,target=/ --mount=type=tmpfs,target=/a,uid=7 --mount=type=ssh,source=x true
RUN --mount=target=/ true
RUN --device=vendor.com/x=y true
HEALTHCHECK --interval=1h CMD x
FROM build
COPY --from=a x /
COPY --from=b x /
STOPSIGNAL -
",
    ));
}

#[test]
fn what_may_come_of_an_earlier_mistake_is_not_told() {
    let shown = refused(
        "FROM absent AS base\nEXPOSE $PORT\nRUN --mount=target=. true\nCOPY x ${Y:?from_the_image}\nEXPOSE 99999\n\
         FROM alpine\nENV A=${B\nEXPOSE $A\nCOPY --from=base x ${A:?none}\nEXPOSE x$A\nSTOPSIGNAL x\n",
    );
    let told: Vec<&str> = shown.lines().filter(|line| line.starts_with("Dockerfile:")).skip(1).collect();
    let places: Vec<&str> = told.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["Dockerfile:1:6", "Dockerfile:5:8", "Dockerfile:7:5", "Dockerfile:11:12"], "{shown}");
}

#[test]
fn mistakes_of_both_kinds_are_told_together() {
    let text = "FROM $BASE AS a\nRUNN x\nEXPOSE $P\nCOPY --from=b --chmod=9 x ${X:?} \nFROM a\nSTOPSIGNAL x\nCOPY --from=4 a b\n";
    let (file, errors) = parse(text.as_bytes());
    let errors = mistakes(&file, &LowerOptions::default(), errors);
    let places: Vec<String> = errors.iter().map(|error| error.span.unwrap().start.to_string()).collect();
    assert_eq!(places, ["2:1", "6:12"], "{errors:#?}");
    let text = "FROM a\nRUNN x\nCOPY --chmod=9 x y\nRUN --mount=type=bnd x\n";
    let (file, errors) = parse(text.as_bytes());
    let errors = mistakes(&file, &LowerOptions::default(), errors);
    let places: Vec<String> = errors.iter().map(|error| error.span.unwrap().start.to_string()).collect();
    assert_eq!(places, ["2:1", "3:6", "4:5"], "{errors:#?}");
}

#[test]
fn fifty_thousand_lines_are_read_in_no_time() {
    let step = "COPY --chown=1:2 a b /c/\nRUN apt-get update && \\\n    apt-get install -y curl\nENV A=b C=\"d e\"\nWORKDIR /w\n";
    let text = format!("FROM alpine\n{}", step.repeat(10_000));
    let started = std::time::Instant::now();
    let (file, errors) = parse(text.as_bytes());
    assert!(errors.is_empty() && file.stages[0].instructions.len() == 40_000);
    // Far above what it takes, far below what anything quadratic would.
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
