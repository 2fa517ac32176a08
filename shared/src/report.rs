//! What consumers read: the event payload as the relay writes it, and the report as the processor writes it.

mod payload;
mod user_report;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::id::{EventId, ProjectId};
use crate::outcome::MissingChunks;

pub use payload::{Client, EventPayload};
pub use user_report::{LateUserReport, USER_REPORT_NAME, crash_of};

/// The value of a report's `schema` field.
pub const REPORT_SCHEMA: &str = "crash-report/1";

/// Why a processed crash has no report any more.
pub const REPORT_GONE: &str =
    "its report is no longer stored: storage.keep removed it, or somebody else did";

/// A processed crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`]
    pub schema: String,
    /// The crash.
    pub event_id: EventId,
    /// Its project.
    pub project_id: ProjectId,
    /// When the relay had it.
    pub received_at: Timestamp,
    /// The address it was sent from, without port, where the project keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_addr: Option<String>,
    /// From the event payload.
    #[serde(default)]
    pub platform: Option<String>,
    /// From the event payload.
    #[serde(default)]
    pub level: Option<String>,
    /// From the event payload.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// From the event payload.
    pub release: Option<String>,
    /// From the event payload.
    pub environment: Option<String>,
    /// From the event payload.
    pub user: Option<Value>,
    /// From the event payload.
    pub tags: Map<String, Value>,
    /// From the event payload.
    pub extra: Map<String, Value>,
    /// From the event payload.
    #[serde(default)]
    pub contexts: Map<String, Value>,
    /// From the event payload, oldest first.
    #[serde(default)]
    pub breadcrumbs: Vec<Value>,
    /// From the event payload.
    #[serde(default)]
    pub user_reports: Vec<Value>,
    /// From the event payload.
    #[serde(default)]
    pub event: Map<String, Value>,
    /// From the event payload.
    pub client: Client,
    /// What the minidump tells; all of it `None` or empty when the crash came without one.
    #[serde(flatten)]
    pub crash: CrashDetails,
    /// The files of the crash, stored and missing.
    pub attachments: Vec<ReportAttachment>,
    /// How the report came to be.
    pub processing: Processing,
}

/// What the minidump tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CrashDetails {
    /// The operating system.
    pub os: Option<Os>,
    /// The processor the program was built for and ran on.
    pub cpu: Option<Cpu>,
    /// The process that crashed.
    pub process: Process,
    /// Why; `None` when the dump holds no exception (a snapshot of a living process).
    pub crash: Option<Crash>,
    /// What groups like crashes.
    pub signature: Option<String>,
    /// All threads, in the dump's order.
    pub threads: Vec<Thread>,
    /// All loaded modules, by address.
    pub modules: Vec<Module>,
    /// Crashpad's annotations inside the dump.
    pub annotations: BTreeMap<String, String>,
    /// rust-minidump's own JSON.
    pub minidump: Option<RawJson>,
}

/// An operating system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os {
    /// `Windows NT`, `Linux`, `Mac OS X`, …
    pub name: String,
    /// Its version, as the dump says.
    pub version: Option<String>,
    /// Its build, as the dump says.
    pub build: Option<String>,
}

/// A processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// `amd64`, `x86`, `arm64`, …
    pub arch: String,
    /// Vendor, family, model, stepping, when known.
    pub info: Option<String>,
    /// Number of logical processors; 0 when unknown.
    pub count: u64,
}

/// The crashed process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its id.
    pub pid: Option<u32>,
    /// Seconds from its start to the crash.
    pub uptime: Option<u64>,
    /// `browser`, `renderer`, …
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// Why it crashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// The exception or signal, e.g. `SIGSEGV`, `EXCEPTION_ACCESS_VIOLATION`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The faulting address, `0x…`.
    pub address: Option<String>,
    /// The whole reason, e.g. `SIGSEGV / SEGV_MAPERR`.
    pub reason: String,
    /// Index of the crashing thread in `threads`.
    pub thread: Option<usize>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The system's id.
    pub id: u32,
    /// Its name, when the dump has it.
    pub name: Option<String>,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

/// One stack frame. Addresses are `0x…` texts: JSON numbers lose bits past 2^53.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The instruction.
    pub ip: String,
    /// The module it lies in.
    pub module: Option<String>,
    /// Its offset there.
    pub module_offset: Option<String>,
    /// The function, when symbols are known.
    pub function: Option<String>,
    /// The source file, when symbols are known.
    pub file: Option<String>,
    /// The source line, when symbols are known.
    pub line: Option<u32>,
    /// How the frame was found: `context`, `cfi`, `frame_pointer`, `scan`, …
    pub trust: String,
}

/// A loaded module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// File name or path, as the dump says.
    pub name: String,
    /// Where it was loaded, `0x…`.
    pub base: String,
    /// Bytes.
    pub size: u64,
    /// What its debug file must carry.
    pub debug_id: Option<String>,
    /// What the binary carries.
    pub code_id: Option<String>,
    /// Whether its symbols were at hand.
    pub symbols: Symbols,
}

/// Whether symbols were at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Symbols {
    /// They were.
    Found,
    /// They were not.
    Missing,
    /// They were, and cannot be read.
    Corrupt,
}

/// A file of the crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAttachment {
    /// The file name.
    pub name: String,
    /// Sentry's attachment type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes, as the sender announced.
    pub size: u64,
    /// SHA-256 of the stored bytes, hexadecimal; `None` when it is not stored.
    pub sha256: Option<String>,
    /// Where it is in the storage; `None` when it is not stored.
    pub path: Option<String>,
    /// What of it never arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<MissingChunks>,
}

/// How a report came to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Processing {
    /// Name and version.
    pub parser: String,
    /// When parsing began.
    pub started_at: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// What was odd, and accepted all the same.
    pub warnings: Vec<String>,
    /// Which report of this crash it is; absent on the first one when the crash has not been processed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// When the stored dump was parsed for it; absent when the crash has not been processed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reprocessed_at: Option<Timestamp>,
    /// What is absent although the dump has it; `None` when the report is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Partial>,
}

/// A report that tells only part of its dump.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// Why.
    pub reason: PartialReason,
    /// How long the parser had worked when it stopped.
    pub seconds: f64,
    /// Threads whose stacks were walked; the others have the one frame that their registers give.
    pub threads_walked: usize,
    /// Threads in the dump.
    pub threads: usize,
}

/// Why a report is partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartialReason {
    /// The parser ran out of time.
    Timeout,
}

/// JSON text that goes through as it is: it is written out without being taken apart. Equal when the texts are.
#[derive(Clone, Debug)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// Checks that `text` is JSON and keeps it.
    ///
    /// # Errors
    /// Where and why it is not JSON.
    pub fn new(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    /// Through a value: serde hands flattened fields on as such, and then there is no text left to keep.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        to_raw_value(&value)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_json_passes_through_a_flattened_report_field() {
        let text = r#"{"threads":[1,2],"z":1,"a":18446744073709551615}"#;
        let details = CrashDetails {
            minidump: RawJson::new(text.into()).ok(),
            ..CrashDetails::default()
        };
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Holder {
            id: u32,
            #[serde(flatten)]
            crash: CrashDetails,
        }
        let written = serde_json::to_string(&Holder {
            id: 1,
            crash: details,
        })
        .expect("encodes");
        assert!(written.contains(text), "{written}");
        let read: Holder = serde_json::from_str(&written).expect("reads back");
        let minidump = read.crash.minidump.expect("is there");
        let value: Value = serde_json::from_str(minidump.as_str()).expect("is JSON");
        assert_eq!(value["a"], u64::MAX);
        assert!(RawJson::new("{".into()).is_err());
    }
}
