//! The tolerant reader of JSON: a step reads one name, value or sign, and whatever it finds it goes on behind it.

use serde_json::Value;

use super::build::{Builder, Kind};
use super::input::{Input, UTF_8_MARK};
use super::repairs::Fault;
use super::scan::Scanner;
use super::text::{Text, decode};
use super::{Limits, Reading, word};

/// What may stand before a document: `var event =`, a prefix against script inclusion.
const LEAD_BYTES_MAX: usize = 64;
/// A text in the place of a name that is read again, its quote left out, because no colon follows.
const REREAD_BYTES_MAX: usize = 256;
/// How often that is done.
const REREADS_MAX: usize = 1000;

/// What stood before the next token in its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Bracket,
    Value,
    Comma,
}

pub(super) struct Reader<'i, 'p> {
    scan: Scanner<'i, 'p>,
    builder: Builder,
    before: Before,
    rereads: usize,
}

impl<'i, 'p> Reader<'i, 'p> {
    pub(super) fn new(input: &'i mut Input<'p>, limits: Limits) -> Self {
        Self {
            scan: Scanner {
                input,
                text_bytes_max: limits.bytes,
            },
            builder: Builder::new(limits),
            before: Before::Bracket,
            rereads: 0,
        }
    }

    /// Reads to the end of the input.
    pub(super) fn read(mut self) -> Reading {
        if self.scan.input.is_utf_16() {
            self.builder.note_whole(Fault::Utf16);
        }
        if self
            .scan
            .input
            .ahead(UTF_8_MARK.len())
            .starts_with(UTF_8_MARK)
        {
            self.scan.input.pass(UTF_8_MARK.len());
        }
        self.blank();
        self.lead();
        if self.scan.input.peek().is_some() {
            self.value();
        }
        loop {
            let gone = self.builder.make_room();
            if gone > 0 {
                self.scan.skip(gone);
                self.before = Before::Value;
            }
            match self.builder.innermost() {
                Some(Kind::Object) => self.field(),
                Some(Kind::List) => self.element(),
                None if self.goes_on() => {}
                None => return self.builder.finish(),
            }
        }
    }

    /// Leaves out what stands before the first bracket, when that looks like no document.
    fn lead(&mut self) {
        let ahead = self.scan.input.ahead(LEAD_BYTES_MAX + 1);
        let ahead = &ahead[..ahead.len().min(LEAD_BYTES_MAX + 1)];
        let lead = ahead.iter().position(|byte| b"{[\":".contains(byte));
        if let Some(bytes) = lead.filter(|at| *at > 0 && ahead[*at] == b'{') {
            self.scan.input.pass(bytes);
            self.builder.note_whole(Fault::Stray);
        }
    }

    /// Whether a document that has ended goes on: with a comma because a bracket was too many, or with another document.
    fn goes_on(&mut self) -> bool {
        self.blank();
        let (fault, before) = match self.scan.input.peek() {
            None => return false,
            Some(b',') if self.builder.reopen() => (Fault::Bracket, Before::Value),
            Some(b'{') if self.builder.reopen() => {
                self.scan.input.pass(1);
                (Fault::Another, Before::Bracket)
            }
            Some(b'}' | b']') => {
                self.scan.input.pass(1);
                self.builder.note_whole(Fault::Bracket);
                return true;
            }
            Some(_) => {
                self.builder.note_whole(Fault::Trailing);
                return false;
            }
        };
        self.builder.note_whole(fault);
        self.before = before;
        true
    }

    /// One step within an object.
    fn field(&mut self) {
        self.blank();
        match self.scan.input.peek() {
            None => self.cut(),
            Some(b'}') => self.end(),
            Some(b']') => self.odd_bracket(Kind::List),
            Some(b',') => self.comma(),
            Some(quote @ (b'"' | b'\'')) => self.quoted_name(quote),
            Some(b'{' | b'[' | b':') => {
                self.builder.drop_name();
                self.stray();
            }
            Some(_) => self.bare_name(),
        }
    }

    fn quoted_name(&mut self, quote: u8) {
        self.scan.input.pass(1);
        let name = self.scan.quoted(quote, false);
        if !name.is_closed {
            return self.cut();
        }
        self.blank();
        let Some(next) = self.scan.input.peek() else {
            return self.cut();
        };
        // A colon may be missing; a word behind a quote rather says that the quote is too many.
        let has_value = b":0123456789-{[".contains(&next);
        let is_short = name.bytes as usize == name.raw.len() && name.raw.len() <= REREAD_BYTES_MAX;
        if !has_value && is_short && self.rereads < REREADS_MAX {
            // A quote that is too many, as after a text whose own was forgotten: what follows it is read for itself.
            self.rereads += 1;
            self.builder.drop_name();
            self.builder.note(Fault::Stray);
            self.scan
                .input
                .put_back(&[&name.raw[..], &[quote]].concat());
            return;
        }
        let Text { text, faults } = decode(&name.raw);
        self.named(text, faults, quote == b'\'');
    }

    fn bare_name(&mut self) {
        let (word, is_whole) = self.scan.word();
        if word.is_empty() {
            return self.stray();
        }
        self.blank();
        if self.scan.input.peek() == Some(b':') && is_whole {
            let name = String::from_utf8_lossy(&word).into_owned();
            return self.named(name, Vec::new(), true);
        }
        self.builder.drop_name();
        self.builder.note(Fault::Stray);
    }

    /// A name, and the value behind it.
    fn named(&mut self, name: String, faults: Vec<Fault>, has_odd_quotes: bool) {
        self.builder.name(name);
        if self.before == Before::Value {
            self.builder.note(Fault::Separator);
        }
        if has_odd_quotes {
            self.builder.note(Fault::Quotes);
        }
        faults
            .into_iter()
            .for_each(|fault| self.builder.note(fault));
        if self.scan.input.peek() == Some(b':') {
            self.scan.input.pass(1);
        } else {
            self.builder.note(Fault::Separator);
        }
        self.blank();
        match self.scan.input.peek() {
            None => self.cut(),
            Some(b',' | b'}' | b']') => {
                self.builder.note(Fault::NoValue);
                self.builder.drop_name();
                self.before = Before::Value;
            }
            Some(_) => self.value(),
        }
    }

    /// One step within a list.
    fn element(&mut self) {
        self.blank();
        match self.scan.input.peek() {
            None => self.cut(),
            Some(b']') => self.end(),
            Some(b'}') => self.odd_bracket(Kind::Object),
            Some(b',') => self.comma(),
            Some(b':') => self.stray(),
            Some(_) => {
                if self.before == Before::Value {
                    self.builder.note(Fault::Separator);
                }
                self.value();
            }
        }
    }

    fn value(&mut self) {
        match self.scan.input.peek() {
            Some(b'{') => self.begin(Kind::Object),
            Some(b'[') => self.begin(Kind::List),
            Some(quote @ (b'"' | b'\'')) => self.text(quote),
            Some(_) => self.bare_value(),
            None => {}
        }
    }

    fn begin(&mut self, kind: Kind) {
        self.scan.input.pass(1);
        if self.builder.begin(kind) {
            self.before = Before::Bracket;
        } else {
            self.scan.skip(1);
            self.before = Before::Value;
        }
    }

    fn text(&mut self, quote: u8) {
        self.scan.input.pass(1);
        let is_in_list = self.builder.innermost() == Some(Kind::List);
        let quoted = self.scan.quoted(quote, is_in_list);
        if !quoted.is_closed {
            return self.cut();
        }
        let Text { text, faults } = decode(&quoted.raw);
        if quote == b'\'' {
            self.builder.note(Fault::Quotes);
        }
        for fault in faults {
            self.builder.note(fault);
        }
        if quoted.bytes > quoted.raw.len() as u64 {
            self.builder.note_shortened(text.len(), quoted.bytes);
        }
        self.put(Value::String(text));
    }

    fn bare_value(&mut self) {
        let (word, is_whole) = self.scan.word();
        if word.is_empty() {
            return self.stray();
        }
        let (value, mut faults) = word::value(&word);
        let is_literal = matches!(value, Value::Bool(_) | Value::Null);
        if !is_literal && self.builder.innermost().is_some() && self.scan.input.peek().is_none() {
            // More of it may have been meant.
            return self.cut();
        }
        if !is_whole {
            faults.push(Fault::Stray);
        }
        faults
            .into_iter()
            .for_each(|fault| self.builder.note(fault));
        self.put(value);
    }

    fn put(&mut self, value: Value) {
        self.builder.put(value);
        self.before = Before::Value;
    }

    fn end(&mut self) {
        self.scan.input.pass(1);
        if self.before == Before::Comma {
            self.builder.drop_name();
            self.builder.note(Fault::Separator);
        }
        self.builder.end();
        self.before = Before::Value;
    }

    fn comma(&mut self) {
        self.scan.input.pass(1);
        if self.before != Before::Value {
            self.builder.drop_name();
            self.builder.note(Fault::Separator);
        }
        self.before = Before::Comma;
    }

    /// A bracket that closes a container of another kind than the innermost: whatever is open in one that it can close was
    /// not closed; when there is none, it is too many.
    fn odd_bracket(&mut self, closes: Kind) {
        self.builder.drop_name();
        self.builder.note(Fault::Bracket);
        if self.builder.has_open(closes) {
            self.builder.end();
            self.before = Before::Value;
        } else {
            self.scan.input.pass(1);
        }
    }

    fn stray(&mut self) {
        self.scan.input.pass(1);
        self.builder.note(Fault::Stray);
    }

    /// The document ends here. The value that it ends in is not kept: more of it may have been meant.
    fn cut(&mut self) {
        self.builder.note(Fault::Cut);
        self.builder.drop_name();
        while self.builder.innermost().is_some() {
            self.builder.end();
        }
        self.scan.input.rest();
    }

    fn blank(&mut self) {
        let blank = self.scan.blank();
        if blank.has_comment {
            self.builder.note(Fault::Comment);
        }
        if blank.has_nul {
            self.builder.note_whole(Fault::ControlCharacter);
        }
    }
}
