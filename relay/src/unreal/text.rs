//! The engine's text files: UTF-8, or UTF-16 when a character asked for it. Pure.

/// How a text is written.
#[derive(Debug, Clone, Copy)]
enum Encoding {
    Utf8,
    Utf16(fn([u8; 2]) -> u16),
}

/// The last `bytes_max` bytes as text, from the start of a line on.
pub(super) fn tail(bytes: &[u8], bytes_max: usize) -> String {
    let (encoding, text) = detect(bytes);
    // Even, so that no character of UTF-16 is cut.
    let start = text.len().saturating_sub(bytes_max).next_multiple_of(2);
    let Some(end) = text.get(start..).filter(|_| start > 0) else {
        return decode(encoding, text);
    };
    let end = decode(encoding, end);
    end.split_once('\n')
        .map(|(_, rest)| rest.to_owned())
        .unwrap_or(end)
}

/// At most so many bytes of a text, cut between characters.
pub(super) fn shortened(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn detect(bytes: &[u8]) -> (Encoding, &[u8]) {
    match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => (Encoding::Utf8, text),
        [0xff, 0xfe, text @ ..] => (Encoding::Utf16(u16::from_le_bytes), text),
        [0xfe, 0xff, text @ ..] => (Encoding::Utf16(u16::from_be_bytes), text),
        text => (Encoding::Utf8, text),
    }
}

fn decode(encoding: Encoding, text: &[u8]) -> String {
    match encoding {
        Encoding::Utf8 => String::from_utf8_lossy(text).into_owned(),
        Encoding::Utf16(unit) => {
            let (units, _) = text.as_chunks();
            char::decode_utf16(units.iter().map(|bytes| unit(*bytes)))
                .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf_16(text: &str) -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [0xff, 0xfe].into_iter().chain(units).collect()
    }

    #[test]
    fn every_encoding_of_the_engine_is_read_whole_and_in_part() {
        for bytes in [
            "größe\nzwei".as_bytes().to_vec(),
            "\u{feff}größe\nzwei".as_bytes().to_vec(),
            utf_16("größe\nzwei"),
        ] {
            assert_eq!(tail(&bytes, 100), "größe\nzwei");
            assert_eq!(tail(&bytes, 10), "zwei");
        }
        let big_endian = [0xfe, 0xff, 0, b'x', 0xd8, 0];
        assert_eq!(tail(&big_endian, 100), "x\u{fffd}");
        assert_eq!(tail(b"", 9), "");
    }
}
