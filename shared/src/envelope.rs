//! A validated upload: one event and its attachments. What the queue carries.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::content::Content;
use crate::id::{AttachmentId, EventId, ProjectId};

/// The name of the attachment that carries event JSON too large for the event message. Its kind is
/// [`AttachmentKind::EventPayload`].
pub const OVERFLOWED_EVENT: &str = "__crashferry-event.json";

/// A validated upload.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The crash's id, the one the client gets.
    pub event_id: EventId,
    /// Whom it belongs to.
    pub project_id: ProjectId,
    /// When the relay had read the whole request.
    pub received_at: Timestamp,
    /// The client's address, without port.
    pub remote_addr: Option<String>,
    /// The event as JSON: an [`crate::report::EventPayload`], or whatever a foreign producer wrote.
    pub event: Bytes,
    /// The files, the minidump among them.
    pub attachments: Vec<Attachment>,
}

impl Envelope {
    /// The minidump, when there is one.
    #[must_use]
    pub fn minidump(&self) -> Option<&Attachment> {
        self.attachments
            .iter()
            .find(|attachment| attachment.kind == AttachmentKind::Minidump)
    }

    /// Takes event JSON that travelled as an attachment back to its place.
    ///
    /// # Errors
    /// What the file system said when that attachment is in a file.
    pub fn restore_event(&mut self) -> std::io::Result<()> {
        let overflowed = self.attachments.iter().position(|attachment| {
            attachment.kind == AttachmentKind::EventPayload && attachment.name == OVERFLOWED_EVENT
        });
        if let Some(index) = overflowed {
            let content = self.attachments.remove(index).content;
            self.event = content.read(0, content.len() as usize)?;
        }
        Ok(())
    }

    /// Bytes of all attachments and the event.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.event.len() as u64
            + self
                .attachments
                .iter()
                .map(|attachment| attachment.content.len())
                .sum::<u64>()
    }
}

/// One file of an envelope.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Its id within the event, new at every sending.
    pub id: AttachmentId,
    /// The file name, safe to use as one path component's suffix.
    pub name: String,
    /// The part's media type, as the client said.
    pub content_type: Option<String>,
    /// What it is.
    pub kind: AttachmentKind,
    /// Its bytes.
    pub content: Content,
    /// BLAKE3 of the bytes as they were received; `None` when a foreign producer gave none.
    pub blake3: Option<blake3::Hash>,
}

/// What an attachment is, in Sentry's words (`attachment_type`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum AttachmentKind {
    /// `event.minidump`
    Minidump,
    /// `event.attachment`
    #[default]
    Plain,
    /// `event.payload`: event data that did not fit the event message or came as a file.
    EventPayload,
    /// `event.breadcrumbs`
    Breadcrumbs,
    /// Any other type, kept as it was named.
    Other(Box<str>),
}

impl AttachmentKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Minidump => "event.minidump",
            Self::Plain => "event.attachment",
            Self::EventPayload => "event.payload",
            Self::Breadcrumbs => "event.breadcrumbs",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for AttachmentKind {
    fn from(name: &str) -> Self {
        match name {
            "event.minidump" => Self::Minidump,
            "event.attachment" => Self::Plain,
            "event.payload" => Self::EventPayload,
            "event.breadcrumbs" => Self::Breadcrumbs,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for AttachmentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for AttachmentKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AttachmentKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::from(name.as_ref()))
    }
}
