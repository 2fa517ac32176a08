//! Content as a stream that can be read and searched, for libraries that want one. Blocks on the disk where the content
//! is in files.

use std::io::{self, Read, Seek, SeekFrom};

use crate::content::Content;

/// A position in some content.
#[derive(Debug, Clone)]
pub struct ContentReader {
    content: Content,
    position: u64,
}

impl ContentReader {
    /// At the start.
    #[must_use]
    pub fn new(content: Content) -> Self {
        Self {
            content,
            position: 0,
        }
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.len().saturating_sub(self.position);
        let bytes = left.min(buffer.len() as u64) as usize;
        if bytes == 0 {
            return Ok(0);
        }
        self.content.copy_to(&mut buffer[..bytes], self.position)?;
        self.position += bytes as u64;
        Ok(bytes)
    }
}

impl Seek for ContentReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(bytes) => self.content.len().checked_add_signed(bytes),
            SeekFrom::Current(bytes) => self.position.checked_add_signed(bytes),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::content::Segment;

    #[test]
    fn it_reads_and_seeks_as_a_file_does() {
        let mut content = Content::from(b"memory".to_vec());
        content.push(Segment::Memory(Bytes::from_static(b" and more")));
        let mut reader = ContentReader::new(content);
        let mut all = String::new();
        reader.read_to_string(&mut all).expect("readable");
        assert_eq!(all, "memory and more");
        for (to, position, byte) in [
            (SeekFrom::Start(7), 7, Some(b'a')),
            (SeekFrom::Current(-2), 6, Some(b' ')),
            (SeekFrom::End(-1), 14, Some(b'e')),
            (SeekFrom::End(5), 20, None),
        ] {
            assert_eq!(reader.seek(to).expect("in order"), position);
            let mut byte_read = [0];
            let read = reader.read(&mut byte_read).expect("readable");
            assert_eq!((read == 1).then_some(byte_read[0]), byte, "{to:?}");
        }
        assert!(reader.seek(SeekFrom::End(-16)).is_err());
    }
}
