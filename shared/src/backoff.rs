//! Waiting before the next try: growing, jittered, and bounded by a deadline instead of a count.

use std::time::{Duration, Instant};

/// How long to wait between tries and until when to try at all.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
    deadline: Option<Instant>,
    seed: u64,
}

impl Backoff {
    /// Waits `first`, then twice as long each time, at most `max`, for ever.
    #[must_use]
    pub fn forever(first: Duration, max: Duration) -> Self {
        Self {
            next: first,
            max,
            deadline: None,
            seed: std::process::id().into(),
        }
    }

    /// As [`Backoff::forever`], but not past `deadline`.
    #[must_use]
    pub fn until(first: Duration, max: Duration, deadline: Instant) -> Self {
        Self {
            deadline: Some(deadline),
            ..Self::forever(first, max)
        }
    }

    /// The next wait, between half and the whole of the step; `None` when it would end past the deadline.
    pub fn next_wait(&mut self, now: Instant) -> Option<Duration> {
        // A splitmix step: the jitter only has to differ between processes, not to be unpredictable.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
        let half = self.next / 2;
        let wait = half + half.mul_f64(mixed as f64 / f64::from(1 << 24));
        self.next = (self.next * 2).min(self.max);
        match self.deadline {
            Some(deadline) if now + wait >= deadline => None,
            _ => Some(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_end_at_the_deadline() {
        let start = Instant::now();
        let first = Duration::from_millis(100);
        let max = Duration::from_secs(1);
        let mut backoff = Backoff::until(first, max, start + Duration::from_secs(5));
        let mut now = start;
        let mut waits = Vec::new();
        while let Some(wait) = backoff.next_wait(now) {
            waits.push(wait);
            now += wait;
        }
        assert!(now < start + Duration::from_secs(5));
        assert!(waits.iter().all(|wait| *wait <= max));
        assert!(waits[0] <= first && waits[0] >= first / 2);
        assert!(waits.len() < 20);
    }
}
