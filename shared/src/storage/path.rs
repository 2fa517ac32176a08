//! Where things are in the storage: `{project}/{yyyy-mm-dd}/{event_id}/…`, and `uploads/…` for files that wait for their
//! crash.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::id::{EventId, ProjectId};
use crate::limits;

/// Where large files wait for their crash.
pub(super) const UPLOADS: &str = "uploads";
/// Where an event's folder lists the files that came after it.
pub(super) const LATE: &str = "late";
/// Where it lists what users wrote about it apart from it.
pub(super) const USER_REPORTS: &str = "user_reports";

/// Where an event's files are: `{project}/{yyyy-mm-dd}/{event_id}/…`, by the day (UTC) the relay had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventFolder {
    /// The crash's project.
    pub project_id: ProjectId,
    /// When the relay had it.
    pub received_at: Timestamp,
    /// The crash.
    pub event_id: EventId,
}

impl EventFolder {
    /// The report.
    #[must_use]
    pub fn report(&self) -> StoragePath {
        self.file("report.json")
    }

    /// A report that a later one has taken the place of.
    #[must_use]
    pub fn earlier_report(&self, revision: u32) -> StoragePath {
        self.file(&format!("report-{revision}.json"))
    }

    /// Of a crash that failed: what the client said, as a report without what the dump would tell.
    #[must_use]
    pub fn event(&self) -> StoragePath {
        self.file("event.json")
    }

    /// The raw dump.
    #[must_use]
    pub fn minidump(&self) -> StoragePath {
        self.file("minidump.dmp")
    }

    /// Another file: `n` tells files of one name apart. What a name's letters could mean to a storage is replaced.
    #[must_use]
    pub fn attachment(&self, n: usize, name: &str) -> StoragePath {
        self.file(&format!("attachments/{n}-{}", harmless(name)))
    }

    /// A file that came after the crash, in the upload `late`.
    #[must_use]
    pub fn late_attachment(&self, late: EventId, n: usize, name: &str) -> StoragePath {
        self.file(&format!("attachments/{late}-{n}-{}", harmless(name)))
    }

    /// The list of the files that came in the upload `late`, as reports list them.
    #[must_use]
    pub fn late_list(&self, late: EventId) -> StoragePath {
        self.file(&format!("{LATE}/{late}.json"))
    }

    /// The list of what users wrote about it, as the upload `late` brought it.
    #[must_use]
    pub fn user_reports(&self, late: EventId) -> StoragePath {
        self.file(&format!("{USER_REPORTS}/{late}.json"))
    }

    /// The day it is under.
    #[must_use]
    pub fn day(&self) -> Date {
        day_of(self.received_at)
    }

    pub(super) fn file(&self, name: &str) -> StoragePath {
        StoragePath(format!("{}/{name}", self.as_prefix()))
    }

    /// What the paths of its files have in common.
    pub(super) fn as_prefix(&self) -> String {
        let (project, event) = (self.project_id, self.event_id);
        format!("{}/{event}", day_prefix(project, self.day()))
    }

    /// The event that a path below a day's belongs to; `None` for what is not ours.
    pub(super) fn of_path(project_id: ProjectId, day: Date, path: &str) -> Option<Self> {
        let name = path.split('/').nth(2)?;
        let event_id: EventId = name.parse().ok()?;
        if event_id.to_string() != name {
            return None;
        }
        Some(Self {
            project_id,
            received_at: beginning_of(day)?,
            event_id,
        })
    }
}

/// What the paths of a project's files of one day have in common.
pub(super) fn day_prefix(project: ProjectId, day: Date) -> String {
    format!("{project}/{day}")
}

/// The first moment of a day, in UTC.
pub(super) fn beginning_of(day: Date) -> Option<Timestamp> {
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The day of a time, in UTC: that of the path of what was received then.
#[must_use]
pub fn day_of(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// The end of a name, which holds the extension, without letters that could mean something to a storage.
fn harmless(name: &str) -> String {
    let harmless = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
        _ => '_',
    };
    let name: String = name.chars().map(harmless).collect();
    let cut = name.len().saturating_sub(limits::STORAGE_NAME_BYTES_MAX);
    name[cut..].to_owned()
}

/// A file's place in the storage, as reports write it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoragePath(pub(super) String);

impl StoragePath {
    /// A large file that was uploaded before its crash, until it belongs to one.
    #[must_use]
    pub fn upload(project: ProjectId, id: Uuid) -> Self {
        Self(format!("{UPLOADS}/{project}/{id}"))
    }

    /// The path, `/` between its parts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
