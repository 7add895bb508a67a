//! What is done again, and what is not.

use std::time::{Duration, SystemTime};

use onetag_dockerfile::NoCache;

use crate::setup::{Setup, small};

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

#[test]
fn nothing_changed_nothing_done() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/base:1\nCOPY a /b/\n"), ("a", "one")]);
    let request = setup.pushed(&context, &BOTH, "app:1");
    let (first, log) = setup.build(&request);
    assert_eq!((log.executed("COPY"), log.found("COPY")), (2, 0));
    let (second, log) = setup.build(&request);
    assert_eq!((log.executed("COPY"), log.found("COPY")), (0, 2));
    assert_eq!(first.descriptor, second.descriptor);
}

#[test]
fn content_counts_and_times_do_not() {
    let setup = Setup::new();
    let dockerfile = "FROM scratch\nCOPY a /b/\nCOPY c /d/\n";
    let context = setup.context("context", &[("Dockerfile", dockerfile), ("a", "one"), ("c", "two"), ("other", "x")]);
    let request = setup.request(&context, &["linux/amd64"]);
    setup.build(&request);
    let later = SystemTime::now() + Duration::from_secs(100);
    std::fs::File::options().write(true).open(context.join("a")).unwrap().set_modified(later).unwrap();
    std::fs::write(context.join("other"), "y").unwrap();
    let (_, log) = setup.build(&request);
    assert_eq!(log.executed("COPY"), 0, "{log:?}");
    std::fs::write(context.join("c"), "changed").unwrap();
    let (_, log) = setup.build(&request);
    assert_eq!((log.executed("COPY a"), log.executed("COPY c")), (0, 1));
    std::fs::write(context.join("a"), "changed").unwrap();
    let (_, log) = setup.build(&request);
    assert_eq!((log.executed("COPY a"), log.executed("COPY c")), (1, 1));
    std::fs::write(context.join("a"), "one").unwrap();
    std::fs::write(context.join("c"), "two").unwrap();
    let (_, log) = setup.build(&request);
    assert_eq!(log.executed("COPY"), 0, "what was there before is still known");
}

#[test]
fn ignored_files_are_neither_seen_nor_counted() {
    let setup = Setup::new();
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (".dockerignore", "*.log\n.dockerignore\n"),
        ("a", "1"),
        ("b.log", "1"),
    ];
    let context = setup.context("context", &files);
    let request = setup.request(&context, &["linux/amd64"]);
    setup.build(&request);
    std::fs::write(context.join("b.log"), "2").unwrap();
    let (_, log) = setup.build(&request);
    assert_eq!(log.executed("COPY"), 0);
}

/// The final stages take different files of the context, so their contexts are different vertices; the shared stage
/// is one all the same.
#[test]
fn a_stage_that_does_not_depend_on_the_target_is_made_once() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let dockerfile = "FROM --platform=$BUILDPLATFORM REGISTRY/base:1 AS build\nCOPY src /src/\n\
        FROM scratch\nARG TARGETARCH\nCOPY --from=build /src /src\nCOPY conf-$TARGETARCH /conf\n";
    let files = [("Dockerfile", dockerfile), ("src", "s"), ("conf-amd64", "a"), ("conf-arm64", "b")];
    let context = setup.context("context", &files);
    let (_, log) = setup.build(&setup.request(&context, &BOTH));
    assert_eq!(log.executed("COPY src /src/"), 1, "{log:#?}");
    assert_eq!(log.executed("/conf"), 2);
}

#[test]
fn a_copy_from_a_stage_that_came_out_the_same_is_found() {
    let setup = Setup::new();
    let dockerfile = |extra: &str| {
        format!("FROM scratch AS build\nCOPY a /a\nCOPY {extra} /extra\nFROM scratch\nCOPY --from=build /a /out/\n")
    };
    let context = setup.context("context", &[("a", "1"), ("x", "x"), ("y", "y")]);
    let request = setup.request(&context, &["linux/amd64"]);
    std::fs::write(context.join("Dockerfile"), dockerfile("x")).unwrap();
    setup.build(&request);
    std::fs::write(context.join("Dockerfile"), dockerfile("y")).unwrap();
    let (_, log) = setup.build(&request);
    assert_eq!((log.executed("/extra"), log.executed("--from=build")), (1, 0));
}

#[test]
fn copies_of_different_paths_of_one_stage_are_told_apart() {
    let setup = Setup::new();
    let dockerfile = |path: &str| format!("FROM scratch AS s\nCOPY . /\nFROM scratch\nCOPY --from=s {path} /file\n");
    let context = setup.context("context", &[("one/file", "1"), ("two/file", "2")]);
    let mut results = Vec::new();
    for path in ["/one/file", "/two/file", "/one/file"] {
        std::fs::write(context.join("Dockerfile"), dockerfile(path)).unwrap();
        let mut request = setup.pushed(&context, &["linux/amd64"], "app:1");
        request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "1".to_owned());
        let (outcome, _) = setup.build(&request);
        results.push(outcome.descriptor.unwrap().digest);
    }
    assert_ne!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn the_cache_can_be_passed_by_in_whole_and_by_stage() {
    let setup = Setup::new();
    let dockerfile =
        "FROM scratch AS one\nCOPY a /a\nFROM scratch AS two\nCOPY b /b\nFROM one\nCOPY --from=two /b /c\n";
    let context = setup.context("context", &[("Dockerfile", dockerfile), ("a", "1"), ("b", "2")]);
    let mut request = setup.request(&context, &["linux/amd64"]);
    setup.build(&request);
    request.no_cache = NoCache::Always;
    let (_, log) = setup.build(&request);
    assert_eq!((log.executed("COPY"), log.found("COPY")), (3, 0));
    request.no_cache = NoCache::Stages(vec!["two".to_owned()]);
    let (_, log) = setup.build(&request);
    assert_eq!((log.executed("COPY a"), log.executed("COPY b"), log.executed("COPY --from")), (0, 1, 0), "{log:?}");
    request.no_cache = NoCache::Never;
    let (_, log) = setup.build(&request);
    assert_eq!(log.executed("COPY"), 0);
}

/// The folders of all steps in the store, and how many of them hold files.
fn steps_on_disk(setup: &Setup) -> (usize, usize) {
    let folder = setup.engine.store().unwrap().root().join("layers/steps");
    let steps: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    (steps.len(), steps.iter().filter(|step| step.join("tree").exists()).count())
}

#[test]
fn a_copy_whose_files_nobody_needs_is_never_on_disk() {
    let setup = Setup::new();
    let dockerfile = "FROM scratch AS first\nCOPY a /b\nFROM scratch\nCOPY --from=first /b /c\nCOPY a d /\n";
    let files = [("Dockerfile", dockerfile), ("a", "one"), ("d", "two")];
    let context = setup.context("context", &files);
    let mut request = setup.pushed(&context, &BOTH, "app:1");
    request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "1400000000".to_owned());
    // A layer whose times are rewritten does not hold the files as they are: those are then kept beside it.
    request.outputs.iter_mut().for_each(|output| output.rewrite_timestamp = false);
    let (first, log) = setup.build(&request);
    assert_eq!(log.executed("COPY"), 3, "both platforms stand on nothing and are one");
    assert_eq!(steps_on_disk(&setup), (2, 0));
    let (second, log) = setup.build(&request);
    assert_eq!(log.executed("COPY"), 0, "{log:?}");
    assert_eq!(first.descriptor, second.descriptor);
    assert_eq!(steps_on_disk(&setup).1, 0);
    // What lies on a cached layer is the same as what lies on a fresh one.
    std::fs::write(context.join("d"), "three").unwrap();
    let (cached, log) = setup.build(&request);
    assert_eq!((log.executed("COPY"), log.executed("COPY a d")), (1, 1));
    let another = setup.another("another");
    let (fresh, _) = crate::setup::build(&another, &request);
    assert_eq!(cached.descriptor, fresh.descriptor);
    assert_ne!(cached.descriptor, first.descriptor);
}

#[test]
fn without_an_output_the_result_is_in_the_cache() {
    let setup = Setup::new();
    let context = setup.context("context", &[("Dockerfile", "FROM scratch\nCOPY a /b/\n"), ("a", "one")]);
    let mut request = setup.request(&context, &BOTH[..1]);
    let (_, log) = setup.build(&request);
    assert_eq!(log.executed("COPY"), 1);
    assert_eq!(steps_on_disk(&setup), (1, 1));
    let folder = context.join("out");
    request
        .outputs
        .push(onetag_engine::export::ExportOptions::new(onetag_engine::export::Target::Files(folder.clone())));
    let (_, log) = setup.build(&request);
    assert_eq!((log.executed("COPY"), log.found("COPY")), (0, 1));
    assert_eq!(std::fs::read_to_string(folder.join("b/a")).unwrap(), "one");
}
