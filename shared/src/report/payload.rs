//! The event payload: what the client said about the crash besides the dump.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::EventId;

/// The event message's JSON as our relay writes it. Every field may be absent; what is empty is not written. Sentry's
/// own event JSON is read into one by [`crate::event`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventPayload {
    /// `native`, unless the client's event says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// `fatal`, `error`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// When it happened, by the client's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The program's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Where it ran: `production` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The kind of process: `browser`, `renderer`, `main`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_type: Option<String>,
    /// Sentry's user object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Value>,
    /// Short searchable values.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tags: Map<String, Value>,
    /// Everything else the client sent, form fields among it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
    /// Sentry's contexts: `os`, `device`, `v8`, …
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub contexts: Map<String, Value>,
    /// What happened before, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub breadcrumbs: Vec<Value>,
    /// What users wrote about it: Sentry's `user_report` and `feedback`, as they came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_reports: Vec<Value>,
    /// Whatever else the client's event holds, as it came: `exception`, `message`, `sdk`, `modules`, `debug_meta`, …
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub event: Map<String, Value>,
    /// The sending program.
    pub client: Client,
    /// The crash that files sent later belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_to: Option<EventId>,
    /// What the relay noticed and accepted all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The program that sent the upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// The product or uploader, e.g. `Electron`.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The installation's stable id, as Crashpad sends it.
    pub guid: Option<String>,
}
