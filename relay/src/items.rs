//! Sentry's envelopes, parsed from pieces of any size without ever holding an item: a line of JSON about the envelope,
//! then items, each a line of JSON about it and its bytes. Pure: bytes in, steps out.
//!
//! Nothing ends the parser. What is damaged in a line is repaired; an item whose length is right, so that a line end and
//! another head or the end follow, is passed unseen. Where they do not, the parser says so ([`Step::Misframed`]), is given
//! the item's bytes once more, and ends the item where the next head stands ([`Parser::rescan`]).

mod head;
mod scan;
#[cfg(test)]
mod tests;
mod tolerant;

use std::collections::VecDeque;
use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

pub use self::head::{EnvelopeHeader, Extent, ItemHead, ItemKind, OtherItem};
use self::scan::Scan;
use crate::limits::{ENVELOPE_ITEMS_MAX, ENVELOPE_LINE_BYTES_MAX};

/// What of a line that is too long is read: so much of its start and of its end.
const LONG_LINE_PART_BYTES: usize = ENVELOPE_LINE_BYTES_MAX / 2;

/// What is wrong with an envelope.
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
    /// A line is too long.
    #[error(
        "expected {place} to begin with a line of at most {ENVELOPE_LINE_BYTES_MAX} bytes, found a longer one"
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
    #[error(
        "expected a line end and another item after {place} of {length} bytes, found byte {found:#04x}"
    )]
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
    /// The item that began last does not end where it should. To be answered with [`Parser::rescan`].
    Misframed(ItemsError),
    /// Everything pushed so far is used up.
    More,
}

/// What an item's head says, when a line that was met among other bytes is one.
pub(crate) fn plain_head(line: &[u8]) -> Option<ItemHead> {
    let line = head::read_plain_head(line)?;
    ItemHead::of_line(line, Place::Item(0)).ok()
}

#[derive(Debug)]
enum State {
    Header,
    /// Where a head is expected.
    Head,
    /// In a line that is too long: its start is held, and this is its end so far.
    LongLine {
        is_header: bool,
        tail: BytesMut,
    },
    /// In an item of a stated length, of which so many bytes are to come.
    Sized(u64),
    /// In an item that goes to the end of its line.
    Line,
    /// In an item that goes to the next head.
    Scan(Scan),
    /// In what follows the last item that is read.
    Rest,
}

/// The item that began last, while it is not known to have ended.
#[derive(Debug, Clone, Copy)]
struct Open {
    extent: Extent,
    /// Whether line ends within it are none of the envelope's, even where its head states no length.
    is_binary: bool,
    /// Whether its head's line ended with a carriage return: then those of the envelope do.
    carriage_returns: bool,
    is_rescanned: bool,
}

/// A line that was gathered.
enum Gathered {
    Whole { line: Bytes, line_end: bool },
    TooLong,
    More,
}

/// The parser. Push a piece, then take steps until [`Step::More`]; after the last piece [`Parser::finish`], and take steps
/// once more.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Items begun so far.
    items: u32,
    open: Option<Open>,
    /// The steps after the one that was taken.
    next: VecDeque<Step>,
    /// Line ends between an open item and the line behind it.
    gap: BytesMut,
    /// The start of a line that goes on in `input`.
    held: BytesMut,
    input: Bytes,
    ended: bool,
    trusts_lengths: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Header,
            items: 0,
            open: None,
            next: VecDeque::new(),
            gap: BytesMut::new(),
            held: BytesMut::new(),
            input: Bytes::new(),
            ended: false,
            trusts_lengths: true,
        }
    }
}

impl Parser {
    /// The next piece of the body. Only after [`Step::More`], or [`Parser::rescan`].
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = piece;
    }

    /// Nothing is left to push.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// Reads the item that is misframed once more: its content is to be pushed from its start, then what this returns, then
    /// what had not been pushed. The item ends where the first head stands that is not among its first `skip` bytes.
    pub fn rescan(&mut self, skip: u64) -> Bytes {
        self.ended = false;
        let is_first = match &mut self.open {
            Some(open) => !std::mem::replace(&mut open.is_rescanned, true),
            None => false,
        };
        self.state = State::Scan(match skip {
            // What came of it so far may be too little to tell that it is a dump.
            0 if is_first => Scan::first(),
            skip => Scan::new(skip),
        });
        std::mem::take(&mut self.input)
    }

    /// Whatever comes belongs to the item that is misframed. Returns what [`Parser::rescan`] does.
    pub fn keep_rest(&mut self) -> Bytes {
        self.ended = false;
        self.state = State::Rest;
        std::mem::take(&mut self.input)
    }

    /// From the next item on, stated lengths count for nothing.
    pub fn distrust_lengths(&mut self) {
        self.trusts_lengths = false;
    }

    /// Whether there was anything of an envelope.
    fn has_begun(&self) -> bool {
        !matches!(self.state, State::Header)
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        if let Some(step) = self.next.pop_front() {
            return step;
        }
        loop {
            let step = match &mut self.state {
                State::Header => self.header(),
                State::Head => self.head(),
                State::LongLine { .. } => self.long_line(),
                State::Sized(0) => {
                    self.state = State::Head;
                    None
                }
                State::Sized(left) => {
                    let left = *left;
                    Some(self.sized(left))
                }
                State::Line => self.line_content(),
                State::Scan(_) => self.scan(),
                State::Rest if self.input.is_empty() => Some(self.end()),
                State::Rest => Some(Step::Content(std::mem::take(&mut self.input))),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Where everything is used up: the end of the open item, when nothing follows.
    fn end(&mut self) -> Step {
        if self.ended && self.open.take().is_some() {
            return Step::ItemEnd;
        }
        Step::More
    }

    fn header(&mut self) -> Option<Step> {
        if self.held.is_empty() {
            // Blank lines, and a byte order mark.
            while let [b'\r' | b'\n' | b' ' | b'\t' | 0xef | 0xbb | 0xbf, ..] = self.input[..] {
                self.input.advance(1);
            }
        }
        match self.gather() {
            Gathered::More => Some(Step::More),
            Gathered::Whole { line, .. } if line.is_empty() => Some(Step::More),
            Gathered::Whole { line, line_end } => Some(self.read_header(&line, line_end)),
            Gathered::TooLong => {
                let begins_well = head::read_line(&self.held).is_ok_and(|line| line.rest == 0);
                self.too_long(begins_well)
            }
        }
    }

    fn read_header(&mut self, line: &Bytes, line_end: bool) -> Step {
        self.state = State::Head;
        let fault = match head::read_line(line) {
            Ok(found) if head::is_head_for_header(&found.fields) => None,
            Ok(found) => {
                self.unread(&line[line.len() - found.rest..], line_end && found.rest > 0);
                let mut header = EnvelopeHeader::read(found.fields);
                let repaired = found.repaired.map(|found| ItemsError::BrokenLine {
                    place: Place::Header,
                    found,
                });
                header
                    .warnings
                    .extend(repaired.map(|error| error.to_string()));
                return Step::Header(header);
            }
            Err(found) => Some(found),
        };
        self.unread(line, line_end);
        let found = fault.unwrap_or_else(|| "an item".to_owned());
        let place = Place::Header;
        Step::Header(EnvelopeHeader::missing(ItemsError::BrokenLine {
            place,
            found,
        }))
    }

    fn head(&mut self) -> Option<Step> {
        if self.held.is_empty() {
            while let [end @ (b'\r' | b'\n'), ..] = self.input[..] {
                self.input.advance(1);
                if self.open.is_some() {
                    self.gap.extend_from_slice(&[end]);
                }
            }
            if self.gap.len() > ENVELOPE_LINE_BYTES_MAX {
                let place = self.next_place();
                return Some(self.misframed(ItemsError::LineTooLong { place }, &[], false));
            }
            if self.input.is_empty() {
                return Some(self.end());
            }
        }
        if self.items >= ENVELOPE_ITEMS_MAX {
            let line = self.held.split().freeze();
            self.unread(&line, false);
            return Some(self.begin_stray(ItemsError::TooManyItems, State::Rest));
        }
        match self.gather() {
            Gathered::More => Some(Step::More),
            Gathered::Whole { line, line_end } => Some(self.read_head(&line, line_end)),
            Gathered::TooLong => {
                let begins_well = head::read_line(&self.held)
                    .is_ok_and(|line| line.rest == 0 && head::has_head_field(&line.fields));
                self.too_long(begins_well)
            }
        }
    }

    /// A whole line, or as much of one as may be held.
    fn gather(&mut self) -> Gathered {
        let end = memchr(b'\n', &self.input);
        let bytes = end.unwrap_or(self.input.len());
        let room = ENVELOPE_LINE_BYTES_MAX - self.held.len();
        if bytes > room {
            let piece = self.input.split_to(room);
            self.held.extend_from_slice(&piece);
            return Gathered::TooLong;
        }
        let piece = self.input.split_to(bytes);
        if end.is_none() && !self.ended {
            self.held.extend_from_slice(&piece);
            return Gathered::More;
        }
        let line_end = end.is_some();
        self.input.advance(usize::from(line_end));
        let line = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        Gathered::Whole { line, line_end }
    }

    /// What is held is the start of a line that is too long: of a head, or of something else.
    fn too_long(&mut self, begins_well: bool) -> Option<Step> {
        if begins_well {
            self.state = State::LongLine {
                is_header: !self.has_begun(),
                tail: self.held.split_off(LONG_LINE_PART_BYTES),
            };
            return None;
        }
        let line = self.held.split().freeze();
        Some(if self.has_begun() {
            self.read_head(&line, false)
        } else {
            self.read_header(&line, false)
        })
    }

    /// Passes over the middle of a line: with its start and its end joined, one text of it is shorter than it was.
    fn long_line(&mut self) -> Option<Step> {
        let end = memchr(b'\n', &self.input);
        let piece = self.input.split_to(end.unwrap_or(self.input.len()));
        let State::LongLine { is_header, tail } = &mut self.state else {
            return None;
        };
        let is_header = *is_header;
        tail.extend_from_slice(&piece);
        tail.advance(tail.len().saturating_sub(LONG_LINE_PART_BYTES));
        if end.is_none() && !self.ended {
            return Some(Step::More);
        }
        self.input.advance(usize::from(end.is_some()));
        self.held.extend_from_slice(tail);
        let line = self.held.split().freeze();
        self.state = State::Head;
        let (place, mut step) = if is_header {
            (Place::Header, self.read_header(&line, end.is_some()))
        } else {
            (self.next_place(), self.read_head(&line, end.is_some()))
        };
        let warnings = match self.next.back_mut().unwrap_or(&mut step) {
            Step::Header(header) => Some(&mut header.warnings),
            Step::Item(head) => Some(&mut head.warnings),
            Step::Content(_) | Step::ItemEnd | Step::Misframed(_) | Step::More => None,
        };
        if let Some(warnings) = warnings {
            warnings.push(ItemsError::LineTooLong { place }.to_string());
        }
        Some(step)
    }

    /// What stands where a head is expected: one, be it damaged, or a sign that the item before it does not end here.
    fn read_head(&mut self, line: &Bytes, line_end: bool) -> Step {
        let place = self.next_place();
        // Where an item ends less surely, what follows has to be a head more surely.
        let (is_separate, takes_any) = match self.open.map(|open| (open.extent, open.is_binary)) {
            Some((Extent::Bytes(0), _) | (Extent::Line, true)) => (true, false),
            Some((Extent::Bytes(_), _)) => {
                let is_separate = self.gap.contains(&b'\n');
                (is_separate, is_separate)
            }
            Some((Extent::Line, false) | (Extent::Unknown, _)) | None => (true, true),
        };
        let broken = match head::read_line(line) {
            Ok(found) if takes_any || head::is_plain(&found) => {
                let rest = found.rest;
                match ItemHead::of_line(found, place) {
                    Ok(mut head) => {
                        if !is_separate {
                            head.warnings
                                .push(format!("no line end stands before {place}"));
                        }
                        self.unread(&line[line.len() - rest..], line_end && rest > 0);
                        return self.begin(head, line.ends_with(b"\r"));
                    }
                    Err(error) => error,
                }
            }
            Ok(_) => self.wrong_length(line),
            Err(_) if !is_separate => self.wrong_length(line),
            Err(found) => ItemsError::BrokenLine { place, found },
        };
        let is_padding = |byte: &u8| matches!(byte, 0 | b' ' | b'\t' | b'\r');
        if self.ended && self.input.is_empty() && line.iter().all(is_padding) {
            return self.end();
        }
        if takes_any && line.starts_with(b"{") {
            if let Some(at) = head::dump_start(line) {
                self.unread(&line[at..], line_end);
            }
            return self.begin_stray(broken, State::Scan(Scan::first()));
        }
        if self.open.is_some() {
            return self.misframed(broken, line, line_end);
        }
        self.unread(line, line_end);
        self.begin_stray(broken, State::Scan(Scan::first()))
    }

    fn wrong_length(&self, line: &[u8]) -> ItemsError {
        let length = match self.open.map(|open| open.extent) {
            Some(Extent::Bytes(length)) => length,
            Some(Extent::Line | Extent::Unknown) | None => 0,
        };
        ItemsError::WrongLength {
            place: Place::Item(self.items),
            length,
            found: line.first().copied().unwrap_or_default(),
        }
    }

    /// The item before has ended, and this is the next.
    fn begin(&mut self, head: ItemHead, carriage_returns: bool) -> Step {
        let extent = match head.extent {
            Extent::Bytes(_) if !self.trusts_lengths => Extent::Unknown,
            extent @ (Extent::Bytes(_) | Extent::Line | Extent::Unknown) => extent,
        };
        let state = match extent {
            Extent::Bytes(bytes) => State::Sized(bytes),
            Extent::Line | Extent::Unknown => State::Scan(Scan::first()),
        };
        let open = Open {
            extent,
            is_binary: head.is_binary(),
            carriage_returns,
            is_rescanned: false,
        };
        self.begin_in(state, open, head)
    }

    /// What follows belongs to no item.
    fn begin_stray(&mut self, error: ItemsError, state: State) -> Step {
        let head = ItemHead::stray(error);
        let open = Open {
            extent: Extent::Unknown,
            is_binary: true,
            carriage_returns: false,
            is_rescanned: false,
        };
        self.begin_in(state, open, head)
    }

    fn begin_in(&mut self, state: State, open: Open, head: ItemHead) -> Step {
        self.gap.clear();
        self.state = state;
        self.items += 1;
        let begin = Step::Item(head);
        if self.open.replace(open).is_none() {
            return begin;
        }
        self.next.push_back(begin);
        Step::ItemEnd
    }

    /// What was read behind the open item is to be read again.
    fn misframed(&mut self, error: ItemsError, line: &[u8], line_end: bool) -> Step {
        self.unread(line, line_end);
        let gap = self.gap.split();
        self.unread(&gap, false);
        Step::Misframed(error)
    }

    /// Puts bytes back before the input.
    fn unread(&mut self, bytes: &[u8], line_end: bool) {
        let line_end: &[u8] = if line_end { b"\n" } else { b"" };
        if !bytes.is_empty() || !line_end.is_empty() {
            self.input = [bytes, line_end, &self.input].concat().into();
        }
    }

    fn next_place(&self) -> Place {
        Place::Item(self.items + 1)
    }

    fn sized(&mut self, left: u64) -> Step {
        if self.input.is_empty() {
            if !self.ended {
                return Step::More;
            }
            let place = Place::Item(self.items);
            return Step::Misframed(ItemsError::Cut {
                place,
                missing: left,
            });
        }
        let bytes = left.min(self.input.len() as u64);
        self.state = State::Sized(left - bytes);
        Step::Content(self.input.split_to(bytes as usize))
    }

    /// Content of an item up to the end of its line, which is one of those before the next head.
    fn line_content(&mut self) -> Option<Step> {
        match memchr(b'\n', &self.input) {
            Some(0) => {
                self.state = State::Head;
                None
            }
            Some(end) => Some(Step::Content(self.input.split_to(end))),
            None if self.input.is_empty() => Some(self.end()),
            None => Some(Step::Content(std::mem::take(&mut self.input))),
        }
    }
}
