//! Events whose message was removed from the log before it was read. The state knows which are not told and where their
//! messages stand; who has the partition knows what is in the log and in hand. What is neither ends as a failure.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use shared::envelope::{AttachmentKind, Envelope};
use shared::id::EventId;
use shared::outcome::{Failure, GoneMessage};
use shared::state::{EventStatus, LogPart, State, StateError, UntoldEvent};
use tokio::task::JoinSet;

use super::{Assembled, Incomplete};

/// How often the state is asked.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Asks the state, one question at a time.
pub(super) struct LostEvents {
    state: State,
    asking: JoinSet<Result<Vec<UntoldEvent>, StateError>>,
    not_before: Instant,
}

impl LostEvents {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            asking: JoinSet::new(),
            not_before: Instant::now(),
        }
    }

    /// Asks which events of these parts of the log are not told, when it is time to ask.
    pub(super) fn ask(&mut self, parts: impl FnOnce() -> Vec<LogPart>) {
        if !self.asking.is_empty() || Instant::now() < self.not_before {
            return;
        }
        self.not_before = Instant::now() + ASK_EVERY;
        let parts = parts();
        if parts.is_empty() {
            return;
        }
        let state = self.state.clone();
        self.asking.spawn(async move { state.untold(&parts).await });
    }

    /// Waits for an answer; never ends when nothing was asked.
    pub(super) async fn found(&mut self) -> Vec<UntoldEvent> {
        let Some(answer) = self.asking.join_next().await else {
            return std::future::pending().await;
        };
        match answer {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "which events are not told is asked again");
                Vec::new()
            }
            Err(error) => {
                tracing::error!(%error, "asking for untold events panicked; this is a bug");
                Vec::new()
            }
        }
    }
}

/// What a partition knows of an event that the state calls untold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Untold {
    /// Its message is in the log or in hand, or is told already: its turn comes, or came.
    Expected,
    /// It was told before this processor had the partition.
    Told,
    /// Its message is gone, and nobody has it in hand.
    Lost,
}

/// Where a partition stands, for a judgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The first offset that the log still has.
    pub(super) log_start: i64,
    /// The next offset to be read.
    pub(super) position: i64,
    /// It was done with when the partition was taken over.
    pub(super) was_finished: bool,
    /// The event is open in this partition: read, and not done with.
    pub(super) is_in_hand: bool,
}

/// What a partition knows of truncations, since this processor has it.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Offsets that were never read and are not in the log.
    ranges: Vec<Range<i64>>,
    /// Events that were taken for lost: not again.
    events: HashSet<EventId>,
}

impl Gone {
    /// Retention removed these offsets before they were read.
    pub(super) fn note(&mut self, offsets: Range<i64>) {
        self.ranges.push(offsets);
    }

    /// The event is brought to its end.
    pub(super) fn begin(&mut self, event: EventId) {
        self.events.insert(event);
    }

    /// What is to be done about an event that the state calls untold.
    pub(super) fn judge(&self, untold: &UntoldEvent, at: Reading) -> Untold {
        let offset = untold.place.offset;
        if self.events.contains(&untold.event_id) || at.is_in_hand {
            return Untold::Expected;
        }
        match untold.status {
            Some((_, EventStatus::Accepted { .. })) => {
                // Above the position it may be on its way to us.
                match offset < at.log_start && offset < at.position {
                    true => Untold::Lost,
                    false => Untold::Expected,
                }
            }
            // Recorded by a processor that could not tell it any more, and gone before anybody read it again.
            Some((_, EventStatus::Finished(_) | EventStatus::Deleted { .. })) => {
                let is_gone = self.ranges.iter().any(|range| range.contains(&offset));
                match (at.was_finished, is_gone) {
                    (true, _) => Untold::Told,
                    (false, true) => Untold::Lost,
                    (false, false) => Untold::Expected,
                }
            }
            None => Untold::Told,
        }
    }
}

/// A lost event as what is delivered to be brought to its outcome: nothing of it is left but who it is.
pub(super) fn assembled(untold: &UntoldEvent, topic: &str, log_start: i64) -> Option<Assembled> {
    let (project_id, received_at): (_, Timestamp) = match untold.status.as_ref()? {
        (project, EventStatus::Accepted { received_at }) => (*project, *received_at),
        (project, EventStatus::Finished(outcome) | EventStatus::Deleted { outcome, .. }) => {
            (*project, outcome.received_at)
        }
    };
    let gone = GoneMessage {
        topic: topic.to_owned(),
        log_start,
    };
    Some(Assembled {
        envelope: Envelope {
            event_id: untold.event_id,
            project_id,
            received_at,
            remote_addr: None,
            event: Bytes::from_static(b"{}"),
            attachments: Vec::new(),
        },
        incomplete: vec![Incomplete {
            kind: AttachmentKind::Minidump,
            failure: Failure::LogTruncated(gone),
        }],
        warnings: Vec::new(),
        offset: untold.place.offset,
    })
}

#[cfg(test)]
mod tests {
    use shared::id::ProjectId;
    use shared::outcome::{Outcome, Verdict};
    use shared::state::LogPlace;

    use super::*;

    fn accepted() -> EventStatus {
        EventStatus::Accepted {
            received_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn finished(event_id: EventId) -> EventStatus {
        EventStatus::Finished(Outcome {
            event_id,
            project_id: ProjectId::new(1),
            attached_to: None,
            verdict: Verdict::Processed,
            received_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
            attempts: 1,
            partition: Some(3),
            offset: Some(10),
        })
    }

    /// An event whose message stands at 10.
    fn untold(event_id: EventId, status: EventStatus) -> UntoldEvent {
        UntoldEvent {
            event_id,
            place: LogPlace {
                partition: 3,
                offset: 10,
            },
            status: Some((ProjectId::new(1), status)),
        }
    }

    const GONE: Reading = Reading {
        log_start: 20,
        position: 20,
        was_finished: false,
        is_in_hand: false,
    };

    #[test]
    fn an_accepted_event_is_lost_only_when_its_message_is_gone_and_was_not_read() {
        let event = untold(EventId::random(), accepted());
        let mut gone = Gone::default();
        assert_eq!(gone.judge(&event, GONE), Untold::Lost);
        for still_there in [
            Reading {
                log_start: 10,
                ..GONE
            },
            // Between the poller and us, or about to be named as truncated.
            Reading {
                position: 10,
                ..GONE
            },
            Reading {
                is_in_hand: true,
                ..GONE
            },
        ] {
            assert_eq!(
                gone.judge(&event, still_there),
                Untold::Expected,
                "{still_there:?}"
            );
        }
        gone.begin(event.event_id);
        assert_eq!(gone.judge(&event, GONE), Untold::Expected, "once");
    }

    #[test]
    fn a_recorded_outcome_is_lost_only_when_nobody_could_tell_it_any_more() {
        let id = EventId::random();
        let event = untold(id, finished(id));
        let mut gone = Gone::default();
        assert_eq!(gone.judge(&event, GONE), Untold::Expected, "told by us");
        let committed = Reading {
            was_finished: true,
            ..GONE
        };
        assert_eq!(gone.judge(&event, committed), Untold::Told);
        gone.note(5..20);
        assert_eq!(gone.judge(&event, committed), Untold::Told);
        assert_eq!(gone.judge(&event, GONE), Untold::Lost);
        let forgotten = UntoldEvent {
            status: None,
            ..event
        };
        assert_eq!(gone.judge(&forgotten, GONE), Untold::Told);
    }

    #[test]
    fn a_lost_event_is_known_by_who_it_is() {
        let event = untold(EventId::random(), accepted());
        let assembled = assembled(&event, "ingest", 20).expect("a status");
        assert_eq!(assembled.envelope.event_id, event.event_id);
        assert_eq!(assembled.offset, 10);
        let expected = Failure::LogTruncated(GoneMessage {
            topic: "ingest".into(),
            log_start: 20,
        });
        assert_eq!(assembled.incomplete[0].failure, expected);
    }
}
