//! What stands between a JSON text's quotes, and other bytes that are meant as a text, made into one.

use super::repairs::Fault;
use crate::limits::BINARY_SHOWN_BYTES_MAX;

/// A text, and what was wrong with it.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) faults: Vec<Fault>,
}

/// Decodes a JSON text, quotes not included. What no JSON writer would have written is kept as it is.
pub(super) fn decode(raw: &[u8]) -> Text {
    let mut text = Text::default();
    let mut decoded = Vec::with_capacity(raw.len());
    if raw.iter().any(|byte| *byte < 0x20) {
        text.faults.push(Fault::ControlCharacter);
    }
    let is_path = std::cell::LazyCell::new(|| is_windows_path(raw));
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        decoded.extend_from_slice(&rest[..at]);
        let escape = escape(&rest[at..]);
        rest = &rest[at + escape.bytes..];
        decoded.extend_from_slice(escape.char.encode_utf8(&mut [0; 4]).as_bytes());
        let Some(fault) = escape.fault else { continue };
        if fault == Fault::Escape && *is_path {
            // Whoever wrote it escaped no backslash at all.
            decoded = unescaped(raw);
            rest = &[];
            text.faults = vec![fault];
            break;
        }
        text.note(fault);
    }
    decoded.extend_from_slice(rest);
    text.text = text.lossy(decoded);
    text
}

/// Bytes that should be UTF-8.
pub(super) fn from_utf_8(bytes: Vec<u8>) -> Text {
    let mut text = Text::default();
    text.text = text.lossy(bytes);
    text
}

/// Bytes that say nothing of being a text. What has control characters is none, and its beginning is shown in hexadecimal.
pub(super) fn from_binary(bytes: Vec<u8>, bytes_all: u64) -> Text {
    let is_text = |byte: &u8| !byte.is_ascii_control() || b"\t\r\n".contains(byte);
    if bytes.iter().all(is_text) {
        return from_utf_8(bytes);
    }
    let shown = &bytes[..bytes.len().min(BINARY_SHOWN_BYTES_MAX)];
    let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    let is_whole = shown.len() as u64 == bytes_all;
    Text {
        text: format!("{bytes_all} bytes: {hex}"),
        faults: if is_whole {
            Vec::new()
        } else {
            vec![Fault::Binary(bytes_all)]
        },
    }
}

/// Whether a text begins or goes on with a path of Windows whose backslashes are not escaped: `C:\x`, `\\server\x`.
fn is_windows_path(raw: &[u8]) -> bool {
    let is_drive = |window: &[u8]| matches!(window, [drive, b':', b'\\', next] if drive.is_ascii_alphabetic() && *next != b'\\');
    raw.windows(4).any(is_drive) || is_share(raw)
}

/// Whether a path of Windows begins whose first backslashes are not escaped.
pub(super) fn is_share(raw: &[u8]) -> bool {
    matches!(raw, [b'\\', b'\\', next, ..] if next.is_ascii_alphanumeric())
}

/// A text in which backslashes are themselves, but before quotes.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    for (at, byte) in raw.iter().enumerate() {
        if *byte != b'\\' || raw.get(at + 1) != Some(&b'"') {
            text.push(*byte);
        }
    }
    text
}

impl Text {
    fn note(&mut self, fault: Fault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn lossy(&mut self, bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap_or_else(|error| {
            self.note(Fault::NotUtf8);
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    }
}

struct Escape {
    char: char,
    /// How long it is.
    bytes: usize,
    fault: Option<Fault>,
}

/// Reads an escape, whose backslash is there.
fn escape(raw: &[u8]) -> Escape {
    let simple = |char| Escape {
        char,
        bytes: 2,
        fault: None,
    };
    match raw.get(1) {
        Some(b'b') => simple('\u{8}'),
        Some(b'f') => simple('\u{c}'),
        Some(b'n') => simple('\n'),
        Some(b'r') => simple('\r'),
        Some(b't') => simple('\t'),
        Some(same @ (b'"' | b'\\' | b'/')) => simple(char::from(*same)),
        Some(b'\'') => Escape {
            fault: Some(Fault::Quotes),
            ..simple('\'')
        },
        Some(b'u') => unicode(raw),
        // The backslash is kept; what is behind it is read as text.
        Some(_) | None => Escape {
            char: '\\',
            bytes: 1,
            fault: Some(Fault::Escape),
        },
    }
}

fn unicode(raw: &[u8]) -> Escape {
    let Some(unit) = unit(raw) else {
        return Escape {
            char: '\\',
            bytes: 1,
            fault: Some(Fault::Escape),
        };
    };
    let mut pair = [Some(unit), self::unit(&raw[6..])]
        .into_iter()
        .map_while(|unit| unit);
    match char::decode_utf16(&mut pair).next() {
        Some(Ok(char)) => Escape {
            char,
            bytes: 6 * char.len_utf16(),
            fault: None,
        },
        Some(Err(_)) | None => Escape {
            char: char::REPLACEMENT_CHARACTER,
            bytes: 6,
            fault: Some(Fault::Surrogate),
        },
    }
}

/// The unit in `\u0000`.
fn unit(raw: &[u8]) -> Option<u16> {
    let digits = raw.strip_prefix(b"\\u")?.get(..4)?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    u16::from_str_radix(digits, 16).ok()
}
