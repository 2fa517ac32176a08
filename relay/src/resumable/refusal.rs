//! Why a request about a large file that comes before its crash is refused.

use axum::http::StatusCode;
use shared::config::ByteSize;

/// Why a request about a large file is refused.
#[derive(Debug, thiserror::Error)]
pub enum UploadRefusal {
    /// The file is not here, or the address is not the one that it was given.
    #[error(
        "expected the address of an upload that was begun at this relay a short while ago, token included, found none"
    )]
    Unknown,
    /// Another request is at it.
    #[error("expected one request at a time for this upload, found another under way")]
    Busy,
    /// What is sent does not follow what is here.
    #[error("expected Upload-Offset {expected}, found {found:?}")]
    Offset {
        /// Bytes that are here.
        expected: u64,
        /// What the client wrote.
        found: String,
    },
    /// More was sent than announced.
    #[error("expected {length} bytes altogether, as Upload-Length said, found more")]
    Surplus {
        /// What was announced.
        length: u64,
    },
    /// The announced length is none.
    #[error("expected Upload-Length: <bytes>, found {found:?}")]
    Length {
        /// What the client wrote.
        found: String,
    },
    /// Another version of the protocol.
    #[error("expected Tus-Resumable: 1.0.0, found {found:?}")]
    Version {
        /// What the client wrote.
        found: String,
    },
    /// Its offsets count the file's bytes: they cannot be compressed.
    #[error("expected the file's bytes as they are, without Content-Encoding, found {found:?}")]
    Encoding {
        /// What the client wrote.
        found: String,
    },
    /// The key has as many unfinished files as it may.
    #[error("expected at most {max} unfinished uploads of one key, found as many")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// There is no room for as much among the files that come before their crash.
    #[error(
        "expected room for the file within spool.resumable_max_bytes = {max}, found too little"
    )]
    NoRoom {
        /// The bound.
        max: ByteSize,
    },
    /// An envelope's item that stands for a file does not say which one.
    #[error("expected an attachment reference, JSON with a location, found {found}")]
    Reference {
        /// What is wrong with it.
        found: String,
    },
    /// An envelope stands for one file twice.
    #[error("expected each uploaded file once in an envelope, found one again")]
    Again,
}

impl UploadRefusal {
    /// The status of the answer. Where other requests have to end first, it is no fault of this one.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Busy => StatusCode::LOCKED,
            Self::Offset { .. } => StatusCode::CONFLICT,
            Self::Surplus { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Version { .. } => StatusCode::PRECONDITION_FAILED,
            Self::Encoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany { .. } | Self::NoRoom { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Length { .. } | Self::Reference { .. } | Self::Again => StatusCode::BAD_REQUEST,
        }
    }

    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown_upload",
            Self::Busy => "upload_busy",
            Self::Offset { .. } => "wrong_upload_offset",
            Self::Surplus { .. } => "upload_too_long",
            Self::Length { .. } => "missing_upload_length",
            Self::Version { .. } => "unsupported_tus_version",
            Self::Encoding { .. } => "encoded_upload",
            Self::TooMany { .. } => "too_many_unfinished_uploads",
            Self::NoRoom { .. } => "uploads_full",
            Self::Reference { .. } => "broken_attachment_reference",
            Self::Again => "attachment_reference_again",
        }
    }
}
