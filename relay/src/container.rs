//! Dumps that were compressed before they became a part: known by their first bytes, inflated as they are read.
//!
//! Synchronous: for a thread that may block. Memory is bounded by [`Container::memory_bytes_max`], whatever the input
//! says; how much comes out is not, so the caller counts and stops.

#[cfg(test)]
mod tests;
mod zip;

use std::io::{self, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use shared::content::Content;
use shared::content_reader::ContentReader;

use crate::limits::{
    CONTAINER_READ_BYTES, DEFLATE_MEMORY_BYTES, XZ_MEMORY_BYTES_MAX, ZSTD_WINDOW_LOG_MAX,
};

/// What bzip2 needs at most to decompress: 100 kB for every digit of its level, four times over, and tables.
const BZIP2_MEMORY_BYTES: usize = 4 << 20;
/// What zstd needs beside its window.
const ZSTD_TABLES_BYTES: usize = 1 << 20;

/// Why a compressed dump cannot be read. Errors of reading carry one of these inside their `io::Error`.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The bytes are not what they begin as, or end too early.
    #[error("expected a whole {container} stream, found a broken or cut one: {error}")]
    Broken {
        /// What they begin as.
        container: &'static str,
        /// What the decoder said.
        error: io::Error,
    },
    /// It is well made, and takes too much memory.
    #[error(
        "expected a {container} stream that needs at most {memory_bytes_max} bytes of memory, found: {error}"
    )]
    TooWide {
        /// What it is.
        container: &'static str,
        /// What there is.
        memory_bytes_max: usize,
        /// What the decoder said.
        error: io::Error,
    },
    /// An archive of something other than one file.
    #[error("expected a zip archive of exactly one file, found {found}")]
    NotOneFile {
        /// What there is.
        found: String,
    },
    /// The one file of an archive cannot be had.
    #[error("expected a file stored or deflated in a zip archive, found {found}")]
    Unsupported {
        /// What there is.
        found: String,
    },
    /// Our own disk failed; no fault of the client's.
    #[error("the upload could not be read back: {0}")]
    Unreadable(io::Error),
}

impl ContainerError {
    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Broken { .. }
            | Self::TooWide { .. }
            | Self::NotOneFile { .. }
            | Self::Unsupported { .. } => "broken_container",
            Self::Unreadable(_) => "internal",
        }
    }

    /// Whether the client can do nothing about it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Broken { .. }
            | Self::TooWide { .. }
            | Self::NotOneFile { .. }
            | Self::Unsupported { .. } => false,
            Self::Unreadable(_) => true,
        }
    }
}

/// What a dump is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// RFC 1952
    Gzip,
    /// The `.xz` file format
    Xz,
    /// bzip2
    Bzip2,
    /// RFC 8878
    Zstd,
    /// A zip archive of one file
    Zip,
}

impl Container {
    /// The memory that reading takes at most, beside the content's own.
    #[must_use]
    pub fn memory_bytes_max(self) -> usize {
        CONTAINER_READ_BYTES
            + match self {
                Self::Gzip | Self::Zip => DEFLATE_MEMORY_BYTES,
                Self::Xz => XZ_MEMORY_BYTES_MAX,
                Self::Bzip2 => BZIP2_MEMORY_BYTES,
                Self::Zstd => (1 << ZSTD_WINDOW_LOG_MAX) + ZSTD_TABLES_BYTES,
            }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
            Self::Zip => "zip",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Bzip2 => ".bz2",
            Self::Zstd => ".zst",
            Self::Zip => ".zip",
        }
    }
}

/// What some bytes begin as. Six of them are enough.
#[must_use]
pub fn sniff(start: &[u8]) -> Option<Container> {
    match start {
        [0x1f, 0x8b, ..] => Some(Container::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Container::Xz),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Container::Bzip2),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Container::Zstd),
        // An archive's first file, or the end of one that has none.
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Container::Zip),
        _ => None,
    }
}

/// A file's name without what compression added to it; as it is when nothing else would be left.
#[must_use]
pub fn stem(name: &str, container: Container) -> &str {
    let extension = container.extension();
    let at = name.len().saturating_sub(extension.len());
    match name.split_at_checked(at) {
        Some((stem, end)) if !stem.is_empty() && end.eq_ignore_ascii_case(extension) => stem,
        Some(_) | None => name,
    }
}

/// A reader of what is inside. Its errors carry a [`ContainerError`], which [`cause`] takes out.
///
/// # Errors
/// [`ContainerError`] when that can be told without reading on.
pub fn open(
    container: Container,
    content: Content,
) -> Result<Box<dyn Read + Send>, ContainerError> {
    let inside: Box<dyn Read + Send> = match container {
        Container::Zip => zip::open(content)?,
        Container::Gzip | Container::Xz | Container::Bzip2 | Container::Zstd => {
            decoder(container, buffered(content)).map_err(|error| explained(container, error))?
        }
    };
    Ok(Box::new(Guarded {
        inside: Some(inside),
        container,
    }))
}

/// What a reader of [`open`] means by its error.
#[must_use]
pub fn cause(container: Container, error: io::Error) -> ContainerError {
    error
        .downcast::<ContainerError>()
        .unwrap_or_else(|error| explained(container, error))
}

#[expect(
    clippy::disallowed_methods,
    reason = "windows are bounded here, and `open` has its caller cap what comes out"
)]
fn decoder(container: Container, source: BufReader<Source>) -> io::Result<Box<dyn Read + Send>> {
    Ok(match container {
        Container::Gzip => Box::new(MultiGzDecoder::new(source)),
        Container::Bzip2 => Box::new(MultiBzDecoder::new(source)),
        Container::Xz => {
            let memory_kib = (XZ_MEMORY_BYTES_MAX >> 10) as u32;
            Box::new(XzReader::new_mem_limit(source, true, memory_kib))
        }
        Container::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        // `open` takes archives apart by themselves; their files come here as what they are.
        Container::Zip => Box::new(flate2::bufread::DeflateDecoder::new(source)),
    })
}

fn buffered(content: Content) -> BufReader<Source> {
    let source = Source(ContentReader::new(content));
    BufReader::with_capacity(CONTAINER_READ_BYTES, source)
}

/// The compressed bytes; their errors are told from the decoders' own.
#[derive(Debug)]
struct Source(ContentReader);

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer);
        read.map_err(|error| io::Error::other(ContainerError::Unreadable(error)))
    }
}

/// A reader that says what its errors mean, and is not asked again after one.
struct Guarded {
    inside: Option<Box<dyn Read + Send>>,
    container: Container,
}

impl Read for Guarded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inside) = &mut self.inside else {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(io::Error::other(explained(self.container, error)));
        };
        let read = inside.read(buffer);
        read.map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            // Decoders are in no state to go on.
            self.inside = None;
            io::Error::other(cause(self.container, error))
        })
    }
}

fn explained(container: Container, error: io::Error) -> ContainerError {
    let error = match error.downcast::<ContainerError>() {
        Ok(known) => return known,
        Err(error) => error,
    };
    let name = container.name();
    let too_wide = match container {
        Container::Xz => error.kind() == io::ErrorKind::OutOfMemory,
        // The library has no error kind for it.
        Container::Zstd => error.to_string().contains("too much memory"),
        Container::Gzip | Container::Bzip2 | Container::Zip => false,
    };
    if too_wide {
        ContainerError::TooWide {
            container: name,
            memory_bytes_max: container.memory_bytes_max(),
            error,
        }
    } else {
        ContainerError::Broken {
            container: name,
            error,
        }
    }
}
