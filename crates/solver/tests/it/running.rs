//! What runs beside what.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use onetag_solver::{Class, Event};

use crate::fakes::{Behaviour, Bench, Fake, reader, source, step, vertex};

const NAP: Duration = Duration::from_millis(60);

fn sleepers(class: Class) -> Vec<Fake> {
    let sleeper = |number: usize| {
        let mut fake = vertex(&format!("sleep {number}"), &[], Behaviour::Sleep(NAP));
        fake.class = class;
        fake
    };
    (0..6).map(sleeper).collect()
}

#[test]
fn independent_vertices_run_side_by_side_up_to_the_limit() {
    for (class, most) in [(Class::Native, 3), (Class::Emulated, 2), (Class::Light, 5)] {
        let mut bench = Bench::new();
        (bench.options.native, bench.options.emulated, bench.options.light) = (3, 2, 5);
        let all = sleepers(class);
        let all: Vec<&Fake> = all.iter().collect();
        bench.solve(&all, &all);
        assert_eq!(bench.worker.0.most_running.load(Ordering::SeqCst), most, "{class:?}");
    }
}

#[test]
fn classes_do_not_wait_for_each_other() {
    let mut bench = Bench::new();
    (bench.options.native, bench.options.emulated) = (1, 1);
    let native = vertex("native", &[], Behaviour::Sleep(NAP));
    let mut emulated = vertex("emulated", &[], Behaviour::Sleep(NAP));
    emulated.class = Class::Emulated;
    bench.solve(&[&native, &emulated], &[&native, &emulated]);
    assert_eq!(bench.worker.0.most_running.load(Ordering::SeqCst), 2);
}

/// The final stage's own slow step does not wait until the build stage, whose content its next step reads, is done.
#[test]
fn branches_run_side_by_side_although_a_key_waits_for_content() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let build = vertex("build", &[&base], Behaviour::Sleep(NAP));
    let install = vertex("install", &[&base], Behaviour::Sleep(NAP));
    let copy = reader("copy", &[&install, &build], 1);
    let second = vertex("second", &[&base], Behaviour::Sleep(NAP));
    let copy_second = reader("copy second", &[&copy, &second], 1);
    let root = step("run", &[&copy_second]);
    let started = Instant::now();
    bench.solve(&[&base, &build, &install, &copy, &second, &copy_second, &root], &[&root]);
    assert_eq!(bench.worker.0.most_running.load(Ordering::SeqCst), 3);
    assert!(started.elapsed() < NAP * 2, "{:?}", started.elapsed());
}

#[test]
fn long_chains_do_not_exhaust_the_stack() {
    let mut bench = Bench::new();
    let mut chain = vec![source("base", "base")];
    for number in 0..3000 {
        let mut next = vertex(&format!("{number}"), &[&chain[number]], Behaviour::Constant(String::new()));
        next.class = Class::Light;
        chain.push(next);
    }
    let all: Vec<&Fake> = chain.iter().collect();
    bench.solve(&all, &all[3000..]);
    bench.solve(&all, &all[3000..]);
    assert_eq!(bench.executed("2999"), 0);
}

#[test]
fn events_of_a_vertex_come_in_order() {
    let mut bench = Bench::new();
    let base = source("base", "base");
    let one = step("one", &[&base]);
    bench.solve(&[&base, &one], &[&one]);
    let events = bench.events.lock().unwrap();
    let position = |matches: &dyn Fn(&Event) -> bool| events.iter().position(matches).unwrap();
    let planned = position(&|event| matches!(event, Event::Planned(vertices) if vertices.len() == 2));
    let started = position(&|event| matches!(event, Event::Started { vertex, .. } if *vertex == one.digest));
    let completed =
        position(&|event| matches!(event, Event::Completed { vertex, error: None, .. } if *vertex == one.digest));
    assert!(planned < started && started < completed);
}
