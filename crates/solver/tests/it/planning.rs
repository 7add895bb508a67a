//! What a plan tells, and that it does nothing of it.

use onetag_oci::Digest;
use onetag_solver::{Class, Expectation};

use crate::fakes::{Behaviour, Bench, Fake, reader, source, step, vertex};

/// Plans, and checks that nothing but sources was executed.
fn plan(bench: &mut Bench, vertices: &[&Fake], roots: &[&Fake]) -> Vec<(String, Expectation)> {
    let plan = bench.plan(vertices, roots);
    for fake in vertices.iter().filter(|fake| !matches!(fake.behaviour, Behaviour::Source(_) | Behaviour::Unnamed(_))) {
        assert_eq!(bench.executed(&fake.name), 0, "{}", fake.name);
    }
    plan.vertices.into_iter().map(|planned| (planned.info.name, planned.expectation)).collect()
}

fn expectations(bench: &mut Bench, vertices: &[&Fake], roots: &[&Fake]) -> Vec<Expectation> {
    plan(bench, vertices, roots).into_iter().map(|(_, expectation)| expectation).collect()
}

#[test]
fn a_plan_tells_what_is_cached_and_what_runs() {
    use Expectation::{Cached, Executed, Present};
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = step("one", &[&base]);
    let two = step("two", &[&one]);
    assert_eq!(expectations(&mut bench, &[&base, &one, &two], &[&two]), [Present, Executed, Executed]);
    bench.solve(&[&base, &one], &[&one]);
    assert_eq!(expectations(&mut bench, &[&base, &one, &two], &[&two]), [Present, Cached, Executed]);
    bench.solve(&[&base, &one, &two], &[&two]);
    bench.prune("one");
    assert_eq!(expectations(&mut bench, &[&base, &one, &two], &[&two]), [Present, Expectation::Unneeded, Cached]);
}

#[test]
fn content_at_hand_is_read_and_other_content_is_waited_for() {
    use Expectation::{Executed, Present};
    let mut bench = Bench::new();
    let base = source("base", "base");
    let context = vertex("context", &[], Behaviour::Unnamed("a|1".into()));
    let copy = reader("copy", &[&base, &context], 1);
    let build = step("build", &[&copy]);
    let from = reader("from", &[&base, &build], 1);
    let last = step("last", &[&from]);
    let all = [&base, &context, &copy, &build, &from, &last];
    let until = |fake: &Fake| Expectation::Unknown { until: fake.digest.clone() };
    let expected = [Present, Present, Executed, Executed, until(&build), until(&build)];
    assert_eq!(expectations(&mut bench, &all, &[&last]), expected);
    bench.solve(&all, &[&last]);
    let found = expectations(&mut bench, &all, &[&last]);
    assert!(found[2..].iter().all(|expectation| *expectation == Expectation::Cached), "{found:?}");
    // A changed context whose relevant part is the same is still a hit.
    let context = vertex("context", &[], Behaviour::Unnamed("a|2".into()));
    let copy = reader("copy", &[&base, &context], 1);
    assert_eq!(expectations(&mut bench, &[&base, &context, &copy], &[&copy])[2], Expectation::Cached);
}

#[test]
fn what_is_fetched_is_not_fetched_for_a_plan() {
    let mut bench = Bench::new();
    let mut fetched = source("fetched", "content");
    fetched.is_fetched = true;
    let copy = reader("copy", &[&fetched], 0);
    let unknown = Expectation::Unknown { until: fetched.digest.clone() };
    assert_eq!(expectations(&mut bench, &[&fetched, &copy], &[&copy]), [Expectation::Fetched, unknown]);
    assert_eq!(bench.executed("fetched"), 0);
}

#[test]
fn equal_keys_and_labels_are_told() {
    let mut bench = Bench::new();
    bench.options.labels = vec!["amd64".to_owned(), "arm64".to_owned()];
    let base = source("base", "base");
    let one = vertex("context one", &[], Behaviour::Unnamed("same|1".into()));
    let two = vertex("context two", &[], Behaviour::Unnamed("same|2".into()));
    let (copy_one, copy_two) = (reader("copy", &[&base, &one], 1), reader("copy", &[&base, &two], 1));
    let amd64 = step("amd64", &[&copy_one]);
    let mut arm64 = step("arm64", &[&copy_two]);
    arm64.class = Class::Emulated;
    let plan = bench.plan(&[&base, &one, &two, &copy_one, &copy_two, &amd64, &arm64], &[&amd64, &arm64]);
    let of = |digest: &Digest| plan.vertices.iter().find(|planned| planned.info.digest == *digest).unwrap();
    assert_eq!(of(&copy_two.digest).expectation, Expectation::Shared { with: copy_one.digest.clone() });
    assert_eq!(of(&base.digest).info.targets, ["amd64", "arm64"]);
    assert_eq!(of(&copy_one.digest).info.targets, ["amd64"]);
    assert_eq!(of(&arm64.digest).info.class, Some(Class::Emulated));
    assert_eq!(of(&arm64.digest).expectation, Expectation::Executed);
}

/// What a plan expects of a vertex is what a solve does with it, wherever the plan knows.
#[test]
fn a_plan_keeps_its_word() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let stage = step("stage", &[&base]);
    let left = step("left", &[&stage]);
    let right = reader("right", &[&base, &stage], 1);
    let root = step("root", &[&left, &right]);
    let all = [&base, &stage, &left, &right, &root];
    for pruned in ["", "left", "root", "stage", "right"] {
        if !pruned.is_empty() {
            bench.prune(pruned);
        }
        let planned = plan(&mut bench, &all, &[&root]);
        bench.solve(&all, &[&root]);
        for (name, expectation) in planned.iter().filter(|(name, _)| name != "base") {
            let executed = bench.executed(name) > 0;
            match expectation {
                Expectation::Executed => assert!(executed, "{pruned}: {name}"),
                Expectation::Cached | Expectation::Unneeded => assert!(!executed, "{pruned}: {name}"),
                _ => {}
            }
        }
    }
}
