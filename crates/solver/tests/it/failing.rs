//! Failures and cancellation.

use std::time::{Duration, Instant};

use onetag_oci::Digest;
use onetag_solver::{Edge, Event, Graph, GraphError, SolveError, Solver};

use crate::fakes::{Behaviour, Bench, source, step, vertex};

#[test]
fn the_first_failure_cancels_what_runs_promptly() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let fail = vertex("fail", &[&base], Behaviour::Fail);
    let hang = vertex("hang", &[&base], Behaviour::Hang);
    let after = step("after", &[&hang]);
    let started = Instant::now();
    let error = bench.try_solve(&[&base, &fail, &hang, &after], &[&after, &fail]).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(error.vertex(), Some(&fail.digest));
    assert_eq!(bench.executed("after"), 0);
    let cancelled = |event: &Event| matches!(event, Event::Completed { vertex, cancelled: true, error: Some(_), .. } if *vertex == hang.digest);
    if bench.executed("hang") == 1 {
        assert!(bench.has_event(cancelled));
    }
    let failed = |event: &Event| {
        matches!(event, Event::Completed { vertex, cancelled: false, error: Some(text), .. }
            if *vertex == fail.digest && text == "it failed")
    };
    assert!(bench.has_event(failed));
}

#[test]
fn keep_going_finishes_what_the_failure_does_not_concern() {
    let mut bench = Bench::new();
    bench.options.keep_going = true;
    let base = source("base", "base");
    let fail = vertex("fail", &[&base], Behaviour::Fail);
    let after = step("after", &[&fail]);
    let fine = step("fine", &[&base]);
    let outcome = bench.outcome(&[&base, &fail, &after, &fine], &[&after, &fine]);
    assert!(matches!(&outcome.results[0], Err(error) if error.vertex() == Some(&fail.digest)));
    assert_eq!(outcome.results[1].as_deref().ok(), Some("fine(base)"));
    assert_eq!(bench.executed("after"), 0);
}

#[test]
fn a_failed_step_is_tried_again_next_time() {
    let mut bench = Bench::new();
    let fail = vertex("fail", &[], Behaviour::Fail);
    for _ in 0..2 {
        assert!(bench.try_solve(&[&fail], &[&fail]).is_err());
        assert_eq!(bench.executed("fail"), 1);
    }
}

#[test]
fn cancellation_from_outside_ends_the_solve() {
    let mut bench = Bench::new();
    let hang = vertex("hang", &[], Behaviour::Hang);
    let cancellation = bench.cancellation.clone();
    let started = Instant::now();
    let interrupter = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        cancellation.cancel();
    });
    let error = bench.try_solve(&[&hang], &[&hang]).unwrap_err();
    interrupter.join().unwrap();
    assert!(matches!(error, SolveError::Cancelled));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_cancelled_solve_starts_nothing() {
    let mut bench = Bench::new();
    bench.cancellation.cancel();
    let one = step("one", &[]);
    assert!(matches!(bench.try_solve(&[&one], &[&one]), Err(SolveError::Cancelled)));
    assert_eq!(bench.executed("one"), 0);
}

#[test]
fn a_panic_does_not_leave_others_waiting() {
    let hang = vertex("hang", &[], Behaviour::Hang);
    let panic = vertex("panic", &[], Behaviour::Panic);
    let started = Instant::now();
    let result = std::panic::catch_unwind(|| {
        let mut bench = Bench::new();
        drop(bench.outcome(&[&hang, &panic], &[&hang, &panic]));
    });
    assert!(result.is_err());
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_output_that_is_not_made_is_an_error() {
    let bench = Bench::new();
    let one = step("one", &[]);
    let mut graph = Graph::new();
    graph.add(std::sync::Arc::new(one.clone())).unwrap();
    let solver = Solver::new(&bench.worker, &bench.cache, bench.options.clone());
    let root = Edge { vertex: one.digest.clone(), output: 7 };
    let outcome = solver.solve(&graph, &[root], &bench.cancellation, &|_| {}).unwrap();
    assert!(matches!(outcome.results[0], Err(SolveError::MissingOutput { output: 7, .. })));
}

#[test]
fn broken_graphs_are_refused() {
    let bench = Bench::new();
    let one = step("one", &[]);
    let two = step("two", &[&one]);
    let mut graph = Graph::new();
    let error = graph.add(std::sync::Arc::new(two)).unwrap_err();
    assert!(matches!(error, GraphError::MissingInput { .. }));
    let solver = Solver::new(&bench.worker, &bench.cache, bench.options.clone());
    let root = Edge { vertex: Digest::sha256(b"nobody"), output: 0 };
    let error = solver.solve(&graph, &[root], &bench.cancellation, &|_| {}).err().unwrap();
    assert!(matches!(error, GraphError::MissingRoot { .. }));
}
