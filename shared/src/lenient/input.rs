//! Bytes that come in pieces, with a look ahead. What is written in UTF-16 can be read as UTF-8.

use std::io;

use bytes::Bytes;

/// UTF-8's byte order mark.
pub(super) const UTF_8_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

type Pieces<'p> = Box<dyn Iterator<Item = io::Result<Bytes>> + 'p>;

/// A document's bytes. Where they cannot be read any more they end, and [`Input::finish`] says why.
pub struct Input<'p> {
    pieces: Pieces<'p>,
    piece: Bytes,
    at: usize,
    /// Bytes of pieces that were left behind.
    passed: u64,
    utf_16: Option<Utf16>,
    failed: Option<io::Error>,
}

impl<'p> Input<'p> {
    /// Bytes in pieces of any length.
    #[must_use]
    pub fn new(pieces: impl Iterator<Item = io::Result<Bytes>> + 'p) -> Self {
        Self {
            pieces: Box::new(pieces),
            piece: Bytes::new(),
            at: 0,
            passed: 0,
            utf_16: None,
            failed: None,
        }
    }

    /// Why there is no more, when that is not the end.
    ///
    /// # Errors
    /// What the pieces said.
    pub fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Bytes that were read.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed + self.at as u64
    }

    /// The bytes at hand; none at the end only.
    pub fn rest(&mut self) -> &[u8] {
        while self.at == self.piece.len() {
            let Some(next) = self.next_piece() else {
                return &[];
            };
            self.passed += self.piece.len() as u64;
            self.piece = next;
            self.at = 0;
        }
        &self.piece[self.at..]
    }

    /// Leaves bytes behind that [`Input::rest`] or [`Input::ahead`] showed.
    pub fn pass(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.piece.len());
    }

    /// The next byte.
    pub fn peek(&mut self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// The next byte, left behind.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is read by bytes and by words in turn"
    )]
    pub fn next(&mut self) -> Option<u8> {
        let next = self.peek();
        self.pass(usize::from(next.is_some()));
        next
    }

    /// The next bytes, at least so many unless the end comes before.
    pub fn ahead(&mut self, bytes: usize) -> &[u8] {
        while self.piece.len() - self.at < bytes {
            let Some(next) = self.next_piece() else { break };
            self.passed += self.at as u64;
            self.piece = [&self.piece[self.at..], &next[..]].concat().into();
            self.at = 0;
        }
        &self.piece[self.at..]
    }

    /// Leaves everything behind up to `end`, and it; `content` gets what stands before. Without it that is all there is.
    pub fn pass_through(&mut self, end: &[u8], mut content: impl FnMut(&[u8])) {
        loop {
            let ahead = self.ahead(end.len());
            if let Some(at) = memchr::memmem::find(ahead, end) {
                content(&ahead[..at]);
                return self.pass(at + end.len());
            }
            // At the end of what is at hand it may begin.
            let is_last = ahead.len() < end.len();
            let bytes = ahead.len() - if is_last { 0 } else { end.len() - 1 };
            content(&ahead[..bytes]);
            self.pass(bytes);
            if is_last {
                return;
            }
        }
    }

    /// Puts bytes before those that come next.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        if self.at >= len && self.piece[self.at - len..self.at] == *bytes {
            self.at -= len;
            return;
        }
        self.passed = (self.passed + self.at as u64).saturating_sub(len as u64);
        self.piece = [bytes, &self.piece[self.at..]].concat().into();
        self.at = 0;
    }

    /// Whether what comes is UTF-16, by its mark or by its first character, which is ASCII. It is read as UTF-8 from here.
    pub fn decode_utf_16(&mut self) -> bool {
        let utf_16 = match self.ahead(4) {
            [0xff, 0xfe, ..] => Utf16::new(u16::from_le_bytes, true),
            [0xfe, 0xff, ..] => Utf16::new(u16::from_be_bytes, true),
            [b'{' | b'[' | b'<', 0, byte, 0, ..] if *byte != 0 => {
                Utf16::new(u16::from_le_bytes, false)
            }
            [0, b'{' | b'[' | b'<', 0, byte, ..] if *byte != 0 => {
                Utf16::new(u16::from_be_bytes, false)
            }
            _ => return false,
        };
        let mut utf_16 = utf_16;
        self.piece = utf_16.decode(&self.piece.slice(self.at..));
        self.at = 0;
        self.utf_16 = Some(utf_16);
        true
    }

    /// Whether it was.
    pub(super) fn is_utf_16(&self) -> bool {
        self.utf_16.is_some()
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        let next = match self.pieces.next()? {
            Ok(piece) => piece,
            Err(error) => {
                self.failed.get_or_insert(error);
                self.pieces = Box::new(std::iter::empty());
                return None;
            }
        };
        Some(match &mut self.utf_16 {
            Some(utf_16) => utf_16.decode(&next),
            None => next,
        })
    }
}

impl<'p> From<&'p [u8]> for Input<'p> {
    fn from(bytes: &'p [u8]) -> Self {
        const PIECE_BYTES: usize = 64 << 10;
        Self::new(
            bytes
                .chunks(PIECE_BYTES)
                .map(|piece| Ok(Bytes::copy_from_slice(piece))),
        )
    }
}

/// Makes UTF-8 of UTF-16 in pieces that may end anywhere.
struct Utf16 {
    unit: fn([u8; 2]) -> u16,
    has_mark: bool,
    /// The first byte of a unit, and the first unit of a pair.
    byte: Option<u8>,
    high: Option<u16>,
}

impl Utf16 {
    fn new(unit: fn([u8; 2]) -> u16, has_mark: bool) -> Self {
        Self {
            unit,
            has_mark,
            byte: None,
            high: None,
        }
    }

    fn decode(&mut self, bytes: &[u8]) -> Bytes {
        let held: Vec<u8> = self.byte.take().into_iter().collect();
        let bytes = [&held[..], bytes].concat();
        let (units, rest) = bytes.as_chunks();
        self.byte = rest.first().copied();
        let mut units: Vec<u16> = self
            .high
            .take()
            .into_iter()
            .chain(units.iter().map(|unit| (self.unit)(*unit)))
            .collect();
        if let Some(last) = units.last().copied()
            && (0xd800..0xdc00).contains(&last)
        {
            self.high = Some(last);
            units.pop();
        }
        if self.has_mark && !units.is_empty() {
            self.has_mark = false;
            units.remove(0);
        }
        let text: String = char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        text.into()
    }
}
