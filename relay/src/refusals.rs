//! Every refusal that an upload can get, and whom it is counted for: projects and keys that this relay knows, and `other`.

use std::borrow::Cow;

use axum::http::request::Parts;
use shared::id::{ProjectId, PublicKey};

use crate::auth::sent_keys;
use crate::key_ring::KeyGrant;
use crate::query;

/// Status and reason of every refusal of an upload. Their counters exist before the first one: a rate over a counter that appears with
/// its first event misses that event.
pub(crate) const REFUSALS: &[(u16, &str)] = &[
    (400, "ambiguous_head"),
    (400, "ambiguous_target"),
    (400, "attachment_reference_again"),
    (400, "boundary_not_found"),
    (400, "broken_attachment_reference"),
    (400, "broken_chunks"),
    (400, "broken_container"),
    (400, "broken_encoding"),
    (400, "broken_envelope"),
    (400, "broken_multipart"),
    (400, "broken_unreal_archive"),
    (400, "cut_body"),
    (400, "cut_envelope"),
    (400, "cut_multipart"),
    (400, "cut_unreal_archive"),
    (400, "empty_minidump"),
    (400, "invalid_id"),
    (400, "microdump"),
    (400, "missing_boundary"),
    (400, "missing_minidump"),
    (400, "missing_upload_length"),
    (400, "not_a_minidump"),
    (400, "nothing_to_keep"),
    (400, "short_minidump"),
    (400, "too_many_items"),
    (400, "unknown_minidump_version"),
    (400, "unsupported_encoding"),
    (401, "missing_key"),
    (401, "several_keys"),
    (403, "disabled_key"),
    (403, "key_of_another_project"),
    (403, "unknown_key"),
    (403, "unknown_project"),
    (404, "unknown_path"),
    (404, "unknown_upload"),
    (405, "wrong_method"),
    (408, "body_too_slow"),
    (408, "key_too_late"),
    (408, "stalled_body"),
    (409, "wrong_upload_offset"),
    (412, "unsupported_tus_version"),
    (413, "attachment_too_large"),
    (413, "body_too_large"),
    (413, "form_too_large"),
    (413, "inflated_too_much"),
    (413, "larger_than_quota"),
    (413, "minidump_too_large"),
    (413, "reference_too_large"),
    (413, "too_many_attachments"),
    (413, "too_many_event_items"),
    (413, "too_many_form_fields"),
    (413, "upload_too_long"),
    (415, "encoded_upload"),
    (423, "upload_busy"),
    (429, "quota_exceeded"),
    (503, "internal"),
    (503, "overloaded"),
    (503, "queue_unavailable"),
    (503, "spool_failed"),
    (503, "spool_full"),
    (503, "spool_share"),
    (503, "stopping"),
    (503, "storage_unavailable"),
    (503, "too_many_unfinished_uploads"),
    (503, "uploads_full"),
];

/// Who a request says it is from, as far as its head tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Claimed<'r> {
    pub(crate) project: Option<ProjectId>,
    pub(crate) key: Option<Cow<'r, str>>,
}

impl<'r> Claimed<'r> {
    /// Reads it from the path, the query and the headers.
    pub(crate) fn of(head: &'r Parts) -> Self {
        let segments = head
            .uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty());
        let segments: Vec<&str> = segments.take(4).collect();
        let project = match segments[..] {
            ["api", project, ..] => project.parse().ok(),
            _ => None,
        };
        let in_path = match segments[..] {
            ["api", _, "unreal", key] => Some(Cow::Borrowed(key)),
            ["submit", ..] => query::value(&head.uri, "key").map(Cow::Owned),
            _ => None,
        };
        let sent = || sent_keys(&head.uri, &head.headers).ok().flatten();
        Self {
            project,
            key: in_path.or_else(sent),
        }
    }

    /// The key's first four characters, when they are such as keys have.
    pub(crate) fn key_prefix(&self) -> Option<String> {
        let prefix: String = self.key.as_ref()?.chars().take(4).collect();
        let prefix: PublicKey = prefix.parse().ok()?;
        Some(prefix.as_str().to_owned())
    }
}

impl<'r> From<&'r KeyGrant> for Claimed<'r> {
    fn from(grant: &'r KeyGrant) -> Self {
        Self {
            project: Some(grant.project_id()),
            key: Some(Cow::Borrowed(grant.key().as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use axum::http::Request;

    use super::*;

    /// Refusals of those who ask what became of an upload.
    const OF_STATUS: [&str; 3] = ["deleted", "status_unavailable", "unknown_event"];

    /// All sources but this one, which speaks of reasons in quotes.
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|kind| kind == "rs")
                && !path.ends_with(file!().rsplit('/').next().unwrap_or_default())
            {
                found.push(path);
            }
        }
    }

    /// The names in the bodies of all functions that name a reason.
    fn reasons_in(source: &str) -> Vec<&str> {
        let mut reasons = Vec::new();
        let mut rest = source;
        while let Some(at) = rest.find("-> &'static str {") {
            let (before, after) = rest.split_at(at);
            let line = before.rsplit('\n').next().unwrap_or_default();
            let end = if line.starts_with(' ') {
                "\n    }"
            } else {
                "\n}"
            };
            let end = after.find(end).unwrap_or(after.len());
            let is_reason = before
                .rsplit_once("fn ")
                .is_some_and(|(_, name)| name.contains("reason"));
            if is_reason {
                reasons.extend(after[..end].split('"').skip(1).step_by(2));
            }
            rest = &after[end..];
        }
        reasons
    }

    #[test]
    fn the_table_has_exactly_the_reasons_of_the_errors() {
        let mut files = Vec::new();
        sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut files,
        );
        let texts: Vec<String> = files
            .iter()
            .map(|path| fs::read_to_string(path).expect("a source"))
            .collect();
        let named = texts.iter().flat_map(|text| reasons_in(text));
        let named: BTreeSet<&str> = named.filter(|reason| !OF_STATUS.contains(reason)).collect();
        let listed: BTreeSet<&str> = REFUSALS.iter().map(|(_, reason)| *reason).collect();
        let missing: Vec<_> = named.difference(&listed).collect();
        let unknown: Vec<_> = listed.difference(&named).collect();
        assert!(missing.is_empty(), "not in REFUSALS: {missing:?}");
        assert!(
            unknown.is_empty(),
            "in REFUSALS, and no error has it: {unknown:?}"
        );
        assert_eq!(listed.len(), REFUSALS.len(), "each once");
    }

    #[test]
    fn a_head_says_who_sends_wherever_it_says_so() {
        for (uri, project, key) in [
            ("/api/7/minidump?sentry_key=abcd", Some(7), Some("abcd")),
            ("/api/0/minidump/?sentry_key=abcd", Some(0), Some("abcd")),
            ("/api/7/unreal/abcd?AppID=x", Some(7), Some("abcd")),
            ("/submit?key=abcd", None, Some("abcd")),
            ("/submit?sentry_key=abcd", None, Some("abcd")),
            ("/api/x/minidump", None, None),
            ("/api/7/minidump?sentry_key=a&sentry_key=b", Some(7), None),
            ("/", None, None),
        ] {
            let request = Request::get(uri).body(()).expect("a request");
            let (head, ()) = request.into_parts();
            let claimed = Claimed::of(&head);
            let expected = (project.map(ProjectId::new), key);
            assert_eq!((claimed.project, claimed.key.as_deref()), expected, "{uri}");
        }
    }
}
