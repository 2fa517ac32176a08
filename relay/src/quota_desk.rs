//! Uploads against their keys' quotas: counted in the state store for all relays; by this relay alone while the store is
//! away, which is told afterwards. A key without quotas costs nothing here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use shared::id::PublicKey;
use shared::quota::{Charge, Demand, Exceeded, QuotaUse, Quotas};
use shared::state::{QuotaVerdict, State, StateError};
use tokio::time::Instant;

use crate::error::{Rejection, TooLarge};
use crate::key_ring::KeyGrant;

/// Counts uploads. Cloning shares the counts.
#[derive(Clone, Debug)]
pub(crate) struct QuotaDesk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: State,
    /// Of keys with quotas that were used; as many as there are keys.
    keys: Mutex<HashMap<PublicKey, KeyUse>>,
}

/// What this relay knows of one key.
#[derive(Debug, Default)]
struct KeyUse {
    /// What this relay has taken, from the store too: it counts on from there when the store goes away.
    used: QuotaUse,
    /// What it took while the store was away.
    owed: QuotaUse,
    /// The last refusal, while nothing can have changed about it.
    exhausted: Option<Exhausted>,
}

#[derive(Debug)]
struct Exhausted {
    quotas: Quotas,
    exceeded: Exceeded,
    until: Instant,
}

/// What an upload took.
#[derive(Debug)]
#[must_use = "an upload that does not become durable gives it back"]
pub(crate) struct Taken {
    key: PublicKey,
    /// In this relay's windows.
    here: Charge,
    /// In the store's, unless it was away.
    in_store: Option<Charge>,
}

impl QuotaDesk {
    pub(crate) fn new(state: State) -> Self {
        let keys = Mutex::default();
        Self(Arc::new(Shared { state, keys }))
    }

    /// Refuses what is known to be refused before its body is read: the key's window is used up.
    ///
    /// # Errors
    /// [`Rejection::QuotaExceeded`]
    pub(crate) fn check_early(&self, grant: &KeyGrant) -> Result<(), Rejection> {
        if !grant.quotas().is_limited() {
            return Ok(());
        }
        let keys = self.keys();
        let known = keys.get(grant.key());
        match known.and_then(|key| key.refusal(grant.quotas(), Instant::now())) {
            Some(exceeded) => Err(Rejection::QuotaExceeded(exceeded)),
            None => Ok(()),
        }
    }

    /// Takes `demand` from all limits of its key, or from none. `None` when it has none.
    ///
    /// # Errors
    /// [`Rejection::QuotaExceeded`], or [`Rejection::TooLarge`] for what no window has room for.
    pub(crate) async fn take(
        &self,
        grant: &KeyGrant,
        demand: Demand,
    ) -> Result<Option<Taken>, Rejection> {
        let (key, quotas) = (grant.key(), grant.quotas());
        if !quotas.is_limited() {
            return Ok(None);
        }
        if let Some((limit, value)) = quotas.never_admits(demand.bytes) {
            return Err(TooLarge::Quota { limit, value }.into());
        }
        let answer = self.0.state.take_quota(key, quotas, demand).await;
        let mut keys = self.keys();
        let known = keys.entry(key.clone()).or_default();
        let taken = known.settle(answer, quotas, demand, Timestamp::now());
        match taken {
            Ok((here, in_store)) => Ok(Some(Taken {
                key: key.clone(),
                here,
                in_store,
            })),
            Err(exceeded) => {
                known.note_refusal(quotas, exceeded, Instant::now());
                Err(Rejection::QuotaExceeded(exceeded))
            }
        }
    }

    /// The upload did not become durable, or turned out to be a repeat.
    pub(crate) async fn give_back(&self, taken: Taken) {
        let Taken {
            key,
            here,
            in_store,
        } = taken;
        if let Some(known) = self.keys().get_mut(&key) {
            known.give_back(here, in_store.is_none());
        }
        if let Some(charge) = in_store
            && let Err(error) = self.0.state.charge_quota(&key, charge.reversed()).await
        {
            tracing::debug!(%error, "an upload that came to nothing stays counted in its window");
        }
    }

    /// Tells the store what was taken while it was away.
    ///
    /// # Errors
    /// [`StateError`]: the rest is told later.
    pub(crate) async fn catch_up(&self) -> Result<(), StateError> {
        let owing: Vec<PublicKey> = self
            .keys()
            .iter()
            .filter(|(_, key)| key.owed != QuotaUse::default())
            .map(|(key, _)| key.clone())
            .collect();
        for key in owing {
            let owed = self.keys().get_mut(&key).map(|known| {
                // Taken out first: what is told twice would refuse uploads that have a right to pass.
                std::mem::take(&mut known.owed)
            });
            for charge in owed.map(charges).into_iter().flatten() {
                self.0.state.charge_quota(&key, charge).await?;
            }
        }
        Ok(())
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<PublicKey, KeyUse>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyUse {
    fn refusal(&self, quotas: &Quotas, now: Instant) -> Option<Exceeded> {
        let exhausted = self.exhausted.as_ref()?;
        let wait = exhausted.until.saturating_duration_since(now);
        let stands = exhausted.quotas == *quotas && !wait.is_zero();
        stands.then_some(Exceeded {
            wait,
            ..exhausted.exceeded
        })
    }

    /// A smaller upload may still have room in a limit of bytes, so only one that is all used up is remembered.
    fn note_refusal(&mut self, quotas: &Quotas, exceeded: Exceeded, now: Instant) {
        if exceeded.left == 0 {
            self.exhausted = Some(Exhausted {
                quotas: *quotas,
                exceeded,
                until: now + exceeded.wait,
            });
        }
    }

    /// Counts here what the store has granted, and decides alone when it gave no answer.
    fn settle(
        &mut self,
        answer: Result<QuotaVerdict, StateError>,
        quotas: &Quotas,
        demand: Demand,
        now: Timestamp,
    ) -> Result<(Charge, Option<Charge>), Exceeded> {
        match answer {
            Ok(QuotaVerdict::Granted(in_store)) => {
                let here = Charge::of(demand, now);
                self.used = self.used.at(now);
                self.used.add(here);
                Ok((here, Some(in_store)))
            }
            Ok(QuotaVerdict::Exceeded(exceeded)) => Err(exceeded),
            Err(error) => {
                tracing::debug!(%error, "quotas are counted by this relay alone");
                let here = self.used.take(quotas, demand, now)?;
                self.owed = self.owed.at(now);
                self.owed.add(here);
                Ok((here, None))
            }
        }
    }

    fn give_back(&mut self, here: Charge, is_owed: bool) {
        self.exhausted = None;
        self.used.add(here.reversed());
        if is_owed {
            self.owed.add(here.reversed());
        }
    }
}

/// What is owed, each window by itself: what was taken in an earlier minute still counts in its hour.
fn charges(owed: QuotaUse) -> [Charge; 2] {
    let QuotaUse { minute, hour } = owed;
    let none = Charge {
        minute: 0,
        hour: 0,
        uploads: 0,
        bytes: 0,
    };
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    [
        Charge {
            minute: minute.window,
            uploads: signed(minute.uploads),
            bytes: signed(minute.bytes),
            ..none
        },
        Charge {
            hour: hour.window,
            uploads: signed(hour.uploads),
            bytes: signed(hour.bytes),
            ..none
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::quota::QuotaLimit;

    use super::*;

    const QUOTAS: Quotas = Quotas {
        uploads_per_minute: Some(2),
        uploads_per_hour: None,
        bytes_per_minute: None,
        bytes_per_hour: None,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn away() -> Result<QuotaVerdict, StateError> {
        Err(StateError::Away("gone".into()))
    }

    fn granted(now: Timestamp) -> Result<QuotaVerdict, StateError> {
        Ok(QuotaVerdict::Granted(Charge::of_upload(9, now)))
    }

    #[test]
    fn without_the_store_this_relay_counts_on_from_what_it_took() {
        let mut key = KeyUse::default();
        let now = at(7205);
        key.settle(granted(now), &QUOTAS, Demand::upload(9), now)
            .expect("granted");
        let (_, in_store) = key
            .settle(away(), &QUOTAS, Demand::upload(9), now)
            .expect("the second");
        assert_eq!(in_store, None);
        let exceeded = key
            .settle(away(), &QUOTAS, Demand::upload(9), now)
            .expect_err("the third");
        assert_eq!(exceeded.limit, QuotaLimit::UploadsPerMinute);
        assert_eq!(exceeded.wait, Duration::from_secs(55));
        let later = at(7260);
        key.settle(away(), &QUOTAS, Demand::upload(9), later)
            .expect("a new minute");
        let [minute, hour] = charges(key.owed);
        assert_eq!((minute.minute, minute.hour, minute.uploads), (121, 0, 1));
        assert_eq!((hour.minute, hour.hour, hour.uploads), (0, 2, 2));
        assert_eq!((hour.bytes, minute.bytes), (18, 9));
    }

    #[test]
    fn what_is_given_back_is_owed_no_more_and_can_be_taken_again() {
        let mut key = KeyUse::default();
        let now = at(7205);
        key.settle(away(), &QUOTAS, Demand::upload(9), now)
            .expect("the first");
        let (here, _) = key
            .settle(away(), &QUOTAS, Demand::upload(9), now)
            .expect("the second");
        key.give_back(here, true);
        assert_eq!(key.owed.minute.uploads, 1);
        key.settle(away(), &QUOTAS, Demand::upload(9), now)
            .expect("again");
        key.settle(away(), &QUOTAS, Demand::upload(9), now)
            .expect_err("no more");
    }

    #[test]
    fn a_refusal_stands_to_the_end_of_its_window_unless_the_quotas_change_or_something_is_given_back()
     {
        let mut key = KeyUse::default();
        let now = Instant::now();
        let exceeded = Exceeded {
            limit: QuotaLimit::UploadsPerMinute,
            value: 2,
            left: 0,
            wait: Duration::from_secs(10),
        };
        key.note_refusal(&QUOTAS, exceeded, now);
        let later = key.refusal(&QUOTAS, now + Duration::from_secs(4));
        assert_eq!(later.map(|known| known.wait), Some(Duration::from_secs(6)));
        assert_eq!(key.refusal(&QUOTAS, now + Duration::from_secs(10)), None);
        assert_eq!(key.refusal(&Quotas::default(), now), None);
        key.give_back(Charge::of_upload(1, at(60)), false);
        assert_eq!(key.refusal(&QUOTAS, now), None);
        let some_left = Exceeded {
            left: 1,
            ..exceeded
        };
        key.note_refusal(&QUOTAS, some_left, now);
        assert_eq!(key.refusal(&QUOTAS, now), None);
    }
}
