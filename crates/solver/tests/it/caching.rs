//! What is found, what is made again, and when a key changes.

use onetag_solver::Event;

use crate::fakes::{Behaviour, Bench, Fake, reader, source, step, vertex};

#[test]
fn a_second_solve_executes_only_sources() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = step("one", &[&base]);
    let two = step("two", &[&one]);
    bench.solve(&[&base, &one, &two], &[&two]);
    assert_eq!(bench.solve(&[&base, &one, &two], &[&two]), ["two(one(base))"]);
    assert_eq!((bench.executed("one"), bench.executed("two"), bench.executed("base")), (0, 0, 1));
    assert!(bench.has_event(|event| matches!(event, Event::Cached { vertex, .. } if *vertex == one.digest)));
}

#[test]
fn every_input_counts() {
    let mut bench = Bench::new();
    let (left, right) = (source("left", "left"), source("right", "right"));
    let both = step("both", &[&left, &right]);
    bench.solve(&[&left, &right, &both], &[&both]);
    for (l, r) in [("left", "changed"), ("changed", "right"), ("right", "left")] {
        let (left, right) = (source("left", l), source("right", r));
        let both = step("both", &[&left, &right]);
        bench.solve(&[&left, &right, &both], &[&both]);
        assert_eq!(bench.executed("both"), 1, "{l} {r}");
    }
    let other = step("other", &[&left, &right]);
    bench.solve(&[&left, &right, &other], &[&other]);
    assert_eq!(bench.executed("other"), 1);
}

#[test]
fn an_intermediate_result_that_only_a_found_one_needs_is_not_made() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = step("one", &[&base]);
    let two = step("two", &[&one]);
    bench.solve(&[&base, &one, &two], &[&two]);
    bench.prune("one");
    bench.solve(&[&base, &one, &two], &[&two]);
    assert_eq!((bench.executed("one"), bench.executed("two")), (0, 0));
}

#[test]
fn a_pruned_result_is_made_again() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = step("one", &[&base]);
    bench.solve(&[&base, &one], &[&one]);
    bench.prune("one");
    bench.solve(&[&base, &one], &[&one]);
    assert_eq!(bench.executed("one"), 1);
}

fn copied(content: &str) -> [Fake; 4] {
    let base = source("base", "base");
    let context = vertex("context", &[], Behaviour::Unnamed(content.to_owned()));
    let copy = reader("copy", &[&base, &context], 1);
    let run = step("run", &[&copy]);
    [base, context, copy, run]
}

#[test]
fn an_irrelevant_change_of_content_is_a_hit() {
    let mut bench = Bench::new();
    for (content, expected) in [("a|1", 1), ("a|2", 0), ("b|2", 1), ("a|3", 0)] {
        let vertices = copied(content);
        let [base, context, copy, run] = &vertices;
        bench.solve(&[base, context, copy, run], &[run]);
        assert_eq!((bench.executed("copy"), bench.executed("run")), (expected, expected), "{content}");
    }
}

/// `COPY --from=build` of a stage that was made anew but came out the same.
#[test]
fn a_rebuilt_identical_stage_is_a_hit() {
    let mut bench = Bench::new();
    let stage = |text: &str| {
        let source = source("source", text);
        let build = vertex(&format!("build {text}"), &[&source], Behaviour::Constant("binary".into()));
        let base = crate::fakes::source("base", "base");
        let copy = reader("copy", &[&base, &build], 1);
        [source, build, base, copy]
    };
    let first = stage("one");
    let [source, build, base, copy] = &first;
    bench.solve(&[source, build, base, copy], &[copy]);
    assert_eq!((bench.executed("build one"), bench.executed("copy"), bench.digested("copy")), (1, 1, 1));
    bench.solve(&[source, build, base, copy], &[copy]);
    assert_eq!((bench.executed("copy"), bench.digested("copy")), (0, 0), "the fast key is enough");
    let second = stage("two");
    let [source, build, base, copy] = &second;
    bench.solve(&[source, build, base, copy], &[copy]);
    assert_eq!((bench.executed("build two"), bench.executed("copy"), bench.digested("copy")), (1, 0, 1));
}

/// `COPY --from=build /one/file` and `COPY --from=build /two/file`: the same but for what is selected.
#[test]
fn a_fast_key_tells_selections_apart() {
    let mut bench = Bench::new();
    let stage = source("stage", "one|two");
    let first = reader("copy", &[&stage], 0);
    let mut second = Fake { selector: 1, ..first.clone() };
    second.digest = onetag_oci::Digest::sha256(b"second");
    bench.solve(&[&stage, &first], &[&first]);
    bench.solve(&[&stage, &second], &[&second]);
    assert_eq!((bench.executed("copy"), bench.digested("copy")), (1, 1));
}

#[test]
fn what_goes_back_to_a_renewed_result_is_told() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = step("one", &[&base]);
    let two = step("two", &[&one]);
    let copy = reader("copy", &[&base, &two], 1);
    let after = step("after", &[&copy]);
    let mut renewed = |one: &Fake| -> Vec<String> {
        let outcome = bench.outcome(&[&base, one, &two, &copy, &after], &[&after]);
        let records = outcome.records.into_iter().filter(|record| record.renewed);
        let name = |record: onetag_solver::SolveRecord| {
            let steps = [one, &two, &copy, &after];
            steps.iter().find(|step| step.digest == record.vertex).expect("a step").name.clone()
        };
        records.map(name).collect()
    };
    assert_eq!(renewed(&one), [""; 0]);
    // What reads the content of the result does not depend on how that is called.
    assert_eq!(renewed(&Fake { ignore_cache: true, ..one.clone() }), ["one", "two"]);
    // The name stays with the result when it is found again.
    let again = renewed(&one);
    assert!(again.starts_with(&["one".to_owned()]), "{again:?}");
}

#[test]
fn what_takes_an_unnamed_source_whole_is_never_kept() {
    let mut bench = Bench::new();
    let context = vertex("context", &[], Behaviour::Unnamed("files".into()));
    let whole = step("whole", &[&context]);
    let after = step("after", &[&whole]);
    for _ in 0..2 {
        let outcome = bench.outcome(&[&context, &whole, &after], &[&after]);
        assert!(outcome.records.is_empty());
        assert_eq!((bench.executed("whole"), bench.executed("after")), (1, 1));
    }
}

#[test]
fn ignoring_the_cache_renews_what_follows() {
    let mut bench = Bench::new();
    let chain = |ignore: bool| {
        let base = source("base", "base");
        let mut clock = vertex("clock", &[&base], Behaviour::Clock);
        clock.ignore_cache = ignore;
        let after = step("after", &[&clock]);
        [base, clock, after]
    };
    let solve = |bench: &mut Bench, ignore| {
        let vertices = chain(ignore);
        let [base, clock, after] = &vertices;
        bench.solve(&[base, clock, after], &[after]).remove(0)
    };
    assert_eq!(solve(&mut bench, false), "after(clock@0)");
    assert_eq!(solve(&mut bench, false), "after(clock@0)");
    assert_eq!(solve(&mut bench, true), "after(clock@1)");
    assert_eq!((bench.executed("clock"), bench.executed("after")), (1, 1));
    assert_eq!(solve(&mut bench, false), "after(clock@1)", "the newest result stands");
    assert_eq!((bench.executed("clock"), bench.executed("after")), (0, 0));
}

#[test]
fn an_old_result_is_not_taken_for_one_of_a_renewed_input_that_was_pruned() {
    let mut bench = Bench::new();
    let chain = |ignore: bool| {
        let base = source("base", "base");
        let mut clock = vertex("clock", &[&base], Behaviour::Clock);
        clock.ignore_cache = ignore;
        let after = step("after", &[&clock]);
        [base, clock, after]
    };
    for ignore in [false, true] {
        let vertices = chain(ignore);
        let [base, clock, after] = &vertices;
        bench.solve(&[base, clock, after], &[after]);
    }
    bench.prune("clock");
    let vertices = chain(false);
    let [base, clock, after] = &vertices;
    assert_eq!(bench.solve(&[base, clock, after], &[after]), ["after(clock@1)"]);
}

#[test]
fn records_tell_what_was_found_and_made() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = step("one", &[&base]);
    bench.solve(&[&base, &one], &[&one]);
    let two = step("two", &[&one]);
    let outcome = bench.outcome(&[&base, &one, &two], &[&two]);
    let found: Vec<(&str, bool)> = outcome
        .records
        .iter()
        .map(|record| (if record.vertex == one.digest { "one" } else { "two" }, record.found))
        .collect();
    assert_eq!(found, [("one", true), ("two", false)]);
}
