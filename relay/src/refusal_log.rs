//! Which refusals are logged: the first ones of each reason, and then so many a minute. The others are counted, and the
//! count is logged. Pure.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{REFUSALS_LOGGED_MAX, REFUSALS_LOGGED_PERIOD};

/// What has been logged lately, by reason: a closed set.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<HashMap<&'static str, Period>>);

/// The period of one reason that is running.
#[derive(Debug)]
struct Period {
    begun: Instant,
    logged: u32,
    left_out: u64,
}

/// Refusals of one reason that were not logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) reason: &'static str,
    pub(crate) count: u64,
    pub(crate) within: Duration,
}

impl RefusalLog {
    /// Whether a refusal that happens now is logged.
    pub(crate) fn admits(&self, reason: &'static str, now: Instant) -> bool {
        let mut periods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let period = periods.entry(reason).or_insert_with(|| Period::begin(now));
        if period.is_over(now) && period.left_out == 0 {
            *period = Period::begin(now);
        }
        let admitted = period.logged < REFUSALS_LOGGED_MAX;
        if admitted {
            period.logged += 1;
        } else {
            period.left_out += 1;
        }
        admitted
    }

    /// What was left out in periods that are over. Nothing of it is told again.
    pub(crate) fn left_out(&self, now: Instant) -> Vec<LeftOut> {
        let mut periods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = periods
            .iter_mut()
            .filter(|(_, period)| period.is_over(now) && period.left_out > 0);
        let mut left_out: Vec<LeftOut> = over
            .map(|(&reason, period)| {
                let ended = std::mem::replace(period, Period::begin(now));
                LeftOut {
                    reason,
                    count: ended.left_out,
                    within: now.duration_since(ended.begun),
                }
            })
            .collect();
        left_out.sort_unstable_by_key(|left_out| left_out.reason);
        left_out
    }
}

impl Period {
    fn begin(now: Instant) -> Self {
        Self {
            begun: now,
            logged: 0,
            left_out: 0,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.begun) >= REFUSALS_LOGGED_PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_reason_is_cut_counted_and_hides_no_other() {
        let log = RefusalLog::default();
        let begin = Instant::now();
        let flood = |from: Instant, count: u32| {
            let times = (0..count).map(|n| from + Duration::from_millis(n.into()));
            times.filter(|now| log.admits("unknown_key", *now)).count()
        };
        assert_eq!(flood(begin, 10_000), REFUSALS_LOGGED_MAX as usize);
        assert!(log.admits("spool_full", begin + Duration::from_secs(1)));
        assert_eq!(log.left_out(begin + Duration::from_secs(10)), []);
        let later = begin + REFUSALS_LOGGED_PERIOD;
        let told = LeftOut {
            reason: "unknown_key",
            count: 10_000 - u64::from(REFUSALS_LOGGED_MAX),
            within: REFUSALS_LOGGED_PERIOD,
        };
        assert_eq!(log.left_out(later), [told]);
        assert_eq!(log.left_out(later), [], "told once");
        assert_eq!(flood(later, 100), REFUSALS_LOGGED_MAX as usize);
    }

    #[test]
    fn a_count_that_was_not_told_yet_is_not_forgotten() {
        let log = RefusalLog::default();
        let begin = Instant::now();
        for _ in 0..=REFUSALS_LOGGED_MAX {
            log.admits("unknown_key", begin);
        }
        let later = begin + 2 * REFUSALS_LOGGED_PERIOD;
        assert!(!log.admits("unknown_key", later), "until the count is told");
        let told = log.left_out(later);
        assert_eq!(told.first().map(|told| told.count), Some(2));
        assert!(log.admits("unknown_key", later));
    }
}
