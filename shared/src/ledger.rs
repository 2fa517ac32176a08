//! The ledger: what was accepted, and what became of it. `accepted = processed + failed + in flight`, each counted by itself.

use crate::outcome::Reason;
use crate::state::OpenEvents;

/// One consistent look at the counts since the state store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Uploads that were promised a fate.
    pub accepted: u64,
    /// Those that got a report.
    pub processed: u64,
    /// Those that got none.
    pub failed_by_reason: FailureCounts,
    /// Those on their way, counted by themselves; `None` while those of an earlier version are not counted yet.
    pub open: Option<OpenEvents>,
}

impl Ledger {
    /// Those that failed, for whatever reason.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed_by_reason.iter().map(|(_, count)| count).sum()
    }

    /// Those still on their way: what is open. Not the rest of the equation, so that an event without a fate unbalances it;
    /// only while it is not known what is open is the rest taken for it.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let rest = || {
            self.accepted
                .saturating_sub(self.processed)
                .saturating_sub(self.failed())
        };
        self.open.map_or_else(rest, |open| open.count)
    }
}

/// How many failed for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts([u64; Reason::ALL.len()]);

impl FailureCounts {
    /// Adds `count` to what failed for `reason`.
    pub fn add(&mut self, reason: Reason, count: u64) {
        self.0[reason as usize] += count;
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.0[reason as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_is_what_is_open_and_not_the_rest() {
        let open = OpenEvents {
            count: 1,
            oldest: None,
        };
        let ledger = Ledger {
            accepted: 10,
            open: Some(open),
            ..Ledger::default()
        };
        assert_eq!(ledger.in_flight(), 1);
    }

    #[test]
    fn while_nothing_is_indexed_what_is_neither_processed_nor_failed_is_in_flight() {
        let mut ledger = Ledger {
            accepted: 10,
            processed: 4,
            ..Ledger::default()
        };
        ledger.failed_by_reason.add(Reason::ParserTimeout, 2);
        ledger.failed_by_reason.add(Reason::MissingChunks, 1);
        assert_eq!((ledger.failed(), ledger.in_flight()), (3, 3));
        assert!(
            ledger
                .failed_by_reason
                .iter()
                .eq(Reason::ALL.into_iter().map(|reason| {
                    let count = match reason {
                        Reason::MissingChunks => 1,
                        Reason::ParserTimeout => 2,
                        Reason::CorruptAttachment
                        | Reason::UnreadableMinidump
                        | Reason::ParserCrashed
                        | Reason::ParserOutOfMemory
                        | Reason::LogTruncated => 0,
                    };
                    (reason, count)
                }))
        );
    }
}
