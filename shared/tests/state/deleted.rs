//! Deleted events, and the lease under which one process does something for all.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use shared::id::EventId;
use shared::outcome::Verdict;
use shared::state::{EventStatus, Finished};
use uuid::Uuid;

use crate::state::redis_server;
use crate::{Store, note, outcome, project};

/// Longer than this test takes.
const LONG: Duration = Duration::from_secs(600);
/// Soon over.
const SHORT: Duration = Duration::from_millis(300);

pub(crate) async fn a_deleted_event_is_known_as_such_and_keeps_its_outcome(store: Store) {
    let state = &store.state;
    let (event, accepted) = (EventId::random(), EventId::random());
    let told = outcome(event, Verdict::Processed);
    state.note_accepted(note(accepted));
    state.flush().await.expect("writes");
    state
        .finish(std::slice::from_ref(&told))
        .await
        .expect("finishes");
    let ledger = state.ledger().await.expect("a ledger");
    let first = Timestamp::now();
    // What is not finished, or not known, stays as it is.
    for event in [event, accepted, EventId::random()] {
        state.mark_deleted(event, first).await.expect("answers");
    }
    let deleted = EventStatus::Deleted {
        outcome: told.clone(),
        deleted_at: first,
    };
    let found = state.find(event).await.expect("answers");
    assert_eq!(found, Some((project(), deleted.clone())));
    let untouched = state.find(accepted).await.expect("answers");
    assert!(matches!(untouched, Some((_, EventStatus::Accepted { .. }))));

    // Nothing that is repeated brings it back, or moves the time.
    let later = first + Duration::from_secs(1);
    state.mark_deleted(event, later).await.expect("answers");
    state.note_accepted(note(event));
    let again = state
        .finish(std::slice::from_ref(&told))
        .await
        .expect("finishes");
    assert_eq!(again, [Finished::Already(told.clone())]);
    let status = state.status(project(), event).await.expect("answers");
    assert_eq!(status, Some(deleted));
    let outcomes = state.finished(&[event]).await.expect("answers");
    assert_eq!(outcomes, [Some(told)]);
    assert_eq!(state.ledger().await.expect("a ledger"), ledger);
    state.shutdown().await;
}

#[tokio::test]
async fn a_lease_in_redis_is_one_holders_until_it_is_over() {
    let url = redis_server::empty_database(21);
    let (one, other) = (Store::redis(&url).await, Store::redis(&url).await);
    let (mine, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    let take = async |store: &Store, holder, lasts| {
        let taken = store.state.lease("work", holder, lasts).await;
        taken.expect("answers")
    };
    assert!(take(&one, mine, LONG).await);
    assert!(!take(&other, theirs, LONG).await);
    assert!(take(&one, mine, SHORT).await, "renewed, and shortened");
    let end = Instant::now() + LONG;
    while !take(&other, theirs, LONG).await {
        assert!(Instant::now() < end, "the lease is not over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!take(&one, mine, LONG).await);
    one.state.shutdown().await;
    other.state.shutdown().await;
}
