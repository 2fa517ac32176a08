//! Where a chunked body ends, RFC 9112, 7.1: every chunk's size, its data, and the trailers. Pure. As strict as hyper, which
//! reads the same bytes: were it stricter or laxer, the two would not agree where the next request begins.

use super::head::Found;

/// Digits of a size: more would not fit into 64 bits.
const SIZE_DIGITS_MAX: usize = 16;
/// Bytes of extensions and trailers of one body.
const REST_BYTES_MAX: usize = 16 << 10;

/// Why a body is not one in chunks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A size that is no number.
    #[error("expected a chunk's size in hexadecimal digits, found {0}")]
    Size(Found),
    /// Something else than a line end.
    #[error("expected a line end, CR LF, after {0}, found {1}")]
    LineEnd(&'static str, Found),
    /// Extensions or trailers without an end.
    #[error("expected at most {REST_BYTES_MAX} bytes of extensions and trailers, found more")]
    TooMuch,
}

impl ChunkError {
    /// The error of chunks that lies behind another, if one does.
    pub(crate) fn behind(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut source = Some(error);
        while let Some(error) = source {
            let inner = error
                .downcast_ref::<std::io::Error>()
                .and_then(|error| error.get_ref());
            if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<Self>()) {
                return Some(found.clone());
            }
            source = error.source();
        }
        None
    }
}

/// How far a body was read.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    /// Of extensions and trailers.
    rest_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        size: u64,
        digits: usize,
    },
    /// Blanks after a size.
    Blank {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataEnd,
    /// At the begin of a trailer, or of the empty line.
    Trailer,
    TrailerLine,
    TrailerEnd,
    LastEnd,
    Done,
}

impl Chunks {
    /// At the beginning.
    pub(super) fn new() -> Self {
        let state = State::Size { size: 0, digits: 0 };
        Self {
            state,
            rest_bytes: 0,
        }
    }

    /// Whether the body has ended.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on; says how many of the bytes belong to the body.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let now = left.min((bytes.len() - at) as u64);
                at += now as usize;
                self.state = match left - now {
                    0 => State::DataReturn,
                    left => State::Data { left },
                };
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        let found = || Found::new(&[byte]);
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(ChunkError::Size(found()));
                }
                // INVARIANT: the byte is a hexadecimal digit.
                let digit = (byte as char).to_digit(16).expect("a digit");
                State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(ChunkError::Size(found())),
            (State::Size { size, .. } | State::Blank { size }, b' ' | b'\t') => {
                State::Blank { size }
            }
            (State::Size { size, .. } | State::Blank { size }, b';') => State::Extension { size },
            (State::Size { size, .. } | State::Blank { size }, b'\r') => State::SizeEnd { size },
            (State::Size { .. } | State::Blank { .. }, _) => return Err(ChunkError::Size(found())),
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { .. }, b'\n') => {
                return Err(ChunkError::LineEnd("a chunk's extension", found()));
            }
            (State::Extension { size }, _) => {
                self.count_rest()?;
                State::Extension { size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailer,
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer, b'\r') => State::LastEnd,
            (State::TrailerLine, b'\r') => State::TrailerEnd,
            (State::Trailer | State::TrailerLine, _) => {
                self.count_rest()?;
                State::TrailerLine
            }
            (State::TrailerEnd, b'\n') => State::Trailer,
            (State::LastEnd, b'\n') => State::Done,
            (State::SizeEnd { .. }, _) => {
                return Err(ChunkError::LineEnd("a chunk's size", found()));
            }
            (State::DataReturn | State::DataEnd, _) => {
                return Err(ChunkError::LineEnd("a chunk's data", found()));
            }
            (State::TrailerEnd | State::LastEnd, _) => {
                return Err(ChunkError::LineEnd("a trailer", found()));
            }
            (State::Data { .. } | State::Done, _) => self.state,
        })
    }

    fn count_rest(&mut self) -> Result<(), ChunkError> {
        self.rest_bytes += 1;
        if self.rest_bytes > REST_BYTES_MAX {
            return Err(ChunkError::TooMuch);
        }
        Ok(())
    }
}
