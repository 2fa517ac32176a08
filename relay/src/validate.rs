//! Whether bytes are a minidump, by their header alone. Pure.
//!
//! What is damaged further in is noted and accepted: it is still a crash, and only the processor can tell what of it
//! can be saved.

/// `MDMP` read as a little-endian number would be the signature of the format; on the wire it is these four bytes.
const MAGIC: &[u8; 4] = b"MDMP";
/// The same, written by a big-endian machine.
const MAGIC_BIG_ENDIAN: &[u8; 4] = b"PMDM";
/// Size of `MINIDUMP_HEADER`.
const HEADER_BYTES: u64 = 32;
/// `MINIDUMP_VERSION`; the upper half of the field is the writer's own.
const VERSION: u16 = 0xa793;
/// Size of `MINIDUMP_DIRECTORY`.
const DIRECTORY_ENTRY_BYTES: u64 = 12;
/// The first line of Breakpad's text format for small devices.
const MICRODUMP_MARK: &[u8] = b"-----BEGIN BREAKPAD MICRODUMP-----";

/// Why bytes are not a minidump.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAMinidump {
    /// There are none.
    #[error("expected a minidump, found 0 bytes")]
    Empty,
    /// It begins well and ends inside the header.
    #[error("expected a minidump header of {HEADER_BYTES} bytes, found {found} bytes")]
    ShortHeader {
        /// Bytes there are.
        found: u64,
    },
    /// Breakpad's other format.
    #[error(
        "expected a minidump, found a Breakpad microdump, which is text and carries no memory; configure the client to write minidumps"
    )]
    Microdump,
    /// Something else.
    #[error(
        "expected a minidump, which starts with \"MDMP\" or \"PMDM\", found {bytes} bytes that start with {start:?}"
    )]
    WrongMagic {
        /// Bytes there are.
        bytes: u64,
        /// The first few.
        start: String,
    },
    /// A header of another format version.
    #[error("expected minidump format version {VERSION:#06x}, found {found:#06x}")]
    WrongVersion {
        /// The lower half of the version field.
        found: u16,
    },
}

impl NotAMinidump {
    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty_minidump",
            Self::ShortHeader { .. } => "short_minidump",
            Self::Microdump => "microdump",
            Self::WrongMagic { .. } => "not_a_minidump",
            Self::WrongVersion { .. } => "unknown_minidump_version",
        }
    }
}

/// Whether bytes begin as minidumps do.
#[must_use]
pub fn starts_as_minidump(head: &[u8]) -> bool {
    head.starts_with(MAGIC) || head.starts_with(MAGIC_BIG_ENDIAN)
}

/// Whether the first 8 bytes are a minidump's for certain: its magic and its version.
#[must_use]
pub fn is_minidump_start(head: &[u8]) -> bool {
    let version = match head.first_chunk::<6>() {
        Some([b'M', b'D', b'M', b'P', low, high]) => u16::from_le_bytes([*low, *high]),
        Some([b'P', b'M', b'D', b'M', ..]) => match head.get(6..8) {
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            Some(_) | None => return false,
        },
        Some(_) | None => return false,
    };
    version == VERSION
}

/// Checks the first bytes (at least 32 of them, when there are as many) of a file of `bytes` bytes. What is odd and
/// acceptable is returned as a sentence.
///
/// # Errors
/// [`NotAMinidump`].
pub fn check_minidump(head: &[u8], bytes: u64) -> Result<Option<String>, NotAMinidump> {
    if bytes == 0 {
        return Err(NotAMinidump::Empty);
    }
    if !starts_as_minidump(head) {
        return Err(wrong_magic(head, bytes));
    }
    let Some(header) = head.first_chunk::<{ HEADER_BYTES as usize }>() else {
        return Err(NotAMinidump::ShortHeader { found: bytes });
    };
    let big_endian = header.starts_with(MAGIC_BIG_ENDIAN);
    let number = |at: usize| {
        let field = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        if big_endian {
            u32::from_be_bytes(field)
        } else {
            u32::from_le_bytes(field)
        }
    };
    let found = (number(4) & 0xffff) as u16;
    if found != VERSION {
        return Err(NotAMinidump::WrongVersion { found });
    }
    Ok(directory_warning(number(8), number(12), bytes))
}

fn wrong_magic(head: &[u8], bytes: u64) -> NotAMinidump {
    if memchr::memmem::find(head, MICRODUMP_MARK).is_some() {
        return NotAMinidump::Microdump;
    }
    let start = &head[..head.len().min(16)];
    NotAMinidump::WrongMagic {
        bytes,
        start: start.escape_ascii().to_string(),
    }
}

fn directory_warning(streams: u32, directory: u32, bytes: u64) -> Option<String> {
    let directory = u64::from(directory);
    let end = directory + u64::from(streams) * DIRECTORY_ENTRY_BYTES;
    if streams == 0 {
        Some("the minidump's stream directory is empty".into())
    } else if directory < HEADER_BYTES || end > bytes {
        Some(format!(
            "the minidump's stream directory lies at {directory}..{end}, outside of its {bytes} bytes"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(streams: u32, directory: u32) -> Vec<u8> {
        let mut header = b"MDMP\x93\xa7\x01\x02".to_vec();
        header.extend(streams.to_le_bytes());
        header.extend(directory.to_le_bytes());
        header.resize(32, 0);
        header
    }

    #[test]
    fn a_sound_header_passes_and_a_bad_directory_is_noted() {
        assert_eq!(check_minidump(&header(2, 32), 56), Ok(None));
        for (streams, directory) in [(2, 33), (0, 32), (1, 0), (u32::MAX, u32::MAX)] {
            let warning = check_minidump(&header(streams, directory), 56).expect("accepted");
            assert!(warning.expect("noted").contains("directory"));
        }
    }

    #[test]
    fn a_big_endian_header_is_read_as_one() {
        let mut header = b"PMDM\x00\x00\xa7\x93\x00\x00\x00\x01\x00\x00\x00\x20".to_vec();
        header.resize(44, 0);
        assert_eq!(check_minidump(&header, 44), Ok(None));
        header[..8].copy_from_slice(b"PMDM\x93\xa7\x00\x00");
        assert_eq!(
            check_minidump(&header, 44),
            Err(NotAMinidump::WrongVersion { found: 0 })
        );
    }

    #[test]
    fn what_is_no_minidump_is_told_apart() {
        let microdump = b"W/google-breakpad: -----BEGIN BREAKPAD MICRODUMP-----\nV WebView";
        for (bytes, reason) in [
            (&b""[..], "empty_minidump"),
            (b"MDMP", "short_minidump"),
            (&header(1, 32)[..31], "short_minidump"),
            (microdump, "microdump"),
            (b"just some text\n", "not_a_minidump"),
            (b"MDM", "not_a_minidump"),
            (
                b"MDMP\x94\xa7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                "unknown_minidump_version",
            ),
        ] {
            let error = check_minidump(bytes, bytes.len() as u64).expect_err(reason);
            assert_eq!(error.reason(), reason);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(head: Vec<u8>, bytes in 0..u64::MAX) {
            drop(check_minidump(&head, bytes));
        }

        #[test]
        fn no_header_fields_make_it_panic(tail in prop::collection::vec(any::<u8>(), 28)) {
            let head = [&b"MDMP"[..], &tail].concat();
            drop(check_minidump(&head, 32));
        }
    }
}
