//! All that is told of one dump, cut down to a size. Pure.

use std::collections::HashSet;
use std::io::{self, Write};

use serde::Serialize;
use shared::report::{CrashDetails, Frame, Thread};

use super::limits::WARNINGS_MAX;

/// Innermost frames of the crashing thread that go late.
const FRAMES_KEPT: usize = 64;
/// No byte of a text takes more in JSON: `\u0001`.
const ESCAPED_BYTES_MAX: usize = 6;
/// What JSON adds to the texts of a frame, a thread, a module, an annotation, and to all else.
const FRAME_BYTES: usize = 200;
const THREAD_BYTES: usize = 80;
const MODULE_BYTES: usize = 400;
const ANNOTATION_BYTES: usize = 8;
const OTHER_BYTES: usize = 16 << 10;

/// Takes something out until so many bytes are gone; says what went and its bytes.
type Cut = fn(&mut CrashDetails, usize) -> (String, usize);

/// What goes, in this order: first what tells least about the crash.
const CUTS: [Cut; 6] = [
    other_threads_frames,
    modules_without_frames,
    annotations,
    other_threads,
    outer_frames,
    modules,
];

/// Cuts `details` to `bytes_max` bytes of JSON and says in `warnings` what went; returns the bytes that are left, or more.
pub(super) fn cut_down(
    details: &mut CrashDetails,
    bytes_max: usize,
    warnings: &mut Vec<String>,
) -> usize {
    let likely = bytes_at_most(details);
    if likely <= bytes_max / 2 {
        return likely;
    }
    let mut bytes = json_bytes(details);
    let mut gone: Vec<String> = Vec::new();
    for cut in CUTS {
        let Some(excess) = bytes.checked_sub(bytes_max).filter(|excess| *excess > 0) else {
            break;
        };
        let (what, freed) = cut(details, excess);
        if freed > 0 {
            gone.push(what);
            bytes = bytes.saturating_sub(freed);
        }
    }
    if !gone.is_empty() {
        warnings.push(format!(
            "the dump tells more than {bytes_max} bytes: left out are {}",
            gone.join(", ")
        ));
    }
    bytes
}

/// Keeps the first warnings, and counts the rest.
pub(super) fn cut_warnings(warnings: &mut Vec<String>) {
    let more = warnings.len().saturating_sub(WARNINGS_MAX);
    if more > 0 {
        warnings.truncate(WARNINGS_MAX);
        warnings.push(format!("and {more} more warnings about the dump"));
    }
}

/// Takes what is written up to a bound, beyond which writing fails.
pub(super) struct Bounded {
    pub(super) bytes: Vec<u8>,
    bytes_max: usize,
}

impl Bounded {
    pub(super) fn new(bytes_max: usize, likely: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(likely.min(bytes_max)),
            bytes_max,
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what is written.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0 += piece.len();
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn json_bytes(value: &impl Serialize) -> usize {
    let mut counter = Counter(0);
    // INVARIANT: a report is texts and numbers under text keys, which always make JSON; counting does not fail.
    serde_json::to_writer(&mut counter, value).expect("reports encode");
    counter.0
}

/// An upper bound of the JSON's bytes, without writing it.
fn bytes_at_most(details: &CrashDetails) -> usize {
    let frame = |frame: &Frame| {
        let texts = [&frame.module, &frame.function, &frame.file];
        let texts = texts.map(|text| text.as_ref().map_or(0, String::len));
        FRAME_BYTES + ESCAPED_BYTES_MAX * texts.iter().sum::<usize>()
    };
    let thread = |thread: &Thread| {
        let name = thread.name.as_ref().map_or(0, String::len);
        let frames: usize = thread.frames.iter().map(frame).sum();
        THREAD_BYTES + ESCAPED_BYTES_MAX * name + frames
    };
    let threads: usize = details.threads.iter().map(thread).sum();
    let modules = details.modules.iter();
    let modules: usize = modules
        .map(|module| {
            let ids = [&module.debug_id, &module.code_id];
            let ids = ids.map(|id| id.as_ref().map_or(0, String::len));
            let texts = module.name.len() + ids.iter().sum::<usize>();
            MODULE_BYTES + ESCAPED_BYTES_MAX * texts
        })
        .sum();
    let annotations = details.annotations.iter();
    let annotations: usize = annotations
        .map(|(name, value)| ANNOTATION_BYTES + ESCAPED_BYTES_MAX * (name.len() + value.len()))
        .sum();
    OTHER_BYTES + threads + modules + annotations
}

fn crashed(details: &CrashDetails) -> Option<usize> {
    details.crash.as_ref().and_then(|crash| crash.thread)
}

/// The threads that did not crash keep their innermost frame, the last ones losing theirs first.
fn other_threads_frames(details: &mut CrashDetails, excess: usize) -> (String, usize) {
    let crashed = crashed(details);
    let (mut freed, mut count) = (0, 0);
    for (index, thread) in details.threads.iter_mut().enumerate().rev() {
        if freed >= excess || Some(index) == crashed {
            continue;
        }
        let outer = thread.frames.get(1..).unwrap_or_default();
        freed += outer.iter().map(json_bytes).sum::<usize>();
        count += outer.len();
        thread.frames.truncate(1);
    }
    (
        format!("{count} frames of threads that did not crash"),
        freed,
    )
}

fn modules_without_frames(details: &mut CrashDetails, excess: usize) -> (String, usize) {
    let frames = details.threads.iter().flat_map(|thread| &thread.frames);
    let named: HashSet<&str> = frames.filter_map(|frame| frame.module.as_deref()).collect();
    let (mut freed, mut count) = (0, 0);
    details.modules.retain(|module| {
        if freed >= excess || named.contains(super::file_name(&module.name)) {
            return true;
        }
        freed += json_bytes(module);
        count += 1;
        false
    });
    (format!("{count} modules without frames"), freed)
}

/// The longest first.
fn annotations(details: &mut CrashDetails, excess: usize) -> (String, usize) {
    let all = details.annotations.iter();
    let mut sizes: Vec<(usize, String)> = all
        .map(|(name, value)| (json_bytes(name) + json_bytes(value), name.clone()))
        .collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let (mut freed, mut count) = (0, 0);
    for (bytes, name) in sizes {
        if freed >= excess {
            break;
        }
        details.annotations.remove(&name);
        freed += bytes;
        count += 1;
    }
    (format!("{count} annotations"), freed)
}

fn other_threads(details: &mut CrashDetails, excess: usize) -> (String, usize) {
    let crashed = crashed(details);
    let (mut freed, mut count, mut before) = (0, 0, 0);
    let mut index = details.threads.len();
    while index > 0 && freed < excess {
        index -= 1;
        if Some(index) == crashed {
            continue;
        }
        freed += json_bytes(&details.threads.remove(index));
        count += 1;
        before += usize::from(crashed.is_some_and(|crashed| index < crashed));
    }
    if let Some(crash) = &mut details.crash {
        crash.thread = crash.thread.map(|crashed| crashed - before);
    }
    (format!("{count} threads that did not crash"), freed)
}

fn outer_frames(details: &mut CrashDetails, _excess: usize) -> (String, usize) {
    let (mut freed, mut count) = (0, 0);
    for thread in &mut details.threads {
        let outer = thread.frames.get(FRAMES_KEPT..).unwrap_or_default();
        freed += outer.iter().map(json_bytes).sum::<usize>();
        count += outer.len();
        thread.frames.truncate(FRAMES_KEPT);
    }
    (format!("{count} outer frames"), freed)
}

fn modules(details: &mut CrashDetails, _excess: usize) -> (String, usize) {
    let modules = std::mem::take(&mut details.modules);
    let freed = modules.iter().map(json_bytes).sum();
    (format!("{} more modules", modules.len()), freed)
}
