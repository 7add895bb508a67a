//! The graph of all platforms through the real binary: what is shared, what a failure ends, what a plan tells, and
//! what building twice shows.

use std::time::{Duration, Instant};

use onetag_testkit::require;
use serde_json::Value;

use crate::support::{World, native_and_foreign, said};

/// A context whose build for arm64 or amd64 can be made to fail, with native steps alone.
fn context(world: &World, base: &str, test: &str) -> String {
    let dockerfile = format!(
        "FROM --platform=$BUILDPLATFORM {base} AS build\nRUN echo before-the-target\nARG TARGETARCH\n\
         RUN {test} && echo $TARGETARCH > /arch\nFROM scratch\nCOPY --from=build /arch /arch\n"
    );
    world.context("graph", &dockerfile, &[])
}

const BOTH: &str = "linux/amd64,linux/arm64";

fn native_base(world: &World) -> Result<String, String> {
    world.push_base(&[native_and_foreign().0])
}

#[test]
fn the_first_failure_ends_everything_and_publishes_nothing() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let context = context(&world, &base, "if [ $TARGETARCH = arm64 ]; then sleep 0.5; exit 7; else sleep 60; fi");
    let app = world.reference("first:1");
    let started = Instant::now();
    let failed = world.onetag.line(&format!("build --progress plain --platform {BOTH} --push -t {app} {context}"));
    let failed = failed.code(1).says("exit code: 7").says("CANCELED");
    assert!(started.elapsed() < Duration::from_secs(20), "{failed}");
    world.onetag.line(&format!("imagetools inspect {app}")).failure();
}

#[test]
fn keep_going_finishes_the_others_and_publishes_nothing_partial() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let context = context(&world, &base, "if [ $TARGETARCH = arm64 ]; then exit 7; else sleep 0.5; echo made-it; fi");
    let app = world.reference("going:1");
    let line = format!("build --progress plain --platform {BOTH} --push -t {app} {context}");
    let failed = world.onetag.line(&line.replace("--push", "--keep-going --push")).code(1);
    let failed = failed.says("exit code: 7").says("hint: linux/amd64 built and not exported: --allow-partial");
    assert_eq!(said(&failed, "made-it"), 1, "{failed}");
    assert!(failed.stderr.contains(">>> RUN if") && !failed.stderr.contains("CANCELED"), "{failed}");
    world.onetag.line(&format!("imagetools inspect {app}")).failure();
    let metadata = world.onetag.work().join("metadata.json");
    let partial = format!("--allow-partial --metadata-file {} --push", metadata.display());
    let built = world.onetag.ok(&line.replace("--push", &partial));
    let built = built.says("WARNING: linux/arm64 is missing: process").says(">>> RUN if");
    assert_eq!(said(&built, "made-it"), 0, "what was made before is there: {built}");
    let index: Value =
        serde_json::from_slice(&world.onetag.ok(&format!("imagetools inspect --raw {app}")).stdout).unwrap();
    let manifests = index["manifests"].as_array().expect("an index");
    assert_eq!(manifests.len(), 1, "{index}");
    assert_eq!(manifests[0]["platform"]["architecture"], "amd64");
    let metadata: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["onetag.missing.platforms"], serde_json::json!(["linux/arm64"]));
}

#[test]
fn nothing_is_partial_where_nothing_was_built() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let context = context(&world, &base, "exit 9");
    let app = world.reference("nothing:1");
    let line = format!("build --progress plain --platform {BOTH} --allow-partial --push -t {app} {context}");
    let failed = world.onetag.line(&line).code(1).says("linux/amd64, linux/arm64: process");
    assert_eq!(failed.stderr.matches(">>> RUN exit 9").count(), 1, "{failed}");
    world.onetag.line(&format!("imagetools inspect {app}")).failure();
}

/// The last stages take different files of the context; the stage that does not depend on the target is one.
#[test]
fn a_shared_stage_runs_once_although_the_targets_take_different_files() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let dockerfile = format!(
        "FROM --platform=$BUILDPLATFORM {base} AS build\nCOPY src /src\nRUN echo ran-here; cp /src /out\n\
         FROM scratch\nARG TARGETARCH\nCOPY --from=build /out /out\nCOPY conf-$TARGETARCH /conf\n"
    );
    let files = [("src", "s"), ("conf-amd64", "a"), ("conf-arm64", "b")];
    let context = world.context("conf", &dockerfile, &files);
    let line = format!("build --progress plain --platform {BOTH} -o type=cacheonly {context}");
    let built = world.onetag.ok(&line);
    assert_eq!(said(&built, "ran-here"), 1, "{built}");
    // Another file of one target concerns that target alone.
    world.onetag.file("conf/conf-arm64", "changed");
    let built = world.onetag.ok(&line);
    assert_eq!(said(&built, "ran-here"), 0, "{built}");
}

#[test]
fn a_plan_tells_what_a_build_does_and_does_nothing() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let (native, _) = native_and_foreign();
    let context = context(&world, &base, "echo ran-here");
    let plan = format!("build --plan --progress plain --platform {BOTH} {context}");
    let json = plan.replace("--plan", "--plan=json");
    for _ in 0..2 {
        let planned = world.onetag.ok(&plan);
        assert_eq!(said(&planned, "ran-here"), 0, "{planned}");
        let text = planned.text();
        for part in ["shared by all 2 platforms", "before-the-target", "unknown until [", "  run", "linux/arm64   "] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let document: Value = serde_json::from_slice(&world.onetag.ok(&json).stdout).unwrap();
    let state = |document: &Value, name: &str| -> Vec<String> {
        let steps = document["steps"].as_array().unwrap().iter();
        let named = steps.filter(|step| step["name"].as_str().unwrap().contains(name));
        named.map(|step| step["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(state(&document, "before-the-target"), ["run"]);
    assert_eq!(state(&document, "RUN echo ran-here"), ["run", "run"]);
    assert_eq!(state(&document, "COPY --from=build"), ["unknown", "unknown"]);
    world.onetag.ok(&format!("build --progress plain --platform {BOTH} -o type=cacheonly {context}"));
    let document: Value = serde_json::from_slice(&world.onetag.ok(&json).stdout).unwrap();
    for name in ["before-the-target", "RUN echo ran-here", "COPY --from=build"] {
        assert!(state(&document, name).iter().all(|state| state == "cached"), "{document}");
    }
    let platforms = document["platforms"].as_array().unwrap();
    assert!(platforms.iter().all(|platform| platform["cached"] == platform["steps"]), "{document}");
    let classes: Vec<&str> =
        document["steps"].as_array().unwrap().iter().filter_map(|step| step["class"].as_str()).collect();
    assert!(classes.contains(&"native") && !classes.contains(&"emulated"), "{native}: {document}");
}

#[test]
fn a_plan_knows_what_is_emulated() {
    let world = World::any();
    let (native, foreign) = native_and_foreign();
    let base = require!(ok world.push_base(&[native, foreign]));
    let context = world.context("emulated", &format!("FROM {base}\nRUN echo hello\n"), &[]);
    let plan = world.onetag.ok(&format!("build --plan --progress plain --platform {native},{foreign} {context}"));
    let line = |start: &str| plan.text().lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(line(native).contains("1 to run natively"), "{plan}");
    assert!(line(foreign).contains("1 to run under emulation"), "{plan}");
}

#[test]
fn building_twice_shows_what_differs() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let (native, _) = native_and_foreign();
    let dockerfile = |run: &str| format!("FROM {base}\nCOPY f /f\nRUN {run}\n");
    let changing = world.context("changing", &dockerfile("cat /proc/sys/kernel/random/uuid > /id"), &[("f", "f")]);
    let verify = |context: &str, epoch: Option<&str>| {
        let mut command = world.onetag.command(["build", "--progress", "plain", "--verify-reproducible"]);
        command.args(["--network", "none", "--platform", native, context]);
        command.envs(epoch.map(|epoch| ("SOURCE_DATE_EPOCH", epoch)));
        onetag_testkit::Running::start(&mut command).finish(Duration::from_secs(120))
    };
    let differs = verify(&changing, Some("1600000000")).code(1).says("the two builds differ");
    assert!(differs.text().starts_with(&format!("{native}\n  layer 3 ([3/3] RUN cat")), "{differs}");
    assert!(differs.text().contains("): /id: content from byte"), "{differs}");
    let stable = world.context("stable", &dockerfile("echo same > /id; mkdir /d; ln -s x /d/y"), &[("f", "f")]);
    let equal = verify(&stable, Some("1600000000")).success();
    assert!(equal.text().starts_with("reproducible: both builds gave sha256:"), "{equal}");
    // Without a time to hold on to, the time is what differs, and that is said.
    std::thread::sleep(Duration::from_millis(1100));
    let timed = world.context("timed", &dockerfile("sleep 1.1; echo same > /id"), &[("f", "f")]);
    verify(&timed, None).code(1).says("hint: SOURCE_DATE_EPOCH");
}

/// Stores, numbers of threads and the order of work do not show in what comes out; layers of the base are the base's.
#[test]
fn an_epoch_makes_the_same_index_everywhere() {
    let world = World::any();
    let (native, _) = native_and_foreign();
    let base = require!(ok world.push_base(&[native]));
    let raw = |world: &World, name: &str| -> Value {
        serde_json::from_slice(&world.onetag.ok(&format!("imagetools inspect --raw {name}")).stdout).unwrap()
    };
    let dockerfile = format!(
        "FROM --platform=$BUILDPLATFORM {base} AS build\nARG TARGETARCH\nWORKDIR /w\nRUN date +%N > /time; echo $TARGETARCH > f\n\
         FROM --platform=$BUILDPLATFORM {base}\nCOPY --from=build /w /w\nRUN mkdir /made && touch /made/now\nCOPY d /d\n"
    );
    let mut seen: Vec<(Value, Value)> = Vec::new();
    for (number, threads) in ["1", "4"].into_iter().enumerate() {
        let other = World::any();
        let context = other.context("epoch", &dockerfile, &[("d/one", "1"), ("d/two", "2")]);
        let app = world.reference(&format!("epoch{number}:1"));
        let mut command = other.onetag.command(["build", "--progress", "plain", "--platform", BOTH, "--push"]);
        command.args(["--network", "none", "-t", &app, &context]);
        command.env("SOURCE_DATE_EPOCH", "1600000000").env("RAYON_NUM_THREADS", threads);
        onetag_testkit::Running::start(&mut command).finish(Duration::from_secs(120)).success();
        let index = raw(&world, &app);
        let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let manifest = raw(&world, &format!("{}@{manifest}", app.trim_end_matches(":1")));
        seen.push((index, manifest));
        std::thread::sleep(Duration::from_millis(1100));
    }
    assert_eq!(seen[0], seen[1]);
    let base_index = raw(&world, &base);
    let base_manifest = match base_index["manifests"][0]["digest"].as_str() {
        Some(digest) => raw(&world, &format!("{}@{digest}", base.trim_end_matches(":latest"))),
        None => base_index,
    };
    assert_eq!(seen[0].1["layers"][0]["digest"], base_manifest["layers"][0]["digest"]);
}

#[test]
fn several_platforms_are_summed_up_and_one_is_not() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let context = context(&world, &base, "true");
    let app = world.reference("sum:1");
    let built = world.onetag.ok(&format!("build --progress plain --platform {BOTH} --push -t {app} {context}"));
    let rows: Vec<Vec<&str>> = built.stderr.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |name: &str| rows.iter().find(|row| row.first() == Some(&name)).cloned().unwrap_or_default();
    assert_eq!(row("platform"), ["platform", "time", "emulated", "cached", "size", "digest"], "{built}");
    for platform in BOTH.split(',') {
        assert_eq!((row(platform).len(), row(platform).get(3)), (6, Some(&"0/3")), "{built}");
    }
    assert!(row("index").get(1).is_some_and(|digest| digest.starts_with("sha256:")), "{built}");
    let one = world.onetag.ok(&format!("build --progress plain -o type=cacheonly {context}"));
    assert!(!one.stderr.contains("platform   "), "{one}");
    for mode in ["rawjson", "quiet"] {
        let line = format!("build --progress {mode} --platform {BOTH} -o type=cacheonly {context}");
        assert!(!world.onetag.ok(&line).stderr.contains("emulated  "), "{mode}");
    }
}

#[test]
fn emulation_that_dominates_is_named() {
    let world = World::any();
    let (native, foreign) = native_and_foreign();
    let base = require!(ok world.push_base(&[native, foreign]));
    require!(ok world.runs_foreign());
    let dockerfile =
        format!("FROM {base} AS build\nRUN sleep 2.2; echo x > /x\nFROM scratch\nCOPY --from=build /x /x\n");
    let context = world.context("slow", &dockerfile, &[]);
    let built =
        world.onetag.ok(&format!("build --progress plain --platform {native},{foreign} -o type=cacheonly {context}"));
    let warning = built.stderr.lines().find(|line| line.starts_with("WARNING: emulation")).unwrap_or_default();
    assert!(warning.contains(foreign) && !warning.contains(&format!("{native} ")), "{built}");
    assert!(warning.contains("[build 2/2] RUN sleep") && warning.contains("$BUILDPLATFORM … AS build"), "{built}");
}
