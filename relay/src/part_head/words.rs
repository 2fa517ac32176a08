//! Encoded words of mail (RFC 2047) in the names of parts: `=?UTF-8?B?…?=`. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The text with its encoded words decoded. What cannot be decoded stays as it is.
pub(super) fn decode_words(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut follows_word = false;
    while let Some((before, after)) = rest.split_once("=?") {
        let Some((word, after)) = word(after) else {
            plain.push_str(before);
            plain.push_str("=?");
            rest = after;
            follows_word = false;
            continue;
        };
        // What stands between two words is there only to keep them apart.
        if !(follows_word && before.trim().is_empty()) {
            plain.push_str(before);
        }
        plain.push_str(&word);
        rest = after;
        follows_word = true;
    }
    plain.push_str(rest);
    plain
}

/// The word behind its `=?`, and what follows it.
fn word(text: &str) -> Option<(String, &str)> {
    let (charset, rest) = text.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (encoded, rest) = rest.split_once("?=")?;
    let bytes = match encoding {
        "B" | "b" => STANDARD.decode(encoded).ok()?,
        "Q" | "q" => quoted(encoded),
        _ => return None,
    };
    // A language may stand behind it (RFC 2231).
    let charset = charset.split('*').next().unwrap_or_default();
    Some((decode_charset(charset, &bytes)?, rest))
}

fn quoted(encoded: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
        let coded = (digit(after.first()), digit(after.get(1)));
        rest = after;
        match (first, coded) {
            (b'=', (Some(high), Some(low))) => {
                bytes.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            (b'_', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    bytes
}

/// Text of the character sets that such names come in; `None` for others.
pub(super) fn decode_charset(charset: &str, bytes: &[u8]) -> Option<String> {
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "us-ascii" | "" => Some(String::from_utf8_lossy(bytes).into_owned()),
        "iso-8859-1" | "latin1" | "windows-1252" => {
            Some(bytes.iter().map(|byte| char::from(*byte)).collect())
        }
        _ => None,
    }
}
