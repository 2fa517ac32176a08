//! A client that repeats an upload gets the first one's id: same project, same minidump, within `dedupe.window`. Only what
//! is durable is answered for; until then a repeat waits, and takes over when the first one comes to nothing.
//!
//! Known to this relay alone, and only while it runs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::id::ProjectId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::delivery::Receipt;
use crate::limits::{DEDUPE_SHARD_UPLOADS_MAX, DEDUPE_SHARDS};

/// The uploads of the last while. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Dedupe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    window: Duration,
    /// By the dump's hash, so that uploads of different dumps rarely meet.
    shards: [Mutex<Shard>; DEDUPE_SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    uploads: HashMap<Key, Place>,
    /// Those that are durable, oldest first.
    durable: VecDeque<(Instant, Key)>,
}

type Key = (ProjectId, blake3::Hash);

#[derive(Debug)]
enum Place {
    /// Closed when the upload has come to its end, whatever that is.
    UnderWay(watch::Receiver<()>),
    Durable(Receipt),
}

/// What an upload is.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The first of its kind: to be made durable.
    First(FirstTurn),
    /// A repeat of one that is durable.
    Repeat(Receipt),
}

/// The first upload of its kind. Dropped before it is durable, it gives its place to the next.
#[derive(Debug)]
#[must_use = "repeats wait for it"]
pub(crate) struct FirstTurn {
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

    /// What an upload with this minidump is. Waits for one that is under way.
    pub(crate) async fn turn(&self, project: ProjectId, minidump: blake3::Hash) -> Turn {
        let key = (project, minidump);
        loop {
            let mut under_way = {
                let mut shard = self.shard(&key);
                shard.forget_before(Instant::now().checked_sub(self.0.window));
                match shard.uploads.get(&key) {
                    Some(Place::Durable(receipt)) => return Turn::Repeat(receipt.repeated()),
                    Some(Place::UnderWay(under_way)) => under_way.clone(),
                    None => {
                        let (sender, receiver) = watch::channel(());
                        shard.uploads.insert(key, Place::UnderWay(receiver));
                        return Turn::First(FirstTurn {
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

    fn shard(&self, (_, minidump): &Key) -> MutexGuard<'_, Shard> {
        let shard = usize::from(minidump.as_bytes()[0]) % DEDUPE_SHARDS;
        self.0.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Forgets what became durable before `oldest`, and the oldest of what is too much.
    fn forget_before(&mut self, oldest: Option<Instant>) {
        while let Some((at, key)) = self.durable.front() {
            let is_old = oldest.is_some_and(|oldest| *at <= oldest);
            if !is_old && self.durable.len() < DEDUPE_SHARD_UPLOADS_MAX {
                return;
            }
            self.uploads.remove(key);
            self.durable.pop_front();
        }
    }
}

impl FirstTurn {
    /// It is durable: repeats get its receipt.
    pub(crate) fn keep(mut self, receipt: &Receipt) {
        let mut shard = self.dedupe.shard(&self.key);
        shard
            .uploads
            .insert(self.key, Place::Durable(receipt.repeated()));
        shard.durable.push_back((Instant::now(), self.key));
        drop(shard);
        self.under_way = None;
    }
}

impl Drop for FirstTurn {
    fn drop(&mut self) {
        if self.under_way.is_some() {
            self.dedupe.shard(&self.key).uploads.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::EventId;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn project(number: u64) -> ProjectId {
        ProjectId::new(number).expect("not zero")
    }

    async fn first(dedupe: &Dedupe, number: u64, dump: &[u8]) -> FirstTurn {
        match dedupe.turn(project(number), blake3::hash(dump)).await {
            Turn::First(turn) => turn,
            Turn::Repeat(receipt) => panic!("a repeat of {}", receipt.event_id()),
        }
    }

    async fn repeat(dedupe: &Dedupe, number: u64, dump: &[u8]) -> EventId {
        match dedupe.turn(project(number), blake3::hash(dump)).await {
            Turn::First(_) => panic!("the first one"),
            Turn::Repeat(receipt) => receipt.event_id(),
        }
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
        let uploads = DEDUPE_SHARDS * DEDUPE_SHARD_UPLOADS_MAX + 20_000;
        for number in 0..uploads as u64 {
            let turn = first(&dedupe, 1, &number.to_le_bytes()).await;
            turn.keep(&Receipt::for_tests());
        }
        let remembered = dedupe.0.shards.iter().map(|shard| {
            let shard = shard.lock().expect("nobody panicked");
            assert_eq!(shard.uploads.len(), shard.durable.len());
            shard.uploads.len()
        });
        let remembered: usize = remembered.sum();
        assert!(
            remembered <= DEDUPE_SHARDS * DEDUPE_SHARD_UPLOADS_MAX,
            "{remembered}"
        );
        let last = (uploads as u64 - 1).to_le_bytes();
        repeat(&dedupe, 1, &last).await;
    }
}
