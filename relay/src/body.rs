//! Where an upload's bytes go: into memory while it is small and the shared memory has room, into a spool file
//! otherwise. Append-only; a part of the upload is a run of what was appended.

use bytes::{Bytes, BytesMut};
use shared::content::{Content, Segment};
use shared::limits::{SPILL_BUFFER_BYTES, UPLOAD_MEMORY_BYTES_MAX};
use shared::spool::{Draft, SpoolError};

use crate::budget::{MemoryBudget, MemoryPermit};
use crate::error::Rejection;
use crate::limits::{FIRST_BLOCK_BYTES, FIRST_BLOCK_BYTES_MAX, SPILL_BUFFER_BYTES_MIN};
use crate::places::Party;

/// An upload's bytes while they come in.
#[derive(Debug)]
pub struct Receiver {
    /// The upload's place in the spool; `None` while a write is under way, and when one has failed.
    draft: Option<Draft>,
    permit: MemoryPermit,
    /// Memory for what the caller holds.
    beside: MemoryPermit,
    place: Place,
    /// What was appended last: the block being filled, or what the file does not have yet.
    buffer: BytesMut,
    bytes: u64,
    first_block_bytes: usize,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<Bytes>),
    File {
        /// Offset of the upload's first byte in the draft.
        start: u64,
    },
}

/// A run of an upload's bytes, in its own offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it starts.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
}

/// An upload's bytes, all of them.
#[derive(Debug)]
pub struct Received {
    whole: Vec<Segment>,
    draft: Draft,
    permit: MemoryPermit,
}

impl Receiver {
    /// A receiver of an upload of about `expected_bytes`, when that is known, with a place in the spool.
    #[must_use]
    pub fn new(
        draft: Draft,
        budget: &MemoryBudget,
        party: &Party,
        expected_bytes: Option<u64>,
    ) -> Self {
        let expected = expected_bytes.map_or(FIRST_BLOCK_BYTES as u64, |bytes| bytes.max(1024));
        Self {
            draft: Some(draft),
            permit: budget.permit(party),
            beside: budget.permit(party),
            place: Place::Memory(Vec::new()),
            buffer: BytesMut::new(),
            bytes: 0,
            first_block_bytes: expected.min(FIRST_BLOCK_BYTES_MAX as u64) as usize,
        }
    }

    /// Bytes appended so far: where the next run starts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes shared memory for what the caller holds beside the receiver; false when there is none.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        self.beside.grow(bytes)
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Rejection::Spool`] when they had to go to a file and could not.
    pub async fn append(&mut self, mut piece: &[u8]) -> Result<(), Rejection> {
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            let room = self.buffer.capacity() - self.buffer.len();
            if room == 0 {
                self.make_room().await?;
                continue;
            }
            let (now, later) = piece.split_at(piece.len().min(room));
            self.buffer.extend_from_slice(now);
            piece = later;
        }
        Ok(())
    }

    /// The bytes of a run of what was appended so far; more may follow.
    ///
    /// # Errors
    /// As [`Receiver::append`].
    pub async fn content(&mut self, run: Run) -> Result<Content, Rejection> {
        if matches!(self.place, Place::File { .. }) {
            self.write().await?;
        }
        let draft = self.draft.as_ref().ok_or(Rejection::Stopping)?;
        Ok(match &mut self.place {
            Place::Memory(blocks) => {
                blocks.push(self.buffer.split().freeze());
                let blocks = blocks.iter().cloned().map(Segment::Memory);
                slice(blocks, run)
            }
            Place::File { start } => slice([draft.segment(*start, self.bytes)], run),
        })
    }

    /// Everything was appended.
    ///
    /// # Errors
    /// As [`Receiver::append`].
    pub async fn finish(mut self) -> Result<Received, Rejection> {
        if matches!(self.place, Place::File { .. }) {
            self.write().await?;
        }
        let draft = self.draft.ok_or(Rejection::Stopping)?;
        let whole = match self.place {
            Place::Memory(mut blocks) => {
                blocks.push(self.buffer.freeze());
                blocks.into_iter().map(Segment::Memory).collect()
            }
            Place::File { start } => vec![draft.segment(start, self.bytes)],
        };
        Ok(Received {
            whole,
            draft,
            permit: self.permit.join(self.beside),
        })
    }

    /// Makes the buffer take bytes again: with another block, or by writing what it holds.
    async fn make_room(&mut self) -> Result<(), Rejection> {
        let Place::Memory(blocks) = &mut self.place else {
            return self.write().await;
        };
        let block_bytes = if self.permit.bytes() == 0 {
            self.first_block_bytes
        } else {
            SPILL_BUFFER_BYTES
        };
        // The last block is the buffer of the file that may follow, so it comes on top.
        let fits = self.permit.bytes() <= UPLOAD_MEMORY_BYTES_MAX;
        if fits && self.permit.grow(block_bytes) {
            let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(block_bytes));
            blocks.push(full.freeze());
            return Ok(());
        }
        self.spill().await
    }

    /// Moves everything to a file. From here on only the buffer is memory.
    async fn spill(&mut self) -> Result<(), Rejection> {
        let Place::Memory(blocks) = &mut self.place else {
            return Ok(());
        };
        let mut blocks = std::mem::take(blocks);
        blocks.push(std::mem::take(&mut self.buffer).freeze());
        let mut draft = self.draft.take().ok_or(Rejection::Stopping)?;
        let spilled = blocking(move || {
            let start = draft.append(&[])?;
            for block in &blocks {
                draft.append(block)?;
            }
            Ok((draft, start))
        });
        let (draft, start) = spilled.await?;
        self.draft = Some(draft);
        self.place = Place::File { start };
        self.permit.clear();
        let buffer_bytes = if self.permit.grow(SPILL_BUFFER_BYTES) {
            SPILL_BUFFER_BYTES
        } else {
            SPILL_BUFFER_BYTES_MIN
        };
        self.buffer = BytesMut::with_capacity(buffer_bytes);
        Ok(())
    }

    /// Writes the buffer to the file and empties it.
    async fn write(&mut self) -> Result<(), Rejection> {
        let mut draft = self.draft.take().ok_or(Rejection::Stopping)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = blocking(move || {
            draft.append(&buffer)?;
            buffer.clear();
            Ok((draft, buffer))
        });
        let (draft, buffer) = written.await?;
        self.draft = Some(draft);
        self.buffer = buffer;
        Ok(())
    }
}

/// Runs disk work on the threads for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, Rejection> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Rejection::Spool),
        // The runtime is going down, or the work has panicked, which was told already.
        Err(_) => Err(Rejection::Stopping),
    }
}

impl Received {
    /// The bytes of a run.
    #[must_use]
    pub fn content(&self, run: Run) -> Content {
        slice(self.whole.iter().cloned(), run)
    }

    /// What must stay until the upload is durable: its place in the spool, and its share of the memory.
    #[must_use]
    pub fn into_keep(self) -> (Draft, MemoryPermit) {
        (self.draft, self.permit)
    }
}

/// The run of bytes among all of an upload's segments.
fn slice(whole: impl IntoIterator<Item = Segment>, run: Run) -> Content {
    let end = run.start + run.bytes;
    let mut content = Content::default();
    let mut segment_start = 0;
    for segment in whole {
        let segment_end = segment_start + segment.len();
        let from = run.start.max(segment_start);
        let to = end.min(segment_end);
        if from < to {
            content.push(cut(segment, from - segment_start, to - from));
        }
        segment_start = segment_end;
    }
    content
}

fn cut(segment: Segment, start: u64, length: u64) -> Segment {
    match segment {
        Segment::Memory(block) => {
            Segment::Memory(block.slice(start as usize..(start + length) as usize))
        }
        Segment::File { file, offset, .. } => Segment::File {
            file,
            offset: offset + start,
            bytes: length,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::config::Config;
    use shared::spool::SpoolDirectory;

    use crate::places::{Pool, PoolName};

    use super::*;

    fn spool() -> (tempfile::TempDir, SpoolDirectory) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        config.spool.min_free_bytes = shared::config::ByteSize::bytes(0);
        let spool = SpoolDirectory::open(&config).expect("a spool");
        (dir, spool)
    }

    fn budget(bytes: usize) -> MemoryBudget {
        let pool = Pool::new(PoolName::Memory, bytes as u64);
        MemoryBudget::new(pool, prometheus_client::metrics::gauge::Gauge::default())
    }

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    fn receive(budget: &MemoryBudget, pieces: &[&[u8]]) -> Received {
        let (_dir, spool) = spool();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            let mut receiver = Receiver::new(spool.draft(), budget, &Party::default(), None);
            for piece in pieces {
                receiver.append(piece).await.expect("appended");
            }
            receiver.finish().await.expect("received")
        })
    }

    fn all(received: &Received, start: u64, bytes: usize) -> Vec<u8> {
        let run = Run {
            start,
            bytes: bytes as u64,
        };
        let content = received.content(run);
        content.read(0, bytes).expect("readable").to_vec()
    }

    #[test]
    fn a_small_upload_stays_in_memory_and_gives_it_back() {
        let budget = budget(4 << 20);
        let sent = pattern(1 << 20);
        let received = receive(&budget, &[&sent]);
        assert!(!received.draft.has_file() && budget.free_bytes() < 4 << 20);
        assert_eq!(all(&received, 0, sent.len()), sent);
        drop(received);
        assert_eq!(budget.free_bytes(), 4 << 20);
    }

    #[test]
    fn a_large_upload_goes_to_a_file_and_keeps_little_memory() {
        let budget = budget(4 << 20);
        let sent = pattern(3 << 20);
        let received = receive(&budget, &[&sent[..1000], &sent[1000..]]);
        assert!(received.draft.has_file());
        assert_eq!(budget.free_bytes(), (4 << 20) - SPILL_BUFFER_BYTES as u64);
        assert_eq!(all(&received, 0, sent.len()), sent);
    }

    #[test]
    fn without_shared_memory_everything_goes_to_a_file() {
        let received = receive(&budget(0), &[b"a few ", b"bytes"]);
        assert!(received.draft.has_file());
        assert_eq!(all(&received, 2, 5), b"few b");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_run_is_what_was_appended(
            sizes in prop::collection::vec(0usize..200_000, 0..12),
            memory in prop::sample::select(vec![0usize, 100_000, 10 << 20]),
        ) {
            let sent = pattern(sizes.iter().sum());
            let mut rest = &sent[..];
            let mut pieces = Vec::new();
            for size in sizes {
                let (piece, later) = rest.split_at(size);
                pieces.push(piece);
                rest = later;
            }
            let received = receive(&budget(memory), &pieces);
            let (start, end) = (sent.len() / 3, sent.len() - sent.len() / 5);
            prop_assert_eq!(all(&received, start as u64, end - start), &sent[start..end]);
        }
    }
}
