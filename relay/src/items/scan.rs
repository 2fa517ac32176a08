//! The search for the next head among an item's bytes, where no length says where it stands.

use bytes::{Buf, Bytes};
use memchr::{memchr, memchr_iter};

use super::head::{self, Line};
use super::{Extent, ItemHead, ItemsError, Parser, Place, State, Step};
use crate::limits::{ENVELOPE_ITEMS_MAX, ENVELOPE_LINE_BYTES_MAX};
use crate::validate::is_minidump_start;

/// What tells a minidump for certain: its magic and its version.
const DUMP_START_BYTES: usize = 8;

/// Where the search is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    /// Bytes in which no head is looked for.
    skip: u64,
    /// At a line's start: its line end, and what came of it, are held.
    in_line: bool,
    /// At the start of an item that is read for the first time.
    is_first: bool,
}

impl Scan {
    /// From the start of an item on, past so many bytes of it.
    pub(super) fn new(skip: u64) -> Self {
        Self {
            skip,
            in_line: skip == 0,
            is_first: false,
        }
    }

    /// From the start of an item on that is read for the first time.
    pub(super) fn first() -> Self {
        Self {
            is_first: true,
            ..Self::new(0)
        }
    }
}

impl Parser {
    /// Content up to the next head, and the head.
    pub(super) fn scan(&mut self) -> Option<Step> {
        let State::Scan(Scan {
            skip,
            in_line,
            is_first,
        }) = self.state
        else {
            return None;
        };
        if is_first {
            return self.scan_first();
        }
        if skip > 0 {
            return Some(self.skipped(skip));
        }
        if in_line {
            return self.scan_line();
        }
        if self.input.is_empty() {
            return Some(self.end());
        }
        let content = match self.line_break() {
            Some(at) => {
                self.set_in_line(true);
                self.input.split_to(at)
            }
            None => std::mem::take(&mut self.input),
        };
        (!content.is_empty()).then_some(Step::Content(content))
    }

    /// A minidump is read to the end of the body, and once more: then its own directory says from where on heads are looked
    /// for.
    fn scan_first(&mut self) -> Option<Step> {
        let is_dump = if self.held.is_empty() && self.input.len() >= DUMP_START_BYTES {
            is_minidump_start(&self.input)
        } else if self.hold_up_to(DUMP_START_BYTES) {
            let start = self.held.split().freeze();
            self.unread(&start, false);
            is_minidump_start(&start)
        } else {
            return Some(Step::More);
        };
        if self.trusts_lengths && is_dump {
            self.state = State::Sized(u64::MAX);
            return None;
        }
        match self.open.map(|open| (open.extent, open.is_rescanned)) {
            Some((Extent::Line, false)) => self.state = State::Line,
            Some((Extent::Line | Extent::Bytes(_) | Extent::Unknown, _)) | None => {
                self.set_in_line(true);
            }
        }
        None
    }

    /// Holds so many bytes, or as many as there are; false while more may come.
    fn hold_up_to(&mut self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.held.len());
        self.hold(missing.min(self.input.len()));
        self.held.len() >= bytes || self.ended
    }

    fn skipped(&mut self, skip: u64) -> Step {
        if self.input.is_empty() {
            if !self.ended {
                return Step::More;
            }
            let place = Place::Item(self.items);
            return Step::Misframed(ItemsError::Cut {
                place,
                missing: skip,
            });
        }
        let bytes = skip.min(self.input.len() as u64);
        self.state = State::Scan(Scan {
            skip: skip - bytes,
            in_line: false,
            is_first: false,
        });
        Step::Content(self.input.split_to(bytes as usize))
    }

    fn set_in_line(&mut self, in_line: bool) {
        self.state = State::Scan(Scan {
            skip: 0,
            in_line,
            is_first: false,
        });
    }

    fn has_carriage_returns(&self) -> bool {
        self.open.is_some_and(|open| open.carriage_returns)
    }

    /// Where a line end stands behind which a head or a dump may begin, be it that the input ends with it.
    fn line_break(&self) -> Option<usize> {
        let input = &self.input[..];
        let returns = self.has_carriage_returns();
        let line_feed = memchr_iter(b'\n', input)
            .find(|at| matches!(input.get(at + 1), None | Some(b'{' | b'M' | b'P')));
        match line_feed {
            Some(at) if returns && input[..at].ends_with(b"\r") => Some(at - 1),
            Some(at) => Some(at),
            None if returns && input.ends_with(b"\r") => Some(input.len() - 1),
            None => None,
        }
    }

    /// The line at whose start the search is: a head, or content.
    fn scan_line(&mut self) -> Option<Step> {
        if self.held.is_empty() && self.has_carriage_returns() && self.input.starts_with(b"\r") {
            self.hold(1);
        }
        if matches!(self.held[..], [] | [b'\r']) && self.input.starts_with(b"\n") {
            self.hold(1);
        }
        let break_bytes = match self.held[..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        let line_bytes = self.held.len() - break_bytes;
        let is_broken = self.held[..break_bytes] != b"\r"[..];
        match self.input.first() {
            // The last line end is the envelope's.
            None if self.ended && line_bytes == 0 && is_broken => {
                self.held.clear();
                return Some(self.end());
            }
            None if !self.ended => return Some(Step::More),
            Some(b'{') if line_bytes == 0 && is_broken => {}
            Some(b'M' | b'P') if line_bytes == 0 && break_bytes > 0 && is_broken => {
                return self.scan_dump(break_bytes);
            }
            Some(_) if line_bytes == 0 => return self.content(),
            Some(_) | None if matches!(self.held[break_bytes..], [b'M' | b'P', ..]) => {
                return self.scan_dump(break_bytes);
            }
            Some(_) | None => {}
        }
        let end = memchr(b'\n', &self.input);
        let bytes = end.unwrap_or(self.input.len());
        if line_bytes + bytes > ENVELOPE_LINE_BYTES_MAX {
            return self.content();
        }
        self.hold(bytes);
        if end.is_none() && !self.ended {
            return Some(Step::More);
        }
        if let Some(line) = head::read_plain_head(&self.held[break_bytes..]) {
            return self.begin_found(line, end.is_some());
        }
        if end.is_some() && self.has_carriage_returns() && self.held.ends_with(b"\r") {
            // It belongs to the line end that follows.
            let carriage_return = self.held.split_off(self.held.len() - 1);
            let content = std::mem::replace(&mut self.held, carriage_return);
            return Some(Step::Content(content.freeze()));
        }
        let dump = head::dump_start(&self.held);
        if let Some(at) = dump.filter(|_| self.items < ENVELOPE_ITEMS_MAX) {
            let dump = self.held.split_off(at).freeze();
            self.unread(&dump, false);
            let item_end = self.begin_dump();
            self.next.push_front(item_end);
            let content = self.held.split().freeze();
            return Some(Step::Content(content));
        }
        self.content()
    }

    /// A dump whose head is lost begins at a line's start; anything else there is content.
    fn scan_dump(&mut self, break_bytes: usize) -> Option<Step> {
        if !self.hold_up_to(break_bytes + DUMP_START_BYTES) {
            return Some(Step::More);
        }
        let start = self.held.split_off(break_bytes).freeze();
        self.unread(&start, false);
        if !is_minidump_start(&start) || self.items >= ENVELOPE_ITEMS_MAX {
            return self.content();
        }
        self.held.clear();
        Some(self.begin_dump())
    }

    /// A dump begins where a head should.
    fn begin_dump(&mut self) -> Step {
        let place = self.next_place();
        let found = "a minidump".to_owned();
        self.begin_stray(
            ItemsError::BrokenLine { place, found },
            State::Scan(Scan::first()),
        )
    }

    fn hold(&mut self, bytes: usize) {
        let piece = self.input.split_to(bytes);
        self.held.extend_from_slice(&piece);
    }

    /// What is held is content.
    fn content(&mut self) -> Option<Step> {
        self.set_in_line(false);
        let held: Bytes = self.held.split().freeze();
        (!held.is_empty()).then_some(Step::Content(held))
    }

    fn begin_found(&mut self, line: Line, line_end: bool) -> Option<Step> {
        let line_break = self.held.len() - self.held.trim_ascii_start().len();
        let text = self.held.split().split_off(line_break).freeze();
        self.input.advance(usize::from(line_end));
        if self.items >= ENVELOPE_ITEMS_MAX {
            self.unread(&text, line_end);
            return Some(self.begin_stray(ItemsError::TooManyItems, State::Rest));
        }
        self.unread(&text[text.len() - line.rest..], line_end && line.rest > 0);
        match ItemHead::of_line(line, self.next_place()) {
            Ok(head) => Some(self.begin(head, text.ends_with(b"\r"))),
            // Not to be had: such a line has a type.
            Err(error) => Some(self.begin_stray(error, State::Scan(Scan::first()))),
        }
    }
}
