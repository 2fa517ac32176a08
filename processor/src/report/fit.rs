//! A report cut down to a message's size. The whole one is in the storage.

use std::collections::HashSet;

use bytes::Bytes;
use shared::report::{Client, CrashDetails, Report};

use super::encode;

/// [`fit`] can go down to this many bytes, not below. A topic's limit is at least 64 KiB.
pub const REPORT_BYTES_MIN: usize = 4096;

/// Fields of the client's event that say what went wrong.
const ERROR_FIELDS: [&str; 4] = ["exception", "message", "logentry", "transaction"];
/// Innermost frames of the crashing thread that go late.
const FRAMES_KEPT: usize = 32;
/// Characters of a text in the smallest report; each takes six bytes of JSON at most.
const SMALLEST_TEXT_CHARS_MAX: usize = 64;
/// Bytes of a word such as the level there; longer ones go.
const SMALLEST_WORD_BYTES_MAX: usize = 16;

/// Takes something out of a report and says what; `None` when there was none of it.
type Cut = fn(&mut Report) -> Option<String>;

/// What goes, in this order, until the rest fits: first what can be had again from the dump, then what tells least about
/// the crash.
const CUTS: [Cut; 14] = [
    minidump_json,
    other_threads,
    modules_without_frames,
    extra,
    breadcrumbs,
    annotations,
    event_beside_the_error,
    contexts,
    outer_frames,
    modules,
    tags_and_user,
    event_and_user_reports,
    earlier_warnings,
    all_but_the_names,
];

/// The report as JSON of at most `bytes_max` bytes, or of [`REPORT_BYTES_MIN`] when `bytes_max` is less. `whole` is what
/// [`encode`] made of it, and is returned when it fits; else parts are left out and the last warning says which.
#[must_use]
pub fn fit(mut report: Report, whole: &Bytes, bytes_max: usize) -> Bytes {
    if whole.len() <= bytes_max {
        return whole.clone();
    }
    let mut left_out: Vec<String> = Vec::new();
    let mut json = Bytes::new();
    for cut in CUTS {
        if !left_out.is_empty() {
            report.processing.warnings.pop();
        }
        let what = cut(&mut report);
        let is_new = what.is_some();
        left_out.extend(what);
        if !left_out.is_empty() {
            report.processing.warnings.push(format!(
                "left out to fit {bytes_max} bytes, whole in the storage: {}",
                left_out.join(", ")
            ));
        }
        if is_new {
            json = encode(&report);
            if json.len() <= bytes_max {
                break;
            }
        }
    }
    json
}

fn minidump_json(report: &mut Report) -> Option<String> {
    report.crash.minidump.take()?;
    Some("rust-minidump's JSON".into())
}

fn other_threads(report: &mut Report) -> Option<String> {
    let details = &mut report.crash;
    let threads = std::mem::take(&mut details.threads);
    let all = threads.len();
    let index = details
        .crash
        .as_mut()
        .and_then(|crash| crash.thread.as_mut());
    if let Some(index) = index {
        details.threads.extend(threads.into_iter().nth(*index));
        *index = 0;
    }
    let gone = all - details.threads.len();
    (gone > 0).then(|| format!("{gone} threads that did not crash"))
}

fn modules_without_frames(report: &mut Report) -> Option<String> {
    let CrashDetails {
        threads, modules, ..
    } = &mut report.crash;
    let frames = threads.iter().flat_map(|thread| &thread.frames);
    let named: HashSet<&str> = frames.filter_map(|frame| frame.module.as_deref()).collect();
    let all = modules.len();
    modules.retain(|module| {
        let name = module.name.rsplit(['/', '\\']).next();
        name.is_some_and(|name| named.contains(name))
    });
    let gone = all - modules.len();
    (gone > 0).then(|| format!("{gone} modules without frames here"))
}

fn extra(report: &mut Report) -> Option<String> {
    let extra = std::mem::take(&mut report.extra);
    (!extra.is_empty()).then(|| format!("{} extra values", extra.len()))
}

fn breadcrumbs(report: &mut Report) -> Option<String> {
    let breadcrumbs = std::mem::take(&mut report.breadcrumbs);
    (!breadcrumbs.is_empty()).then(|| format!("{} breadcrumbs", breadcrumbs.len()))
}

fn event_beside_the_error(report: &mut Report) -> Option<String> {
    let all = report.event.len();
    let is_kept = |name: &str| ERROR_FIELDS.contains(&name);
    report.event.retain(|name, _| is_kept(name));
    let gone = all - report.event.len();
    (gone > 0).then(|| format!("{gone} fields of the client's event"))
}

fn contexts(report: &mut Report) -> Option<String> {
    let contexts = std::mem::take(&mut report.contexts);
    (!contexts.is_empty()).then(|| format!("{} contexts", contexts.len()))
}

fn event_and_user_reports(report: &mut Report) -> Option<String> {
    let event = std::mem::take(&mut report.event);
    let told = std::mem::take(&mut report.user_reports);
    let any = !event.is_empty() || !told.is_empty();
    any.then(|| "the client's event and users' reports".into())
}

fn annotations(report: &mut Report) -> Option<String> {
    let annotations = std::mem::take(&mut report.crash.annotations);
    (!annotations.is_empty()).then(|| format!("{} annotations", annotations.len()))
}

fn outer_frames(report: &mut Report) -> Option<String> {
    let mut gone = 0;
    for thread in &mut report.crash.threads {
        gone += thread.frames.len().saturating_sub(FRAMES_KEPT);
        thread.frames.truncate(FRAMES_KEPT);
    }
    (gone > 0).then(|| format!("{gone} outer frames"))
}

fn modules(report: &mut Report) -> Option<String> {
    let modules = std::mem::take(&mut report.crash.modules);
    (!modules.is_empty()).then(|| format!("{} more modules", modules.len()))
}

fn tags_and_user(report: &mut Report) -> Option<String> {
    let tags = std::mem::take(&mut report.tags);
    let user = report.user.take();
    (!tags.is_empty() || user.is_some()).then(|| "tags and user".into())
}

fn earlier_warnings(report: &mut Report) -> Option<String> {
    let warnings = std::mem::take(&mut report.processing.warnings);
    (!warnings.is_empty()).then(|| format!("{} warnings", warnings.len()))
}

/// Leaves ids, times, and the shortened names of the crash: a report that never passes [`REPORT_BYTES_MIN`].
fn all_but_the_names(report: &mut Report) -> Option<String> {
    let shorten = |text: &mut String| {
        if let Some((end, _)) = text.char_indices().nth(SMALLEST_TEXT_CHARS_MAX) {
            text.truncate(end);
        }
    };
    let details = std::mem::take(&mut report.crash);
    report.crash.crash = details.crash;
    report.crash.signature = details.signature;
    if let Some(crash) = &mut report.crash.crash {
        crash.thread = None;
        crash.address.iter_mut().for_each(shorten);
        shorten(&mut crash.kind);
        shorten(&mut crash.reason);
    }
    report.crash.signature.iter_mut().for_each(shorten);
    report.release.iter_mut().for_each(shorten);
    report.environment.iter_mut().for_each(shorten);
    for word in [&mut report.platform, &mut report.level] {
        word.take_if(|word| word.len() > SMALLEST_WORD_BYTES_MAX);
    }
    shorten(&mut report.processing.parser);
    report.client = Client::default();
    report.attachments.clear();
    report.processing.warnings.clear();
    Some("all but the names".into())
}
