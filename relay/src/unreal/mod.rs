//! What Unreal Engine's CrashReportClient sends: an archive of its own, inside which are the dump, the engine's account
//! of the crash and its log.

pub mod archive;
mod breadcrumbs;
pub mod context;
mod text;
mod xml;

use shared::envelope::AttachmentKind;

use crate::validate::starts_as_minidump;

/// The file with the engine's account of the crash.
const CONTEXT_FILE: &str = "CrashContext.runtime-xml";

/// What a file of an archive is, by its name and its first bytes. The engine calls any dump `.dmp`: on Macs that is
/// Apple's crash report, a text.
#[must_use]
pub fn kind_of(file_name: &str, start: &[u8]) -> AttachmentKind {
    let ends_with = |extension: &str| {
        let at = file_name.len().checked_sub(extension.len());
        at.and_then(|at| file_name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(extension))
    };
    if file_name.eq_ignore_ascii_case(CONTEXT_FILE) {
        AttachmentKind::Other("unreal.context".into())
    } else if starts_as_minidump(start) {
        AttachmentKind::Minidump
    } else if ends_with(".log") {
        AttachmentKind::Other("unreal.logs".into())
    } else if start.starts_with(b"Incident Identifier:") {
        AttachmentKind::Other("event.applecrashreport".into())
    } else if ends_with(".dmp") {
        AttachmentKind::Minidump
    } else {
        AttachmentKind::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_name_and_by_their_first_bytes() {
        for (name, start, kind) in [
            ("CrashContext.runtime-xml", "<?xml", "unreal.context"),
            ("UEMinidump.dmp", "MDMP", "event.minidump"),
            ("UE4Minidump.DMP", "", "event.minidump"),
            (
                "minidump.dmp",
                "Incident Identifier: 1",
                "event.applecrashreport",
            ),
            ("crash", "PMDM", "event.minidump"),
            ("MyProject.log", "\u{feff}Log file open", "unreal.logs"),
            ("CrashReportClient.ini", "[", "event.attachment"),
            ("log", "", "event.attachment"),
            ("ü", "", "event.attachment"),
            ("", "", "event.attachment"),
        ] {
            assert_eq!(kind_of(name, start.as_bytes()).as_str(), kind, "{name}");
        }
    }
}
