//! What a key may send in a minute and in an hour, and how that is counted: fixed windows, all of a key's limits or none.
//! Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::ByteSize;

const MINUTE_SECONDS: u64 = 60;
const HOUR_SECONDS: u64 = 3600;

/// The limits of a key. What is not set is not limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Uploads that begin a fate in one minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploads_per_minute: Option<u64>,
    /// The same in one hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploads_per_hour: Option<u64>,
    /// Their bytes in one minute: attachments and event data, decompressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_minute: Option<ByteSize>,
    /// The same in one hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_hour: Option<ByteSize>,
}

/// One of a key's limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuotaLimit {
    /// [`Quotas::uploads_per_minute`]
    UploadsPerMinute,
    /// [`Quotas::uploads_per_hour`]
    UploadsPerHour,
    /// [`Quotas::bytes_per_minute`]
    BytesPerMinute,
    /// [`Quotas::bytes_per_hour`]
    BytesPerHour,
}

impl QuotaLimit {
    /// Every limit there is, in the order of [`Quotas::values`].
    pub const ALL: [Self; 4] = [
        Self::UploadsPerMinute,
        Self::UploadsPerHour,
        Self::BytesPerMinute,
        Self::BytesPerHour,
    ];

    /// Its name, in the configuration and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UploadsPerMinute => "uploads_per_minute",
            Self::UploadsPerHour => "uploads_per_hour",
            Self::BytesPerMinute => "bytes_per_minute",
            Self::BytesPerHour => "bytes_per_hour",
        }
    }

    /// Whether it counts bytes, not uploads.
    #[must_use]
    pub fn is_of_bytes(self) -> bool {
        match self {
            Self::UploadsPerMinute | Self::UploadsPerHour => false,
            Self::BytesPerMinute | Self::BytesPerHour => true,
        }
    }

    /// The value as the configuration writes it.
    #[must_use]
    pub fn show(self, value: u64) -> String {
        if self.is_of_bytes() {
            ByteSize::bytes(value).to_string()
        } else {
            value.to_string()
        }
    }
}

/// A limit that has no room for an upload now, though it would have in a fresh window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exceeded {
    /// The limit whose window ends last among those without room.
    pub limit: QuotaLimit,
    /// Its value: uploads or bytes.
    pub value: u64,
    /// What of it is not used.
    pub left: u64,
    /// Until its window ends.
    pub wait: Duration,
}

/// What an upload took, or gives back: it counts only in the windows it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charge {
    /// Minutes since 1970 of the window.
    pub minute: u64,
    /// Hours since 1970 of the window.
    pub hour: u64,
    /// Uploads, negative when they are given back.
    pub uploads: i64,
    /// Bytes, negative when they are given back.
    pub bytes: i64,
}

impl Charge {
    /// An upload of `bytes` at `now`.
    #[must_use]
    pub fn of_upload(bytes: u64, now: Timestamp) -> Self {
        let (minute, hour) = windows(now);
        Self {
            minute,
            hour,
            uploads: 1,
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        }
    }

    /// `demand` at `now`.
    #[must_use]
    pub fn of(demand: Demand, now: Timestamp) -> Self {
        let charge = Self::of_upload(demand.bytes, now);
        Self {
            uploads: i64::try_from(demand.uploads).unwrap_or(i64::MAX),
            ..charge
        }
    }

    /// What takes this one back.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            uploads: -self.uploads,
            bytes: -self.bytes,
            ..self
        }
    }
}

/// What is to be taken of a key's limits at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Demand {
    /// Uploads: one, or none for bytes that come before theirs.
    pub uploads: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Demand {
    /// One upload of `bytes`.
    #[must_use]
    pub const fn upload(bytes: u64) -> Self {
        Self { uploads: 1, bytes }
    }

    /// Bytes alone.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self { uploads: 0, bytes }
    }

    fn of(self, limit: QuotaLimit) -> u64 {
        if limit.is_of_bytes() {
            self.bytes
        } else {
            self.uploads
        }
    }
}

/// What was taken in one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WindowUse {
    /// Windows since 1970.
    pub window: u64,
    /// Uploads in it.
    pub uploads: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was taken of a key's limits in the windows it was used in last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QuotaUse {
    /// In the minute.
    pub minute: WindowUse,
    /// In the hour.
    pub hour: WindowUse,
}

impl Quotas {
    /// Whether there is any limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        *self != Self::default()
    }

    /// The value of each limit that is set.
    #[must_use]
    pub fn values(&self) -> [(QuotaLimit, Option<u64>); 4] {
        let [a, b, c, d] = QuotaLimit::ALL;
        [
            (a, self.uploads_per_minute),
            (b, self.uploads_per_hour),
            (c, self.bytes_per_minute.map(ByteSize::get)),
            (d, self.bytes_per_hour.map(ByteSize::get)),
        ]
    }

    /// The first limit that no window, however fresh, has room in for an upload of `bytes`.
    #[must_use]
    pub fn never_admits(&self, bytes: u64) -> Option<(QuotaLimit, u64)> {
        let set = self
            .values()
            .into_iter()
            .filter_map(|(limit, value)| Some((limit, value?)));
        set.into_iter()
            .find(|(limit, value)| Demand::upload(bytes).of(*limit) > *value)
    }

    /// What is wrong with the limits as they are written, in the words of the configuration.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let zero = self
            .values()
            .into_iter()
            .find(|(_, value)| *value == Some(0));
        zero.map(|(limit, _)| {
            format!(
                "{}: expected at least 1, found 0; to stop a key, disable it",
                limit.as_str()
            )
        })
    }
}

impl QuotaUse {
    /// The use in the windows of `now`: what was taken in earlier ones counts no more.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        let (minute, hour) = windows(now);
        Self {
            minute: self.minute.in_window(minute),
            hour: self.hour.in_window(hour),
        }
    }

    /// What of a limit is used.
    #[must_use]
    pub fn of(&self, limit: QuotaLimit) -> u64 {
        match limit {
            QuotaLimit::UploadsPerMinute => self.minute.uploads,
            QuotaLimit::UploadsPerHour => self.hour.uploads,
            QuotaLimit::BytesPerMinute => self.minute.bytes,
            QuotaLimit::BytesPerHour => self.hour.bytes,
        }
    }

    /// Takes `demand` from all limits, or from none.
    ///
    /// # Errors
    /// [`Exceeded`]
    pub fn take(
        &mut self,
        quotas: &Quotas,
        demand: Demand,
        now: Timestamp,
    ) -> Result<Charge, Exceeded> {
        *self = self.at(now);
        let exceeded = quotas.values().into_iter().filter_map(|(limit, value)| {
            let (value, used) = (value?, self.of(limit));
            let left = value.saturating_sub(used);
            (demand.of(limit) > left).then(|| Exceeded {
                limit,
                value,
                left,
                wait: until_end(limit, now),
            })
        });
        match exceeded.max_by_key(|exceeded| exceeded.wait) {
            Some(exceeded) => Err(exceeded),
            None => {
                let charge = Charge::of(demand, now);
                self.add(charge);
                Ok(charge)
            }
        }
    }

    /// Adds what was taken or is given back in these same windows.
    pub fn add(&mut self, charge: Charge) {
        let Charge { uploads, bytes, .. } = charge;
        if charge.minute == self.minute.window {
            self.minute.add(uploads, bytes);
        }
        if charge.hour == self.hour.window {
            self.hour.add(uploads, bytes);
        }
    }
}

impl WindowUse {
    fn in_window(self, window: u64) -> Self {
        if self.window == window {
            self
        } else {
            Self {
                window,
                ..Self::default()
            }
        }
    }

    fn add(&mut self, uploads: i64, bytes: i64) {
        self.uploads = self.uploads.saturating_add_signed(uploads);
        self.bytes = self.bytes.saturating_add_signed(bytes);
    }
}

fn windows(now: Timestamp) -> (u64, u64) {
    let seconds = now.as_second().max(0).cast_unsigned();
    (seconds / MINUTE_SECONDS, seconds / HOUR_SECONDS)
}

/// From `now` to the end of a limit's window.
fn until_end(limit: QuotaLimit, now: Timestamp) -> Duration {
    let seconds = match limit {
        QuotaLimit::UploadsPerMinute | QuotaLimit::BytesPerMinute => MINUTE_SECONDS,
        QuotaLimit::UploadsPerHour | QuotaLimit::BytesPerHour => HOUR_SECONDS,
    };
    let now = Duration::try_from(now.as_duration()).unwrap_or_default();
    let end = (now.as_secs() / seconds + 1) * seconds;
    Duration::from_secs(end) - now
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).expect("a time")
    }

    #[test]
    fn all_limits_are_taken_from_or_none() {
        let quotas = Quotas {
            uploads_per_minute: Some(3),
            bytes_per_hour: Some(ByteSize::bytes(100)),
            ..Quotas::default()
        };
        let mut used = QuotaUse::default();
        let now = at(59_500);
        used.take(&quotas, Demand::upload(60), now).expect("room");
        let exceeded = used
            .take(&quotas, Demand::upload(41), now)
            .expect_err("no room");
        assert_eq!(
            (exceeded.limit, exceeded.value, exceeded.left),
            (QuotaLimit::BytesPerHour, 100, 40)
        );
        assert_eq!(used.minute.uploads, 1, "nothing was taken");
        used.take(&quotas, Demand::upload(40), now).expect("room");
        used.take(&quotas, Demand::upload(0), now).expect("room");
        let exceeded = used
            .take(&quotas, Demand::upload(0), now)
            .expect_err("no room");
        assert_eq!(exceeded.limit, QuotaLimit::UploadsPerMinute);
        assert_eq!(exceeded.wait, Duration::from_millis(500));
        used.take(&quotas, Demand::upload(0), at(60_000))
            .expect("a fresh minute");
    }

    #[test]
    fn bytes_that_come_before_their_upload_are_no_upload() {
        let quotas = Quotas {
            uploads_per_minute: Some(1),
            bytes_per_minute: Some(ByteSize::bytes(100)),
            ..Quotas::default()
        };
        let mut used = QuotaUse::default();
        used.take(&quotas, Demand::bytes(60), at(0)).expect("room");
        used.take(&quotas, Demand::bytes(30), at(0)).expect("room");
        assert_eq!((used.minute.uploads, used.minute.bytes), (0, 90));
        used.take(&quotas, Demand::upload(10), at(0)).expect("room");
        used.take(&quotas, Demand::bytes(1), at(0))
            .expect_err("no room");
        assert_eq!((used.minute.uploads, used.minute.bytes), (1, 100));
    }

    #[test]
    fn of_two_limits_without_room_the_longer_wait_is_told() {
        let quotas = Quotas {
            uploads_per_minute: Some(1),
            uploads_per_hour: Some(1),
            ..Quotas::default()
        };
        let mut used = QuotaUse::default();
        used.take(&quotas, Demand::upload(5), at(0)).expect("room");
        let exceeded = used
            .take(&quotas, Demand::upload(5), at(1000))
            .expect_err("no room");
        assert_eq!(exceeded.limit, QuotaLimit::UploadsPerHour);
        assert_eq!(exceeded.wait, Duration::from_secs(3599));
    }

    #[test]
    fn what_no_window_has_room_for_and_what_cannot_be_a_limit_are_told() {
        let quotas = Quotas {
            bytes_per_minute: Some(ByteSize::bytes(10)),
            ..Quotas::default()
        };
        assert_eq!(quotas.never_admits(10), None);
        let never = Some((QuotaLimit::BytesPerMinute, 10));
        assert_eq!(quotas.never_admits(11), never);
        assert_eq!(quotas.problem(), None);
        let zero = Quotas {
            uploads_per_hour: Some(0),
            ..quotas
        };
        let problem = zero.problem().expect("refused");
        assert!(
            problem.starts_with("uploads_per_hour: expected"),
            "{problem}"
        );
    }

    proptest! {
        /// Whatever is taken and given back, no window ever holds more than its limits, a refusal's wait is true, and
        /// what was given back in its window can be taken again.
        #[test]
        fn no_window_holds_more_than_its_limits(
            steps in prop::collection::vec((0i64..40_000, 0u64..50, any::<bool>()), 1..60),
            (uploads, bytes) in (1u64..6, 1u64..200),
        ) {
            let quotas = Quotas {
                uploads_per_minute: Some(uploads),
                bytes_per_hour: Some(ByteSize::bytes(bytes)),
                ..Quotas::default()
            };
            let (mut used, mut now) = (QuotaUse::default(), 3_500_000);
            for (later, size, give_back) in steps {
                now += later;
                let before = used.at(at(now));
                match used.take(&quotas, Demand::upload(size), at(now)) {
                    Ok(charge) if give_back => {
                        used.add(charge.reversed());
                        prop_assert_eq!(used, before);
                    }
                    Ok(_) => {}
                    Err(exceeded) => {
                        prop_assert_eq!(used, before);
                        let wait = i64::try_from(exceeded.wait.as_millis()).expect("fits");
                        let after = used.at(at(now + wait));
                        prop_assert_eq!(after.of(exceeded.limit), 0);
                        prop_assert!(used.at(at(now + wait - 1)).of(exceeded.limit) > 0 || size > bytes);
                    }
                }
                prop_assert!(used.minute.uploads <= uploads && used.hour.bytes <= bytes);
            }
        }
    }
}
