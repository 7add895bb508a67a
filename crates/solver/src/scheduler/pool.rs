//! The threads of a solve.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::SolverOptions;
use super::state::{Lane, State};
use super::work::Session;
use crate::op::{Class, Worker};

/// How long a thread sleeps before it looks around by itself. Every change wakes it; only a cancellation that falls
/// between its look and its sleep can be missed.
const LOOK_AROUND: Duration = Duration::from_millis(100);

struct Pool<'a, W: Worker> {
    session: &'a Session<'a, W>,
    state: Mutex<State<W::Result>>,
    changed: Arc<Condvar>,
    idle: AtomicUsize,
    threads: AtomicUsize,
    failed: AtomicBool,
}

/// Runs a solve to its end, on this thread and as many more as there is work for.
pub(super) fn run<W: Worker>(mut state: State<W::Result>, session: &Session<'_, W>) -> State<W::Result> {
    state.set_keep_going(session.options.keep_going);
    let changed = Arc::new(Condvar::new());
    let wake = Arc::clone(&changed);
    let _guard = session.cancellation.on_cancel(move || wake.notify_all());
    let pool = Pool {
        session,
        state: Mutex::new(state),
        changed,
        idle: AtomicUsize::new(0),
        threads: AtomicUsize::new(1),
        failed: AtomicBool::new(false),
    };
    std::thread::scope(|scope| pool.serve(scope));
    let mut state = pool.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.take_waiting().iter().for_each(|execution| session.give_up(execution));
    state
}

fn limit(options: &SolverOptions, lane: Lane) -> usize {
    match lane {
        Lane::Key | Lane::Step(Class::Light) => options.light,
        Lane::Step(Class::Native) => options.native,
        Lane::Step(Class::Emulated) => options.emulated,
    }
}

impl<W: Worker> Pool<'_, W> {
    fn lock(&self) -> MutexGuard<'_, State<W::Result>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let _alarm = Alarm(self);
        let limit = |lane| limit(self.session.options, lane);
        let mut state = self.lock();
        loop {
            if self.session.cancellation.is_cancelled() {
                state.stop();
            }
            let Some((lane, work)) = state.next(limit) else {
                if state.is_over() {
                    break;
                }
                self.idle.fetch_add(1, Ordering::SeqCst);
                let next_try = state.next_try().map(|when| when.saturating_duration_since(Instant::now()));
                let pause = next_try.unwrap_or(LOOK_AROUND).min(LOOK_AROUND);
                state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
                self.idle.fetch_sub(1, Ordering::SeqCst);
                continue;
            };
            self.bring_help(scope, state.available(limit));
            drop(state);
            let position = work.position();
            let report = self.session.perform(work);
            state = self.lock();
            let cancel = state.finish(lane, position, report);
            let shared = state.take_shared();
            if cancel || !shared.is_empty() {
                drop(state);
                shared.iter().for_each(|vertex| self.session.cached(vertex));
                if cancel {
                    self.session.cancellation.cancel();
                }
                state = self.lock();
            }
            if state.is_over() {
                self.changed.notify_all();
            }
        }
    }

    /// Wakes or starts threads for `available` pieces of work.
    fn bring_help<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, available: usize) {
        let idle = self.idle.load(Ordering::SeqCst);
        for _ in 0..available.min(idle) {
            self.changed.notify_one();
        }
        let options = self.session.options;
        let most = options.light.max(1) * 2 + options.native.max(1) + options.emulated.max(1);
        for _ in idle..available {
            if self.threads.load(Ordering::SeqCst) >= most || self.failed.load(Ordering::SeqCst) {
                return;
            }
            self.threads.fetch_add(1, Ordering::SeqCst);
            let started = std::thread::Builder::new().spawn_scoped(scope, move || self.serve(scope));
            if started.is_err() {
                // Out of threads: those that there are do the work.
                self.threads.fetch_sub(1, Ordering::SeqCst);
                self.failed.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// Ends the solve when a thread panics, so that the others do not wait for it.
struct Alarm<'a, W: Worker>(&'a Pool<'a, W>);

impl<W: Worker> Drop for Alarm<'_, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.session.cancellation.cancel();
            self.0.lock().stop();
            self.0.changed.notify_all();
        }
    }
}
