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

/// Does something with each item, `limit` at a time; what has not begun when something fails is left.
///
/// # Errors
/// The first error.
pub(crate) fn each<T: Sync, E: Send>(
    items: &[T],
    limit: usize,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                next.store(items.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    match items.len().min(limit) {
        0 | 1 => run(),
        count => std::thread::scope(|scope| {
            for _ in 1..count {
                scope.spawn(run);
            }
            run();
        }),
    }
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_failure_ends_the_rest() {
        let done = std::sync::atomic::AtomicUsize::new(0);
        let work = |item: &usize| {
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if *item == 3 { Err(*item) } else { Ok(()) }
        };
        let items: Vec<usize> = (0..10_000).collect();
        assert_eq!(super::each(&items, 1, work), Err(3));
        assert_eq!(done.load(std::sync::atomic::Ordering::Relaxed), 4);
        assert_eq!(super::each(&items, 4, work), Err(3));
        assert_eq!(super::each(&items[4..], 4, work), Ok(()));
    }

    #[test]
    fn answers_come_in_order() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(super::map(&items, 7, |item| item * 2), (0..200).step_by(2).collect::<Vec<_>>());
        assert_eq!(super::map(&[] as &[u8], 7, |item| *item), Vec::<u8>::new());
    }
}
