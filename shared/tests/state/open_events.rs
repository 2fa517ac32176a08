//! What is in flight, counted by itself and by its age; and which outcomes are not known to be told.

use jiff::{Timestamp, ToSpan as _};
use shared::id::EventId;
use shared::outcome::{Outcome, Verdict};
use shared::state::{AcceptedNote, EventStatus, LogPart, LogPlace, OpenEvents, State};

use crate::{Store, note, outcome, project};

fn at(partition: i32, offset: i64) -> Option<LogPlace> {
    Some(LogPlace { partition, offset })
}

async fn accepted(state: &State, event_id: EventId, place: Option<LogPlace>) {
    state.note_accepted(AcceptedNote {
        place,
        ..note(event_id)
    });
    state.flush().await.expect("writes");
}

fn finished_at(event_id: EventId, place: Option<LogPlace>) -> Outcome {
    Outcome {
        partition: place.map(|place| place.partition),
        offset: place.map(|place| place.offset),
        ..outcome(event_id, Verdict::Processed)
    }
}

async fn open(state: &State) -> OpenEvents {
    let ledger = state.ledger().await.expect("a ledger");
    ledger.open.expect("all of them are counted")
}

/// Ids and places of untold events of partition 3 below an offset.
async fn untold(state: &State, below: i64) -> Vec<(EventId, LogPlace)> {
    let part = LogPart {
        partition: 3,
        below,
    };
    let found = state.untold(&[part]).await.expect("answers");
    let found = found.into_iter();
    found
        .map(|untold| (untold.event_id, untold.place))
        .collect()
}

pub(crate) async fn what_is_in_flight_is_counted_and_has_an_age(store: Store) {
    let state = &store.state;
    let (old, young) = (EventId::random(), EventId::random());
    let long_ago: Timestamp = note(old).received_at;
    let later = long_ago + 1.hour();
    // Only one event counts, however often and in whatever order it is noted.
    for (event_id, received_at) in [(young, later), (old, long_ago), (old, long_ago)] {
        state.note_accepted(AcceptedNote {
            received_at,
            ..note(event_id)
        });
    }
    state.flush().await.expect("writes");
    let millis = |open: OpenEvents| open.oldest.map(Timestamp::as_millisecond);
    let now = open(state).await;
    assert_eq!(
        (now.count, millis(now)),
        (2, Some(long_ago.as_millisecond()))
    );
    state
        .finish(&[finished_at(old, None)])
        .await
        .expect("finishes");
    // A note that comes after the outcome opens nothing.
    accepted(state, old, at(3, 7)).await;
    let now = open(state).await;
    assert_eq!((now.count, millis(now)), (1, Some(later.as_millisecond())));
    state
        .finish(&[finished_at(young, None)])
        .await
        .expect("finishes");
    assert_eq!(open(state).await, OpenEvents::default());
    assert_eq!(untold(state, i64::MAX).await, []);
    let ledger = state.ledger().await.expect("a ledger");
    assert_eq!(
        (ledger.accepted, ledger.processed, ledger.in_flight()),
        (2, 2, 0)
    );
}

pub(crate) async fn an_outcome_is_untold_until_it_is_noted_as_told(store: Store) {
    let state = &store.state;
    let [placed, moved, elsewhere, spooled] = std::array::from_fn(|_| EventId::random());
    accepted(state, placed, at(3, 40)).await;
    accepted(state, moved, at(3, 10)).await;
    // The last copy counts, in whatever order they are noted.
    accepted(state, moved, at(3, 50)).await;
    accepted(state, moved, at(3, 20)).await;
    accepted(state, elsewhere, at(4, 1)).await;
    accepted(state, spooled, None).await;
    let place = |offset| LogPlace {
        partition: 3,
        offset,
    };
    assert_eq!(untold(state, 40).await, []);
    assert_eq!(untold(state, 41).await, [(placed, place(40))]);
    assert_eq!(
        untold(state, 51).await,
        [(placed, place(40)), (moved, place(50))]
    );
    // A spooled upload is sent at last.
    accepted(state, spooled, at(3, 60)).await;
    assert_eq!(open(state).await.count, 4);

    // The message that was processed is the one that the outcome names.
    let told = finished_at(moved, at(3, 20));
    state
        .finish(std::slice::from_ref(&told))
        .await
        .expect("finishes");
    accepted(state, moved, at(3, 70)).await;
    let part = LogPart {
        partition: 3,
        below: 61,
    };
    let found = state.untold(&[part]).await.expect("answers");
    let ids: Vec<_> = found
        .iter()
        .map(|untold| (untold.event_id, untold.place.offset))
        .collect();
    assert_eq!(ids, [(moved, 20), (placed, 40), (spooled, 60)]);
    assert_eq!(
        found[0].status,
        Some((project(), EventStatus::Finished(told.clone())))
    );
    let received_at = note(placed).received_at;
    assert_eq!(
        found[1].status,
        Some((project(), EventStatus::Accepted { received_at }))
    );
    for _ in 0..2 {
        assert!(state.is_untold(placed, 3).await.expect("answers"));
        state
            .note_told(&[(moved, 3), (elsewhere, 3)])
            .await
            .expect("notes");
        assert!(!state.is_untold(moved, 3).await.expect("answers"));
        assert!(state.is_untold(elsewhere, 4).await.expect("answers"));
    }
    // Recorded again, as after a lost answer, it stays told.
    state.finish(&[told]).await.expect("finishes");
    assert!(!state.is_untold(moved, 3).await.expect("answers"));
}
