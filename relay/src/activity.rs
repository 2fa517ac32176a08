//! What one connection is at: how many requests are under way on it, and since when none is. One rule for every
//! protocol, from the first byte to see which it is, to what stays open between requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep};

use crate::limits::LOOK_INTERVAL;

/// The requests of one connection. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    ended: Notify,
    evicted: Notify,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    begun: u64,
    idle_since: Instant,
}

/// A request under way, until this is dropped.
#[derive(Debug)]
#[must_use = "the request ends when this is dropped"]
pub struct UnderWay(Activity);

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

impl Activity {
    /// A connection that has just come.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            under_way: 0,
            begun: 0,
            idle_since: Instant::now(),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            ended: Notify::new(),
            evicted: Notify::new(),
        }))
    }

    /// A request's head is complete.
    pub fn begin(&self) -> UnderWay {
        let mut state = self.state();
        state.under_way += 1;
        state.begun += 1;
        UnderWay(self.clone())
    }

    /// For how long no request has been under way; `None` while one is.
    #[must_use]
    pub fn idle(&self, now: Instant) -> Option<Duration> {
        let state = self.state();
        (state.under_way == 0).then(|| now.saturating_duration_since(state.idle_since))
    }

    /// Ends when no request has been under way for as long as `bound` says, which may change its mind.
    pub async fn rests(&self, bound: impl Fn() -> Duration) {
        loop {
            let bound = bound();
            let left = match self.idle(Instant::now()) {
                Some(idle) if idle >= bound => return,
                Some(idle) => bound - idle,
                None => bound,
            };
            sleep(left.min(LOOK_INTERVAL)).await;
        }
    }

    /// The requests under way are to be the last.
    pub fn end(&self) {
        self.0.ended.notify_one();
    }

    /// Waits for [`Activity::end`].
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// Its place is needed for one that has a request.
    pub(crate) fn evict(&self) {
        self.0.evicted.notify_one();
    }

    /// Waits for [`Activity::evict`], and still has no request then.
    pub(crate) async fn evicted(&self) {
        loop {
            self.0.evicted.notified().await;
            if self.idle(Instant::now()).is_some() {
                return;
            }
        }
    }

    /// Whether there has been a request at all.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.state().begun > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counts are whole between any two statements of this file.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_request() {
        let activity = Activity::new();
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        assert_eq!(activity.idle(Instant::now()), Some(second));
        assert!(!activity.was_used());
        let (first, other) = (activity.begin(), activity.begin());
        drop(first);
        assert_eq!(activity.idle(Instant::now()), None);
        tokio::time::advance(second).await;
        drop(other);
        assert_eq!(activity.idle(Instant::now()), Some(Duration::ZERO));
        assert!(activity.was_used());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_measured_by_the_bound_of_the_moment() {
        let activity = Activity::new();
        let begun = Instant::now();
        let bound = || {
            let scarce = begun.elapsed() >= Duration::from_secs(9);
            Duration::from_secs(if scarce { 5 } else { 30 })
        };
        activity.rests(bound).await;
        assert_eq!(begun.elapsed().as_secs(), 10);
    }
}
