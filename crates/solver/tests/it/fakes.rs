//! Vertices described by a few words, and a worker that counts what it is asked to do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onetag_oci::Digest;
use onetag_solver::{
    Cancellation, Class, Edge, Event, ExecContext, Graph, Kind, MemoryCache, Op, OpError, Plan, SolveError,
    SolveOutcome, Solver, SolverOptions, Vertex, Worker,
};

/// What a fake vertex does.
#[derive(Clone, Debug)]
pub struct Fake {
    pub digest: Digest,
    pub name: String,
    pub definition: String,
    pub inputs: Vec<Edge>,
    pub behaviour: Behaviour,
    pub ignore_cache: bool,
    /// Inputs that count by content.
    pub content: Vec<usize>,
    /// Which part of their content.
    pub selector: usize,
    pub class: Class,
    /// Whether a source comes from elsewhere.
    pub is_fetched: bool,
}

#[derive(Clone, Debug)]
pub enum Behaviour {
    /// A source with that content, recognised by it.
    Source(String),
    /// A source that is never recognised; of its content only the part that a reader selects counts.
    Unnamed(String),
    /// Makes `name(inputs)`.
    Step,
    /// Makes always the same.
    Constant(String),
    /// Makes something different each time.
    Clock,
    Fail,
    /// Waits to be cancelled.
    Hang,
    Sleep(Duration),
    Panic,
}

impl Vertex for Fake {
    fn digest(&self) -> &Digest {
        &self.digest
    }
    fn inputs(&self) -> Vec<Edge> {
        self.inputs.clone()
    }
    fn name(&self) -> String {
        self.name.clone()
    }
    fn ignore_cache(&self) -> bool {
        self.ignore_cache
    }
}

/// Makes vertices; the digest is that of everything said about them.
pub fn vertex(name: &str, inputs: &[&Fake], behaviour: Behaviour) -> Fake {
    let inputs: Vec<Edge> = inputs.iter().map(|input| Edge { vertex: input.digest.clone(), output: 0 }).collect();
    let digest = Digest::sha256(format!("{name} {inputs:?} {behaviour:?}").as_bytes());
    let definition = name.to_owned();
    let name = name.to_owned();
    Fake {
        digest,
        name,
        definition,
        inputs,
        behaviour,
        ignore_cache: false,
        content: vec![],
        selector: 0,
        class: Class::Native,
        is_fetched: false,
    }
}

pub fn source(name: &str, content: &str) -> Fake {
    vertex(name, &[], Behaviour::Source(content.to_owned()))
}

pub fn step(name: &str, inputs: &[&Fake]) -> Fake {
    vertex(name, inputs, Behaviour::Step)
}

/// A step that reads input `index` by content.
pub fn reader(name: &str, inputs: &[&Fake], index: usize) -> Fake {
    let mut fake = step(name, inputs);
    fake.content = vec![index];
    fake
}

#[derive(Default)]
pub struct FakeWorker {
    pub executions: Mutex<HashMap<String, usize>>,
    pub digested: Mutex<HashMap<String, usize>>,
    pub kept: Mutex<HashMap<String, String>>,
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
    clock: AtomicUsize,
}

struct FakeOp {
    fake: Fake,
    worker: Arc<FakeWorker>,
}

/// Shares the counters between the worker and its operations.
pub struct Shared(pub Arc<FakeWorker>);

impl Worker for Shared {
    type Vertex = Fake;
    type Result = String;

    fn op(&self, vertex: &Fake) -> Result<Box<dyn Op<String>>, OpError> {
        Ok(Box::new(FakeOp { fake: vertex.clone(), worker: Arc::clone(&self.0) }))
    }

    fn load(&self, name: &str) -> Option<String> {
        self.0.kept.lock().unwrap().get(name).cloned()
    }

    fn save(&self, result: &String) -> Option<String> {
        let name = Digest::sha256(result.as_bytes()).to_string();
        self.0.kept.lock().unwrap().insert(name.clone(), result.clone());
        Some(name)
    }
}

impl FakeOp {
    fn make(&self, inputs: &[String], context: &ExecContext<'_>) -> Result<String, OpError> {
        Ok(match &self.fake.behaviour {
            Behaviour::Source(content) | Behaviour::Unnamed(content) | Behaviour::Constant(content) => content.clone(),
            Behaviour::Step => format!("{}({})", self.fake.name, inputs.join(",")),
            Behaviour::Clock => format!("{}@{}", self.fake.name, self.worker.clock.fetch_add(1, Ordering::SeqCst)),
            Behaviour::Fail => return Err("it failed".into()),
            Behaviour::Panic => panic!("an operation panicked"),
            Behaviour::Sleep(duration) => {
                std::thread::sleep(*duration);
                self.fake.name.clone()
            }
            Behaviour::Hang => {
                let (sender, receiver) = std::sync::mpsc::channel();
                let _guard = context.on_cancel(move || sender.send(()).unwrap_or_default());
                let _ = receiver.recv_timeout(Duration::from_secs(20));
                return Err("was cancelled".into());
            }
        })
    }
}

impl Op<String> for FakeOp {
    fn kind(&self) -> Kind {
        match &self.fake.behaviour {
            Behaviour::Source(_) | Behaviour::Unnamed(_) => Kind::Source,
            _ => Kind::Step(Digest::sha256(self.fake.definition.as_bytes())),
        }
    }

    fn selection(&self) -> Option<Digest> {
        Some(Digest::sha256(format!("{} {}", self.fake.definition, self.fake.selector).as_bytes()))
    }

    fn class(&self) -> Class {
        self.fake.class
    }

    fn identity(&self, outputs: &[String]) -> Option<Digest> {
        match &self.fake.behaviour {
            Behaviour::Unnamed(_) => None,
            _ => Some(Digest::sha256(outputs[0].as_bytes())),
        }
    }

    fn is_fetched(&self) -> bool {
        self.fake.is_fetched
    }

    fn content_inputs(&self) -> Vec<usize> {
        self.fake.content.clone()
    }

    /// Content is made of parts with `|` between them, of which one counts.
    fn content_key(&self, _: usize, input: &String, _: &ExecContext<'_>) -> Result<Option<Digest>, OpError> {
        *self.worker.digested.lock().unwrap().entry(self.fake.name.clone()).or_default() += 1;
        let selected = input.split('|').nth(self.fake.selector).unwrap_or_default();
        Ok(Some(Digest::sha256(selected.as_bytes())))
    }

    fn execute(&self, inputs: &[String], context: &ExecContext<'_>) -> Result<Vec<String>, OpError> {
        *self.worker.executions.lock().unwrap().entry(self.fake.name.clone()).or_default() += 1;
        let running = self.worker.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.worker.most_running.fetch_max(running, Ordering::SeqCst);
        let result = self.make(inputs, context);
        self.worker.running.fetch_sub(1, Ordering::SeqCst);
        result.map(|output| vec![output])
    }
}

/// A worker and a cache that stay over several solves.
pub struct Bench {
    pub worker: Shared,
    pub cache: MemoryCache,
    pub options: SolverOptions,
    pub events: Mutex<Vec<Event>>,
    pub cancellation: Cancellation,
    solves: usize,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            worker: Shared(Arc::default()),
            cache: MemoryCache::new(),
            options: SolverOptions::for_processors(4),
            events: Mutex::default(),
            cancellation: Cancellation::new(),
            solves: 0,
        }
    }

    /// Solves for output 0 of `roots` and forgets the counts of before.
    pub fn outcome(&mut self, vertices: &[&Fake], roots: &[&Fake]) -> SolveOutcome<String> {
        self.worker.0.executions.lock().unwrap().clear();
        self.worker.0.digested.lock().unwrap().clear();
        self.events.lock().unwrap().clear();
        self.solves += 1;
        self.options.salt = self.solves.to_string();
        let mut graph = Graph::new();
        for vertex in vertices {
            graph.add(Arc::new((*vertex).clone())).unwrap();
        }
        let roots: Vec<Edge> = roots.iter().map(|root| Edge { vertex: root.digest.clone(), output: 0 }).collect();
        let solver = Solver::new(&self.worker, &self.cache, self.options.clone());
        let events = |event| self.events.lock().unwrap().push(event);
        solver.solve(&graph, &roots, &self.cancellation, &events).unwrap()
    }

    /// Plans for output 0 of `roots` and forgets the counts of before.
    pub fn plan(&mut self, vertices: &[&Fake], roots: &[&Fake]) -> Plan {
        self.worker.0.executions.lock().unwrap().clear();
        let mut graph = Graph::new();
        for vertex in vertices {
            graph.add(Arc::new((*vertex).clone())).unwrap();
        }
        let roots: Vec<Edge> = roots.iter().map(|root| Edge { vertex: root.digest.clone(), output: 0 }).collect();
        Solver::new(&self.worker, &self.cache, self.options.clone()).plan(&graph, &roots, &self.cancellation).unwrap()
    }

    pub fn try_solve(&mut self, vertices: &[&Fake], roots: &[&Fake]) -> Result<Vec<String>, SolveError> {
        self.outcome(vertices, roots).into_results()
    }

    pub fn solve(&mut self, vertices: &[&Fake], roots: &[&Fake]) -> Vec<String> {
        self.try_solve(vertices, roots).unwrap()
    }

    /// How often vertices of that name were executed in the last solve.
    pub fn executed(&self, name: &str) -> usize {
        self.worker.0.executions.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    /// How often content was digested for vertices of that name in the last solve.
    pub fn digested(&self, name: &str) -> usize {
        self.worker.0.digested.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    /// Forgets the results that vertices of that name made.
    pub fn prune(&self, name: &str) {
        self.worker.0.kept.lock().unwrap().retain(|_, value| !value.starts_with(name));
    }

    pub fn has_event(&self, matches: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(matches)
    }
}
