//! What is scarce, shared among keys: one key may use all that is free, but for the last quarter, of which it gets no more
//! than an eighth of the whole. So a crowd with one key, which is public, leaves something for every other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use shared::id::PublicKey;

/// Units of something, so many of them. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: u64,
    held: Mutex<Held>,
    /// Shows what is held.
    shown: Gauge,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    /// Of the keys that hold anything.
    of: HashMap<PublicKey, u64>,
}

/// What one taker holds; given back when dropped.
#[derive(Debug)]
#[must_use = "what is held is given back when this is dropped"]
pub(crate) struct Share {
    shares: Shares,
    owner: PublicKey,
    units: u64,
}

impl Shares {
    /// `total` units.
    pub(crate) fn new(total: u64, shown: Gauge) -> Self {
        Self(Arc::new(Inner {
            total,
            held: Mutex::default(),
            shown,
        }))
    }

    /// All units there are.
    pub(crate) fn total(&self) -> u64 {
        self.0.total
    }

    /// Units that somebody holds.
    pub(crate) fn held(&self) -> u64 {
        self.lock().all
    }

    /// A share of nothing yet.
    pub(crate) fn share(&self, owner: &PublicKey) -> Share {
        Share {
            shares: self.clone(),
            owner: owner.clone(),
            units: 0,
        }
    }

    /// A share of `units`, when `owner` may have them.
    pub(crate) fn take(&self, owner: &PublicKey, units: u64) -> Option<Share> {
        let mut share = self.share(owner);
        share.grow(units, self.0.total).then_some(share)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Counts are whole between any two statements that hold the lock.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Takes more, of a total that may be less than all there is for now; false, and nothing taken, when the owner may
    /// not have it.
    pub(crate) fn grow(&mut self, units: u64, total: u64) -> bool {
        let total = total.min(self.shares.0.total);
        let mut held = self.shares.lock();
        let all = held.all.saturating_add(units);
        let own = held.of.get(&self.owner).copied().unwrap_or_default() + units;
        let leaves_a_quarter = all <= total - total / 4;
        let is_small = own <= (total / 8).max(1);
        if all > total || !(leaves_a_quarter || is_small) {
            return false;
        }
        held.all = all;
        held.of.insert(self.owner.clone(), own);
        drop(held);
        self.units += units;
        self.shares.0.shown.inc_by(units.cast_signed());
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.lock();
        held.all -= self.units;
        if let Some(own) = held.of.get_mut(&self.owner) {
            *own -= self.units;
            if *own == 0 {
                held.of.remove(&self.owner);
            }
        }
        drop(held);
        self.shares.0.shown.dec_by(self.units.cast_signed());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> PublicKey {
        text.parse().expect("a key")
    }

    #[test]
    fn a_key_leaves_the_last_quarter_to_others_who_get_a_little_each() {
        let shares = Shares::new(64, Gauge::default());
        let greedy: Vec<Share> = std::iter::from_fn(|| shares.take(&key("greedy"), 1)).collect();
        assert_eq!(greedy.len(), 48);
        let other: Vec<Share> = std::iter::from_fn(|| shares.take(&key("other"), 1)).collect();
        assert_eq!(other.len(), 8);
        assert!(shares.take(&key("third"), 8).is_some());
        drop(greedy);
        assert_eq!(shares.held(), 8);
        assert!(shares.take(&key("other"), 40).is_some());
    }

    #[test]
    fn where_there_is_one_it_is_anybodys() {
        let shares = Shares::new(1, Gauge::default());
        let first = shares.take(&key("a"), 1);
        assert!(first.is_some() && shares.take(&key("b"), 1).is_none());
        drop(first);
        assert!(shares.take(&key("b"), 1).is_some());
        assert!(
            Shares::new(0, Gauge::default())
                .take(&key("a"), 1)
                .is_none()
        );
    }

    proptest! {
        /// Whatever is taken and given back: never more than there is, and a key that holds nothing gets an eighth
        /// whatever one other does.
        #[test]
        fn no_two_keys_stop_a_third(
            total in 16u64..1000,
            takes in prop::collection::vec((any::<bool>(), 1u64..100, any::<bool>()), 1..60),
        ) {
            let gauge = Gauge::default();
            let shares = Shares::new(total, gauge.clone());
            let mut held = Vec::new();
            for (first, units, give_back) in takes {
                let owner = key(if first { "first" } else { "second" });
                if give_back {
                    held.pop();
                }
                held.extend(shares.take(&owner, units));
                prop_assert!(shares.held() <= total);
                let third = shares.take(&key("third"), total / 8);
                prop_assert!(third.is_some());
            }
            drop(held);
            prop_assert_eq!((shares.held(), gauge.get()), (0, 0));
        }
    }
}
