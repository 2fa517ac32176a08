//! The signs of a JSON document, one by one: texts up to their closing quotes, words, spaces and comments.

use super::input::Input;
use super::text::is_share;
use super::word;

/// A word that is kept; the rest of a longer one is left out.
const WORD_BYTES_MAX: usize = 1 << 10;
/// How far it is looked ahead for what follows a quote.
const LOOK_AHEAD_BYTES: usize = 256;

/// A document, sign by sign.
pub(super) struct Scanner<'i, 'p> {
    pub(super) input: &'i mut Input<'p>,
    /// What is kept of a text.
    pub(super) text_bytes_max: usize,
}

/// A text between quotes.
pub(super) struct Quoted {
    pub(super) raw: Vec<u8>,
    /// How long it was.
    pub(super) bytes: u64,
    pub(super) is_closed: bool,
    /// Whether a path of Windows is in it whose backslashes are not escaped.
    is_path: bool,
}

/// What stood between signs besides spaces.
#[derive(Default)]
pub(super) struct Blank {
    pub(super) has_comment: bool,
    pub(super) has_nul: bool,
}

impl Scanner<'_, '_> {
    /// Skips to behind the end of so many open containers.
    pub(super) fn skip(&mut self, mut open: usize) {
        while open > 0 {
            let rest = self.input.rest();
            let Some(at) = rest.iter().position(|byte| b"\"{}[]".contains(byte)) else {
                let bytes = rest.len();
                if bytes == 0 {
                    return;
                }
                self.input.pass(bytes);
                continue;
            };
            let sign = rest[at];
            self.input.pass(at + 1);
            match sign {
                b'"' => self.skip_text(),
                b'{' | b'[' => open += 1,
                _ => open -= 1,
            }
        }
    }

    fn skip_text(&mut self) {
        loop {
            let rest = self.input.rest();
            let bytes = rest.len();
            let at = memchr::memchr2(b'"', b'\\', rest);
            let is_end = at.is_some_and(|at| rest[at] == b'"');
            self.input.pass(at.map_or(bytes, |at| at + 1));
            if is_end || bytes == 0 {
                return;
            }
            if at.is_some() {
                self.input.next();
            }
        }
    }

    /// Reads up to the closing quote and past it.
    pub(super) fn quoted(&mut self, quote: u8, is_in_list: bool) -> Quoted {
        let mut text = Quoted {
            raw: Vec::new(),
            bytes: 0,
            is_closed: false,
            is_path: false,
        };
        loop {
            let rest = self.input.rest();
            if rest.is_empty() {
                return text;
            }
            let at = memchr::memchr2(quote, b'\\', rest);
            text.push(&rest[..at.unwrap_or(rest.len())], self.text_bytes_max);
            let found = at.map(|at| rest[at]);
            let bytes = at.map_or(rest.len(), |at| at + 1);
            self.input.pass(bytes);
            match found {
                None => {}
                Some(b'\\') => {
                    let next = self.input.peek();
                    text.is_path |= next != Some(b'\\') && text.ends_in_drive();
                    let is_path = text.is_path || is_share(&text.raw);
                    if next == Some(quote) && is_path && self.ends_in_backslash(is_in_list) {
                        text.push(b"\\", self.text_bytes_max);
                        continue;
                    }
                    let escaped = self.input.next();
                    text.push(b"\\", self.text_bytes_max);
                    text.push(escaped.as_slice(), self.text_bytes_max);
                }
                Some(_) => {
                    text.is_closed = true;
                    return text;
                }
            }
        }
    }

    /// Whether the backslash before this quote is the end of a path whose backslashes are not escaped: `"C:\x\"`. It is when
    /// the document goes on behind the quote as it would behind a text.
    fn ends_in_backslash(&mut self, is_in_list: bool) -> bool {
        let ahead = self.input.ahead(LOOK_AHEAD_BYTES);
        let ahead = &ahead[..ahead.len().min(LOOK_AHEAD_BYTES)];
        let behind = ahead[1..].trim_ascii_start();
        match behind.split_first() {
            Some((b',', next)) => {
                let next = next.trim_ascii_start();
                is_quoted(next) || (is_in_list && is_word(next))
            }
            Some((b'}' | b']', rest)) => {
                let is_closing = |byte: &u8| b"}] \t\r\n".contains(byte);
                let closed = rest.iter().position(|byte| !is_closing(byte));
                closed.is_none_or(|at| rest[at] == b',' && rest.get(at + 1) != Some(&b'\\'))
            }
            Some(_) | None => false,
        }
    }

    /// Letters up to the next sign. Past [`WORD_BYTES_MAX`] they are left out, and the word is not whole.
    pub(super) fn word(&mut self) -> (Vec<u8>, bool) {
        let is_sign = |byte: &u8| b"\"{}[]:, \t\r\n\0".contains(byte);
        let mut word = Vec::new();
        let mut is_whole = true;
        loop {
            let rest = self.input.rest();
            let end = rest.iter().position(is_sign);
            let bytes = end.unwrap_or(rest.len());
            let kept = bytes.min(WORD_BYTES_MAX - word.len());
            word.extend_from_slice(&rest[..kept]);
            is_whole &= kept == bytes;
            let is_end = end.is_some() || bytes == 0;
            self.input.pass(bytes);
            if is_end {
                return (word, is_whole);
            }
        }
    }

    /// Passes spaces and comments.
    pub(super) fn blank(&mut self) -> Blank {
        let mut blank = Blank::default();
        loop {
            let rest = self.input.rest();
            let is_blank = |byte: &u8| b" \t\r\n".contains(byte);
            let bytes = rest.iter().position(|byte| !is_blank(byte));
            let found = bytes.map(|at| rest[at]);
            let bytes = bytes.unwrap_or(rest.len());
            let is_end = rest.is_empty();
            self.input.pass(bytes);
            match found {
                Some(b'/' | b'#') if self.comment() => blank.has_comment = true,
                Some(0) => {
                    self.input.pass(1);
                    blank.has_nul = true;
                }
                Some(_) => return blank,
                None if is_end => return blank,
                None => {}
            }
        }
    }

    /// Passes a comment, when there is one.
    fn comment(&mut self) -> bool {
        let end: &[u8] = match self.input.ahead(2) {
            [b'/', b'*', ..] => b"*/",
            [b'/', b'/', ..] | [b'#', ..] => b"\n",
            _ => return false,
        };
        self.input.pass(end.len());
        self.input.pass_through(end, |_| {});
        true
    }
}

impl Quoted {
    fn push(&mut self, bytes: &[u8], bytes_max: usize) {
        self.bytes += bytes.len() as u64;
        let room = bytes_max.saturating_sub(self.raw.len());
        self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn ends_in_drive(&self) -> bool {
        matches!(self.raw.as_slice(), [.., drive, b':'] if drive.is_ascii_alphabetic())
    }
}

/// Whether a quoted name or text begins here, and what belongs behind one follows.
fn is_quoted(text: &[u8]) -> bool {
    let Some(text) = text.strip_prefix(b"\"") else {
        return false;
    };
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        if rest[at] == b'"' {
            let next = rest[at + 1..].trim_ascii_start().first();
            return next.is_some_and(|next| b":,]}".contains(next));
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

/// Whether a number or literal begins here, and what belongs behind one follows.
fn is_word(text: &[u8]) -> bool {
    let end = text.iter().position(|byte| b",]}".contains(byte));
    end.is_some_and(|end| word::value(text[..end].trim_ascii_end()).1.is_empty())
}
