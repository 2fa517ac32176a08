//! Where chunks wait for their event: in memory up to a budget, then in scratch files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use shared::content::Segment;

/// A scratch file this large is followed by the next; each is freed when nothing in it is needed any more.
const SCRATCH_FILE_BYTES: u64 = 64 << 20;
/// Once there was no room, so much of it must be free again before there is some.
const FREE_SHARE_DIVISOR: u64 = 8;

/// Keeps chunks.
pub(super) struct ChunkStore {
    place: ChunkPlace,
    memory: Arc<AtomicU64>,
    /// The file being written, and its length.
    file: Option<(Arc<File>, u64)>,
    /// Those written before that are still needed, with their lengths.
    full_files: Vec<(Weak<File>, u64)>,
    /// The last chunk that belonged into a file did not get there.
    no_disk: bool,
}

/// Where chunks may be, and how many of their bytes.
#[derive(Debug, Clone)]
pub(crate) struct ChunkPlace {
    /// Where scratch files are made. They have no names, so that none outlives the process.
    pub(crate) dir: PathBuf,
    /// `processor.memory`
    pub(crate) memory_bytes_max: u64,
    /// `processor.scratch`
    pub(crate) scratch_bytes_max: u64,
    /// What must stay free on the volume: `spool.min_free_bytes`
    pub(crate) free_bytes_min: u64,
}

/// How much room there is for chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Room {
    /// Enough.
    #[default]
    Some,
    /// More than there may be is kept: what is not needed to finish an event has to wait.
    Full,
    /// The disk takes nothing, so memory has to: nothing more may come.
    NoDisk,
}

impl ChunkStore {
    /// Keeps chunks in memory first, then in files.
    pub(super) fn new(place: ChunkPlace) -> Self {
        Self {
            place,
            memory: Arc::default(),
            file: None,
            full_files: Vec::new(),
            no_disk: false,
        }
    }

    /// How much room there is, when it was `before`.
    pub(super) fn room(&mut self, before: Room) -> Room {
        let memory = self.memory_bytes();
        if self.no_disk {
            self.no_disk = memory > self.place.memory_bytes_max && self.check_volume().is_err();
        }
        let most = self.place.scratch_bytes_max;
        let enough = match before {
            Room::Some => most,
            Room::Full | Room::NoDisk => most - most / FREE_SHARE_DIVISOR,
        };
        if self.no_disk {
            Room::NoDisk
        } else if self.scratch_bytes() > enough {
            Room::Full
        } else {
            Room::Some
        }
    }

    /// Keeps `payload` until the segment is dropped. Blocks on the disk once memory is full. When the disk fails, memory
    /// goes past its budget: a crash is worth more than a bound.
    pub(super) fn keep(&mut self, payload: Bytes) -> Segment {
        let used = self.memory_bytes();
        if used + payload.len() as u64 > self.place.memory_bytes_max {
            match self.keep_in_file(&payload) {
                Ok(segment) => {
                    self.no_disk = false;
                    return segment;
                }
                Err(error) => {
                    if !self.no_disk {
                        tracing::error!(%error, used, dir = %self.place.dir.display(), "chunks stay in memory: no scratch file");
                    }
                    self.no_disk = true;
                }
            }
        }
        self.memory
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
        let held = Held {
            payload,
            memory: Arc::clone(&self.memory),
        };
        Segment::Memory(Bytes::from_owner(held))
    }

    fn keep_in_file(&mut self, payload: &[u8]) -> io::Result<Segment> {
        let bytes = payload.len() as u64;
        let (file, offset) = self.next_place()?;
        file.write_all_at(payload, offset)?;
        self.file = Some((Arc::clone(&file), offset + bytes));
        Ok(Segment::File {
            file,
            offset,
            bytes,
        })
    }

    /// Whether memory had to take what belonged on the disk.
    pub(super) fn is_without_disk(&self) -> bool {
        self.no_disk
    }

    /// Bytes kept in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Bytes of scratch files that are needed.
    pub(super) fn scratch_bytes(&mut self) -> u64 {
        self.full_files.retain(|(file, _)| file.strong_count() > 0);
        let full: u64 = self.full_files.iter().map(|(_, bytes)| bytes).sum();
        // Only we have it: what was in it is not needed any more.
        let current = self.file.as_ref();
        let needed = current.filter(|(file, _)| Arc::strong_count(file) > 1);
        full + needed.map_or(0, |(_, bytes)| *bytes)
    }

    /// The file that the next chunk goes to, and where in it.
    fn next_place(&mut self) -> io::Result<(Arc<File>, u64)> {
        if let Some((file, end)) = &self.file {
            // Only we have it: what was in it is not needed any more.
            let is_alone = Arc::strong_count(file) == 1;
            if is_alone || *end < SCRATCH_FILE_BYTES {
                return Ok((Arc::clone(file), if is_alone { 0 } else { *end }));
            }
        }
        self.check_volume()?;
        let next = Arc::new(tempfile::tempfile_in(&self.place.dir)?);
        if let Some((file, bytes)) = self.file.take() {
            self.full_files.push((Arc::downgrade(&file), bytes));
        }
        Ok((next, 0))
    }

    /// Whether the volume may take another file.
    fn check_volume(&self) -> io::Result<()> {
        let volume = rustix::fs::statvfs(&self.place.dir)?;
        let (free, least) = (volume.f_bavail * volume.f_frsize, self.place.free_bytes_min);
        if free >= least + SCRATCH_FILE_BYTES {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("expected {least} bytes to stay free (spool.min_free_bytes), found {free}"),
        ))
    }
}

/// Bytes in memory that give their budget back when they go.
struct Held {
    payload: Bytes,
    memory: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory
            .fetch_sub(self.payload.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use shared::content::Content;

    use super::*;

    fn store(memory_bytes_max: u64, scratch_bytes_max: u64) -> (tempfile::TempDir, ChunkStore) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = ChunkStore::new(ChunkPlace {
            dir: dir.path().to_owned(),
            memory_bytes_max,
            scratch_bytes_max,
            free_bytes_min: 0,
        });
        (dir, store)
    }

    #[test]
    fn past_the_budget_chunks_go_to_files_and_memory_comes_back_when_they_are_dropped() {
        let (_dir, mut store) = store(10, 1 << 20);
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

    #[test]
    fn scratch_is_full_past_its_bound_until_a_part_of_it_is_free_again() {
        let piece = Bytes::from(vec![7; 16 << 20]);
        let (_dir, mut store) = store(0, 128 << 20);
        let mut kept = Vec::new();
        while store.room(Room::Some) == Room::Some {
            kept.push(store.keep(piece.clone()));
        }
        assert_eq!(store.scratch_bytes(), 144 << 20);
        kept.truncate(1);
        assert_eq!(store.room(Room::Full), Room::Some);
        assert_eq!(store.scratch_bytes(), 64 << 20, "the first file stays");
        kept.clear();
        assert_eq!(store.scratch_bytes(), 0, "nothing is needed");
        kept.push(store.keep(piece));
        assert_eq!(
            store.scratch_bytes(),
            16 << 20,
            "an unneeded file is used again"
        );
    }

    #[test]
    fn a_volume_that_is_too_full_gets_nothing_and_memory_takes_what_is_at_hand() {
        let (_dir, mut store) = store(1, 1 << 30);
        store.place.free_bytes_min = u64::MAX / 2;
        let kept = [b"ab", b"cd"].map(|piece| store.keep(Bytes::from_static(piece)));
        assert!(
            kept.iter()
                .all(|segment| matches!(segment, Segment::Memory(_)))
        );
        assert_eq!(store.room(Room::Some), Room::NoDisk);
        drop(kept);
        assert_eq!(store.room(Room::NoDisk), Room::Some);
    }
}
