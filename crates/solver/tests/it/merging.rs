//! Equal work is done once.

use onetag_solver::Event;

use crate::fakes::{Behaviour, Bench, reader, source, step, vertex};

#[test]
fn vertices_of_equal_digest_are_one() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let build = step("build", &[&base]);
    let again = step("build", &[&base]);
    let amd64 = step("amd64", &[&build]);
    let arm64 = step("arm64", &[&again]);
    let results = bench.solve(&[&base, &build, &again, &amd64, &arm64], &[&amd64, &arm64]);
    assert_eq!(results, ["amd64(build(base))", "arm64(build(base))"]);
    assert_eq!((bench.executed("build"), bench.executed("base")), (1, 1));
}

/// The shared stage copies from contexts whose definitions differ because the targets' own files differ.
#[test]
fn running_vertices_of_equal_cache_key_are_one() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = vertex("context conf-amd64", &[], Behaviour::Unnamed("src|conf-amd64".into()));
    let two = vertex("context conf-arm64", &[], Behaviour::Unnamed("src|conf-arm64".into()));
    let copy_one = reader("copy", &[&base, &one], 1);
    let copy_two = reader("copy", &[&base, &two], 1);
    let (build_one, build_two) = (step("build", &[&copy_one]), step("build", &[&copy_two]));
    assert_ne!(build_one.digest, build_two.digest);
    let (amd64, arm64) = (step("amd64", &[&build_one]), step("arm64", &[&build_two]));
    let all = [&base, &one, &two, &copy_one, &copy_two, &build_one, &build_two, &amd64, &arm64];
    bench.solve(&all, &[&amd64, &arm64]);
    assert_eq!((bench.executed("copy"), bench.executed("build")), (1, 1));
    assert_eq!((bench.executed("amd64"), bench.executed("arm64")), (1, 1));
    let shared = |event: &Event| matches!(event, Event::Cached { vertex, .. } if *vertex == build_one.digest || *vertex == build_two.digest);
    assert!(bench.has_event(shared));
}

#[test]
fn a_failure_of_the_shared_vertex_is_everyones() {
    let mut bench = Bench::new();
    bench.options.keep_going = true;
    let one = vertex("context one", &[], Behaviour::Unnamed("same|1".into()));
    let two = vertex("context two", &[], Behaviour::Unnamed("same|2".into()));
    let mut copies = [vertex("copy", &[&one], Behaviour::Fail), vertex("copy", &[&two], Behaviour::Fail)];
    copies.iter_mut().for_each(|copy| copy.content = vec![0]);
    let [a, b] = &copies;
    let outcome = bench.outcome(&[&one, &two, a, b], &[a, b]);
    assert!(outcome.results.iter().all(Result::is_err));
    assert_eq!(bench.executed("copy"), 1);
}

#[test]
fn the_same_input_twice_is_made_once() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let twice = step("twice", &[&base, &base]);
    assert_eq!(bench.solve(&[&base, &twice], &[&twice, &twice]), ["twice(base,base)"; 2]);
    assert_eq!(bench.executed("twice"), 1);
}

/// What leads to a shared result is told for each vertex: another machine that takes the records finds it by either way.
#[test]
fn a_vertex_that_shares_a_result_tells_its_own_fast_key() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = vertex("stage one", &[&base], Behaviour::Constant("same".into()));
    let two = vertex("stage two", &[&base], Behaviour::Constant("same".into()));
    let copies = [reader("copy", &[&base, &one], 1), reader("copy", &[&base, &two], 1)];
    let outcome = bench.outcome(&[&base, &one, &two, &copies[0], &copies[1]], &[&copies[0], &copies[1]]);
    assert_eq!(bench.executed("copy"), 1);
    let of = |fake: &crate::fakes::Fake| outcome.records.iter().find(|record| record.vertex == fake.digest).unwrap();
    assert_eq!((&of(&copies[0]).key, &of(&copies[0]).record), (&of(&copies[1]).key, &of(&copies[1]).record));
    assert_ne!(of(&copies[0]).fast, of(&copies[1]).fast);
    // Whether the other copy waited for the first or found its record is a matter of time.
    assert!(outcome.records.iter().filter(|record| record.found).count() <= 1);
}
