//! Whether a body comes fast enough to be waited for. Pure: told what came and when.
//!
//! A body has some patience to begin with. Waiting for it uses patience up, its bytes earn it back at the lowest rate
//! that is bearable, and what is earned is kept up to a bound. So a client on a bad link may pause, longer when it was
//! fast before; one that drips runs out, however long and however fast it had been going; and time in which we were
//! busy with what had come costs it nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{
    BODY_BYTES_PER_SECOND_MIN, BODY_PATIENCE, BODY_PATIENCE_MAX, BODY_PATIENCE_SCARCE,
};

/// The pace of one body.
#[derive(Debug)]
pub struct Pace {
    patience: Duration,
    waiting_since: Option<Instant>,
}

/// How a body came short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// Nothing came.
    Silence,
    /// Something did, but too little.
    Drip,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: BODY_PATIENCE,
            waiting_since: None,
        }
    }
}

impl Pace {
    /// The client is waited for.
    pub fn wait(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// The client sent something.
    pub fn bring(&mut self, bytes: u64, now: Instant) {
        let earned = Duration::from_nanos(
            bytes.saturating_mul(1_000_000_000 / u64::from(BODY_BYTES_PER_SECOND_MIN)),
        );
        let left = self.patience.saturating_sub(self.waited(now));
        self.patience = left.saturating_add(earned).min(BODY_PATIENCE_MAX);
        self.waiting_since = None;
    }

    /// Why the body is given up, if it is. Where places are scarce, only what was earned is waited for at length.
    #[must_use]
    pub fn shortfall(&self, scarce: bool, now: Instant) -> Option<Shortfall> {
        let waited = self.waited(now);
        let (grace, spare) = if scarce {
            (BODY_PATIENCE_SCARCE, BODY_PATIENCE - BODY_PATIENCE_SCARCE)
        } else {
            (BODY_PATIENCE, Duration::ZERO)
        };
        if waited < self.patience.saturating_sub(spare) {
            None
        } else if waited >= grace {
            Some(Shortfall::Silence)
        } else {
            Some(Shortfall::Drip)
        }
    }

    /// When the body is given up if nothing comes and places are not scarce.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Instant {
        self.waiting_since.unwrap_or(now) + self.patience
    }

    fn waited(&self, now: Instant) -> Duration {
        self.waiting_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds until a body is given up that brings so many bytes after each such wait, and how.
    fn given_up(mut pace: Pace, bytes: u64, every: f64, scarce: bool) -> Option<(u64, Shortfall)> {
        let begun = Instant::now();
        let mut now = begun;
        let mut brings_at = begun + Duration::from_secs_f64(every);
        while now < begun + Duration::from_secs(3600) {
            pace.wait(now);
            if let Some(shortfall) = pace.shortfall(scarce, now) {
                return Some(((now - begun).as_secs(), shortfall));
            }
            now += Duration::from_millis(50);
            if now >= brings_at {
                pace.bring(bytes, now);
                brings_at += Duration::from_secs_f64(every);
            }
        }
        None
    }

    fn after(bytes: u64) -> Pace {
        let mut pace = Pace::default();
        pace.bring(bytes, Instant::now());
        pace
    }

    #[test]
    fn who_drips_runs_out_of_patience_however_much_came_before() {
        let fresh = given_up(Pace::default(), 1, 1.0, false);
        assert_eq!(fresh, Some((30, Shortfall::Drip)));
        let scarce = given_up(Pace::default(), 1, 1.0, true);
        assert_eq!(scarce, Some((5, Shortfall::Drip)));
        let fast_before = given_up(after(100 << 20), 1, 1.0, false);
        assert_eq!(fast_before, Some((60, Shortfall::Drip)));
        let nearly = given_up(Pace::default(), 200, 1.0, false).map(|(_, how)| how);
        assert_eq!(nearly, Some(Shortfall::Drip));
    }

    #[test]
    fn who_sends_nothing_is_silent() {
        let fresh = given_up(Pace::default(), 0, 9e3, false);
        assert_eq!(fresh, Some((30, Shortfall::Silence)));
        let scarce = given_up(Pace::default(), 0, 9e3, true);
        assert_eq!(scarce, Some((5, Shortfall::Silence)));
        let fast_before = given_up(after(100 << 20), 0, 9e3, false);
        assert_eq!(fast_before, Some((60, Shortfall::Silence)));
        let fast_before = given_up(after(100 << 20), 0, 9e3, true);
        assert_eq!(fast_before, Some((35, Shortfall::Silence)));
    }

    #[test]
    fn a_bad_link_is_borne_even_where_places_are_scarce() {
        assert_eq!(given_up(Pace::default(), 1000, 1.0, true), None);
        // Pauses of 15 s, as where a phone changes cells, between bursts of 16 kB.
        assert_eq!(given_up(after(4000), 16_000, 15.0, true), None);
        assert_eq!(given_up(Pace::default(), 8000, 29.0, false), None);
    }

    #[test]
    fn time_in_which_nobody_waits_for_the_client_is_not_its_fault() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        pace.wait(begun);
        pace.bring(1, begun + Duration::from_secs(20));
        let later = begun + Duration::from_secs(500);
        assert_eq!(pace.shortfall(false, later), None);
        pace.wait(later);
        let (nearly, over) = (Duration::from_secs(9), Duration::from_secs(11));
        assert_eq!(pace.shortfall(false, later + nearly), None);
        assert!(pace.shortfall(false, later + over).is_some());
    }
}
