//! When a request is made again, and after how long.

use std::time::Duration;

use crate::error::{Error, Result};

/// How often and how patiently requests are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in a row that may fail without anything having been transferred.
    pub attempts: u32,
    /// Longest wait before the second attempt; it doubles with each further one. The real wait is random up to it.
    pub first_delay: Duration,
    /// Longest wait of all.
    pub longest_delay: Duration,
    /// Longest wait that a registry may ask for; when it wants more, the request fails.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 6,
            first_delay: Duration::from_millis(400),
            longest_delay: Duration::from_secs(15),
            longest_retry_after: Duration::from_secs(120),
        }
    }
}

/// Attempts at one request.
pub(crate) struct Attempts {
    policy: RetryPolicy,
    failed: u32,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Attempts { policy, failed: 0 }
    }

    /// Notes that something was transferred, so that what follows is not a repetition.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits before another attempt, or gives the error back when there is to be none.
    pub(crate) async fn wait(&mut self, error: Error) -> Result<()> {
        let again = error.is_transient();
        self.wait_if(again, error).await
    }

    /// The same where the caller knows better whether another attempt makes sense.
    pub(crate) async fn wait_if(&mut self, again: bool, error: Error) -> Result<()> {
        self.failed += 1;
        if !again || self.failed >= self.policy.attempts {
            return Err(error);
        }
        let delay = match error.retry_after() {
            Some(asked) if asked > self.policy.longest_retry_after => return Err(error),
            // A little later than asked, and not all clients at once.
            Some(asked) => asked + jitter(self.policy.first_delay),
            None => {
                let doubled = self.policy.first_delay.saturating_mul(1 << (self.failed - 1).min(16));
                jitter(doubled.min(self.policy.longest_delay))
            }
        };
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

fn jitter(longest: Duration) -> Duration {
    longest.mul_f64(rand::random::<f64>())
}
