//! Cancellation that reaches blocked work: a flag with callbacks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Callback = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Callbacks {
    next: u64,
    waiting: BTreeMap<u64, Callback>,
}

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    callbacks: Mutex<Callbacks>,
}

impl Inner {
    fn callbacks(&self) -> MutexGuard<'_, Callbacks> {
        self.callbacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flag that is raised once; clones are the same flag.
#[derive(Clone, Default)]
pub struct Cancellation {
    inner: Arc<Inner>,
}

impl Cancellation {
    /// A flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag and runs what waits for it, on this thread. Doing so twice is harmless.
    pub fn cancel(&self) {
        if self.inner.cancelled.swap(true, Ordering::SeqCst) {
            return;
        }
        let waiting = std::mem::take(&mut self.inner.callbacks().waiting);
        for callback in waiting.into_values() {
            callback();
        }
    }

    /// Whether the flag is raised.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::SeqCst)
    }

    /// Runs `callback` when the flag is raised, at once if it already is, unless the guard is dropped before. The
    /// callback may still be running on another thread when the guard is gone.
    pub fn on_cancel(&self, callback: impl Fn() + Send + Sync + 'static) -> CancelGuard {
        let callback: Callback = Arc::new(callback);
        let id = {
            let mut callbacks = self.inner.callbacks();
            let id = callbacks.next;
            callbacks.next += 1;
            callbacks.waiting.insert(id, Arc::clone(&callback));
            id
        };
        // Raised in between: whoever removes the entry runs it, so it runs exactly once.
        if self.is_cancelled() && self.inner.callbacks().waiting.remove(&id).is_some() {
            callback();
        }
        CancelGuard { inner: Arc::clone(&self.inner), id }
    }

    /// A flag that is raised with this one and can be raised alone, as long as the guard lives.
    pub fn child(&self) -> (Self, CancelGuard) {
        let child = Self::new();
        let raised = child.clone();
        let guard = self.on_cancel(move || raised.cancel());
        (child, guard)
    }
}

impl std::fmt::Debug for Cancellation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Cancellation").field(&self.is_cancelled()).finish()
    }
}

/// Takes the callback back when dropped.
#[must_use = "dropping the guard takes the callback back"]
pub struct CancelGuard {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.inner.callbacks().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + 'static) {
        let count = Arc::new(AtomicUsize::new(0));
        let inside = Arc::clone(&count);
        (count, move || {
            inside.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[test]
    fn callbacks_run_once() {
        let cancellation = Cancellation::new();
        let (count, callback) = counter();
        let _guard = cancellation.on_cancel(callback);
        cancellation.cancel();
        cancellation.cancel();
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_late_callback_runs_at_once() {
        let cancellation = Cancellation::new();
        cancellation.cancel();
        let (count, callback) = counter();
        let _guard = cancellation.on_cancel(callback);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_dropped_guard_takes_the_callback_back() {
        let cancellation = Cancellation::new();
        let (count, callback) = counter();
        drop(cancellation.on_cancel(callback));
        cancellation.cancel();
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_child_follows_its_parent_and_not_the_other_way_round() {
        let parent = Cancellation::new();
        let (child, _guard) = parent.child();
        let (other, _other_guard) = parent.child();
        child.cancel();
        assert!(!parent.is_cancelled() && !other.is_cancelled());
        parent.cancel();
        assert!(other.is_cancelled());
    }
}
