//! What pools are at, for operators: metrics with their limits, and the part `places` of `/readyz`, which names those that
//! somebody has found used up.

use shared::readiness::{Need, Part, PartState};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::app::App;
use crate::limits::{POOLS_LOOK_INTERVAL, POOLS_SHORT_FOR};
use crate::places::{PoolName, PoolUse};

/// What is remembered of a pool from one look to the next.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    empty: u64,
    share: u64,
    empty_until: Option<Instant>,
    share_until: Option<Instant>,
}

/// Shows what pools are at; never ends.
pub(crate) async fn watch(app: &App) {
    let readiness = &app.services.readiness;
    readiness.register(Part::Places, Need::Informative);
    let mut seen = [Seen::default(); PoolName::ALL.len()];
    let mut looks = interval(POOLS_LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = Instant::now();
        let usage = app.admission.usage();
        for (pool, seen) in usage.iter().zip(&seen) {
            let name = pool.name.as_str();
            let metrics = &app.services.metrics;
            metrics.show_pool(name, pool.used, pool.total);
            metrics.count_pool_shortages(
                name,
                pool.short_empty - seen.empty,
                pool.short_share - seen.share,
            );
        }
        let problems = usage.iter().zip(&mut seen);
        let problems: Vec<String> = problems
            .filter_map(|(pool, seen)| seen.look(pool, now))
            .collect();
        let state = if problems.is_empty() {
            PartState::Ready
        } else {
            PartState::not_ready(problems.join("; "))
        };
        readiness.set(Part::Places, state);
    }
}

impl Seen {
    /// What an operator should know of the pool.
    fn look(&mut self, pool: &PoolUse, now: Instant) -> Option<String> {
        let until = |grown: bool, until: Option<Instant>| {
            let for_now = grown.then(|| now + POOLS_SHORT_FOR);
            for_now.or(until.filter(|until| *until > now))
        };
        self.empty_until = until(pool.short_empty > self.empty, self.empty_until);
        self.share_until = until(pool.short_share > self.share, self.share_until);
        (self.empty, self.share) = (pool.short_empty, pool.short_share);
        let PoolUse {
            name, used, total, ..
        } = pool;
        let name = name.as_str();
        if self.empty_until.is_some() {
            Some(format!(
                "{name}: expected some of {total} to be free, found {used} in use"
            ))
        } else if self.share_until.is_some() {
            Some(format!(
                "{name}: a key, a peer or a connection has its share of {total}, of which {used} are in use"
            ))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Duration;

    use super::*;

    #[test]
    fn a_shortage_is_shown_with_its_limit_and_for_some_seconds() {
        let mut seen = Seen::default();
        let begun = Instant::now();
        let mut pool = PoolUse {
            name: PoolName::Uploads,
            total: 384,
            used: 384,
            short_empty: 0,
            short_share: 0,
        };
        let mut look =
            |pool: &PoolUse, seconds| seen.look(pool, begun + Duration::from_secs(seconds));
        // All of it in use, and nobody has missed any.
        assert_eq!(look(&pool, 0), None);
        pool.short_share = 1;
        let shares =
            "uploads: a key, a peer or a connection has its share of 384, of which 384 are in use";
        assert_eq!(look(&pool, 1).as_deref(), Some(shares));
        pool.short_empty = 1;
        let empty = "uploads: expected some of 384 to be free, found 384 in use";
        assert_eq!(look(&pool, 2).as_deref(), Some(empty));
        assert_eq!(look(&pool, 3).as_deref(), Some(empty));
        assert_eq!(look(&pool, 2 + POOLS_SHORT_FOR.as_secs()), None);
    }
}
