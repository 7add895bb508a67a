//! Two solves over one cache: what one is making the other waits for.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use onetag_oci::Digest;
use onetag_solver::{
    CacheRecord, CacheStorage, Cancellation, Claim, Edge, Event, Graph, MemoryCache, SolveError, Solver, SolverOptions,
};

use crate::fakes::{Behaviour, Fake, Shared, source, step, vertex};

/// A memory whose claims are seen by all that share it.
#[derive(Clone, Default)]
struct SharedCache {
    memory: Arc<MemoryCache>,
    claims: Arc<Mutex<HashSet<Digest>>>,
}

struct Held(SharedCache, Digest);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.claims.lock().unwrap().remove(&self.1);
    }
}

impl CacheStorage for SharedCache {
    fn record(&self, key: &Digest) -> Option<CacheRecord> {
        self.memory.record(key)
    }
    fn put_record(&self, key: &Digest, record: &CacheRecord) {
        self.memory.put_record(key, record);
    }
    fn alias(&self, fast: &Digest) -> Option<Digest> {
        self.memory.alias(fast)
    }
    fn put_alias(&self, fast: &Digest, key: &Digest) {
        self.memory.put_alias(fast, key);
    }
    fn claim(&self, key: &Digest) -> Claim {
        match self.claims.lock().unwrap().insert(key.clone()) {
            true => Claim::Ours(Box::new(Held(self.clone(), key.clone()))),
            false => Claim::Theirs,
        }
    }
}

fn solve(
    worker: &Shared,
    cache: &SharedCache,
    vertices: &[&Fake],
    root: &Fake,
    cancellation: &Cancellation,
) -> (Result<Vec<String>, SolveError>, Vec<Event>) {
    let mut graph = Graph::new();
    for vertex in vertices {
        graph.add(Arc::new((*vertex).clone())).unwrap();
    }
    let events = Mutex::new(Vec::new());
    let roots = [Edge { vertex: root.digest.clone(), output: 0 }];
    let solver = Solver::new(worker, cache, SolverOptions::for_processors(2));
    let outcome = solver.solve(&graph, &roots, cancellation, &|event| events.lock().unwrap().push(event)).unwrap();
    (outcome.into_results(), events.into_inner().unwrap())
}

fn executed(worker: &Shared, name: &str) -> usize {
    worker.0.executions.lock().unwrap().get(name).copied().unwrap_or_default()
}

#[test]
fn work_in_flight_is_done_once() {
    let (worker, cache) = (Shared(Arc::default()), SharedCache::default());
    let base = source("base", "base");
    let slow = vertex("slow", &[&base], Behaviour::Sleep(Duration::from_millis(80)));
    let after = step("after", &[&slow]);
    let together = Barrier::new(2);
    let run = || {
        together.wait();
        solve(&worker, &cache, &[&base, &slow, &after], &after, &Cancellation::new())
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().unwrap())
    });
    assert_eq!(one.0.unwrap(), two.0.unwrap());
    assert_eq!((executed(&worker, "slow"), executed(&worker, "after")), (1, 1));
    let is_cached = |event: &Event| matches!(event, Event::Cached { vertex, .. } if *vertex == slow.digest);
    let cached = [&one.1, &two.1].iter().filter(|events| events.iter().any(is_cached)).count();
    assert_eq!(cached, 1, "the one that waited found the result");
    assert!(cache.claims.lock().unwrap().is_empty());
}

#[test]
fn who_waited_for_one_that_failed_does_it_itself() {
    let (worker, cache) = (Shared(Arc::default()), SharedCache::default());
    let step = vertex("step", &[], Behaviour::Constant("made".into()));
    let claimed = Arc::new(Mutex::new(Vec::new()));
    let spy = Spy { inner: cache.clone(), asked: Arc::clone(&claimed) };
    let result = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut graph = Graph::new();
            graph.add(Arc::new(step.clone())).unwrap();
            let roots = [Edge { vertex: step.digest.clone(), output: 0 }];
            let solver = Solver::new(&worker, &spy, SolverOptions::for_processors(2));
            solver.solve(&graph, &roots, &Cancellation::new(), &|_| {}).unwrap().into_results()
        });
        while claimed.lock().unwrap().len() < 3 {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(executed(&worker, "step"), 0);
        cache.claims.lock().unwrap().clear();
        waiting.join().unwrap()
    });
    assert_eq!(result.unwrap(), ["made"]);
    assert_eq!(executed(&worker, "step"), 1);
}

/// Remembers what was claimed; the first claim of a key is somebody else's.
struct Spy {
    inner: SharedCache,
    asked: Arc<Mutex<Vec<Digest>>>,
}

impl CacheStorage for Spy {
    fn record(&self, key: &Digest) -> Option<CacheRecord> {
        self.inner.record(key)
    }
    fn put_record(&self, key: &Digest, record: &CacheRecord) {
        self.inner.put_record(key, record);
    }
    fn alias(&self, fast: &Digest) -> Option<Digest> {
        self.inner.alias(fast)
    }
    fn put_alias(&self, fast: &Digest, key: &Digest) {
        self.inner.put_alias(fast, key);
    }
    fn claim(&self, key: &Digest) -> Claim {
        let mut asked = self.asked.lock().unwrap();
        if !asked.contains(key) {
            self.inner.claims.lock().unwrap().insert(key.clone());
        }
        asked.push(key.clone());
        self.inner.claim(key)
    }
}

#[test]
fn waiting_ends_with_the_solve_and_takes_no_place() {
    let (worker, cache) = (Shared(Arc::default()), SharedCache::default());
    let spy = Spy { inner: cache, asked: Arc::default() };
    let waits: Vec<Fake> =
        (0..6).map(|number| vertex(&format!("waits {number}"), &[], Behaviour::Constant("x".into()))).collect();
    let mut graph = Graph::new();
    for fake in &waits {
        graph.add(Arc::new(fake.clone())).unwrap();
    }
    let roots: Vec<Edge> = waits.iter().map(|fake| Edge { vertex: fake.digest.clone(), output: 0 }).collect();
    let mut options = SolverOptions::for_processors(1);
    options.native = 1;
    let cancellation = Cancellation::new();
    let (events, started) = (Mutex::new(Vec::new()), Instant::now());
    let result = std::thread::scope(|scope| {
        let solving = scope.spawn(|| {
            let solver = Solver::new(&worker, &spy, options);
            solver.solve(&graph, &roots, &cancellation, &|event| events.lock().unwrap().push(event)).unwrap()
        });
        // All six wait at once, although one process may run.
        let all = |asked: &Vec<Digest>| asked.iter().collect::<HashSet<_>>().len() == 6;
        while !all(&spy.asked.lock().unwrap()) {
            std::thread::sleep(Duration::from_millis(2));
        }
        cancellation.cancel();
        solving.join().unwrap()
    });
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(result.results.iter().all(|result| matches!(result, Err(SolveError::Cancelled))));
    assert_eq!(worker.0.most_running.load(Ordering::SeqCst), 0);
    let events = events.into_inner().unwrap();
    let ended = |event: &&Event| matches!(event, Event::Completed { cancelled: true, .. });
    assert_eq!(events.iter().filter(ended).count(), 6);
}

#[test]
fn what_passes_the_cache_by_waits_for_nobody() {
    let (worker, cache) = (Shared(Arc::default()), SharedCache::default());
    let spy = Spy { inner: cache, asked: Arc::default() };
    let mut renewed = vertex("renewed", &[], Behaviour::Constant("x".into()));
    renewed.ignore_cache = true;
    let mut graph = Graph::new();
    graph.add(Arc::new(renewed.clone())).unwrap();
    let roots = [Edge { vertex: renewed.digest.clone(), output: 0 }];
    let solver = Solver::new(&worker, &spy, SolverOptions::for_processors(1));
    assert!(solver.solve(&graph, &roots, &Cancellation::new(), &|_| {}).unwrap().into_results().is_ok());
    assert_eq!((executed(&worker, "renewed"), spy.asked.lock().unwrap().len()), (1, 0));
}
