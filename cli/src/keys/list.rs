//! The list that `crashferry keys list` shows, as a table and as JSON.

use serde::Serialize;
use shared::id::{ProjectId, PublicKey};
use shared::quota::{QuotaLimit, QuotaUse, Quotas};
use shared::state::KeyRecord;

use crate::output;

/// Where a key comes from.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// The configuration alone.
    Configuration,
    /// The configuration, and an operator has changed it.
    Changed,
    /// An operator added it.
    Store,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Changed => "configuration, changed",
            Self::Store => "store",
        }
    }
}

/// A line of the list.
#[derive(Serialize)]
pub(super) struct Line {
    project: ProjectId,
    key: PublicKey,
    source: Source,
    enabled: bool,
    quotas: Quotas,
    used: Used,
}

#[derive(Serialize)]
struct Used {
    uploads_this_minute: u64,
    uploads_this_hour: u64,
    bytes_this_minute: u64,
    bytes_this_hour: u64,
}

impl Line {
    pub(super) fn new(record: KeyRecord, source: Source, used: &QuotaUse) -> Self {
        Self {
            project: record.project_id,
            key: record.key,
            source,
            enabled: !record.disabled,
            quotas: record.quotas,
            used: Used {
                uploads_this_minute: used.minute.uploads,
                uploads_this_hour: used.hour.uploads,
                bytes_this_minute: used.minute.bytes,
                bytes_this_hour: used.hour.bytes,
            },
        }
    }

    fn row(&self) -> [String; 5] {
        let used = |limit: QuotaLimit| match limit {
            QuotaLimit::UploadsPerMinute => self.used.uploads_this_minute,
            QuotaLimit::UploadsPerHour => self.used.uploads_this_hour,
            QuotaLimit::BytesPerMinute => self.used.bytes_this_minute,
            QuotaLimit::BytesPerHour => self.used.bytes_this_hour,
        };
        let quotas = show(&self.quotas, |limit, value| {
            let (name, used) = (limit.as_str(), limit.show(used(limit)));
            format!("{name} {used} of {}", limit.show(value))
        });
        [
            self.project.to_string(),
            self.key.as_str().to_owned(),
            self.source.as_str().to_owned(),
            if self.enabled { "enabled" } else { "disabled" }.to_owned(),
            quotas,
        ]
    }
}

/// The limits that are set, each as `show` has it.
pub(super) fn show(quotas: &Quotas, show: impl Fn(QuotaLimit, u64) -> String) -> String {
    let set = quotas.values().into_iter();
    let shown: Vec<String> = set
        .filter_map(|(limit, value)| Some(show(limit, value?)))
        .collect();
    if shown.is_empty() {
        "no quotas".to_owned()
    } else {
        shown.join(", ")
    }
}

/// The list as columns.
pub(super) fn table(lines: &[Line]) -> String {
    let mut rows = vec![["project", "key", "from", "state", "quotas"].map(str::to_owned)];
    rows.extend(lines.iter().map(Line::row));
    output::table(&rows)
}
