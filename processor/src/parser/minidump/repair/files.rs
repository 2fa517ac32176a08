//! Text files of Linux in a dump, and the dump writer's own errors: too long ones are cut; a mapping that cannot be read
//! costs itself only. Pure.

use std::borrow::Cow;

use minidump::format::MINIDUMP_STREAM_TYPE as Kind;
use minidump::{Endian, MinidumpLinuxMaps, MinidumpStream as _};

use super::super::limits::{
    LINUX_FILE_BYTES_MAX, LINUX_MAPS_BYTES_MAX, SOFT_ERRORS_BYTES_MAX, TEXT_BYTES_MAX,
};
use super::patch::Patch;
use super::text::cut_lines;

/// Files of which lines become texts of the report.
const FILES: [Kind; 5] = [
    Kind::LinuxCpuInfo,
    Kind::LinuxProcStatus,
    Kind::LinuxLsbRelease,
    Kind::LinuxEnviron,
    Kind::MozLinuxLimits,
];

/// Repairs all files; says how many say something.
pub(super) fn files(patch: &mut Patch<'_>) -> usize {
    let mut found = 0;
    for kind in FILES {
        let Some(file) = patch.stream(kind) else {
            continue;
        };
        found += usize::from(!file.trim_ascii().is_empty());
        let kept = &file[..file.len().min(LINUX_FILE_BYTES_MAX)];
        match cut_lines(kept) {
            Some(cut) => patch.replace(kind, &cut),
            None if kept.len() < file.len() => patch.shorten(kind, kept.len()),
            None => continue,
        }
        patch
            .warnings
            .push(format!("{kind:?} is cut: it has {} bytes", file.len()));
    }
    found + usize::from(maps(patch)) + usize::from(soft_errors(patch))
}

/// `/proc/PID/maps`: rust-minidump gives up all of it for one line that it cannot read.
fn maps(patch: &mut Patch<'_>) -> bool {
    let Some(file) = patch.stream(Kind::LinuxMaps) else {
        return false;
    };
    let kept = &file[..file.len().min(LINUX_MAPS_BYTES_MAX)];
    let is_short = |line: &[u8]| line.len() <= TEXT_BYTES_MAX;
    let mut lines = kept.split(|byte| *byte == b'\n');
    if kept.len() == file.len() && lines.all(is_short) && is_readable(kept) {
        return !kept.trim_ascii().is_empty();
    }
    let lines: Vec<&[u8]> = kept.split(|byte| *byte == b'\n').collect();
    let all = lines.iter().filter(|line| !line.is_empty()).count();
    let good: Vec<Cow<'_, str>> = lines
        .into_iter()
        .filter(|line| !line.is_empty() && is_short(line))
        .map(String::from_utf8_lossy)
        .filter(|line| is_readable(line.as_bytes()))
        .collect();
    let count = good.len();
    let mut text = good.join("\n");
    text.push('\n');
    patch.replace(Kind::LinuxMaps, text.as_bytes());
    patch.warnings.push(format!(
        "the memory mappings are damaged: {count} of {all} can be read"
    ));
    count > 0
}

/// The library is its own judge; byte order and the rest of the dump do not matter to it here.
fn is_readable(maps: &[u8]) -> bool {
    MinidumpLinuxMaps::read(maps, maps, Endian::Little, None).is_ok()
}

fn soft_errors(patch: &mut Patch<'_>) -> bool {
    let Some(list) = patch.stream(Kind::MozSoftErrors) else {
        return false;
    };
    if list.len() > SOFT_ERRORS_BYTES_MAX {
        patch.warnings.push(format!(
            "the dump writer's errors are left out: {} bytes",
            list.len()
        ));
        patch.remove(Kind::MozSoftErrors);
        return false;
    }
    !list.is_empty()
}
