//! Errors in the terms of the trade, and nothing left with a name.

use std::time::{Duration, Instant};

use onetag_engine::progress::Cancellation;
use onetag_testkit::fault::{Fault, Rule};
use onetag_testkit::require;

use crate::setup::{Setup, small, steps, text, try_build};

#[test]
fn a_platform_that_the_base_lacks_is_named_with_those_it_has() {
    let setup = Setup::new();
    setup.publish(&small(&["linux/amd64", "linux/s390x"]), "base:1");
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/base:1\nLABEL a=b\n")]);
    let (result, _) = setup.try_build(&setup.pushed(&context, &["linux/amd64", "linux/arm64"], "app:1"));
    let error = result.unwrap_err();
    let message = text(&error);
    for part in ["no match for platform in manifest", "base:1", "linux/arm64", "linux/amd64, linux/s390x"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(error.excerpt().unwrap().contains(">>> FROM"));
}

#[test]
fn a_bare_manifest_of_another_platform_is_no_base_and_may_lend_files() {
    let setup = Setup::new();
    setup.publish_bare(&small(&["linux/s390x"]).images[0], "bare:1");
    let base = setup.context("base", &[("Dockerfile", "FROM REGISTRY/bare:1\nLABEL a=b\n")]);
    let mut request = setup.request(&base, &["linux/amd64"]);
    let message = text(&setup.try_build(&request).0.unwrap_err());
    assert!(message.contains("no match for platform in manifest") && message.contains("linux/s390x"), "{message}");
    request.allow_platform_mismatch = true;
    assert!(setup.try_build(&request).0.is_ok());
    let files = setup.context("files", &[("Dockerfile", "FROM scratch\nCOPY --from=REGISTRY/bare:1 /platform /\n")]);
    let (result, log) = setup.try_build(&setup.request(&files, &["linux/amd64"]));
    assert!(result.is_ok());
    assert!(log.warnings.iter().any(|warning| warning.contains("linux/s390x")), "{log:?}");
}

#[test]
fn a_missing_source_is_named_with_its_line() {
    let setup = Setup::new();
    let context = setup.context("context", &[("Dockerfile", "FROM scratch\nCOPY nowhere /\n")]);
    let error = setup.try_build(&setup.request(&context, &["linux/amd64"])).0.unwrap_err();
    assert!(text(&error).contains("\"/nowhere\": not found"), "{}", text(&error));
    assert!(error.excerpt().unwrap().contains(">>> COPY nowhere"));
}

#[test]
fn a_failed_push_moves_no_tag() {
    let setup = Setup::new();
    setup.publish(&small(&["linux/amd64", "linux/arm64"]), "base:1");
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/base:1\nCOPY a /b/\n"), ("a", "one")]);
    setup.registry.add(Rule::always("POST", "/app/blobs/", Fault::status(403)));
    let (result, _) = setup.try_build(&setup.pushed(&context, &["linux/amd64", "linux/arm64"], "app:1"));
    let message = text(&result.unwrap_err());
    assert!(message.contains("failed to push"), "{message}");
    assert!(setup.requests().iter().all(|request| !request.path.contains("/app/manifests/")));
}

#[test]
fn a_failing_step_is_shown_as_buildkit_shows_it() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/busybox:1\nRUN echo before\nRUN exit 3\n")]);
    let (result, log) = setup.try_build(&setup.request(&context, &["linux/amd64"]));
    let error = result.unwrap_err();
    assert_eq!(
        text(&error),
        "failed to solve: process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3"
    );
    assert!(error.excerpt().unwrap().contains("3 | >>> RUN exit 3"), "{:?}", error.excerpt());
    assert!(log.output.contains("before"));
}

#[test]
fn cancelling_ends_a_running_step_promptly() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/busybox:1\nRUN sleep 600\n")]);
    let request = setup.pushed(&context, &["linux/amd64", "linux/arm64"], "app:1");
    let cancellation = Cancellation::new();
    let canceller = cancellation.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        canceller.cancel();
        Instant::now()
    });
    let (result, _) = try_build(&setup.engine, &request, &cancellation);
    let cancelled = thread.join().unwrap();
    assert!(result.is_err());
    assert!(cancelled.elapsed() < Duration::from_secs(2), "{:?}", cancelled.elapsed());
}

#[test]
fn a_foreign_step_without_an_emulator_says_what_to_type() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    let mut options = setup.engine.options().clone();
    options.root = options.root.with_file_name("without emulators");
    (options.emulator_folders, options.search_path) = (Vec::new(), Vec::new());
    let engine = onetag_engine::Engine::open(options);
    let context = setup.context("context", &[("Dockerfile", "FROM REGISTRY/busybox:1\nRUN echo foreign\n")]);
    let request = setup.request(&context, &["linux/s390x"]);
    let (result, _) = try_build(&engine, &request, &Cancellation::new());
    let Err(error) = result else { return onetag_testkit::skip("this host runs s390x programs by itself") };
    let message = text(&error);
    for part in ["linux/s390x", "S/390", "/bin/sh -c echo foreign"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(error.hints().iter().any(|hint| !hint.is_empty()), "{error:?}");
    assert!(error.excerpt().unwrap().contains(">>> RUN echo foreign"));
}
