//! The bytes of event data, or what was read of them already because they are too many to be held.

use bytes::Bytes;
use shared::content::Content;
use shared::lenient::{self, Input, Limits, Reading};

use crate::limits::EVENT_DATA_PIECE_BYTES;

/// How event data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// One JSON object.
    Json,
    /// One msgpack map.
    Msgpack,
    /// Breadcrumbs in msgpack, one after another.
    Breadcrumbs,
}

/// Event data.
#[derive(Clone, Debug)]
pub enum Data {
    /// All of it.
    Bytes(Bytes),
    /// What was kept of more.
    Read(Reading),
}

/// The name under which [`Notation::Breadcrumbs`] are read.
pub(super) const BREADCRUMBS: &str = "breadcrumbs";

impl Notation {
    /// Reads what is held.
    fn read(self, bytes: &[u8], limits: Limits) -> Reading {
        match self {
            // The strict reader comes first.
            Self::Json => lenient::json(bytes, limits),
            Self::Msgpack | Self::Breadcrumbs => self.read_stream(&mut Input::from(bytes), limits),
        }
    }

    fn read_stream(self, input: &mut Input<'_>, limits: Limits) -> Reading {
        match self {
            Self::Json => lenient::json_stream(input, limits),
            Self::Msgpack => lenient::msgpack(input, limits),
            Self::Breadcrumbs => lenient::msgpack_list(input, BREADCRUMBS, limits),
        }
    }
}

impl Data {
    /// Reads a file in a stream. Holds about twice what [`Limits`] says, however long the file is; blocks on the disk.
    ///
    /// # Errors
    /// What the file system said.
    pub fn read_stream(notation: Notation, content: &Content) -> std::io::Result<Self> {
        let mut input = Input::new(content.pieces(EVENT_DATA_PIECE_BYTES));
        let reading = notation.read_stream(&mut input, Limits::default());
        input.finish().map(|()| Self::Read(reading))
    }

    /// What it says. Each value takes one of `values_left`.
    pub(super) fn read(self, notation: Notation, values_left: &mut usize) -> Reading {
        let reading = match self {
            Self::Bytes(bytes) => {
                let values = (*values_left).max(1);
                notation.read(
                    &bytes,
                    Limits {
                        values,
                        ..Limits::default()
                    },
                )
            }
            Self::Read(reading) => reading,
        };
        *values_left = values_left.saturating_sub(reading.values);
        reading
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&'static [u8]> for Data {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<String> for Data {
    fn from(text: String) -> Self {
        Self::Bytes(text.into())
    }
}
