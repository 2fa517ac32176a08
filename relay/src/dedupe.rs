//! A client that repeats an upload gets the first one's id: same project, and the same minidump or report id, within
//! `dedupe.window`. Only what is durable is answered for; until then a repeat waits, and takes over when the first one
//! comes to nothing.
//!
//! This is the memory of one relay. Among several, and across restarts, `claims` and the state store know.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::id::ProjectId;
use shared::repeat::{RepeatMark, RepeatMarks};
use shared::state::RememberedUpload;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::delivery::Receipt;
use crate::limits::{DEDUPE_SHARD_MARKS_MAX, DEDUPE_SHARDS};

/// The uploads of the last while. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Dedupe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    window: Duration,
    /// By the mark's hash, so that different uploads rarely meet.
    shards: [Mutex<Shard>; DEDUPE_SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    marks: HashMap<Key, Place>,
    /// Those of durable uploads with their ends, in the order they came to be known.
    durable: VecDeque<(Instant, Key)>,
}

/// Of project and mark, short: there are many.
type Key = [u8; 16];

#[derive(Debug)]
enum Place {
    /// Closed when the upload has come to its end, whatever that is.
    UnderWay(watch::Receiver<()>),
    Durable {
        receipt: Receipt,
        until: Instant,
    },
}

/// What an upload is.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The first of its kind here: to be made durable.
    First(FirstTurn),
    /// A repeat of one that is durable.
    Repeat(Receipt),
}

/// The first upload of its kind. Dropped before it is durable, it gives its places to the next.
#[derive(Debug, Default)]
#[must_use = "repeats wait for it"]
pub(crate) struct FirstTurn(Vec<HeldPlace>);

/// A mark that no other upload has.
#[derive(Debug)]
struct HeldPlace {
    dedupe: Dedupe,
    key: Key,
    under_way: Option<watch::Sender<()>>,
}

impl Dedupe {
    /// Remembers uploads for `window`; none at all when it is zero.
    pub(crate) fn new(window: Duration) -> Self {
        Self(Arc::new(Shared {
            window,
            shards: std::array::from_fn(|_| Mutex::default()),
        }))
    }

    /// Whether repeats are looked for at all.
    pub(crate) fn is_off(&self) -> bool {
        self.0.window.is_zero()
    }

    /// Remembers what an earlier process has noted, the oldest first.
    pub(crate) fn restore(&self, uploads: impl IntoIterator<Item = RememberedUpload>) {
        let now = Instant::now();
        for upload in uploads {
            let key = key(upload.project_id, upload.mark);
            let receipt = Receipt::elsewhere(&upload.proof);
            let until = now + upload.proof.left();
            self.shard(&key).remember(key, receipt, until);
        }
    }

    /// What an upload with these marks is. Waits for one that is under way.
    pub(crate) async fn turn(&self, project: ProjectId, marks: &RepeatMarks) -> Turn {
        let mut first = FirstTurn::default();
        if self.is_off() {
            return Turn::First(first);
        }
        // One after the other and always in the same order: nobody waits for one who waits for him.
        for mark in marks.iter() {
            match self.place(key(project, mark)).await {
                Ok(held) => first.0.push(held),
                Err(receipt) => return Turn::Repeat(receipt),
            }
        }
        Turn::First(first)
    }

    /// Takes a place, or tells who has it for good.
    async fn place(&self, key: Key) -> Result<HeldPlace, Receipt> {
        loop {
            let mut under_way = {
                let now = Instant::now();
                let mut shard = self.shard(&key);
                shard.forget(now);
                match shard.marks.get(&key) {
                    Some(Place::Durable { receipt, until }) if *until > now => {
                        return Err(receipt.repeated());
                    }
                    Some(Place::UnderWay(under_way)) => under_way.clone(),
                    Some(Place::Durable { .. }) | None => {
                        let (sender, receiver) = watch::channel(());
                        shard.marks.insert(key, Place::UnderWay(receiver));
                        return Ok(HeldPlace {
                            dedupe: self.clone(),
                            key,
                            under_way: Some(sender),
                        });
                    }
                }
            };
            // Nothing is ever sent: the channel closes.
            drop(under_way.changed().await);
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let shard = usize::from(key[0]) % DEDUPE_SHARDS;
        self.0.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(project: ProjectId, mark: RepeatMark) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&project.get().to_le_bytes());
    match mark {
        RepeatMark::Content(hash) => hasher.update(hash.as_bytes()),
        RepeatMark::Report(id) => hasher.update(id.as_bytes()),
    };
    let mut key = Key::default();
    hasher.finalize_xof().fill(&mut key);
    key
}

impl Shard {
    fn remember(&mut self, key: Key, receipt: Receipt, until: Instant) {
        self.marks.insert(key, Place::Durable { receipt, until });
        self.durable.push_back((until, key));
        while self.durable.len() > DEDUPE_SHARD_MARKS_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets what ended before `now`.
    fn forget(&mut self, now: Instant) {
        while self.durable.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((ended, key)) = self.durable.pop_front() else {
            return;
        };
        match self.marks.get(&key) {
            Some(Place::Durable { until, .. }) if *until == ended => {
                self.marks.remove(&key);
            }
            // It is another upload's by now.
            Some(Place::Durable { .. } | Place::UnderWay(_)) | None => {}
        }
    }
}

impl FirstTurn {
    /// It is durable: repeats get its receipt.
    pub(crate) fn keep(self, receipt: &Receipt) {
        let window = self.0.first().map(|held| held.dedupe.0.window);
        self.keep_for(receipt, window.unwrap_or_default());
    }

    /// As [`FirstTurn::keep`], for what is left of the window.
    pub(crate) fn keep_for(self, receipt: &Receipt, left: Duration) {
        let until = Instant::now() + left;
        for mut held in self.0 {
            let mut shard = held.dedupe.shard(&held.key);
            shard.remember(held.key, receipt.repeated(), until);
            drop(shard);
            held.under_way = None;
        }
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        if self.under_way.is_some() {
            self.dedupe.shard(&self.key).marks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::EventId;
    use uuid::Uuid;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn project(number: u64) -> ProjectId {
        ProjectId::new(number)
    }

    fn marks(dump: &[u8]) -> RepeatMarks {
        RepeatMarks {
            content: Some(blake3::hash(dump)),
            report: None,
        }
    }

    async fn turn(dedupe: &Dedupe, number: u64, marks: RepeatMarks) -> Result<FirstTurn, EventId> {
        match dedupe.turn(project(number), &marks).await {
            Turn::First(turn) => Ok(turn),
            Turn::Repeat(receipt) => Err(receipt.event_id()),
        }
    }

    async fn first(dedupe: &Dedupe, number: u64, dump: &[u8]) -> FirstTurn {
        turn(dedupe, number, marks(dump)).await.expect("the first")
    }

    async fn repeat(dedupe: &Dedupe, number: u64, dump: &[u8]) -> EventId {
        let turn = turn(dedupe, number, marks(dump)).await;
        turn.expect_err("a repeat")
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeat_gets_the_first_id_within_the_window() {
        let dedupe = Dedupe::new(DAY);
        let receipt = Receipt::for_tests();
        first(&dedupe, 1, b"dump").await.keep(&receipt);
        assert_eq!(repeat(&dedupe, 1, b"dump").await, receipt.event_id());
        drop(first(&dedupe, 2, b"dump").await);
        drop(first(&dedupe, 1, b"other").await);
        tokio::time::advance(DAY).await;
        drop(first(&dedupe, 1, b"dump").await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_first_elsewhere_is_known_for_the_rest_of_its_window() {
        let dedupe = Dedupe::new(DAY);
        let (long, short) = (Receipt::for_tests(), Receipt::for_tests());
        first(&dedupe, 1, b"long").await.keep(&long);
        let turn = first(&dedupe, 1, b"short").await;
        turn.keep_for(&short, DAY / 2);
        assert_eq!(repeat(&dedupe, 1, b"short").await, short.event_id());
        tokio::time::advance(DAY / 2).await;
        let again = Receipt::for_tests();
        first(&dedupe, 1, b"short").await.keep(&again);
        assert_eq!(repeat(&dedupe, 1, b"long").await, long.event_id());
        tokio::time::advance(DAY / 2).await;
        drop(first(&dedupe, 1, b"long").await);
        assert_eq!(repeat(&dedupe, 1, b"short").await, again.event_id());
    }

    #[tokio::test]
    async fn a_report_id_makes_a_repeat_as_the_content_does() {
        let dedupe = Dedupe::new(DAY);
        let receipt = Receipt::for_tests();
        let report = Some(Uuid::new_v4());
        let named = |dump: &[u8]| RepeatMarks {
            report,
            ..marks(dump)
        };
        let held = turn(&dedupe, 1, named(b"dump")).await.expect("the first");
        held.keep(&receipt);
        for marks in [named(b"dump"), named(b"other"), marks(b"dump")] {
            let known = turn(&dedupe, 1, marks).await.map(drop);
            assert_eq!(known, Err(receipt.event_id()), "{marks:?}");
        }
        drop(first(&dedupe, 1, b"other").await);
    }

    #[tokio::test]
    async fn a_window_of_zero_and_an_upload_without_marks_make_no_repeats() {
        let off = Dedupe::new(Duration::ZERO);
        let held = first(&off, 1, b"dump").await;
        first(&off, 1, b"dump").await.keep(&Receipt::for_tests());
        first(&off, 1, b"dump").await.keep(&Receipt::for_tests());
        held.keep(&Receipt::for_tests());
        let dedupe = Dedupe::new(DAY);
        for _ in 0..2 {
            let unmarked = turn(&dedupe, 1, RepeatMarks::default()).await;
            unmarked.expect("the first").keep(&Receipt::for_tests());
        }
    }

    #[tokio::test]
    async fn copies_that_race_get_one_id() {
        let dedupe = Dedupe::new(DAY);
        let receipt = Receipt::for_tests();
        let turn = first(&dedupe, 1, b"dump").await;
        let waiting =
            async { tokio::join!(repeat(&dedupe, 1, b"dump"), repeat(&dedupe, 1, b"dump")) };
        let durable = async {
            tokio::task::yield_now().await;
            turn.keep(&receipt);
        };
        let ((one, other), ()) = tokio::join!(waiting, durable);
        assert_eq!((one, other), (receipt.event_id(), receipt.event_id()));
    }

    #[tokio::test]
    async fn a_repeat_takes_over_from_one_that_came_to_nothing() {
        let dedupe = Dedupe::new(DAY);
        let turn = first(&dedupe, 1, b"dump").await;
        let failing = async {
            tokio::task::yield_now().await;
            drop(turn);
        };
        let (turn, ()) = tokio::join!(first(&dedupe, 1, b"dump"), failing);
        drop(turn);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let dedupe = Dedupe::new(DAY);
        let uploads = DEDUPE_SHARDS * DEDUPE_SHARD_MARKS_MAX + 20_000;
        for number in 0..uploads as u64 {
            let turn = first(&dedupe, 1, &number.to_le_bytes()).await;
            turn.keep(&Receipt::for_tests());
        }
        let remembered = dedupe.0.shards.iter().map(|shard| {
            let shard = shard.lock().expect("nobody panicked");
            assert_eq!(shard.marks.len(), shard.durable.len());
            shard.marks.len()
        });
        let remembered: usize = remembered.sum();
        assert!(
            remembered <= DEDUPE_SHARDS * DEDUPE_SHARD_MARKS_MAX,
            "{remembered}"
        );
        let last = (uploads as u64 - 1).to_le_bytes();
        repeat(&dedupe, 1, &last).await;
    }
}
