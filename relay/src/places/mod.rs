//! Scarce things, counted: how much of each there is, who holds how much of it, and who may take more.
//!
//! Whoever asks is counted as a party: its connection, its peer, and its key once that is known. While much is free, one
//! party may take everything; the less is left, the less may be held by who asks for more. A key never gets into the last
//! quarter, a peer never into the last sixteenth, a connection never into the last half; what is left of these is shared
//! by the same rule, so that whoever holds nothing finds something.

mod holder;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Duration, Instant, timeout_at};

pub use self::holder::{Holder, HolderKind, HolderName, Holders, Party};
use self::queue::{Queue, Waiter};

/// What there are pools of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolName {
    /// Connections that are served.
    Connections,
    /// Connections that wait for a place, or are just being refused.
    Waiting,
    /// Bytes of the heads of requests under way.
    Requests,
    /// Bytes of the windows of HTTP/2 connections with requests under way.
    Windows,
    /// Envelopes whose key is still to come in their first line.
    Keyless,
    /// Uploads to their answers.
    Uploads,
    /// Uploads whose bodies are being read.
    Receiving,
    /// Bytes of decoders with wide windows.
    Decoders,
    /// Bytes of decoders for dumps that were compressed within their part.
    Unwrapping,
    /// Bytes of uploads in memory.
    Memory,
}

impl PoolName {
    /// Every pool.
    pub const ALL: [Self; 10] = [
        Self::Connections,
        Self::Waiting,
        Self::Requests,
        Self::Windows,
        Self::Keyless,
        Self::Uploads,
        Self::Receiving,
        Self::Decoders,
        Self::Unwrapping,
        Self::Memory,
    ];

    /// Its name in metrics and in `/readyz`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Waiting => "waiting_connections",
            Self::Requests => "request_bytes",
            Self::Windows => "http2_window_bytes",
            Self::Keyless => "keyless_envelopes",
            Self::Uploads => "uploads",
            Self::Receiving => "receiving",
            Self::Decoders => "decoder_bytes",
            Self::Unwrapping => "unwrapping_bytes",
            Self::Memory => "memory_bytes",
        }
    }
}

/// Why something cannot be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// There is not as much.
    Empty,
    /// There is, but who asks holds its share already.
    Share(HolderKind),
}

/// So much of something. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: PoolName,
    total: u64,
    free: AtomicU64,
    queue: Queue,
    /// Refusals and waits, by what they were for.
    short_empty: AtomicU64,
    short_share: AtomicU64,
}

/// What a pool is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Which one.
    pub name: PoolName,
    /// All there is.
    pub total: u64,
    /// What is held of it.
    pub used: u64,
    /// How often somebody has found nothing.
    pub short_empty: u64,
    /// How often somebody has found something, and held its share already.
    pub short_share: u64,
}

/// Some of a pool, free again when this is dropped.
#[derive(Debug)]
#[must_use = "what it holds is free again when this is dropped"]
pub struct Permit {
    pool: Pool,
    party: Party,
    amount: u64,
}

/// An amount that is counted against a holder, without being taken from its pool once more.
#[derive(Debug)]
#[must_use = "the holder is free of it when this is dropped"]
pub struct Charge {
    pool: PoolName,
    holder: Arc<Holder>,
    amount: u64,
}

impl Pool {
    /// So much of something.
    #[must_use]
    pub fn new(name: PoolName, total: u64) -> Self {
        Self(Arc::new(Inner {
            name,
            total,
            free: AtomicU64::new(total),
            queue: Queue::default(),
            short_empty: AtomicU64::new(0),
            short_share: AtomicU64::new(0),
        }))
    }

    /// Takes some at once.
    ///
    /// # Errors
    /// [`Shortage`]
    pub fn try_take(&self, party: &Party, amount: u64) -> Result<Permit, Shortage> {
        match self.grab(party, amount) {
            Ok(()) => Ok(Permit {
                pool: self.clone(),
                party: party.clone(),
                amount,
            }),
            Err(shortage) => {
                self.count(shortage);
                Err(shortage)
            }
        }
    }

    /// Takes some, when it comes free in time.
    ///
    /// # Errors
    /// [`Shortage`]
    pub async fn take(
        &self,
        party: &Party,
        amount: u64,
        at_most: Duration,
    ) -> Result<Permit, Shortage> {
        let deadline = Instant::now() + at_most;
        loop {
            let shortage = match self.try_take(party, amount) {
                Ok(permit) => return Ok(permit),
                Err(shortage) => shortage,
            };
            let room = timeout_at(deadline, self.room(party, amount)).await;
            if !matches!(room, Ok(true)) {
                return Err(shortage);
            }
        }
    }

    /// Waits until the party could take as much; false when too many wait already. Nothing is taken: whoever needs of
    /// several pools waits for one with nothing of the others in hand.
    pub async fn room(&self, party: &Party, amount: u64) -> bool {
        let Some(waiter) = Waiter::new(self, party.clone(), amount) else {
            return false;
        };
        // Whoever gave something back before this waiter was there did not see it.
        if self.check(party, amount).is_err() {
            waiter.woken().await;
        }
        true
    }

    /// Charges `holder` with an amount that was taken before the holder was known.
    ///
    /// # Errors
    /// [`Shortage::Share`]
    pub fn charge(&self, holder: &Arc<Holder>, amount: u64) -> Result<Charge, Shortage> {
        let free = self.0.free.load(Ordering::SeqCst);
        // It is no longer among what is free.
        if !holder.may_take(self.0.name, amount, free.saturating_add(amount)) {
            let shortage = Shortage::Share(holder.kind());
            self.count(shortage);
            return Err(shortage);
        }
        holder.add(self.0.name, amount);
        Ok(Charge {
            pool: self.0.name,
            holder: Arc::clone(holder),
            amount,
        })
    }

    /// Whether less than an eighth is free: then whoever makes no use of its place has to give it up sooner.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.free() < self.0.total.div_ceil(8)
    }

    /// Whether half of it is in use: then nobody gets it for what is only a courtesy.
    #[must_use]
    pub fn is_half_used(&self) -> bool {
        self.free() < self.0.total / 2
    }

    /// Whether less than an eighth is left for the party: of what is free, or of its share.
    #[must_use]
    pub fn is_scarce_for(&self, party: &Party) -> bool {
        self.check(party, self.0.total.div_ceil(8)).is_err()
    }

    /// What nobody holds.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.0.free.load(Ordering::SeqCst)
    }

    /// All there is.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// What it is at.
    #[must_use]
    pub fn usage(&self) -> PoolUse {
        PoolUse {
            name: self.0.name,
            total: self.0.total,
            used: self.0.total.saturating_sub(self.free()),
            short_empty: self.0.short_empty.load(Ordering::Relaxed),
            short_share: self.0.short_share.load(Ordering::Relaxed),
        }
    }

    /// Takes some without a guard; [`Pool::give`] gives it back.
    pub(crate) fn grab(&self, party: &Party, amount: u64) -> Result<(), Shortage> {
        let inner = &*self.0;
        let mut free = inner.free.load(Ordering::SeqCst);
        loop {
            party.check(inner.name, amount, free)?;
            let left = free - amount;
            let taken =
                inner
                    .free
                    .compare_exchange_weak(free, left, Ordering::SeqCst, Ordering::SeqCst);
            match taken {
                Ok(_) => break,
                Err(now) => free = now,
            }
        }
        // Two that ask at once may both pass the check: a share is exceeded by as many as ask at the same instant, the
        // total never.
        party.add(inner.name, amount);
        Ok(())
    }

    /// Gives back what [`Pool::grab`] took.
    pub(crate) fn give(&self, party: &Party, amount: u64) {
        party.remove(self.0.name, amount);
        self.0.free.fetch_add(amount, Ordering::SeqCst);
        self.wake();
    }

    /// Wakes who could take something now.
    pub(crate) fn wake(&self) {
        self.0.queue.wake(self.0.name, || self.free());
    }

    fn check(&self, party: &Party, amount: u64) -> Result<(), Shortage> {
        party.check(self.0.name, amount, self.free())
    }

    fn count(&self, shortage: Shortage) {
        let counter = match shortage {
            Shortage::Empty => &self.0.short_empty,
            Shortage::Share(_) => &self.0.short_share,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.give(&self.party, self.amount);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.holder.remove(self.pool, self.amount);
    }
}

#[cfg(test)]
mod tests;
