//! Several questions at a time, answers in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Asks `work` of each item, `limit` at a time.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], limit: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let answers: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let run = || {
        while let Some((item, answer)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            items.get(number).zip(answers.get(number))
        } {
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(work(item));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..items.len().min(limit) {
            scope.spawn(run);
        }
        run();
    });
    let answers = answers.into_iter().map(|answer| answer.into_inner().unwrap_or_else(PoisonError::into_inner));
    answers.flatten().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn answers_come_in_order() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(super::map(&items, 7, |item| item * 2), (0..200).step_by(2).collect::<Vec<_>>());
        assert_eq!(super::map(&[] as &[u8], 7, |item| *item), Vec::<u8>::new());
    }
}
