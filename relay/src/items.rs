//! Sentry's envelopes, parsed from pieces of any size without ever holding an item: a line of JSON about the envelope,
//! then items, each a line of JSON about it and its bytes. Pure: bytes in, steps out.

mod head;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

pub use self::head::{EnvelopeHeader, ItemHead, ItemKind, OtherItem};
use crate::limits::{ENVELOPE_ITEMS_MAX, ENVELOPE_LINE_BYTES_MAX};

/// Why a body is not an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// A line that should be a JSON object is something else.
    #[error("expected {place} to be a line with a JSON object, found {found}")]
    BrokenLine {
        /// Whose line.
        place: Place,
        /// What it is instead. Never the line itself: it may hold a key.
        found: String,
    },
    /// A line does not end.
    #[error(
        "expected {place} to be a line of at most {ENVELOPE_LINE_BYTES_MAX} bytes, found no end of it"
    )]
    LineTooLong {
        /// Whose line.
        place: Place,
    },
    /// An item does not say what it is.
    #[error("expected {place} to have a \"type\" that is a text, found {found}")]
    MissingType {
        /// Which item.
        place: Place,
        /// What is there instead.
        found: &'static str,
    },
    /// An item's length is none.
    #[error("expected {place} to have a \"length\" in bytes, found {found}")]
    BrokenLength {
        /// Which item.
        place: Place,
        /// What is there instead.
        found: String,
    },
    /// An item is longer than it says, or shorter.
    #[error("expected a line end after {place} of {length} bytes, found byte {found:#04x}")]
    WrongLength {
        /// Which item.
        place: Place,
        /// Its length by its head.
        length: u64,
        /// The byte that follows.
        found: u8,
    },
    /// Too many items.
    #[error("expected at most {ENVELOPE_ITEMS_MAX} items, found more")]
    TooManyItems,
    /// The body ends too early.
    #[error("expected {missing} more bytes of {place}, found the end of the body")]
    Cut {
        /// Where.
        place: Place,
        /// Bytes that are missing at least.
        missing: u64,
    },
}

impl ItemsError {
    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BrokenLine { .. }
            | Self::LineTooLong { .. }
            | Self::MissingType { .. }
            | Self::BrokenLength { .. }
            | Self::WrongLength { .. } => "broken_envelope",
            Self::TooManyItems => "too_many_items",
            Self::Cut { .. } => "cut_envelope",
        }
    }
}

/// A part of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its first line.
    Header,
    /// An item, counted from 1.
    Item(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the envelope's header"),
            Self::Item(number) => write!(f, "item {number}"),
        }
    }
}

/// What the parser found next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The envelope's header, always the first.
    Header(EnvelopeHeader),
    /// An item begins.
    Item(ItemHead),
    /// Bytes of it, never empty.
    Content(Bytes),
    /// It has ended.
    ItemEnd,
    /// Everything pushed so far is used up.
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Between,
    Head,
    /// In an item of a stated length, of which `left` bytes are to come.
    Sized {
        left: u64,
        length: u64,
    },
    /// In an item that goes to the end of its line.
    Line,
    /// Behind an item of a stated length.
    After {
        length: u64,
        carriage_return: bool,
    },
}

/// The parser. Push a piece, then take steps until [`Step::More`]; [`Parser::finish`] after the last.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Items begun so far.
    items: u32,
    /// The start of a line that goes on in `input`.
    held: BytesMut,
    input: Bytes,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Header,
            items: 0,
            held: BytesMut::new(),
            input: Bytes::new(),
        }
    }
}

impl Parser {
    /// The next piece of the body. Only after [`Step::More`].
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = piece;
    }

    /// The next step.
    ///
    /// # Errors
    /// [`ItemsError`]; the parser is of no use after it.
    pub fn step(&mut self) -> Result<Step, ItemsError> {
        loop {
            match self.state {
                State::Header | State::Head => {
                    let Some(line) = self.line()? else {
                        return Ok(Step::More);
                    };
                    return self.read_line(&line);
                }
                State::Between => {
                    while let [b'\r' | b'\n', ..] = self.input[..] {
                        self.input.advance(1);
                    }
                    if self.input.is_empty() {
                        return Ok(Step::More);
                    }
                    if self.items >= ENVELOPE_ITEMS_MAX {
                        return Err(ItemsError::TooManyItems);
                    }
                    self.items += 1;
                    self.state = State::Head;
                }
                State::Sized { left: 0, length } => {
                    // Nothing tells an empty item's own line end from that of the line before it.
                    self.state = if length == 0 {
                        State::Between
                    } else {
                        State::After {
                            length,
                            carriage_return: false,
                        }
                    };
                    return Ok(Step::ItemEnd);
                }
                State::Sized { left, length } => {
                    if self.input.is_empty() {
                        return Ok(Step::More);
                    }
                    let bytes = left.min(self.input.len() as u64);
                    self.state = State::Sized {
                        left: left - bytes,
                        length,
                    };
                    return Ok(Step::Content(self.input.split_to(bytes as usize)));
                }
                State::Line => return Ok(self.line_content()),
                State::After { .. } => {
                    if !self.line_end()? {
                        return Ok(Step::More);
                    }
                }
            }
        }
    }

    /// The body has ended; the steps that its end makes, to be taken like any other.
    ///
    /// # Errors
    /// [`ItemsError`] when it ends too early, or in a line that is none.
    pub fn finish(mut self) -> Result<Vec<Step>, ItemsError> {
        let missing = match self.state {
            State::Header if self.held.is_empty() => 2,
            State::Header | State::Head => {
                let line = self.held.split().freeze();
                let step = self.read_line(&line)?;
                let mut steps = self.finish()?;
                steps.insert(0, step);
                return Ok(steps);
            }
            State::Line | State::Sized { left: 0, .. } => return Ok(vec![Step::ItemEnd]),
            State::Between | State::After { .. } => return Ok(Vec::new()),
            State::Sized { left, .. } => left,
        };
        let place = self.place();
        Err(ItemsError::Cut { place, missing })
    }

    fn place(&self) -> Place {
        match self.state {
            State::Header => Place::Header,
            State::Between
            | State::Head
            | State::Sized { .. }
            | State::Line
            | State::After { .. } => Place::Item(self.items),
        }
    }

    /// A whole line, without its end; `None` when more is needed.
    fn line(&mut self) -> Result<Option<Bytes>, ItemsError> {
        let end = memchr(b'\n', &self.input);
        let bytes = end.unwrap_or(self.input.len());
        if self.held.len() + bytes > ENVELOPE_LINE_BYTES_MAX {
            return Err(ItemsError::LineTooLong {
                place: self.place(),
            });
        }
        let piece = self.input.split_to(bytes);
        if end.is_some() && self.held.is_empty() {
            self.input.advance(1);
            return Ok(Some(piece));
        }
        self.held.extend_from_slice(&piece);
        if end.is_none() {
            return Ok(None);
        }
        self.input.advance(1);
        Ok(Some(self.held.split().freeze()))
    }

    fn read_line(&mut self, line: &[u8]) -> Result<Step, ItemsError> {
        let place = self.place();
        let fields = head::fields(line).map_err(|found| ItemsError::BrokenLine { place, found })?;
        Ok(match place {
            Place::Header => {
                self.state = State::Between;
                Step::Header(EnvelopeHeader::read(fields))
            }
            Place::Item(_) => {
                let head = ItemHead::read(fields, place)?;
                self.state = match head.length {
                    Some(length) => State::Sized {
                        left: length,
                        length,
                    },
                    None => State::Line,
                };
                Step::Item(head)
            }
        })
    }

    /// Content of an item up to the end of its line.
    fn line_content(&mut self) -> Step {
        match memchr(b'\n', &self.input) {
            Some(0) => {
                self.input.advance(1);
                self.state = State::Between;
                Step::ItemEnd
            }
            Some(end) => Step::Content(self.input.split_to(end)),
            None if self.input.is_empty() => Step::More,
            None => Step::Content(std::mem::take(&mut self.input)),
        }
    }

    /// The line end behind an item of a stated length; false when more is needed.
    fn line_end(&mut self) -> Result<bool, ItemsError> {
        let State::After {
            length,
            carriage_return,
        } = self.state
        else {
            return Ok(true);
        };
        let Some(found) = self.input.first().copied() else {
            return Ok(false);
        };
        self.state = match found {
            b'\n' => State::Between,
            b'\r' if !carriage_return => State::After {
                length,
                carriage_return: true,
            },
            found => {
                let place = self.place();
                return Err(ItemsError::WrongLength {
                    place,
                    length,
                    found,
                });
            }
        };
        self.input.advance(1);
        Ok(true)
    }
}
