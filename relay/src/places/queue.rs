//! Who waits for something of a pool: woken in the order of coming, past those who hold their share already.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Party, Pool, PoolName};
use crate::limits::WAITERS_MAX;

/// The waiters of one pool.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: Mutex<VecDeque<Arc<Waiting>>>,
    /// How many there are, known without the lock.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Waiting {
    party: Party,
    amount: u64,
    woken: Notify,
}

/// A place in a pool's queue, left when this is dropped.
#[derive(Debug)]
pub(super) struct Waiter<'p> {
    pool: &'p Pool,
    waiting: Arc<Waiting>,
    /// It was woken, and knows it.
    woken: bool,
}

impl Queue {
    /// Wakes as many as what is free has room for.
    pub(super) fn wake(&self, pool: PoolName, free: impl Fn() -> u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut waiters = self.waiters();
        let mut free = free();
        waiters.retain(|waiting| {
            let finds_room = free > 0 && waiting.party.check(pool, waiting.amount, free).is_ok();
            if finds_room {
                free -= waiting.amount;
                self.count.fetch_sub(1, Ordering::SeqCst);
                waiting.woken.notify_one();
            }
            !finds_room
        });
    }

    /// Takes a waiter out; false when it was woken before.
    fn remove(&self, waiting: &Arc<Waiting>) -> bool {
        let mut waiters = self.waiters();
        let at = waiters.iter().position(|other| Arc::ptr_eq(other, waiting));
        let found = at.and_then(|at| waiters.remove(at)).is_some();
        if found {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        found
    }

    fn waiters(&self) -> MutexGuard<'_, VecDeque<Arc<Waiting>>> {
        // A queue is whole between any two statements of this file.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'p> Waiter<'p> {
    /// A place at the end of the pool's queue; `None` when too many wait.
    pub(super) fn new(pool: &'p Pool, party: Party, amount: u64) -> Option<Self> {
        let queue = &pool.0.queue;
        let mut waiters = queue.waiters();
        if waiters.len() >= WAITERS_MAX {
            return None;
        }
        let waiting = Arc::new(Waiting {
            party,
            amount,
            woken: Notify::new(),
        });
        waiters.push_back(Arc::clone(&waiting));
        queue.count.fetch_add(1, Ordering::SeqCst);
        drop(waiters);
        Some(Self {
            pool,
            waiting,
            woken: false,
        })
    }

    /// Waits to be woken.
    pub(super) async fn woken(mut self) {
        self.waiting.woken.notified().await;
        self.woken = true;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // One that was woken and goes away without knowing it passes it on.
        if !self.woken && !self.pool.0.queue.remove(&self.waiting) {
            self.pool.wake();
        }
    }
}
