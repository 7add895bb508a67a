//! What a user sees of a Dockerfile with mistakes.

use onetag_dockerfile::diagnostic::render;
use onetag_dockerfile::parse;

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
