//! How long until retention reaches what a partition has not read, at the pace of the last minutes. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// The pace is that of so long.
const WINDOW: Duration = Duration::from_secs(300);
/// How often a sample is kept.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Where a partition stands in its log.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Time on any steady clock.
    pub at: Duration,
    /// How long ago the next record to be read was written; zero when all are read.
    pub age: Duration,
    /// Records between the log's start and the next one to be read.
    pub above_start: i64,
}

/// Standings of the last minutes.
#[derive(Debug, Default)]
pub struct Headroom(VecDeque<Standing>);

impl Headroom {
    /// Takes a standing in, and says how long until the log's start reaches the next record to be read; `None`: at this
    /// pace never. `retention` is the topic's `retention.ms`.
    pub fn take(&mut self, now: Standing, retention: Option<Duration>) -> Option<Duration> {
        let pace = self.since(now);
        self.keep(now);
        if now.age.is_zero() {
            return None;
        }
        let by_age = retention.and_then(|retention| {
            let left = retention.saturating_sub(now.age);
            // Before there is a pace, the worst is assumed: that nothing will be read.
            let ageing = pace.map_or(1.0, |(then, seconds)| {
                (now.age.as_secs_f64() - then.age.as_secs_f64()) / seconds
            });
            reached(left.as_secs_f64(), ageing)
        });
        // Retention by size moves the log's start, too; so does whoever deletes records.
        let by_offset = pace.and_then(|(then, seconds)| {
            let closing = (then.above_start - now.above_start) as f64 / seconds;
            reached(now.above_start as f64, closing)
        });
        match (by_age, by_offset) {
            (Some(by_age), Some(by_offset)) => Some(by_age.min(by_offset)),
            (either, None) | (None, either) => either,
        }
    }

    /// The oldest standing of the window, and the seconds since.
    fn since(&self, now: Standing) -> Option<(Standing, f64)> {
        let then = *self.0.front()?;
        let seconds = now.at.saturating_sub(then.at).as_secs_f64();
        (seconds >= SAMPLE_EVERY.as_secs_f64()).then_some((then, seconds))
    }

    fn keep(&mut self, now: Standing) {
        let is_due = |last: &Standing| now.at.saturating_sub(last.at) >= SAMPLE_EVERY;
        if self.0.back().is_none_or(is_due) {
            self.0.push_back(now);
        }
        while self.0.len() > 1 && now.at.saturating_sub(self.0[0].at) > WINDOW {
            self.0.pop_front();
        }
    }
}

/// When what is `left` is used up at a rate of `used` a second.
fn reached(left: f64, used: f64) -> Option<Duration> {
    (used > 0.0).then(|| Duration::try_from_secs_f64(left / used).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn standing(at: u64, age: u64, above_start: i64) -> Standing {
        Standing {
            at: Duration::from_secs(at),
            age: Duration::from_secs(age),
            above_start,
        }
    }

    #[test]
    fn who_has_read_all_has_no_end_in_sight() {
        let mut headroom = Headroom::default();
        for at in 0..100 {
            assert_eq!(headroom.take(standing(at * 10, 0, 5), Some(HOUR)), None);
        }
    }

    #[test]
    fn who_stands_still_has_what_is_left_of_retention() {
        let mut headroom = Headroom::default();
        assert_eq!(
            headroom.take(standing(0, 600, 50), Some(HOUR)),
            Some(HOUR - Duration::from_secs(600))
        );
        let later = headroom.take(standing(60, 660, 50), Some(HOUR));
        assert_eq!(later, Some(HOUR - Duration::from_secs(660)));
    }

    #[test]
    fn half_the_pace_doubles_it_and_catching_up_ends_it() {
        let mut headroom = Headroom::default();
        headroom.take(standing(0, 600, 50), Some(HOUR));
        let slow = headroom.take(standing(60, 630, 50), Some(HOUR));
        assert_eq!(slow, Some(Duration::from_secs(2 * (3600 - 630))));
        assert_eq!(headroom.take(standing(120, 300, 80), Some(HOUR)), None);
    }

    #[test]
    fn a_log_start_that_comes_nearer_counts_without_any_retention_time() {
        let mut headroom = Headroom::default();
        headroom.take(standing(0, 60, 1000), None);
        let near = headroom.take(standing(100, 90, 500), None);
        assert_eq!(near, Some(Duration::from_secs(100)));
    }
}
