//! What the state store promises, on both implementations: a SQLite file, and a real Redis.

mod state {
    pub(crate) mod deleted;
    pub(crate) mod open_events;
    pub(crate) mod redis_server;
    pub(crate) mod sharing;
    mod tls;
}

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;
use proptest::test_runner::{Config as PropertyConfig, TestRunner};
use shared::config::{self, Config};
use shared::id::{EventId, ProjectId};
use shared::ledger::Ledger;
use shared::limits;
use shared::metrics::Metrics;
use shared::outcome::{Failure, Outcome, Reason, Verdict};
use shared::readiness::{Need, Part, Readiness};
use shared::state::{AcceptedNote, AttemptId, EventStatus, Finished, State};
use state::deleted::a_deleted_event_is_known_as_such_and_keeps_its_outcome;
use state::open_events::{
    an_outcome_is_untold_until_it_is_noted_as_told, what_is_in_flight_is_counted_and_has_an_age,
};
use state::redis_server::{self, RedisServer};
use state::sharing::{
    a_refusal_takes_nothing_and_says_how_long_to_wait,
    an_event_id_belongs_to_the_upload_that_had_it_first,
    of_many_at_once_exactly_as_many_pass_as_the_quota_says,
    operators_keys_are_kept_as_they_were_put,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A store of either kind and what must outlive it.
struct Store {
    state: State,
    metrics: Metrics,
    readiness: Readiness,
    config: Config,
    _dir: Option<TempDir>,
}

impl Store {
    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        Self::open(&config, Some(dir)).await
    }

    async fn redis(url: &str) -> Self {
        Self::open(&Self::redis_config(url), None).await
    }

    fn redis_config(url: &str) -> Config {
        let environment = [("CRASHFERRY__REDIS__URL".to_owned(), url.to_owned())];
        config::load(None, environment).expect("a configuration")
    }

    /// Answers as soon as it can: a machine that is busy with other tests is no fault of the store's.
    async fn open(config: &Config, dir: Option<TempDir>) -> Self {
        let metrics = Metrics::default();
        let readiness = Readiness::default();
        readiness.register(Part::State, Need::Required);
        let state = State::open_patiently(config, metrics.clone(), readiness.clone()).await;
        Self {
            state: state.expect("a state store"),
            metrics,
            readiness,
            config: config.clone(),
            _dir: dir,
        }
    }
}

fn project() -> ProjectId {
    ProjectId::new(7)
}

fn note(event_id: EventId) -> AcceptedNote {
    AcceptedNote {
        event_id,
        project_id: project(),
        received_at: "2026-01-02T03:04:05.123456789Z".parse().expect("a time"),
        place: None,
        claim: None,
    }
}

fn outcome(event_id: EventId, verdict: Verdict) -> Outcome {
    Outcome {
        event_id,
        project_id: project(),
        attached_to: None,
        verdict,
        received_at: note(event_id).received_at,
        finished_at: Timestamp::now(),
        attempts: 1,
        partition: Some(0),
        offset: Some(41),
    }
}

fn failed() -> Verdict {
    Verdict::Failed(Failure::ParserTimeout {
        limit_seconds: 60.0,
    })
}

/// Runs the claims on a fresh store of each kind; each claim has a database of its own in the shared Redis.
macro_rules! on_both {
    ($($claim:ident in database $database:literal;)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Store::sqlite().await).await;
            })+
        }

        mod redis {
            $(#[tokio::test]
            async fn $claim() {
                let url = super::redis_server::empty_database($database);
                super::$claim(super::Store::redis(&url).await).await;
            })+
        }
    };
}

on_both! {
    a_status_sees_a_note_that_is_not_written_yet in database 1;
    the_first_outcome_stands in database 2;
    attempts_count_until_the_outcome in database 3;
    a_project_keeps_its_key in database 4;
    more_outcomes_than_a_batch_are_all_told_in_order in database 5;
    notes_are_written_by_themselves_and_shown in database 6;
    a_stop_writes_what_is_queued in database 7;
    a_state_that_is_let_go_writes_what_is_queued in database 10;
    operators_keys_are_kept_as_they_were_put in database 16;
    of_many_at_once_exactly_as_many_pass_as_the_quota_says in database 17;
    a_refusal_takes_nothing_and_says_how_long_to_wait in database 18;
    an_event_id_belongs_to_the_upload_that_had_it_first in database 19;
    every_outcome_since_a_time_is_on_a_page_and_no_other in database 21;
    a_deleted_event_is_known_as_such_and_keeps_its_outcome in database 22;
    what_is_in_flight_is_counted_and_has_an_age in database 23;
    an_outcome_is_untold_until_it_is_noted_as_told in database 24;
}

async fn a_status_sees_a_note_that_is_not_written_yet(store: Store) {
    let event = EventId::random();
    assert_eq!(
        store.state.status(project(), event).await.expect("answers"),
        None
    );
    store.state.note_accepted(note(event));
    let received_at = note(event).received_at;
    let expected = Some(EventStatus::Accepted { received_at });
    assert_eq!(
        store.state.status(project(), event).await.expect("answers"),
        expected
    );
    let other = ProjectId::new(8);
    assert_eq!(
        store.state.status(other, event).await.expect("answers"),
        None
    );
}

async fn the_first_outcome_stands(store: Store) {
    let event = EventId::random();
    let (first, second) = (outcome(event, failed()), outcome(event, Verdict::Processed));
    let both = store.state.finish(&[first.clone(), second.clone()]).await;
    assert_eq!(
        both.expect("records"),
        [Finished::First, Finished::Already(first.clone())]
    );
    let again = store.state.finish(&[second]).await.expect("records");
    assert_eq!(again, [Finished::Already(first.clone())]);
    let late = note(event);
    store.state.note_accepted(late);
    store.state.flush().await.expect("flushes");
    let status = store.state.status(project(), event).await.expect("answers");
    assert_eq!(status, Some(EventStatus::Finished(first.clone())));
    let unknown = EventId::random();
    store.state.note_accepted(note(unknown));
    store.state.flush().await.expect("flushes");
    let finished = store
        .state
        .finished(&[unknown, event])
        .await
        .expect("answers");
    assert_eq!(finished, [None, Some(first)]);
    assert_eq!(store.state.finished(&[]).await.expect("answers"), []);
}

async fn attempts_count_until_the_outcome(store: Store) {
    let event = EventId::random();
    for attempt in 1..=3 {
        assert_eq!(begun(&store, event).await, attempt);
    }
    assert_eq!(begun(&store, EventId::random()).await, 1);
    store
        .state
        .finish(&[outcome(event, failed())])
        .await
        .expect("records");
    assert_eq!(begun(&store, event).await, 1);
}

/// Begins another attempt.
async fn begun(store: &Store, event: EventId) -> u32 {
    let attempt = AttemptId::random();
    let begun = store.state.begin_attempt(event, attempt).await;
    begun.expect("begins")
}

async fn a_project_keeps_its_key(store: Store) {
    let key = store.state.project_key(project()).await.expect("a key");
    assert_eq!(
        store.state.project_key(project()).await.expect("a key"),
        key
    );
    let other = ProjectId::new(1);
    assert_ne!(store.state.project_key(other).await.expect("a key"), key);
}

async fn more_outcomes_than_a_batch_are_all_told_in_order(store: Store) {
    let outcomes: Vec<Outcome> = (0..1500)
        .map(|_| outcome(EventId::random(), Verdict::Processed))
        .collect();
    store.state.finish(&outcomes[..3]).await.expect("records");
    let finished = store.state.finish(&outcomes).await.expect("records");
    for (n, (finished, outcome)) in finished.into_iter().zip(&outcomes).enumerate() {
        let expected = if n < 3 {
            Finished::Already(outcome.clone())
        } else {
            Finished::First
        };
        assert_eq!(finished, expected, "{n}");
    }
    assert_eq!(
        store.state.ledger().await.expect("a ledger").processed,
        1500
    );
}

async fn every_outcome_since_a_time_is_on_a_page_and_no_other(store: Store) {
    let now = Timestamp::now();
    let finished_at = |finished_at| Outcome {
        finished_at,
        ..outcome(EventId::random(), failed())
    };
    let early: Vec<Outcome> = (0..3).map(|_| finished_at(now - 2.hours())).collect();
    // All within one second, so that pages end among equals.
    let wanted: Vec<Outcome> = (0..1200).map(|_| finished_at(now)).collect();
    store.state.note_accepted(note(EventId::random()));
    store
        .state
        .begin_attempt(EventId::random(), AttemptId::random())
        .await
        .expect("begins");
    for outcomes in [&early, &wanted] {
        store.state.finish(outcomes).await.expect("records");
    }
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = store.state.outcomes(now - 1.hours(), after).await;
        let page = page.expect("a page");
        found.extend(page.outcomes);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(pages > 2, "{pages} pages");
    let by_id = |outcomes: &[Outcome]| -> BTreeMap<EventId, Outcome> {
        let outcomes = outcomes.iter().cloned();
        outcomes
            .map(|outcome| (outcome.event_id, outcome))
            .collect()
    };
    assert_eq!(by_id(&found), by_id(&wanted));
}

async fn notes_are_written_by_themselves_and_shown(store: Store) {
    let empty = store.metrics.ledger.get().expect("a ledger");
    assert_eq!((empty.accepted, empty.in_flight()), (0, 0));
    assert!(store.readiness.is_ready());
    for _ in 0..1200 {
        store.state.note_accepted(note(EventId::random()));
    }
    until(Duration::from_secs(10), || {
        let shown = store.metrics.ledger.get().unwrap_or_default();
        (shown.accepted, shown.in_flight()) == (1200, 1200)
    })
    .await;
}

async fn a_stop_writes_what_is_queued(store: Store) {
    for _ in 0..1200 {
        store.state.note_accepted(note(EventId::random()));
    }
    store.state.shutdown().await;
    assert_eq!(store.metrics.state_dropped_notes.get(), 0);
    store.state.note_accepted(note(EventId::random()));
    assert_eq!(
        store.metrics.state_dropped_notes.get(),
        1,
        "a late note is counted"
    );
    let again = Store::open(&store.config, None).await;
    assert_eq!(again.state.ledger().await.expect("a ledger").accepted, 1200);
}

async fn a_state_that_is_let_go_writes_what_is_queued(store: Store) {
    store.state.note_accepted(note(EventId::random()));
    let again = Store::open(&store.config, None).await;
    drop(store.state);
    until(Duration::from_secs(10), || {
        again.metrics.ledger.get().unwrap_or_default().accepted == 1
    })
    .await;
}

/// What may happen to one of a few events, in any order and any number of times.
#[derive(Clone, Copy, Debug)]
enum Step {
    Note(usize),
    Process(usize),
    Fail(usize),
    Attempt(usize),
    Flush,
}

const EVENTS: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..EVENTS).prop_map(Step::Note),
        2 => (0..EVENTS).prop_map(Step::Process),
        2 => (0..EVENTS).prop_map(Step::Fail),
        1 => (0..EVENTS).prop_map(Step::Attempt),
        1 => Just(Step::Flush),
    ];
    proptest::collection::vec(step, 0..24)
}

/// Takes the steps, and checks every snapshot on the way and the ledger at the end against what must be.
async fn the_ledger_is_exact(store: &Store, steps: &[Step]) -> Result<(), TestCaseError> {
    let before = store.state.ledger().await.expect("a ledger");
    let events: Vec<EventId> = (0..EVENTS).map(|_| EventId::random()).collect();
    let mut fates: HashMap<usize, Option<Verdict>> = HashMap::new();
    for step in steps {
        match *step {
            Step::Note(event) => {
                store.state.note_accepted(note(events[event]));
                fates.entry(event).or_default();
            }
            Step::Process(event) => {
                finish(store, &events, &mut fates, event, Verdict::Processed).await?
            }
            Step::Fail(event) => finish(store, &events, &mut fates, event, failed()).await?,
            Step::Attempt(event) => {
                store
                    .state
                    .begin_attempt(events[event], AttemptId::random())
                    .await
                    .expect("begins");
            }
            Step::Flush => store.state.flush().await.expect("flushes"),
        }
        let snapshot = store.state.ledger().await.expect("a ledger");
        let others = snapshot.processed + snapshot.failed() + snapshot.in_flight();
        prop_assert_eq!(snapshot.accepted, others, "{:?}", snapshot);
    }
    store.state.flush().await.expect("flushes");
    let after = store.state.ledger().await.expect("a ledger");
    let fated =
        |fate: Option<Verdict>| fates.values().filter(|known| **known == fate).count() as u64;
    prop_assert_eq!(after.accepted - before.accepted, fates.len() as u64);
    prop_assert_eq!(
        after.processed - before.processed,
        fated(Some(Verdict::Processed))
    );
    prop_assert_eq!(after.failed() - before.failed(), fated(Some(failed())));
    prop_assert_eq!(after.in_flight() - before.in_flight(), fated(None));
    let timeouts = |ledger: &Ledger| {
        let mut reasons = ledger.failed_by_reason.iter();
        reasons
            .find(|(reason, _)| *reason == Reason::ParserTimeout)
            .map(|(_, count)| count)
    };
    prop_assert_eq!(timeouts(&after), Some(after.failed()));
    Ok(())
}

async fn finish(
    store: &Store,
    events: &[EventId],
    fates: &mut HashMap<usize, Option<Verdict>>,
    event: usize,
    verdict: Verdict,
) -> Result<(), TestCaseError> {
    let outcome = outcome(events[event], verdict);
    let finished = store
        .state
        .finish(std::slice::from_ref(&outcome))
        .await
        .expect("records");
    match (fates.get(&event).cloned().flatten(), &finished[..]) {
        (None, [Finished::First]) => {
            fates.insert(event, Some(outcome.verdict));
        }
        (Some(first), [Finished::Already(known)]) => prop_assert_eq!(&known.verdict, &first),
        (fate, finished) => prop_assert!(false, "{:?} after {:?}", finished, fate),
    }
    Ok(())
}

fn check_property(store: &Store, runtime: &Runtime) {
    let cases = PropertyConfig {
        cases: 64,
        ..PropertyConfig::default()
    };
    let checked = TestRunner::new(cases).run(&steps(), |steps| {
        runtime.block_on(the_ledger_is_exact(store, &steps))
    });
    checked.expect("the ledger is exact");
}

#[test]
fn any_interleaving_keeps_the_ledger_exact_in_sqlite() {
    let runtime = Runtime::new().expect("a runtime");
    let store = runtime.block_on(Store::sqlite());
    check_property(&store, &runtime);
}

#[test]
fn any_interleaving_keeps_the_ledger_exact_in_redis() {
    let url = redis_server::empty_database(8);
    let runtime = Runtime::new().expect("a runtime");
    let store = runtime.block_on(Store::redis(&url));
    check_property(&store, &runtime);
}

#[tokio::test]
async fn two_processes_share_one_ledger_in_redis() {
    let url = redis_server::empty_database(9);
    let (relay, processor) = (Store::redis(&url).await, Store::redis(&url).await);
    let event = EventId::random();
    relay.state.note_accepted(note(event));
    relay.state.flush().await.expect("flushes");
    processor
        .state
        .finish(&[outcome(event, Verdict::Processed)])
        .await
        .expect("records");
    let status = relay.state.status(project(), event).await.expect("answers");
    assert!(
        matches!(status, Some(EventStatus::Finished(_))),
        "{status:?}"
    );
    let seen = [relay.state.ledger().await, processor.state.ledger().await];
    let [Ok(relay_sees), Ok(processor_sees)] = seen else {
        panic!("{seen:?}")
    };
    assert_eq!(relay_sees, processor_sees);
    assert_eq!((relay_sees.accepted, relay_sees.processed), (1, 1));
    let key = relay.state.project_key(project()).await.expect("a key");
    assert_eq!(
        processor.state.project_key(project()).await.expect("a key"),
        key
    );
}

#[tokio::test]
async fn redis_forgets_outcomes_in_time_and_open_events_never() {
    let url = redis_server::empty_database(11);
    let store = Store::redis(&url).await;
    let [open, done] = [EventId::random(), EventId::random()];
    store.state.note_accepted(note(open));
    store.state.flush().await.expect("flushes");
    let attempt = AttemptId::random();
    for _ in 0..2 {
        let begun = store.state.begin_attempt(open, attempt).await;
        assert_eq!(begun.expect("begins"), 1, "told twice, counted once");
    }
    store
        .state
        .finish(&[outcome(done, Verdict::Processed)])
        .await
        .expect("records");
    let kept = i64::try_from(limits::STATUS_KEPT.as_secs()).expect("fits");
    let seconds = |key: &str, event: EventId| {
        redis_server::seconds_left(11, &format!("crashferry:{key}:{}", event.simple()))
    };
    assert_eq!(seconds("event", open), -1, "no end");
    for left in [seconds("event", done), seconds("attempts", open)] {
        assert!((kept - 60..=kept).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn events_that_an_earlier_version_accepted_are_in_flight_once_they_are_indexed() {
    let url = redis_server::empty_database(25);
    let before = Store::redis(&url).await;
    let (events, done): (Vec<_>, Vec<_>) = (0..30)
        .map(|_| (EventId::random(), EventId::random()))
        .unzip();
    for event in events.iter().chain(&done) {
        before.state.note_accepted(note(*event));
    }
    before.state.flush().await.expect("flushes");
    let outcomes: Vec<Outcome> = done.iter().map(|event| outcome(*event, failed())).collect();
    before.state.finish(&outcomes).await.expect("records");
    before.state.shutdown().await;
    for key in ["crashferry:open", "crashferry:open:complete"] {
        redis_server::remove(25, key);
    }
    let after = Store::redis(&url).await;
    until(Duration::from_secs(10), || {
        let ledger = after.metrics.ledger.get().unwrap_or_default();
        ledger.open.is_some_and(|open| {
            (open.count, open.oldest.map(Timestamp::as_second))
                == (30, Some(note(events[0]).received_at.as_second()))
        })
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_away_costs_no_note_and_is_found_again() {
    let mut server = RedisServer::reserve();
    let store = Store::redis(&server.url()).await;
    assert!(!store.readiness.is_ready(), "it was never there");
    let early = EventId::random();
    store.state.note_accepted(note(early));
    let asked = Instant::now();
    assert!(store.state.status(project(), early).await.is_err());
    assert!(
        store
            .state
            .finish(&[outcome(early, failed())])
            .await
            .is_err()
    );
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );

    server.start();
    until(Duration::from_secs(10), || store.readiness.is_ready()).await;
    store.state.flush().await.expect("flushes");
    assert_eq!(store.state.ledger().await.expect("a ledger").accepted, 1);

    server.kill();
    until(Duration::from_secs(10), || !store.readiness.is_ready()).await;
    for _ in 0..100 {
        store.state.note_accepted(note(EventId::random()));
    }
    server.start();
    until(Duration::from_secs(10), || {
        store.metrics.ledger.get().unwrap_or_default().accepted == 101
    })
    .await;
    assert_eq!(store.metrics.state_dropped_notes.get(), 0);
    assert!(store.readiness.is_ready());
}

#[tokio::test]
async fn what_a_killed_redis_forgot_is_written_again() {
    let mut server = RedisServer::reserve();
    server.start();
    let store = Store::redis(&server.url()).await;
    let [open, done] = [EventId::random(), EventId::random()];
    for event in [open, done] {
        store.state.note_accepted(note(event));
    }
    store.state.flush().await.expect("flushes");
    let told = outcome(done, Verdict::Processed);
    store
        .state
        .finish(std::slice::from_ref(&told))
        .await
        .expect("records");
    let before = store.state.ledger().await.expect("a ledger");
    server.kill();
    until(Duration::from_secs(10), || !store.readiness.is_ready()).await;
    server.forget();
    server.start();
    until(Duration::from_secs(10), || store.readiness.is_ready()).await;
    // The index of open events was forgotten, too, and is built again in the background.
    until(Duration::from_secs(10), || {
        store.metrics.ledger.get() == Some(before)
    })
    .await;
    assert_eq!(store.state.ledger().await.expect("a ledger"), before);
    let known = store.state.finished(&[open, done]).await.expect("statuses");
    assert_eq!(known, [None, Some(told)]);
}

#[tokio::test]
async fn a_redis_that_hangs_is_noticed_and_found_again() {
    let mut server = RedisServer::reserve();
    server.start();
    let store = Store::redis(&server.url()).await;
    assert!(store.readiness.is_ready());
    server.pause();
    until(Duration::from_secs(10), || !store.readiness.is_ready()).await;
    let error = store
        .state
        .ledger()
        .await
        .expect_err("nobody answers")
        .to_string();
    assert!(error.starts_with("the state store is away"), "{error}");
    server.resume();
    until(Duration::from_secs(10), || store.readiness.is_ready()).await;
}

#[tokio::test]
async fn a_full_queue_drops_notes_and_counts_them_and_outcomes_heal_the_ledger() {
    let mut server = RedisServer::reserve();
    let store = Store::redis(&server.url()).await;
    let events: Vec<EventId> = (0..70_000).map(|_| EventId::random()).collect();
    for event in &events {
        store.state.note_accepted(note(*event));
    }
    let dropped = store.metrics.state_dropped_notes.get();
    assert!(dropped > 3000 && dropped < 5000, "{dropped} dropped");
    server.start();
    let outcomes: Vec<Outcome> = events
        .iter()
        .map(|event| outcome(*event, Verdict::Processed))
        .collect();
    until(Duration::from_secs(10), || store.readiness.is_ready()).await;
    store.state.finish(&outcomes).await.expect("records");
    until(Duration::from_secs(20), || {
        let shown = store.metrics.ledger.get().unwrap_or_default();
        (shown.accepted, shown.processed, shown.in_flight()) == (70_000, 70_000, 0)
    })
    .await;
}

#[tokio::test]
async fn a_stop_without_redis_ends_and_counts_what_it_drops() {
    let server = RedisServer::reserve();
    let store = Store::redis(&server.url()).await;
    for _ in 0..10 {
        store.state.note_accepted(note(EventId::random()));
    }
    let stopped = tokio::time::timeout(Duration::from_secs(15), store.state.shutdown()).await;
    stopped.expect("the stop ends");
    assert_eq!(store.metrics.state_dropped_notes.get(), 10);
}

#[tokio::test]
async fn a_redis_url_that_is_none_is_named_with_its_key() {
    let environment = [(
        "CRASHFERRY__REDIS__URL".to_owned(),
        "redis.example".to_owned(),
    )];
    let config = config::load(None, environment).expect("a configuration");
    let opened = State::open(&config, Metrics::default(), Readiness::default()).await;
    let error = opened.expect_err("no address").to_string();
    assert!(error.starts_with("redis.url: expected redis://"), "{error}");
}

async fn until(deadline: Duration, condition: impl Fn() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "not within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
