//! Where chunks wait for their event: in memory up to a budget, then in scratch files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shared::content::Segment;

/// A scratch file this large is followed by the next; each is freed when nothing in it is needed any more.
const SCRATCH_FILE_BYTES: u64 = 64 << 20;

/// Keeps chunks.
pub(super) struct ChunkStore {
    dir: PathBuf,
    memory: Arc<Memory>,
    file: Option<(Arc<File>, u64)>,
}

struct Memory {
    used: AtomicU64,
    bytes_max: u64,
}

impl ChunkStore {
    /// Keeps up to `memory_bytes_max` bytes in memory, the rest in unnamed files in `dir`.
    pub(super) fn new(dir: PathBuf, memory_bytes_max: u64) -> Self {
        let memory = Memory {
            used: AtomicU64::new(0),
            bytes_max: memory_bytes_max,
        };
        Self {
            dir,
            memory: Arc::new(memory),
            file: None,
        }
    }

    /// Keeps `payload` until the segment is dropped. Blocks on the disk once memory is full. When the disk fails, memory
    /// goes past its budget: a crash is worth more than a bound.
    pub(super) fn keep(&mut self, payload: Bytes) -> Segment {
        let used = self.memory_bytes();
        if used + payload.len() as u64 > self.memory.bytes_max {
            match self.keep_in_file(&payload) {
                Ok(segment) => return segment,
                Err(error) => {
                    tracing::error!(%error, used, dir = %self.dir.display(), "a chunk stays in memory: no scratch file");
                }
            }
        }
        self.memory
            .used
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
        let held = Held {
            payload,
            memory: Arc::clone(&self.memory),
        };
        Segment::Memory(Bytes::from_owner(held))
    }

    fn keep_in_file(&mut self, payload: &[u8]) -> io::Result<Segment> {
        let bytes = payload.len() as u64;
        let (file, offset) = self.place()?;
        file.write_all_at(payload, offset)?;
        self.file = Some((Arc::clone(&file), offset + bytes));
        Ok(Segment::File {
            file,
            offset,
            bytes,
        })
    }

    /// Bytes kept in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory.used.load(Ordering::Relaxed)
    }

    fn place(&self) -> io::Result<(Arc<File>, u64)> {
        match &self.file {
            Some((file, end)) if *end < SCRATCH_FILE_BYTES => Ok((Arc::clone(file), *end)),
            Some(_) | None => Ok((Arc::new(tempfile::tempfile_in(&self.dir)?), 0)),
        }
    }
}

/// Bytes in memory that give their budget back when they go.
struct Held {
    payload: Bytes,
    memory: Arc<Memory>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory
            .used
            .fetch_sub(self.payload.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use shared::content::Content;

    use super::*;

    #[test]
    fn past_the_budget_chunks_go_to_files_and_memory_comes_back_when_they_are_dropped() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut store = ChunkStore::new(dir.path().to_owned(), 10);
        let first = store.keep(Bytes::from_static(b"12345678"));
        assert_eq!(store.memory_bytes(), 8);
        let second = store.keep(Bytes::from_static(b"abcdef"));
        let third = store.keep(Bytes::from_static(b"ghi"));
        assert!(matches!(
            (&first, &second),
            (Segment::Memory(_), Segment::File { .. })
        ));
        let mut content = Content::default();
        for segment in [first, second, third] {
            content.push(segment);
        }
        assert_eq!(
            &content.read(0, 17).expect("readable")[..],
            b"12345678abcdefghi"
        );
        drop(content);
        assert_eq!(store.memory_bytes(), 0);
        assert!(matches!(
            store.keep(Bytes::from_static(b"x")),
            Segment::Memory(_)
        ));
    }
}
