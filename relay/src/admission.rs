//! How much of everything scarce there is for connections and uploads, and who gets in. All that a body needs is taken at
//! once, when its key is known; whoever waits for some of it holds nothing of the rest.

use tokio::time::{Duration, Instant, timeout_at};

use crate::error::Rejection;
use crate::key_ring::KeyGrant;
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_MIN, CONNECTIONS_WAITING_MAX, DESCRIPTORS_RESERVED,
    KEYLESS_ENVELOPES_MAX, KEYLESS_WAIT, UNWRAPPING_BYTES_MAX, UPLOAD_OWN_BYTES, UPLOAD_WAIT,
    UPLOADS_MAX,
};
use crate::places::{
    Charge, HolderName, Holders, Party, Permit, Pool, PoolName, PoolUse, Shortage,
};

/// What the machine has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections that are served at once.
    pub connections: usize,
    /// Further connections, which wait for a place or are just being refused.
    pub waiting: usize,
    /// Uploads under way at once, to their answers; with HTTP/2 one connection may have many.
    pub uploads: usize,
    /// Those of them whose bodies are being read.
    pub receiving: usize,
    /// Bytes of uploads in memory.
    pub memory_bytes: u64,
    /// Bytes of decoders with wide windows.
    pub decoder_bytes: u64,
    /// Bytes of the windows of HTTP/2 connections with requests under way.
    pub window_bytes: u64,
    /// Bytes of the heads of requests under way.
    pub request_bytes: u64,
}

impl Bounds {
    /// What so many file descriptors and so much memory have room for. Every connection is a descriptor, every upload
    /// may need another for its spool file, and while it is being read it holds memory beside what all of them share.
    #[must_use]
    pub fn of(descriptors: u64, max_inflight_bytes: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let free = descriptors
            .saturating_sub(DESCRIPTORS_RESERVED)
            .max(CONNECTIONS_MIN);
        let waiting = (free / 16).clamp(1, CONNECTIONS_WAITING_MAX);
        let uploads = (free / 2).min(UPLOADS_MAX);
        let connections = (free - waiting - uploads).min(CONNECTIONS_MAX);
        let by_memory = max_inflight_bytes / UPLOAD_OWN_BYTES;
        let by_memory = usize::try_from(by_memory).unwrap_or(usize::MAX);
        // One half is the queue's, for chunks on their way.
        let part = max_inflight_bytes / 32;
        Self {
            connections,
            waiting,
            uploads,
            receiving: by_memory.clamp(1, uploads),
            memory_bytes: 8 * part,
            decoder_bytes: 4 * part,
            window_bytes: 2 * part,
            request_bytes: 2 * part,
        }
    }
}

/// The bounds in force. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Admission {
    pub(crate) holders: Holders,
    pub(crate) connections: Pool,
    pub(crate) waiting: Pool,
    pub(crate) requests: Pool,
    pub(crate) windows: Pool,
    pub(crate) decoders: Pool,
    pub(crate) unwrapping: Pool,
    pub(crate) memory: Pool,
    keyless: Pool,
    uploads: Pool,
    receiving: Pool,
}

/// What an upload has while its body is read.
#[derive(Debug)]
#[must_use = "it is free again when this is dropped"]
pub struct Places {
    /// To its answer.
    pub upload: Permit,
    /// While the body comes in.
    pub reading: Reading,
}

/// What is free again once a body is read.
#[derive(Debug)]
#[must_use = "it is free again when this is dropped"]
pub struct Reading {
    _receiving: Permit,
    _decoder: Option<Permit>,
}

/// A pool that somebody had to wait for, and how much of it was wanted.
struct Short<'p> {
    pool: &'p Pool,
    amount: u64,
    why: Shortage,
}

impl Admission {
    /// So much of everything.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let places = |name, total: usize| Pool::new(name, total as u64);
        let keyless = (bounds.receiving / 16).clamp(2, KEYLESS_ENVELOPES_MAX);
        Self {
            holders: Holders::default(),
            connections: places(PoolName::Connections, bounds.connections),
            waiting: places(PoolName::Waiting, bounds.waiting),
            requests: Pool::new(PoolName::Requests, bounds.request_bytes),
            windows: Pool::new(PoolName::Windows, bounds.window_bytes),
            keyless: places(PoolName::Keyless, keyless),
            uploads: places(PoolName::Uploads, bounds.uploads),
            receiving: places(PoolName::Receiving, bounds.receiving),
            decoders: Pool::new(PoolName::Decoders, bounds.decoder_bytes),
            unwrapping: Pool::new(PoolName::Unwrapping, UNWRAPPING_BYTES_MAX),
            memory: Pool::new(PoolName::Memory, bounds.memory_bytes),
        }
    }

    /// The party with the key that it has shown.
    pub(crate) fn with_key(&self, party: &Party, grant: &KeyGrant) -> Party {
        party.with_key(self.holders.of(HolderName::Key(grant.key().clone())))
    }

    /// The party as one of all whose key is not known yet.
    pub(crate) fn without_key(&self, party: &Party) -> Party {
        party.with_key(self.holders.of(HolderName::Keyless))
    }

    /// Charges a key with the request that showed it, or all without a key with one that has shown none yet.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] when it has its share of requests under way.
    pub(crate) fn charge_request(
        &self,
        party: &Party,
        bytes: u64,
    ) -> Result<Option<Charge>, Rejection> {
        let charge = party.key().map(|key| self.requests.charge(key, bytes));
        charge.transpose().map_err(|_| Rejection::Overloaded)
    }

    /// All that reading a body needs, at once; waits for it, holding none of it.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] when it does not come free in time.
    pub async fn body(&self, party: &Party, decoder_bytes: u64) -> Result<Places, Rejection> {
        let deadline = Instant::now() + UPLOAD_WAIT;
        loop {
            let short = match self.try_body(party, decoder_bytes) {
                Ok(places) => return Ok(places),
                Err(short) => short,
            };
            if !self.may_wait(short.why) {
                return Err(Rejection::Overloaded);
            }
            let room = timeout_at(deadline, short.pool.room(party, short.amount)).await;
            if !matches!(room, Ok(true)) {
                // A last look, which shows the shortage to operators when it is the reason of a refusal.
                let last = self.try_body(party, decoder_bytes);
                return last.map_err(|_| Rejection::Overloaded);
            }
            // Where another pool is short now, what this one has is others'.
            short.pool.wake();
        }
    }

    fn try_body(&self, party: &Party, decoder_bytes: u64) -> Result<Places, Short<'_>> {
        fn take<'p>(pool: &'p Pool, party: &Party, amount: u64) -> Result<Permit, Short<'p>> {
            let taken = pool.try_take(party, amount);
            taken.map_err(|why| Short { pool, amount, why })
        }
        let upload = take(&self.uploads, party, 1)?;
        let receiving = take(&self.receiving, party, 1)?;
        // What is wider than all there is has all there is.
        let decoder_bytes = decoder_bytes.min(self.decoders.total());
        let decoder = match decoder_bytes {
            0 => None,
            bytes => Some(take(&self.decoders, party, bytes)?),
        };
        Ok(Places {
            upload,
            reading: Reading {
                _receiving: receiving,
                _decoder: decoder,
            },
        })
    }

    /// A place for an envelope whose key is still to come.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`]
    pub async fn keyless(&self, party: &Party) -> Result<Permit, Rejection> {
        let wait = if self.connections.is_scarce() {
            Duration::ZERO
        } else {
            KEYLESS_WAIT
        };
        let place = self.keyless.take(party, 1, wait).await;
        place.map_err(|_| Rejection::Overloaded)
    }

    /// Room for a decoder before the key is known, at once.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`]
    pub fn keyless_decoder(&self, party: &Party, bytes: u64) -> Result<Permit, Rejection> {
        let bytes = bytes.min(self.decoders.total());
        let room = self.decoders.try_take(party, bytes);
        room.map_err(|_| Rejection::Overloaded)
    }

    /// Whether it has come to where who makes no use of its place has to give it up sooner.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.is_scarce_for(&Party::default())
    }

    /// The same for a party: where its share is nearly used up, others of the same key need what it makes no use of.
    #[must_use]
    pub fn is_scarce_for(&self, party: &Party) -> bool {
        let mut pools = [&self.receiving, &self.uploads].into_iter();
        pools.any(|pool| pool.is_scarce_for(party))
            || self.connections.is_scarce()
            || self.requests.is_scarce()
    }

    /// What every pool is at.
    pub(crate) fn usage(&self) -> [PoolUse; PoolName::ALL.len()] {
        PoolName::ALL.map(|name| self.pool(name).usage())
    }

    fn pool(&self, name: PoolName) -> &Pool {
        match name {
            PoolName::Connections => &self.connections,
            PoolName::Waiting => &self.waiting,
            PoolName::Requests => &self.requests,
            PoolName::Windows => &self.windows,
            PoolName::Keyless => &self.keyless,
            PoolName::Uploads => &self.uploads,
            PoolName::Receiving => &self.receiving,
            PoolName::Decoders => &self.decoders,
            PoolName::Unwrapping => &self.unwrapping,
            PoolName::Memory => &self.memory,
        }
    }

    /// Who waits has a connection meanwhile. Where those are scarce, only who has not its share of what it waits for may.
    fn may_wait(&self, why: Shortage) -> bool {
        match why {
            Shortage::Empty => true,
            Shortage::Share(_) => !self.connections.is_scarce(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_fit_the_descriptors_and_the_memory() {
        let bounds = |descriptors: u64, mebibytes: u64| {
            let memory = mebibytes.saturating_mul(1 << 20);
            let bounds = Bounds::of(descriptors, memory);
            let all = bounds.connections + bounds.waiting + bounds.uploads;
            assert!(all + DESCRIPTORS_RESERVED <= (descriptors as usize).max(320));
            let parts = [
                bounds.memory_bytes,
                bounds.decoder_bytes,
                bounds.window_bytes,
            ];
            assert!(parts.iter().sum::<u64>() + bounds.request_bytes <= memory / 2);
            (
                bounds.connections,
                bounds.waiting,
                bounds.uploads,
                bounds.receiving,
            )
        };
        assert_eq!(bounds(20_000, 256), (8192, 512, 8192, 2048));
        assert_eq!(bounds(20_000, 16), (8192, 512, 8192, 128));
        assert_eq!(bounds(4096, 256), (1680, 240, 1920, 1920));
        assert_eq!(bounds(1024, 256), (336, 48, 384, 384));
        assert_eq!(bounds(10, 256), (28, 4, 32, 32));
        assert_eq!(bounds(u64::MAX, u64::MAX), (8192, 512, 8192, 8192));
    }

    fn admission() -> Admission {
        Admission::new(Bounds::of(1024, 256 << 20))
    }

    fn key(admission: &Admission, name: &str) -> Party {
        let key = HolderName::Key(name.parse().expect("a key"));
        Party::default().with_key(admission.holders.of(key))
    }

    #[tokio::test(start_paused = true)]
    async fn one_keys_half_sent_uploads_leave_places_to_another() {
        let admission = admission();
        let (greedy, other) = (key(&admission, "greedy"), key(&admission, "other"));
        let mut held = Vec::new();
        while let Ok(places) = admission.body(&greedy, 0).await {
            held.push(places);
        }
        assert_eq!(held.len(), 288);
        let begun = Instant::now();
        assert!(admission.body(&other, 0).await.is_ok());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_decoder_holds_no_other_place() {
        let admission = admission();
        let (greedy, other) = (key(&admission, "greedy"), key(&admission, "other"));
        let wide = admission.decoders.total();
        let held = admission.body(&greedy, wide).await.expect("all there is");
        let mut waits = std::pin::pin!(admission.body(&other, 1 << 20));
        assert!(futures_util::poll!(&mut waits).is_pending());
        assert_eq!(admission.uploads.usage().used, 1);
        assert_eq!(admission.receiving.usage().used, 1);
        drop(held);
        let places = waits.await.expect("its turn has come");
        assert_eq!(admission.decoders.usage().used, 1 << 20);
        // The upload goes on to its answer; others may be read.
        drop(places.reading);
        assert_eq!(admission.receiving.usage().used, 0);
        assert_eq!(admission.uploads.usage().used, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn envelopes_without_a_key_are_few_and_take_little_of_the_decoders() {
        let admission = admission();
        let keyless = admission.without_key(&Party::default());
        let mut held = Vec::new();
        while let Ok(place) = admission.keyless(&Party::default()).await {
            held.push(place);
        }
        assert_eq!(held.len(), 24);
        let decoders = std::iter::from_fn(|| admission.keyless_decoder(&keyless, 1 << 20).ok());
        assert_eq!(decoders.collect::<Vec<_>>().len(), 8);
        assert!(
            admission
                .body(&key(&admission, "key"), 8 << 20)
                .await
                .is_ok()
        );
    }
}
