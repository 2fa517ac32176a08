//! The bytes of an attachment, wherever they are: in memory, in a spool file, in a scratch file, or some of each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// An ordered list of segments that together are one attachment. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct Content {
    segments: Vec<Segment>,
    bytes: u64,
}

/// A run of bytes in one place.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes held in memory.
    Memory(Bytes),
    /// `bytes` bytes of `file` from `offset` on; the file lives as long as a segment of it does.
    File {
        /// The open file; it may have been unlinked already.
        file: Arc<File>,
        /// Where the run starts.
        offset: u64,
        /// How long it is.
        bytes: u64,
    },
}

impl Segment {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { bytes, .. } => *bytes,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A run within it.
    fn slice(&self, start: u64, length: u64) -> Self {
        match self {
            Self::Memory(all) => Self::Memory(all.slice(start as usize..(start + length) as usize)),
            Self::File { file, offset, .. } => Self::File {
                file: Arc::clone(file),
                offset: offset + start,
                bytes: length,
            },
        }
    }

    fn read(&self, start: u64, bytes: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory(all) => {
                let start = start as usize;
                Ok(all.slice(start..start + bytes))
            }
            Self::File { file, offset, .. } => {
                let mut buffer = BytesMut::zeroed(bytes);
                file.read_exact_at(&mut buffer, offset + start)?;
                Ok(buffer.freeze())
            }
        }
    }
}

impl Content {
    /// Adds a run at the end.
    pub fn push(&mut self, segment: Segment) {
        if !segment.is_empty() {
            self.bytes += segment.len();
            self.segments.push(segment);
        }
    }

    /// Its segments, in order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether reading it never touches a disk.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.segments
            .iter()
            .all(|segment| matches!(segment, Segment::Memory(_)))
    }

    /// The `bytes` bytes from `start` on. Shares memory when they lie in one memory segment; blocks on the disk when
    /// they lie in a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] past the end, or what the file system said.
    pub fn read(&self, start: u64, bytes: usize) -> io::Result<Bytes> {
        let mut pieces = Vec::new();
        self.each_run(start, bytes, |segment, from, bytes| {
            pieces.push(segment.read(from, bytes)?);
            Ok(())
        })?;
        Ok(match pieces.len() {
            0 => Bytes::new(),
            1 => pieces.swap_remove(0),
            _ => pieces.concat().into(),
        })
    }

    /// Appends the `bytes` bytes from `start` on to `target`: one copy, straight from where they are.
    ///
    /// # Errors
    /// As [`Content::read`]; `target` may then have grown.
    pub fn append_to(&self, target: &mut Vec<u8>, start: u64, bytes: usize) -> io::Result<()> {
        self.each_run(start, bytes, |segment, from, bytes| match segment {
            Segment::Memory(all) => {
                target.extend_from_slice(&all[from as usize..from as usize + bytes]);
                Ok(())
            }
            Segment::File { file, offset, .. } => {
                let filled = target.len();
                target.resize(filled + bytes, 0);
                file.read_exact_at(&mut target[filled..], offset + from)
            }
        })
    }

    /// Copies bytes from `start` on into the whole of `target`: once, straight from where they are.
    ///
    /// # Errors
    /// As [`Content::read`]; `target` may then have changed.
    pub fn copy_to(&self, mut target: &mut [u8], start: u64) -> io::Result<()> {
        self.each_run(start, target.len(), |segment, from, bytes| {
            let (now, later) = std::mem::take(&mut target).split_at_mut(bytes);
            target = later;
            match segment {
                Segment::Memory(all) => {
                    now.copy_from_slice(&all[from as usize..from as usize + bytes]);
                    Ok(())
                }
                Segment::File { file, offset, .. } => file.read_exact_at(now, offset + from),
            }
        })
    }

    /// The `bytes` bytes from `start` on as content of its own, which shares them; `None` when they lie past the end.
    #[must_use]
    pub fn slice(&self, start: u64, bytes: u64) -> Option<Self> {
        let end = start.checked_add(bytes).filter(|end| *end <= self.bytes)?;
        let mut slice = Self::default();
        let mut segment_start = 0;
        for segment in &self.segments {
            let segment_end = segment_start + segment.len();
            let (from, to) = (start.max(segment_start), end.min(segment_end));
            if from < to {
                slice.push(segment.slice(from - segment_start, to - from));
            }
            segment_start = segment_end;
        }
        Some(slice)
    }

    /// Calls `visit` with each segment that holds part of the range, the start within it and the length of the part.
    fn each_run(
        &self,
        start: u64,
        bytes: usize,
        mut visit: impl FnMut(&Segment, u64, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = start
            .checked_add(bytes as u64)
            .filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let mut segment_start = 0;
        for segment in &self.segments {
            let segment_end = segment_start + segment.len();
            if segment_end > start && segment_start < end {
                let from = start.max(segment_start);
                let to = end.min(segment_end);
                visit(segment, from - segment_start, (to - from) as usize)?;
            }
            segment_start = segment_end;
        }
        Ok(())
    }

    /// The whole content in order, in pieces of at most `piece_bytes`; blocks on the disk where segments are in files.
    pub fn pieces(&self, piece_bytes: usize) -> impl Iterator<Item = io::Result<Bytes>> + '_ {
        self.segments.iter().flat_map(move |segment| {
            let starts = (0..segment.len()).step_by(piece_bytes.max(1));
            starts.map(move |start| {
                let left = segment.len() - start;
                segment.read(start, left.min(piece_bytes as u64) as usize)
            })
        })
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        let mut content = Self::default();
        content.push(Segment::Memory(bytes));
        content
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn mixed() -> Content {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(b"..in the file..").expect("write");
        let mut content = Content::from(Bytes::from_static(b"memory "));
        content.push(Segment::File {
            file: Arc::new(file),
            offset: 2,
            bytes: 11,
        });
        content.push(Segment::Memory(Bytes::from_static(b" again")));
        content
    }

    #[test]
    fn any_range_reads_as_if_it_were_one_run() {
        let content = mixed();
        let whole = b"memory in the file again";
        assert_eq!(content.len(), whole.len() as u64);
        for start in 0..=whole.len() {
            for end in start..=whole.len() {
                let read = content
                    .read(start as u64, end - start)
                    .expect("within bounds");
                assert_eq!(&read[..], &whole[start..end]);
                let mut appended = b"> ".to_vec();
                content
                    .append_to(&mut appended, start as u64, end - start)
                    .expect("within bounds");
                assert_eq!(&appended[2..], &whole[start..end]);
                let mut copied = vec![0; end - start];
                content
                    .copy_to(&mut copied, start as u64)
                    .expect("within bounds");
                assert_eq!(copied, &whole[start..end]);
                let slice = content.slice(start as u64, (end - start) as u64);
                let slice = slice.expect("within bounds");
                assert_eq!(slice.len(), (end - start) as u64);
                let read = slice.read(0, end - start).expect("within bounds");
                assert_eq!(&read[..], &whole[start..end]);
            }
        }
        assert!(content.read(20, 5).is_err());
        assert!(content.read(u64::MAX, 2).is_err());
        assert!(content.copy_to(&mut [0; 5], 20).is_err());
        assert!(content.slice(20, 5).is_none() && content.slice(2, u64::MAX).is_none());
    }

    #[test]
    fn pieces_are_the_whole_in_order() {
        for piece_bytes in [1, 3, 100] {
            let pieces: io::Result<Vec<Bytes>> = mixed().pieces(piece_bytes).collect();
            assert_eq!(
                pieces.expect("readable").concat(),
                b"memory in the file again"
            );
        }
    }
}
