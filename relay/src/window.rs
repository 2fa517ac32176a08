//! How much memory a body's decoder will need, by the body's first bytes. Pure.

use crate::decode::Encoding;
use crate::limits::{
    BROTLI_TABLES_BYTES, ZSTD_TABLES_BYTES, ZSTD_WINDOW_LOG_MAX, ZSTD_WINDOW_LOG_MIN,
};

/// As many first bytes as tell: a zstd frame's header.
pub const TELLING_BYTES: usize = 18;
/// The first bytes of a zstd frame, RFC 8878, 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The widest window of a Brotli stream, RFC 7932, 9.1.
const BROTLI_WINDOW_LOG_MAX: u32 = 24;

/// A decoder's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its width as a power of two; the decoder may be held to it.
    pub log: u32,
    /// The memory that the decoder needs.
    pub memory_bytes: u64,
}

impl Window {
    /// The window of a body that begins with `start`; `None` for encodings whose decoders are small.
    #[must_use]
    pub fn of(encoding: Encoding, start: &[u8]) -> Option<Self> {
        match encoding {
            Encoding::Identity | Encoding::Gzip | Encoding::Deflate => None,
            Encoding::Zstd => {
                let log = zstd_window_log(start).unwrap_or(ZSTD_WINDOW_LOG_MAX);
                let log = log.clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX);
                Some(Self::new(log, ZSTD_TABLES_BYTES))
            }
            Encoding::Brotli => {
                let log = start.first().map(|first| brotli_window_log(*first));
                let log = log.unwrap_or(BROTLI_WINDOW_LOG_MAX);
                Some(Self::new(log, BROTLI_TABLES_BYTES))
            }
        }
    }

    fn new(log: u32, tables_bytes: u64) -> Self {
        Self {
            log,
            memory_bytes: (1 << log) + tables_bytes,
        }
    }
}

/// RFC 8878, 3.1.1.1; `None` when the bytes are no frame's header, or not all of it.
fn zstd_window_log(start: &[u8]) -> Option<u32> {
    let [descriptor, rest @ ..] = start.strip_prefix(&ZSTD_MAGIC)? else {
        return None;
    };
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = rest.first()?;
        let (exponent, mantissa) = (u32::from(window >> 3), window & 7);
        // An eighth more is another power of two.
        return Some(10 + exponent + u32::from(mantissa > 0));
    }
    // The window is as wide as the content.
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let size = rest.get(dictionary_bytes..dictionary_bytes + size_bytes)?;
    let mut bytes = [0; 8];
    bytes[..size_bytes].copy_from_slice(size);
    let size = u64::from_le_bytes(bytes).saturating_add(256);
    Some(u64::BITS - size.leading_zeros())
}

/// RFC 7932, 9.1: a code of one, four or seven bits.
fn brotli_window_log(first: u8) -> u32 {
    if first & 1 == 0 {
        return 16;
    }
    match (u32::from(first >> 1 & 7), u32::from(first >> 4 & 7)) {
        (0, 0) => 17,
        // No window of this standard.
        (0, 1) => BROTLI_WINDOW_LOG_MAX,
        (0, log) => 8 + log,
        (log, _) => 17 + log,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_says_its_window_in_either_form() {
        let frame = |level: i32, bytes: usize, sized: bool| {
            let content = vec![7; bytes];
            if sized {
                return zstd::bulk::compress(&content, level).expect("compressed");
            }
            let mut encoder = zstd::Encoder::new(Vec::new(), level).expect("an encoder");
            std::io::Write::write_all(&mut encoder, &content).expect("compressed");
            encoder.finish().expect("compressed")
        };
        let log = |frame: &[u8]| Window::of(Encoding::Zstd, frame).map(|window| window.log);
        assert_eq!(log(&frame(3, 30_000, true)), Some(ZSTD_WINDOW_LOG_MIN));
        assert_eq!(log(&frame(3, 30_000, false)), Some(21));
        assert_eq!(log(&frame(19, 20_000_000, false)), Some(23));
        assert_eq!(log(&frame(19, 5_000_000, true)), Some(23));
    }

    #[test]
    fn what_does_not_tell_is_taken_for_the_widest() {
        for start in [
            &b""[..],
            b"\x28\xb5\x2f\xfd",
            b"\x28\xb5\x2f\xfd\x20",
            b"\x50\x2a\x4d\x18abcdefgh",
        ] {
            let window = Window::of(Encoding::Zstd, start).expect("a wide encoding");
            assert_eq!(window.log, ZSTD_WINDOW_LOG_MAX);
            assert_eq!(window.memory_bytes, (8 << 20) + ZSTD_TABLES_BYTES);
        }
        let window = Window::of(Encoding::Brotli, b"").expect("a wide encoding");
        assert_eq!(window.log, 24);
        assert_eq!(Window::of(Encoding::Gzip, b"\x1f\x8b"), None);
    }

    #[test]
    fn brotli_says_its_window_in_its_first_bits() {
        // The table of RFC 7932, 9.1.
        for (first, log) in [
            (0b0000_0000, 16),
            (0b0000_0001, 17),
            (0b0000_0011, 18),
            (0b0000_0101, 19),
            (0b0000_1011, 22),
            (0b0000_1111, 24),
            (0b0010_0001, 10),
            (0b0111_0001, 15),
        ] {
            let window = Window::of(Encoding::Brotli, &[first]).expect("a wide encoding");
            assert_eq!(window.log, log, "{first:#010b}");
        }
    }
}
