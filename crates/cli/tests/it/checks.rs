//! `build --check` and `--call`, and what a build says of its Dockerfile.

use onetag_oci::Platform;
use onetag_testkit::user::User;
use onetag_testkit::{Onetag, require};

use crate::support::{BINARY, World};

const QUESTIONABLE: &str = "\
# result is what is built
FROM scratch AS Result
ARG VERSION=1
ENV A b
ADD https://example.com/tool-amd64 /
";

fn onetag(dockerfile: &str) -> Onetag {
    let onetag = Onetag::new(BINARY, User::current());
    onetag.file("context/Dockerfile", dockerfile);
    onetag
}

#[test]
fn checks_find_without_building() {
    let onetag = onetag(QUESTIONABLE);
    let found = onetag.line("build --check --platform linux/amd64,linux/s390x context").failure();
    for finding in ["3 warnings", "StageNameCasing", "LegacyKeyValueFormat", "LiteralArchitecture", ">>> ENV A b"] {
        assert!(found.text().contains(finding), "{finding} is missing\n{found}");
    }
    let json = onetag.line("build --call=check,format=json,ignorestatus=true context").success();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON on standard output");
    assert_eq!(json["warnings"][0]["ruleName"], "StageNameCasing");
    assert_eq!(json["warnings"][0]["location"]["ranges"][0]["start"]["line"], 2);
}

#[test]
fn targets_and_parameters_are_listed() {
    let onetag = onetag(QUESTIONABLE);
    let targets = onetag.line("build --call=targets context").success();
    assert!(targets.text().contains("result (default) is what is built"), "{targets}");
    let outline = onetag.line("build --call=outline context").success();
    assert!(outline.text().contains("VERSION     1"), "{outline}");
    onetag.line("build --call=nonsense context").failure().says("nonsense");
}

#[test]
fn all_errors_of_a_dockerfile_are_shown_at_once() {
    let onetag = onetag("FROM scratch\nRUNN x\nCOPY --form=a b c\n");
    let failed = onetag.line("build --progress plain context").failure();
    for text in
        ["Dockerfile:2:1: unknown instruction: RUNN (did you mean RUN?)", "Dockerfile:3:6: unknown flag: --form"]
    {
        assert!(failed.stderr.contains(text), "{text} is missing\n{failed}");
    }
    assert!(
        failed.stderr.contains("ERROR: failed to build: failed to solve: dockerfile parse error on line 2"),
        "{failed}"
    );
}

/// Those that only show once instructions are followed are told together too, the one BuildKit stops at first.
#[test]
fn what_instructions_mean_is_looked_at_to_the_end() {
    let dockerfile = "FROM scratch AS build\nCOPY --chmod=999 --chown=1 \\\n  x /y\nEXPOSE 80 99999\n\
                      FROM scratch\nCOPY --from=9 /y /y\nSTOPSIGNAL SIGTREM\nFROM build\nVOLUME $NOTHING\n";
    let onetag = onetag(dockerfile);
    let expected = "\
Dockerfile:6
--------------------
   4 |     EXPOSE 80 99999
   5 |     FROM scratch
   6 | >>> COPY --from=9 /y /y
   7 |     STOPSIGNAL SIGTREM
   8 |     FROM build
--------------------
Dockerfile:6:6: invalid stage index 9
    COPY --from=9 /y /y
         ^^^^^^^^
    hint: stages are counted from 0; their names are safer: FROM … AS name
Dockerfile:2:6: invalid chmod parameter: '999'. it should be octal string and between 0 and 07777
    COPY --chmod=999 --chown=1 \\
         ^^^^^^^^^^^
    hint: write octal digits, as in 755, or a symbolic mode, as in u=rwX,go=rX
Dockerfile:4:11: invalid containerPort: 99999
    EXPOSE 80 99999
              ^^^^^
    hint: write a port or a range of ports, as in 80, 53/udp or 8000-8010/tcp
Dockerfile:9:8: VOLUME specified can not be an empty string
    VOLUME $NOTHING
           ^^^^^^^^
    hint: write a path: VOLUME /data
ERROR: failed to build: failed to solve: invalid stage index 9
";
    let failed = onetag.line("build --progress plain --platform linux/amd64,linux/arm64 context").failure();
    assert!(failed.stderr.contains(expected), "{failed}");
    let checked = onetag.line("build --check context").failure();
    assert!(checked.stderr.contains("Dockerfile:2:6: invalid chmod parameter: '999'"), "{checked}");
}

#[test]
fn mistakes_in_mounts_are_shown_with_their_place_and_all_at_once() {
    let onetag = onetag("FROM scratch\nRUN --mount=type=bind,sorce=a,target=/b x\nRUN --mount=type=bnd,target=/b x\n");
    let failed = onetag.line("build --progress plain context").failure();
    for text in [
        "Dockerfile:2:5: unexpected key 'sorce' in 'sorce=a' (did you mean source?)",
        "Dockerfile:3:5: unsupported mount type \"bnd\" (did you mean bind?)",
        "ERROR: failed to build: failed to solve: unexpected key 'sorce' in 'sorce=a'",
    ] {
        assert!(failed.stderr.contains(text), "{text} is missing\n{failed}");
    }
}

#[test]
fn findings_are_warnings_of_a_build_or_its_end() {
    let dockerfile = "FROM scratch AS B\nENV A=b\n";
    let warned = onetag(dockerfile).line("build --progress plain context").success();
    assert!(
        warned.stderr.contains("#1 WARN: StageNameCasing: Stage name 'B' should be lowercase (line 1)"),
        "{warned}"
    );
    assert!(warned.stderr.contains("1 warning found"), "{warned}");
    let strict = onetag(&format!("# check=error=true\n{dockerfile}"));
    strict.line("build --progress plain context").failure().says("lint violation found for rules: StageNameCasing");
}

/// What asks for parameters or targets tells as much as a build does.
#[test]
fn every_flag_is_looked_at_and_every_call_tells_all() {
    let onetag =
        onetag("FROM scratch\nCOPY --chmodd=1 --frm=x a /\nHEALTHCHECK --interval=1x --retries=x CMD a\nRUNN\n");
    let places = [
        "Dockerfile:2:6: unknown flag: --chmodd (did you mean chmod?)",
        "Dockerfile:2:17: unknown flag: --frm (did you mean from?)",
        "Dockerfile:3:13: time: unknown unit \"x\" in duration \"1x\"",
        "Dockerfile:3:27: ",
        "Dockerfile:4:1: unknown instruction: RUNN (did you mean RUN?)",
    ];
    for call in ["build", "check", "outline", "targets", "outline,format=json", "targets,format=json"] {
        let failed = onetag.line(&format!("build --progress plain --call={call} context")).failure();
        for place in places {
            assert!(failed.stderr.contains(place), "{call}: {place} is missing\n{failed}");
        }
    }
}

/// The stage that compiles runs on the machine that builds, or the check says so, for whom several platforms are asked.
#[test]
fn build_stages_that_run_emulated_are_found() {
    let stages = "FROM scratch AS build\nCOPY . .\nRUN go build -o /app .\nFROM scratch\nCOPY --from=build /app /app\n";
    let foreign = if std::env::consts::ARCH == "aarch64" { "linux/amd64" } else { "linux/arm64" };
    let check = |dockerfile: &str, platforms: &str| {
        onetag(dockerfile).line(&format!("build --check --platform {platforms} context"))
    };
    let platforms = format!("linux/s390x,{foreign}");
    let found = check(stages, &platforms);
    assert!(found.text().contains("EmulatedBuildStage"), "{found}");
    assert!(found.text().contains("Stage build runs emulated for linux/s390x"), "{found}");
    let mended = stages.replacen("FROM scratch", "FROM --platform=$BUILDPLATFORM scratch", 1);
    let skipped = format!("# check=skip=EmulatedBuildStage\n{stages}");
    for (dockerfile, platforms) in [(&*mended, &*platforms), (&*skipped, &*platforms)] {
        let found = check(dockerfile, platforms).success();
        assert!(!found.text().contains("EmulatedBuildStage"), "{found}");
    }
}

/// A step that fails is told word for word as BuildKit tells it, its lines marked.
#[test]
fn a_step_that_fails_is_told_as_recorded() {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/progress/failing-step.txt");
    let recorded = std::fs::read_to_string(recorded).expect("a recording");
    let start = recorded.find("fail.Dockerfile:3").expect("the lines are shown");
    let end = recorded.find("exit status").expect("the end");
    let world = World::any();
    let base = require!(ok world.push_base(&[&Platform::host().to_string()]));
    let expected = recorded[start..end].replace("localhost:5000/busybox:latest", &base);
    world.onetag.file("fail/fail.Dockerfile", format!("FROM {base}\nRUN echo before\nRUN exit 3\n"));
    let failed = world.onetag.line("build --progress plain -f fail/fail.Dockerfile fail").failure();
    assert!(failed.stderr.contains(&expected), "{expected}\n{failed}");
}

/// Every front end's line is accepted; that another one is meant is told.
#[test]
fn another_front_end_is_answered_by_the_one_that_is_built_in() {
    let note = "names another front end; the one that is built in answers";
    for (line, is_foreign) in [
        ("# syntax=docker/dockerfile:1", false),
        (
            "# syntax=docker.io/docker/dockerfile:1.7-labs@sha256:0123456789012345678901234567890123456789012345678901234567890123",
            false,
        ),
        ("#syntax = docker/dockerfile-upstream:master", false),
        ("# syntax=example.com/other/front:1", true),
        ("# syntax=docker.io/r2d4/llb:latest", true),
        ("# none", false),
    ] {
        let onetag = onetag(&format!("{line}\nFROM scratch\nCOPY Dockerfile /\n"));
        let built = onetag.line("build --progress plain context").success();
        assert_eq!(built.stderr.contains(note), is_foreign, "{line}\n{built}");
    }
    let onetag = onetag("FROM scratch\nCOPY Dockerfile /\n");
    onetag.line("build --progress plain --build-arg BUILDKIT_SYNTAX=example.com/x context").success().says(note);
}
