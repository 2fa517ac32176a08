//! Reports on their way back to clients: streamed from the storage, so many at once, each at a reader's pace within
//! bounds. What one reader does not take is not read for it.

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use shared::id::PublicKey;
use shared::metrics::Metrics;
use shared::storage::{StorageError, StoredFile};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::activity::{Activity, UnderWay};
use crate::error::Rejection;
use crate::limits::{
    READER_BYTES, READER_PATIENCE, READER_PIECE_BYTES, READER_PIECES_MAX, READER_TIME_MAX,
    READERS_MAX, READERS_MIN, READERS_SHARE_DIVISOR,
};
use crate::shares::{Share, Shares};

/// The places for readers. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Readers(Shares);

/// A reader's place, until its answer is gone.
#[derive(Debug)]
pub(crate) struct Reader {
    _place: Share,
}

/// An answer: `before`, the stored report as it is, `after`.
pub(crate) struct ReportAnswer {
    pub(crate) before: Bytes,
    pub(crate) report: StoredFile,
    pub(crate) after: Bytes,
}

/// What comes of one report on the reader's side.
type Piece = Result<Bytes, Cut>;

/// The rest does not come.
#[derive(Debug, thiserror::Error)]
#[error("the report could not be read to its end")]
struct Cut;

/// Why a report was not handed over to its end.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("the reader takes too little")]
    TooSlow,
    #[error("the reader is gone")]
    Gone,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Readers {
    /// As many as a part of `memory_bytes` has room for.
    pub(crate) fn new(memory_bytes: usize, metrics: &Metrics) -> Self {
        let places = memory_bytes / READERS_SHARE_DIVISOR / READER_BYTES;
        let places = places.clamp(READERS_MIN, READERS_MAX) as u64;
        metrics.report_readers_max.set(places.cast_signed());
        Self(Shares::new(places, metrics.report_readers.clone()))
    }

    /// Memory that they may need together.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.total() as usize * READER_BYTES
    }

    /// A place, when there is one for the key. Nobody waits for one.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`]
    pub(crate) fn enter(&self, key: &PublicKey) -> Result<Reader, Rejection> {
        let place = self.0.take(key, 1).ok_or(Rejection::Overloaded)?;
        Ok(Reader { _place: place })
    }
}

impl ReportAnswer {
    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.report.bytes + (self.before.len() + self.after.len()) as u64
    }

    /// The answer's body. A task of `tasks` fills it; a reader that is too slow loses its connection.
    pub(crate) fn into_body(
        self,
        reader: Reader,
        tasks: &TaskTracker,
        connection: Option<Activity>,
    ) -> Body {
        let (sender, receiver) = mpsc::channel(READER_PIECES_MAX);
        // While it is read the connection is in use, though the answer has begun.
        let under_way = connection.as_ref().map(Activity::begin);
        tasks.spawn(async move {
            let handed = hand_over(self, &sender).await;
            end(handed, &sender, connection, under_way);
        });
        let pieces = stream::unfold((receiver, reader), async |(mut receiver, reader)| {
            let piece: Piece = receiver.recv().await?;
            Some((piece, (receiver, reader)))
        });
        Body::from_stream(pieces)
    }
}

fn end(
    handed: Result<(), Unread>,
    sender: &mpsc::Sender<Piece>,
    connection: Option<Activity>,
    under_way: Option<UnderWay>,
) {
    match handed {
        Ok(()) | Err(Unread::Gone) => {}
        Err(error @ (Unread::TooSlow | Unread::Storage(_))) => {
            tracing::info!(%error, "a report was not read to its end");
            // Its place in the queue is taken when the reader is slow: then the missing end tells.
            drop(sender.try_send(Err(Cut)));
            if let Some(connection) = connection {
                connection.end();
            }
        }
    }
    drop(under_way);
}

async fn hand_over(answer: ReportAnswer, sender: &mpsc::Sender<Piece>) -> Result<(), Unread> {
    let until = Instant::now() + READER_TIME_MAX;
    let ReportAnswer {
        before,
        report,
        after,
    } = answer;
    let ends = |bytes: Bytes| stream::iter([Ok::<_, StorageError>(bytes)]);
    let mut pieces = ends(before).chain(report.pieces).chain(ends(after));
    while let Some(piece) = pieces.next().await {
        let mut piece = piece?;
        while !piece.is_empty() {
            let next = piece.split_to(piece.len().min(READER_PIECE_BYTES));
            let patience = READER_PATIENCE.min(until.saturating_duration_since(Instant::now()));
            match timeout(patience, sender.send(Ok(next))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Unread::Gone),
                Err(_) => return Err(Unread::TooSlow),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> PublicKey {
        text.parse().expect("a key")
    }

    fn answer(pieces: usize) -> ReportAnswer {
        let piece = Bytes::from(vec![b'x'; 100_000]);
        let all = (0..pieces).map(move |_| Ok(piece.clone()));
        ReportAnswer {
            before: Bytes::from_static(b"{\"report\":"),
            report: StoredFile {
                bytes: pieces as u64 * 100_000,
                pieces: stream::iter(all).boxed(),
            },
            after: Bytes::from_static(b"}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_comes_whole_in_small_pieces_to_who_reads_it() {
        let readers = Readers::new(0, &Metrics::default());
        let reader = readers.enter(&key("a")).expect("a place");
        let (tasks, answer) = (TaskTracker::new(), answer(3));
        let bytes = answer.bytes();
        let body = answer.into_body(reader, &tasks, None);
        let mut read = Vec::new();
        let mut frames = body.into_data_stream();
        while let Some(frame) = frames.next().await {
            // A slow link, and fast enough.
            tokio::time::advance(READER_PATIENCE / 8).await;
            let frame = frame.expect("a piece");
            assert!(frame.len() <= READER_PIECE_BYTES);
            read.extend(frame);
        }
        assert_eq!(read.len() as u64, bytes);
        assert!(read.starts_with(b"{\"report\":xx") && read.ends_with(b"x}"));
        drop(frames);
        assert_eq!(readers.0.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_loses_the_connection_and_keeps_little() {
        let readers = Readers::new(0, &Metrics::default());
        let reader = readers.enter(&key("a")).expect("a place");
        let (tasks, connection) = (TaskTracker::new(), Activity::new());
        let body = answer(3).into_body(reader, &tasks, Some(connection.clone()));
        let begun = Instant::now();
        connection.ended().await;
        assert_eq!(begun.elapsed().as_secs(), READER_PATIENCE.as_secs());
        tasks.close();
        tasks.wait().await;
        assert!(connection.idle(Instant::now()).is_some());
        let mut frames = body.into_data_stream();
        let mut left = 0;
        while let Some(Ok(frame)) = frames.next().await {
            left += frame.len();
        }
        assert!(left <= READER_PIECES_MAX * READER_PIECE_BYTES, "{left}");
    }

    #[tokio::test]
    async fn one_key_leaves_places_for_another() {
        let readers = Readers::new(1 << 30, &Metrics::default());
        assert_eq!(readers.memory_bytes(), READERS_MAX * READER_BYTES);
        let enter = |name: &str| readers.enter(&key(name)).ok();
        let greedy: Vec<Reader> = std::iter::from_fn(|| enter("greedy")).collect();
        assert_eq!(greedy.len(), READERS_MAX * 3 / 4);
        assert!(enter("other").is_some());
    }

    #[test]
    fn little_memory_has_few_readers() {
        for memory in [0, 8 << 20, 128 << 20, usize::MAX] {
            let readers = Readers::new(memory, &Metrics::default());
            let places = readers.memory_bytes() / READER_BYTES;
            assert!((READERS_MIN..=READERS_MAX).contains(&places), "{places}");
        }
    }
}
