//! Every refusal an HTTP client can get: status, reason and the body that says what to do about it.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use shared::quota::{Exceeded, QuotaLimit};
use shared::spool::SpoolError;
use shared::storage::StorageError;
use tracing::Level;

use crate::auth::KeyRefusal;
use crate::container::ContainerError;
use crate::decode::BodyError;
use crate::delivery::DeliveryError;
use crate::items::ItemsError;
use crate::limits::RETRY_AFTER_SECONDS;
use crate::multipart::MultipartError;
use crate::request_target::TargetError;
use crate::resumable::UploadRefusal;
use crate::unreal::archive::ArchiveError;
use crate::validate::NotAMinidump;
use crate::wire::HeadError;

/// The header that repeats `detail`, as Sentry's clients read it.
pub(crate) const SENTRY_ERROR: HeaderName = HeaderName::from_static("x-sentry-error");

/// What Sentry's clients read to know for how long to send nothing of which kind.
const SENTRY_RATE_LIMITS: HeaderName = HeaderName::from_static("x-sentry-rate-limits");

/// Why a request did not get its 200.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// No such place.
    #[error("there is nothing at this path; crashes go to POST /api/<project>/minidump/")]
    UnknownPath,
    /// The place is there, the method is not.
    #[error("this path does not answer that method")]
    WrongMethod,
    /// Its head leaves room for two readings.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// It says twice where it goes, or in an odd way.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// An id of the path is none.
    #[error(transparent)]
    InvalidId(#[from] shared::id::InvalidId),
    /// No key, two, or one that does not fit.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// The body cannot be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is not the multipart it says it is.
    #[error("invalid multipart body: {0}")]
    Multipart(MultipartError),
    /// Over a limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// There is no dump among the parts.
    #[error("expected a file in the part upload_file_minidump, found {found}")]
    MissingMinidump {
        /// What there was instead.
        found: String,
    },
    /// There is nothing in it that could be kept.
    #[error("expected at least one file, found none")]
    NothingToKeep,
    /// The body is not the envelope it should be.
    #[error("invalid envelope: {0}")]
    Items(ItemsError),
    /// The body is not the Unreal archive it should be.
    #[error("invalid Unreal archive: {0}")]
    Archive(ArchiveError),
    /// What a dump is compressed with cannot be undone.
    #[error("invalid compressed minidump: {0}")]
    Container(ContainerError),
    /// A large file that comes on its own.
    #[error(transparent)]
    Upload(#[from] UploadRefusal),
    /// What should be the dump is none.
    #[error(transparent)]
    NotAMinidump(#[from] NotAMinidump),
    /// The key has used up what it may send in this minute or hour.
    #[error("the key's quota is used up: {} = {}", .0.limit.as_str(), .0.limit.show(.0.value))]
    QuotaExceeded(Exceeded),
    /// Nobody knows the event.
    #[error("expected an event of this project, found none with this id")]
    UnknownEvent,
    /// An operator had everything of the event removed.
    #[error("the event was deleted at {deleted_at}")]
    DeletedEvent {
        /// When.
        deleted_at: Timestamp,
    },
    /// The spool does not take it.
    #[error("the relay's disk cannot take the upload now")]
    Spool(#[source] SpoolError),
    /// What was received cannot be read back.
    #[error("what was received cannot be read back")]
    Unreadable(#[source] std::io::Error),
    /// The storage does not answer.
    #[error("the storage does not answer now")]
    StorageUnavailable(#[source] StorageError),
    /// Connections, uploads or decoders are used up.
    #[error("the relay is at work at as many uploads as it can hold")]
    Overloaded,
    /// Neither broker nor spool has it for certain.
    #[error("the upload could not be made durable in time")]
    Undelivered(#[source] DeliveryError),
    /// The process is going down.
    #[error("the relay is stopping")]
    Stopping,
    /// A store for status or reports does not answer.
    #[error("the event's status cannot be read now")]
    StatusUnavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A limit of the configuration, or a fixed one, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// `limits.upload`, before decompression.
    #[error("the body is larger than limits.upload = {0}")]
    Encoded(shared::config::ByteSize),
    /// `limits.upload`, after decompression.
    #[error("the decompressed body is larger than limits.upload = {0}")]
    Decoded(shared::config::ByteSize),
    /// `limits.inflation`
    #[error(
        "the body becomes more than {limit} times its compressed size, limits.inflation, beyond its first 10MiB"
    )]
    Inflation {
        /// The value.
        limit: u32,
    },
    /// `spool.resumable_max_bytes`
    #[error("the file is larger than spool.resumable_max_bytes = {0}")]
    Resumable(shared::config::ByteSize),
    /// `limits.attachment`
    #[error("a file is larger than limits.attachment = {0}")]
    Attachment(shared::config::ByteSize),
    /// `projects.minidump_max`
    #[error("the minidump is larger than the project's minidump_max = {0}")]
    Minidump(shared::config::ByteSize),
    /// More than a quota of bytes ever has room for.
    #[error("the upload is larger than the key's {} = {}", limit.as_str(), limit.show(*value))]
    Quota {
        /// The quota.
        limit: QuotaLimit,
        /// Its value.
        value: u64,
    },
    /// `limits.attachments`
    #[error("there are more files than limits.attachments = {0}")]
    Attachments(u32),
    /// `limits.form`
    #[error("the form fields are larger than limits.form = {0}")]
    Form(shared::config::ByteSize),
    /// The fixed number of events and user reports in an envelope.
    #[error("there are more events and user reports in the envelope than {0}")]
    EventItems(usize),
    /// The fixed size of a reference to a file that was uploaded before.
    #[error("an attachment reference is larger than {0} bytes")]
    Reference(usize),
    /// The fixed number of fields.
    #[error("there are more form fields than {0}")]
    FormFields(usize),
}

impl TooLarge {
    fn reason(self) -> &'static str {
        match self {
            Self::Encoded(_) | Self::Decoded(_) => "body_too_large",
            Self::Inflation { .. } => "inflated_too_much",
            Self::Attachment(_) | Self::Resumable(_) => "attachment_too_large",
            Self::Minidump(_) => "minidump_too_large",
            Self::Quota { .. } => "larger_than_quota",
            Self::Attachments(_) => "too_many_attachments",
            Self::Form(_) => "form_too_large",
            Self::EventItems(_) => "too_many_event_items",
            Self::Reference(_) => "reference_too_large",
            Self::FormFields(_) => "too_many_form_fields",
        }
    }
}

// Not `#[from]`: it would make the error its own cause.
impl From<MultipartError> for Rejection {
    fn from(error: MultipartError) -> Self {
        Self::Multipart(error)
    }
}

impl From<ItemsError> for Rejection {
    fn from(error: ItemsError) -> Self {
        Self::Items(error)
    }
}

impl From<ArchiveError> for Rejection {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<ContainerError> for Rejection {
    fn from(error: ContainerError) -> Self {
        Self::Container(error)
    }
}

impl Rejection {
    /// What a body's frames ended with: a rejection of ours, in the clothes of the streams it came through.
    pub(crate) fn of_frames(error: std::io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(rejection) => rejection,
            Err(error) => Self::Unreadable(error),
        }
    }

    /// The status of the answer. A fault of ours is never a 4xx: clients give up on those.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownPath | Self::UnknownEvent => StatusCode::NOT_FOUND,
            Self::DeletedEvent { .. } => StatusCode::GONE,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Key(refusal) => refusal.status(),
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::QuotaExceeded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Body(error) => error.status(),
            Self::Upload(error) => error.status(),
            Self::Head(HeadError::TooLong) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Head(_)
            | Self::Target(_)
            | Self::InvalidId(_)
            | Self::Multipart(_)
            | Self::Items(_)
            | Self::Archive(_)
            | Self::MissingMinidump { .. }
            | Self::NothingToKeep
            | Self::NotAMinidump(_) => StatusCode::BAD_REQUEST,
            Self::Container(error) if !error.is_ours() => StatusCode::BAD_REQUEST,
            Self::Container(_)
            | Self::Spool(_)
            | Self::Unreadable(_)
            | Self::StorageUnavailable(_)
            | Self::Overloaded
            | Self::Undelivered(_)
            | Self::Stopping
            | Self::StatusUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The reason's name for programs, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownPath => "unknown_path",
            Self::WrongMethod => "wrong_method",
            Self::Head(_) => "ambiguous_head",
            Self::Target(_) => "ambiguous_target",
            Self::InvalidId(_) => "invalid_id",
            Self::Key(refusal) => refusal.reason(),
            Self::Body(error) => error.reason(),
            Self::Multipart(error) => error.reason(),
            Self::TooLarge(limit) => limit.reason(),
            Self::Items(error) => error.reason(),
            Self::Archive(error) => error.reason(),
            Self::Container(error) => error.reason(),
            Self::Upload(error) => error.reason(),
            Self::NothingToKeep => "nothing_to_keep",
            Self::Unreadable(_) => "internal",
            Self::StorageUnavailable(_) => "storage_unavailable",
            Self::MissingMinidump { .. } => "missing_minidump",
            Self::NotAMinidump(error) => error.reason(),
            Self::QuotaExceeded(_) => "quota_exceeded",
            Self::UnknownEvent => "unknown_event",
            Self::DeletedEvent { .. } => "deleted",
            Self::Spool(error) | Self::Undelivered(DeliveryError::Spool(error)) => {
                spool_reason(error)
            }
            Self::Overloaded => "overloaded",
            Self::Undelivered(
                DeliveryError::Unconfirmed { .. } | DeliveryError::Unavailable(_),
            ) => "queue_unavailable",
            Self::Undelivered(DeliveryError::Unreadable(_) | DeliveryError::Internal(_)) => {
                "internal"
            }
            Self::Stopping => "stopping",
            Self::StatusUnavailable(_) => "status_unavailable",
        }
    }

    /// How loud the log is about it: a client's fault is news, ours is an error.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::UnknownPath
            | Self::WrongMethod
            | Self::UnknownEvent
            | Self::DeletedEvent { .. } => Level::DEBUG,
            Self::Head(_)
            | Self::Target(_)
            | Self::InvalidId(_)
            | Self::Key(_)
            | Self::Body(_)
            | Self::Multipart(_)
            | Self::TooLarge(_)
            | Self::Items(_)
            | Self::Archive(_)
            | Self::Container(_)
            | Self::Upload(_)
            | Self::NothingToKeep
            | Self::MissingMinidump { .. }
            | Self::NotAMinidump(_)
            | Self::QuotaExceeded(_) => Level::INFO,
            Self::Overloaded | Self::Stopping | Self::Spool(SpoolError::Share { .. }) => {
                Level::WARN
            }
            Self::Spool(_)
            | Self::Undelivered(_)
            | Self::Unreadable(_)
            | Self::StorageUnavailable(_)
            | Self::StatusUnavailable(_) => Level::ERROR,
        }
    }

    /// What lies behind it, outermost first. Of our own faults clients learn none: they name paths and hosts.
    fn causes(&self) -> Vec<String> {
        if self.status().is_server_error() {
            return Vec::new();
        }
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        causes
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            detail: self.to_string(),
            reason: self.reason(),
            causes: self.causes(),
        }
    }
}

fn spool_reason(error: &SpoolError) -> &'static str {
    match error {
        SpoolError::Share { .. } => "spool_share",
        SpoolError::Full { .. }
        | SpoolError::NoSpace { .. }
        | SpoolError::Untrusted { .. }
        | SpoolError::Held { .. }
        | SpoolError::Io { .. } => {
            if error.is_full() {
                "spool_full"
            } else {
                "spool_failed"
            }
        }
    }
}

/// The JSON of every answer that is no success.
#[derive(Debug, Serialize)]
pub struct ErrorBody {
    detail: String,
    reason: &'static str,
    causes: Vec<String>,
}

/// The reason of a refusal, for who tells it in another way than as JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reason(pub(crate) &'static str);

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = self.body();
        let error = header_text(&body.detail);
        let reason = Reason(body.reason);
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(reason);
        let headers = response.headers_mut();
        headers.insert(SENTRY_ERROR, error);
        if let Self::QuotaExceeded(exceeded) = &self {
            let seconds = seconds_to_wait(exceeded);
            headers.insert(RETRY_AFTER, seconds.into());
            headers.insert(SENTRY_RATE_LIMITS, rate_limits(exceeded, seconds));
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        response
    }
}

/// The first whole second by which the window has ended.
fn seconds_to_wait(exceeded: &Exceeded) -> u64 {
    exceeded.wait.as_secs() + u64::from(exceeded.wait.subsec_nanos() > 0)
}

/// `seconds:categories:scope:reason`, by which Sentry's clients stop what comes next.
fn rate_limits(exceeded: &Exceeded, seconds: u64) -> HeaderValue {
    let limit = exceeded.limit.as_str();
    header_text(&format!("{seconds}:error;attachment;default:key:{limit}"))
}

/// The text with everything that cannot stand in a header replaced.
fn header_text(text: &str) -> HeaderValue {
    let visible = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let text: String = text.chars().map(visible).take(500).collect();
    // INVARIANT: visible ASCII is a valid header value.
    HeaderValue::from_str(&text).expect("visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool_full() -> Rejection {
        Rejection::Spool(SpoolError::Full { used: 2, max: 1 })
    }

    #[test]
    fn a_fault_of_ours_says_when_to_come_back_and_nothing_of_our_insides() {
        let body = serde_json::to_string(&spool_full().body()).expect("JSON");
        insta::assert_snapshot!(body, @r#"{"detail":"the relay's disk cannot take the upload now","reason":"spool_full","causes":[]}"#);
        let response = spool_full().into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "30");
        let error = &response.headers()[SENTRY_ERROR];
        assert_eq!(error, "the relay's disk cannot take the upload now");
    }

    #[test]
    fn a_used_up_quota_says_which_and_for_how_long_in_whole_seconds() {
        let exceeded = |millis| {
            Rejection::QuotaExceeded(Exceeded {
                limit: QuotaLimit::BytesPerHour,
                value: 3 << 20,
                left: 1,
                wait: std::time::Duration::from_millis(millis),
            })
        };
        let body = serde_json::to_string(&exceeded(1).body()).expect("JSON");
        insta::assert_snapshot!(body, @r#"{"detail":"the key's quota is used up: bytes_per_hour = 3MiB","reason":"quota_exceeded","causes":[]}"#);
        for (millis, seconds) in [(1, "1"), (1000, "1"), (59_001, "60")] {
            let response = exceeded(millis).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
            let limits = &response.headers()[SENTRY_RATE_LIMITS];
            let expected = format!("{seconds}:error;attachment;default:key:bytes_per_hour");
            assert_eq!(limits, expected.as_str());
        }
    }

    #[test]
    fn a_detail_in_any_script_fits_into_a_header() {
        assert_eq!(header_text("gr\u{fc}n\r\nSet-Cookie"), "gr?n??Set-Cookie");
    }
}
