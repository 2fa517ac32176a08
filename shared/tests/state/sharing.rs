//! What relays share: operators' keys, quotas, claims on uploads and on event ids.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::test_runner::{Config as PropertyConfig, TestRunner};
use shared::config::{ByteSize, Span};
use shared::id::{EventId, ProjectId, PublicKey};
use shared::metrics::Metrics;
use shared::outcome::Verdict;
use shared::quota::{Charge, Demand, QuotaLimit, QuotaUse, Quotas};
use shared::readiness::{Need, Part, Readiness};
use shared::repeat::{RepeatMark, RepeatMarks};
use shared::state::{AcceptedNote, Claim, Claimed, KeyPut, KeyRecord, QuotaVerdict, State};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::state::redis_server::{self, RedisServer};
use crate::{Store, note, outcome, project, until};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(600);

fn key(text: &str) -> PublicKey {
    text.parse().expect("a key")
}

fn record(text: &str) -> KeyRecord {
    KeyRecord {
        key: key(text),
        project_id: project(),
        disabled: false,
        quotas: Quotas::default(),
    }
}

fn per_hour(uploads: u64, bytes: u64) -> Quotas {
    Quotas {
        uploads_per_hour: Some(uploads),
        bytes_per_hour: Some(ByteSize::bytes(bytes)),
        ..Quotas::default()
    }
}

fn granted(verdict: QuotaVerdict) -> Option<Charge> {
    match verdict {
        QuotaVerdict::Granted(charge) => Some(charge),
        QuotaVerdict::Exceeded(_) => None,
    }
}

/// Returns when the hour, and with it the minute, does not end within the next seconds.
async fn away_from_the_end_of_an_hour() {
    let left = 3600 - Timestamp::now().as_second() % 3600;
    if left < 20 {
        tokio::time::sleep(Duration::from_secs(left.unsigned_abs())).await;
    }
}

pub(crate) async fn operators_keys_are_kept_as_they_were_put(store: Store) {
    let state = &store.state;
    assert_eq!(state.keys().await.expect("keys"), []);
    for added in [record("b"), record("a")] {
        let put = state.add_key(added).await.expect("adds");
        assert_eq!(put, KeyPut::Done);
    }
    let again = KeyRecord {
        disabled: true,
        ..record("a")
    };
    let put = state.add_key(again).await.expect("answers");
    assert_eq!(put, KeyPut::Known);
    let changed = KeyRecord {
        disabled: true,
        quotas: Quotas {
            uploads_per_minute: Some(u64::MAX),
            ..per_hour(1, 1 << 40)
        },
        ..record("b")
    };
    let put = state.put_key(changed.clone()).await.expect("puts");
    assert_eq!(put, KeyPut::Done);
    let expected = [record("a"), changed];
    assert_eq!(state.keys().await.expect("keys"), expected);
    state.shutdown().await;
    let again = Store::open(&store.config, None).await;
    assert_eq!(again.state.keys().await.expect("keys"), expected);
}

pub(crate) async fn of_many_at_once_exactly_as_many_pass_as_the_quota_says(store: Store) {
    away_from_the_end_of_an_hour().await;
    let quotas = Quotas {
        uploads_per_hour: Some(20),
        ..Quotas::default()
    };
    let mut takes = JoinSet::new();
    for _ in 0..50 {
        let state = store.state.clone();
        takes.spawn(async move {
            state
                .take_quota(&key("a"), &quotas, Demand::upload(7))
                .await
        });
    }
    let verdicts = takes.join_all().await.into_iter();
    let passed = verdicts.filter_map(|verdict| granted(verdict.expect("answers")));
    assert_eq!(passed.count(), 20);
    let names = [key("a"), key("b")];
    let used = store.state.quota_use(&names).await.expect("answers");
    assert_eq!((used[0].hour.uploads, used[0].hour.bytes), (20, 140));
    assert_eq!(used[1].hour.uploads, 0);
    let other = store
        .state
        .take_quota(&key("b"), &quotas, Demand::upload(7))
        .await;
    assert!(
        granted(other.expect("answers")).is_some(),
        "each for itself"
    );
}

pub(crate) async fn a_refusal_takes_nothing_and_says_how_long_to_wait(store: Store) {
    away_from_the_end_of_an_hour().await;
    let quotas = Quotas {
        uploads_per_minute: Some(2),
        bytes_per_hour: Some(ByteSize::bytes(100)),
        ..Quotas::default()
    };
    let key = key("a");
    let take = async |bytes| {
        let verdict = store
            .state
            .take_quota(&key, &quotas, Demand::upload(bytes))
            .await;
        verdict.expect("answers")
    };
    let charge = granted(take(60).await).expect("room");
    let QuotaVerdict::Exceeded(exceeded) = take(41).await else {
        panic!("there is no room")
    };
    assert_eq!(
        (exceeded.limit, exceeded.value, exceeded.left),
        (QuotaLimit::BytesPerHour, 100, 40)
    );
    let left = 3600 - Timestamp::now().as_second() % 3600;
    let wait = i64::try_from(exceeded.wait.as_secs()).expect("fits");
    assert!((left - 5..=left + 5).contains(&wait), "{wait} of {left}");
    granted(take(40).await).expect("room for what is left");
    let back = store.state.charge_quota(&key, charge.reversed());
    back.await.expect("gives back");
    granted(take(60).await).expect("room for what was given back");
    let QuotaVerdict::Exceeded(exceeded) = take(0).await else {
        panic!("there is no room")
    };
    assert_eq!(exceeded.limit, QuotaLimit::UploadsPerMinute);
    assert!(exceeded.wait <= Duration::from_secs(60), "{exceeded:?}");
    let over = Charge {
        minute: charge.minute - 1,
        hour: charge.hour - 1,
        ..charge.reversed()
    };
    let back = store.state.charge_quota(&key, over);
    back.await.expect("answers");
    let used = store.state.quota_use(&[key]).await.expect("answers");
    assert_eq!(used[0].hour.bytes, 100, "its hour was over");
}

pub(crate) async fn an_event_id_belongs_to_the_upload_that_had_it_first(store: Store) {
    let state = &store.state;
    let chosen = EventId::random();
    let [one, other] = [b"one", b"two"].map(|bytes| blake3::hash(bytes));
    for (fingerprint, expected) in [(one, true), (other, false), (one, true)] {
        let claimed = state.claim_event_id(chosen, fingerprint).await;
        assert_eq!(claimed.expect("answers"), expected);
    }
    let taken = EventId::random();
    state.note_accepted(note(taken));
    state.flush().await.expect("flushes");
    let claimed = state.claim_event_id(taken, one).await;
    assert!(!claimed.expect("answers"), "it is another upload's");
    state
        .finish(&[outcome(chosen, Verdict::Processed)])
        .await
        .expect("records");
    let claimed = state.claim_event_id(chosen, one).await;
    assert!(claimed.expect("answers"), "it is its own");
}

/// What may happen to a key's quota.
#[derive(Clone, Copy, Debug)]
enum Step {
    Take(u64),
    GiveBack,
}

/// A store counts as the pure count does, whatever is taken and given back.
fn check_counting(store: &Store, runtime: &Runtime) {
    let step = prop_oneof![3 => (0u64..60).prop_map(Step::Take), 1 => Just(Step::GiveBack)];
    let steps = proptest::collection::vec(step, 1..24);
    let cases = PropertyConfig {
        cases: 48,
        ..PropertyConfig::default()
    };
    let checked = TestRunner::new(cases).run(&(steps, 1u64..8, 1u64..200), |given| {
        let (steps, uploads, bytes) = given;
        let quotas = per_hour(uploads, bytes);
        runtime.block_on(async {
            away_from_the_end_of_an_hour().await;
            let key = PublicKey::random();
            let mut model = QuotaUse::default();
            let mut charges = Vec::new();
            for step in steps {
                match step {
                    Step::Take(bytes) => {
                        let verdict = store
                            .state
                            .take_quota(&key, &quotas, Demand::upload(bytes))
                            .await;
                        let expected = model.take(&quotas, Demand::upload(bytes), Timestamp::now());
                        match (verdict.expect("answers"), expected) {
                            (QuotaVerdict::Granted(charge), Ok(_)) => charges.push(charge),
                            (QuotaVerdict::Exceeded(told), Err(expected)) => {
                                prop_assert_eq!(told.limit, expected.limit);
                                prop_assert_eq!(told.left, expected.left);
                            }
                            (told, expected) => {
                                prop_assert!(false, "{:?} for {:?}", told, expected);
                            }
                        }
                    }
                    Step::GiveBack => {
                        let Some(charge) = charges.pop() else {
                            continue;
                        };
                        let back = charge.reversed();
                        store.state.charge_quota(&key, back).await.expect("answers");
                        model.add(back);
                    }
                }
            }
            let used = store.state.quota_use(std::slice::from_ref(&key)).await;
            let used = used.expect("answers")[0];
            prop_assert_eq!(used.hour, model.at(Timestamp::now()).hour);
            Ok(())
        })
    });
    checked.expect("the store counts as the model does");
}

#[test]
fn sqlite_counts_as_the_pure_count_does() {
    let runtime = Runtime::new().expect("a runtime");
    let store = runtime.block_on(Store::sqlite());
    check_counting(&store, &runtime);
}

#[test]
fn redis_counts_as_the_pure_count_does() {
    let url = redis_server::empty_database(12);
    let runtime = Runtime::new().expect("a runtime");
    let store = runtime.block_on(Store::redis(&url));
    check_counting(&store, &runtime);
}

fn marks(dump: &[u8], report: Option<Uuid>) -> RepeatMarks {
    RepeatMarks {
        content: Some(blake3::hash(dump)),
        report,
    }
}

fn claim(marks: RepeatMarks) -> Claim {
    Claim::new(project(), marks)
}

async fn claimed(state: &State, claim: &Claim, lasts: Duration) -> Result<(), Option<EventId>> {
    match state.claim_upload(claim, lasts).await.expect("answers") {
        Claimed::First => Ok(()),
        Claimed::UnderWay => Err(None),
        Claimed::Durable(proof) => Err(Some(proof.event_id())),
    }
}

fn durable(claim: Claim) -> AcceptedNote {
    AcceptedNote {
        received_at: Timestamp::now(),
        claim: Some(claim),
        ..note(EventId::random())
    }
}

#[tokio::test]
async fn of_racing_copies_in_redis_one_is_first_and_the_others_get_its_id() {
    let url = redis_server::empty_database(13);
    let (one, other) = (Store::redis(&url).await, Store::redis(&url).await);
    let copies: Vec<Claim> = (0..8).map(|_| claim(marks(b"dump", None))).collect();
    let mut racing = JoinSet::new();
    for (copy, store) in copies
        .iter()
        .copied()
        .zip([&one, &other].into_iter().cycle())
    {
        let state = store.state.clone();
        racing.spawn(async move { (copy, claimed(&state, &copy, LONG).await) });
    }
    let results = racing.join_all().await;
    let firsts: Vec<Claim> = results
        .iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(copy, _)| *copy)
        .collect();
    let [first] = firsts[..] else {
        panic!("{results:?}")
    };
    assert_eq!(claimed(&one.state, &first, LONG).await, Ok(()), "its own");
    let note = durable(first);
    one.state.note_accepted(note);
    one.state.flush().await.expect("flushes");
    let late = claim(marks(b"dump", None));
    let known = other.state.claim_upload(&late, LONG).await;
    let Claimed::Durable(proof) = known.expect("answers") else {
        panic!("it is durable")
    };
    assert_eq!(proof.event_id(), note.event_id);
    let window = one.config.dedupe.window.get();
    assert!(
        proof.left() <= window && proof.left() > window - LONG,
        "{proof:?}"
    );
    let elsewhere = Claim::new(ProjectId::new(8), late.marks);
    assert_eq!(claimed(&other.state, &elsewhere, LONG).await, Ok(()));
}

#[tokio::test]
async fn a_claim_in_redis_ends_when_it_is_released_or_its_time_is_over() {
    let url = redis_server::empty_database(14);
    let store = Store::redis(&url).await;
    let state = &store.state;
    let [first, second, third] = [(); 3].map(|()| claim(marks(b"dump", None)));
    assert_eq!(claimed(state, &first, LONG).await, Ok(()));
    state.release_upload(&second).await.expect("answers");
    assert_eq!(
        claimed(state, &second, LONG).await,
        Err(None),
        "not its own"
    );
    state.release_upload(&first).await.expect("releases");
    let short = Duration::from_millis(200);
    assert_eq!(claimed(state, &second, short).await, Ok(()));
    assert_eq!(claimed(state, &third, LONG).await, Err(None));
    tokio::time::sleep(short).await;
    assert_eq!(claimed(state, &third, LONG).await, Ok(()));
    // The one whose time was over is durable after all, and so is the other: the mark stays with the one that has it.
    let (late, kept) = (durable(second), durable(third));
    for note in [late, kept] {
        state.note_accepted(note);
        state.flush().await.expect("flushes");
    }
    let fourth = claim(marks(b"dump", None));
    assert_eq!(
        claimed(state, &fourth, LONG).await,
        Err(Some(kept.event_id))
    );
}

#[tokio::test]
async fn any_mark_makes_a_repeat_in_redis_and_a_repeat_claims_nothing() {
    let url = redis_server::empty_database(15);
    let store = Store::redis(&url).await;
    let state = &store.state;
    let report = Some(Uuid::new_v4());
    let first = claim(marks(b"dump", report));
    assert_eq!(claimed(state, &first, LONG).await, Ok(()));
    let note = durable(first);
    state.note_accepted(note);
    state.flush().await.expect("flushes");
    for marks in [marks(b"dump", None), marks(b"other", report)] {
        let repeat = claimed(state, &claim(marks), LONG).await;
        assert_eq!(repeat, Err(Some(note.event_id)));
    }
    let other = claim(marks(b"other", None));
    assert_eq!(claimed(state, &other, LONG).await, Ok(()));
}

/// What may happen to one of a few uploads.
#[derive(Clone, Copy, Debug)]
enum Move {
    Claim(usize),
    Release(usize),
    BecomeDurable(usize),
}

/// Who has a mark: the upload that claims it, or the event that is durable.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Owner {
    Upload(usize),
    Event(EventId),
}

/// The claims in Redis are what the words say they are, whatever uploads do that share some marks and not others.
#[test]
fn any_interleaving_leaves_each_mark_to_one_upload_in_redis() {
    let url = redis_server::empty_database(20);
    let runtime = Runtime::new().expect("a runtime");
    let store = runtime.block_on(Store::redis(&url));
    let step = (0usize..4).prop_flat_map(|upload| {
        prop_oneof![
            3 => Just(Move::Claim(upload)),
            1 => Just(Move::Release(upload)),
            1 => Just(Move::BecomeDurable(upload)),
        ]
    });
    let cases = PropertyConfig {
        cases: 48,
        ..PropertyConfig::default()
    };
    let steps = proptest::collection::vec(step, 1..24);
    let checked = TestRunner::new(cases).run(&steps, |steps| {
        let (dumps, reports) = ([EventId::random(); 2], [Uuid::new_v4(), Uuid::new_v4()]);
        let of = |dump: usize, report: Option<usize>| {
            let dump = [&dumps[dump].as_bytes()[..], &[dump as u8]].concat();
            claim(marks(&dump, report.map(|report| reports[report])))
        };
        let claims = [of(0, None), of(0, Some(0)), of(1, Some(0)), of(1, Some(1))];
        runtime.block_on(moves_are_told_truly(&store.state, &claims, &steps))
    });
    checked.expect("each mark is one upload's");
}

async fn moves_are_told_truly(
    state: &State,
    claims: &[Claim],
    steps: &[Move],
) -> Result<(), TestCaseError> {
    let mut owners: HashMap<RepeatMark, Owner> = HashMap::new();
    for step in steps {
        match *step {
            Move::Claim(at) => {
                let marks = || claims[at].marks.iter();
                let known: Vec<Owner> = marks()
                    .filter_map(|mark| owners.get(&mark).copied())
                    .collect();
                let durable = known.iter().find_map(|owner| match owner {
                    Owner::Event(event) => Some(*event),
                    Owner::Upload(_) => None,
                });
                let expected = match durable {
                    Some(event) => Err(Some(event)),
                    None if known.iter().any(|owner| *owner != Owner::Upload(at)) => Err(None),
                    None => Ok(()),
                };
                prop_assert_eq!(claimed(state, &claims[at], LONG).await, expected);
                if expected.is_ok() {
                    owners.extend(marks().map(|mark| (mark, Owner::Upload(at))));
                }
            }
            Move::Release(at) => {
                state.release_upload(&claims[at]).await.expect("answers");
                owners.retain(|_, owner| *owner != Owner::Upload(at));
            }
            Move::BecomeDurable(at) => {
                let note = durable(claims[at]);
                state.note_accepted(note);
                state.flush().await.expect("flushes");
                for mark in claims[at].marks.iter() {
                    let owner = owners.entry(mark).or_insert(Owner::Upload(at));
                    if *owner == Owner::Upload(at) {
                        *owner = Owner::Event(note.event_id);
                    }
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_that_hangs_is_not_waited_for_by_an_upload() {
    let mut server = RedisServer::reserve();
    server.start();
    let (metrics, readiness) = (Metrics::default(), Readiness::default());
    readiness.register(Part::State, Need::Required);
    let config = Store::redis_config(&server.url());
    let state = State::open(&config, metrics, readiness.clone()).await;
    let state = state.expect("a state store");
    server.pause();
    let asked = Instant::now();
    let claim = claim(marks(b"dump", None));
    let claimed = state.claim_upload(&claim, LONG).await;
    assert!(claimed.is_err());
    let (key, quotas) = (key("a"), per_hour(1, 1));
    let taken = state.take_quota(&key, &quotas, Demand::upload(1)).await;
    assert!(taken.is_err());
    let chosen = state.claim_event_id(EventId::random(), blake3::hash(b"dump"));
    assert!(chosen.await.is_err());
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    server.resume();
    until(Duration::from_secs(10), || readiness.is_ready()).await;
}

#[tokio::test]
async fn durable_uploads_in_sqlite_are_remembered_for_the_window() {
    let mut store = Store::sqlite().await;
    let report = Uuid::new_v4();
    let young = durable(claim(marks(b"young", Some(report))));
    let old = AcceptedNote {
        received_at: Timestamp::now() - 2.hours(),
        ..durable(claim(marks(b"old", None)))
    };
    for note in [young, old, note(EventId::random())] {
        store.state.note_accepted(note);
    }
    store.state.flush().await.expect("flushes");
    store.state.shutdown().await;
    let again = Store::open(&store.config, None).await;
    let remembered = async |store: &Store, marks_max| {
        let uploads = store.state.remembered_uploads(marks_max).await;
        let uploads = uploads.expect("answers").into_iter();
        let known = uploads.map(|upload| (upload.mark.to_string(), upload.proof.event_id()));
        known.collect::<Vec<_>>()
    };
    let content = |dump: &[u8]| format!("content:{}", blake3::hash(dump).to_hex());
    let all = remembered(&again, 10).await;
    assert_eq!(all[0], (content(b"old"), old.event_id));
    assert!(
        all.contains(&(content(b"young"), young.event_id)),
        "{all:?}"
    );
    let report = (format!("report:{}", report.simple()), young.event_id);
    assert!(all.contains(&report), "{all:?}");
    assert_eq!(all.len(), 3);
    let latest = remembered(&again, 2).await;
    assert!(!latest.contains(&all[0]), "{latest:?}");
    again.state.shutdown().await;

    store.config.dedupe.window = Span::secs(3600);
    let shorter = Store::open(&store.config, None).await;
    let known = remembered(&shorter, 10).await;
    assert_eq!(known.len(), 2, "{known:?}");
    let uploads = shorter.state.remembered_uploads(1).await.expect("answers");
    assert_eq!(uploads[0].project_id, project());
    let left = uploads[0].proof.left();
    assert!(left > Duration::from_secs(3000) && left <= Duration::from_secs(3600));
}
