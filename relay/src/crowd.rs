//! The connections there are, so that those without a request make room for those that come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::activity::Activity;
use crate::limits::{EVICTION_INTERVAL, EVICTION_REST};

/// All connections that have a place. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowd(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    connections: HashMap<u64, Activity>,
    next: u64,
    looked_at: Option<Instant>,
}

/// A connection among the others, until this is dropped.
#[derive(Debug)]
#[must_use = "the connection leaves the others when this is dropped"]
pub(crate) struct Member {
    crowd: Crowd,
    number: u64,
}

impl Crowd {
    /// A connection has got a place.
    pub(crate) fn enter(&self, activity: &Activity) -> Member {
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += 1;
        inner.connections.insert(number, activity.clone());
        Member {
            crowd: self.clone(),
            number,
        }
    }

    /// Has up to `places` connections leave that have been without a request, those first that have been so for the
    /// longest. Not more often than it is of use.
    pub(crate) fn make_room(&self, places: usize) {
        let now = Instant::now();
        let mut inner = self.inner();
        let is_early = |looked_at: Instant| now - looked_at < EVICTION_INTERVAL;
        if inner.looked_at.is_some_and(is_early) {
            return;
        }
        inner.looked_at = Some(now);
        let idle = inner.connections.values().filter_map(|activity| {
            let idle = activity.idle(now).filter(|idle| *idle >= EVICTION_REST)?;
            Some((idle, activity))
        });
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        for (_, activity) in idle.into_iter().take(places) {
            activity.evict();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The connections are whole between any two statements of this file.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.inner().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_leave_that_have_been_without_a_request_for_the_longest() {
        let crowd = Crowd::default();
        let connections: Vec<_> = (0..4).map(|_| Activity::new()).collect();
        let _members: Vec<_> = connections
            .iter()
            .map(|activity| crowd.enter(activity))
            .collect();
        let is_evicted = |at: usize| connections[at].evicted().now_or_never().is_some();
        let request = connections[0].begin();
        tokio::time::advance(EVICTION_REST).await;
        drop(connections[2].begin());
        tokio::time::advance(EVICTION_REST).await;
        crowd.make_room(2);
        assert_eq!([0, 1, 2, 3].map(is_evicted), [false, true, false, true]);
        // Not twice at once.
        crowd.make_room(2);
        assert!(!is_evicted(2));
        tokio::time::advance(EVICTION_INTERVAL).await;
        crowd.make_room(4);
        assert!(is_evicted(2) && !is_evicted(0));
        drop(request);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_just_come_has_time_for_its_request() {
        let crowd = Crowd::default();
        let fresh = Activity::new();
        let member = crowd.enter(&fresh);
        crowd.make_room(1);
        assert!(fresh.evicted().now_or_never().is_none());
        drop(member);
        assert!(crowd.inner().connections.is_empty());
    }
}
