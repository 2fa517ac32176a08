//! Tags and references to characters, as far as a crash context has any. Pure.

use crate::limits::UNREAL_NAME_BYTES_MAX;

/// A tag as the engine writes them.
pub(super) struct Tag {
    pub(super) kind: TagKind,
    pub(super) name: String,
    /// How long it is.
    pub(super) bytes: usize,
}

/// Whether it opens an element or closes one.
pub(super) enum TagKind {
    Start,
    End,
    Empty,
}

impl Tag {
    /// Reads a tag as the engine writes them. Anything else is text whose sign was not escaped: `a <b && c> d`.
    pub(super) fn read(ahead: &[u8]) -> Option<Self> {
        let inside = ahead.get(1..)?;
        let end = inside.iter().position(|byte| b"<>".contains(byte))?;
        let inside = (inside[end] == b'>').then(|| &inside[..end])?;
        let bytes = end + 2;
        let (is_end, inside) = match inside.strip_prefix(b"/") {
            Some(inside) => (true, inside),
            None => (false, inside),
        };
        let (is_empty, inside) = match inside.strip_suffix(b"/") {
            Some(inside) if !is_end => (true, inside),
            Some(_) | None => (false, inside),
        };
        let is_in_name =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-:".contains(byte) || *byte >= 0x80;
        let name_bytes = inside
            .iter()
            .position(|byte| !is_in_name(byte))
            .unwrap_or(inside.len());
        let (name, attributes) = inside.split_at(name_bytes);
        let attributes = attributes.trim_ascii();
        let is_tag = attributes.is_empty() || (!is_end && attributes.contains(&b'='));
        if name.is_empty() || name.len() > UNREAL_NAME_BYTES_MAX || !is_tag {
            return None;
        }
        Some(Self {
            kind: match (is_end, is_empty) {
                (true, _) => TagKind::End,
                (false, true) => TagKind::Empty,
                (false, false) => TagKind::Start,
            },
            name: String::from_utf8_lossy(name).into_owned(),
            bytes,
        })
    }
}

/// The character that a reference names, `&` and `;` left out.
pub(super) fn referred(name: &[u8]) -> Option<char> {
    match name {
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"amp" => Some('&'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16),
        [b'#', digits @ ..] => number(digits, 10),
        _ => None,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<char> {
    let digits = std::str::from_utf8(digits).ok()?;
    let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = is_number.then(|| u32::from_str_radix(digits, radix).ok())??;
    char::from_u32(number).filter(|char| *char != '\0')
}
