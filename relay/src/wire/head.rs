//! The head of an HTTP/1 request, read for where its body ends. Two answers to that question are how requests are
//! smuggled, so a head that leaves room for two is refused. Pure.

use std::fmt;
use std::ops::Range;

use memchr::memchr;

use crate::limits::HEAD_BYTES_MAX;

const OLD_VERSION: &[u8] = b"HTTP/1.0";
const NEW_VERSION: &[u8] = b"HTTP/1.1";
const CLOSE: &[u8] = b"Connection: close\r\n";
/// What is shown of what was found.
const SHOWN_CHARS_MAX: usize = 60;

/// Why a request's head is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The first line is none of a request.
    #[error("expected a request line METHOD TARGET HTTP/1.1, found {0}")]
    RequestLine(Found),
    /// A line that is no header.
    #[error("expected a header NAME: VALUE, found {0}")]
    HeaderLine(Found),
    /// A header goes on in the next line.
    #[error("expected each header on one line, found one that goes on: {0}")]
    Folded(Found),
    /// A length that is no number.
    #[error("expected Content-Length: a number of bytes, found {0}")]
    Length(Found),
    /// More than one length, be they equal.
    #[error("expected one Content-Length, found {0} of them")]
    Lengths(usize),
    /// An encoding other than chunks.
    #[error("expected Transfer-Encoding: chunked, found {0}")]
    Encoding(Found),
    /// More than one encoding.
    #[error("expected one Transfer-Encoding, found {0} of them")]
    Encodings(usize),
    /// Both a length and chunks.
    #[error("expected Content-Length or Transfer-Encoding, found both")]
    LengthAndEncoding,
    /// A head without an end.
    #[error("expected a head of at most {HEAD_BYTES_MAX} bytes, found no end of it")]
    TooLong,
}

/// What was found, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found(String);

impl Found {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        Self(text.chars().take(SHOWN_CHARS_MAX).collect())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// How the body's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// It has so many bytes; none, when nothing is said.
    Length(u64),
    /// Its last chunk says so.
    Chunked,
}

/// A head that may pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) framing: Framing,
    /// HTTP/1.0 with chunks, as Crashpad's socket transport sends it: where its version stands.
    pub(super) old_chunked: Option<Range<usize>>,
}

/// Where a head ends that begins `bytes`; `None` when not all of it is there. `seen` bytes were looked at before.
pub(super) fn end(bytes: &[u8], seen: usize) -> Option<usize> {
    // Empty lines may precede a request.
    let begin = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let mut at = seen.saturating_sub(2).max(begin);
    while let Some(line_end) = memchr(b'\n', &bytes[at..]) {
        at += line_end + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            [] | [_, ..] => {}
        }
    }
    None
}

/// Whether bytes can be the beginning of a request at all: other protocols need not be waited for.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    let mut bytes = bytes
        .iter()
        .skip_while(|byte| matches!(byte, b'\r' | b'\n'));
    bytes.next().is_none_or(|first| is_token(&[*first]))
}

/// Reads a whole head, its end included.
pub(super) fn read(head: &[u8]) -> Result<Head, HeadError> {
    let begin = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let begin = begin.unwrap_or(head.len());
    let mut lines = head[begin..].split(|byte| *byte == b'\n').map(trim_line);
    let line = lines.next().unwrap_or_default();
    let is_old = check_request_line(line)?;
    let mut lengths = Vec::new();
    let mut encodings = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = header(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths.push(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings.push(value);
        }
    }
    let framing = match (&lengths[..], &encodings[..]) {
        ([], []) => Framing::Length(0),
        ([length], []) => Framing::Length(number(length)?),
        ([], [encoding]) if encoding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        ([], [encoding]) => return Err(HeadError::Encoding(Found::new(encoding))),
        ([_, ..], [_, ..]) => return Err(HeadError::LengthAndEncoding),
        ([_, _, ..], []) => return Err(HeadError::Lengths(lengths.len())),
        ([], [_, _, ..]) => return Err(HeadError::Encodings(encodings.len())),
    };
    let version_end = begin + line.len();
    let version = version_end - OLD_VERSION.len()..version_end;
    let old_chunked = (is_old && framing == Framing::Chunked).then_some(version);
    Ok(Head {
        framing,
        old_chunked,
    })
}

/// A head of HTTP/1.0 with chunks as one of HTTP/1.1 that ends the connection after the answer: HTTP/1.0 knows no chunks,
/// and this client of no second request.
pub(super) fn renew(head: &mut Vec<u8>, version: Range<usize>) {
    let line_end = version.end + memchr(b'\n', &head[version.end..]).map_or(0, |end| end + 1);
    head.splice(line_end..line_end, CLOSE.iter().copied());
    head[version].copy_from_slice(NEW_VERSION);
}

/// Whether it is one of HTTP/1.0.
fn check_request_line(line: &[u8]) -> Result<bool, HeadError> {
    let refused = || HeadError::RequestLine(Found::new(line));
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(target), Some(version), None) => (method, target, version),
        (_, _, _, _) => return Err(refused()),
    };
    let is_target = !target.is_empty() && !target.iter().any(u8::is_ascii_control);
    match version {
        OLD_VERSION | NEW_VERSION if is_token(method) && is_target => Ok(version == OLD_VERSION),
        _ => Err(refused()),
    }
}

/// A header's name and value.
fn header(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(HeadError::Folded(Found::new(line)));
    }
    let colon = memchr(b':', line).unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    let is_text = value
        .iter()
        .all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    if colon == line.len() || !is_token(name) || !is_text {
        // The name alone: a value may be a key.
        return Err(HeadError::HeaderLine(Found::new(name)));
    }
    Ok((name, value.trim_ascii()))
}

/// Digits and nothing else.
fn number(text: &[u8]) -> Result<u64, HeadError> {
    let digits = Some(text).filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    digits.ok_or_else(|| HeadError::Length(Found::new(text)))
}

/// RFC 9110, 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(byte))
}

fn trim_line(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
