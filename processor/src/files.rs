//! The files of an event on their way to the storage: whether they are what was sent, and how the report lists them.

use shared::envelope::{Attachment, AttachmentKind};
use shared::outcome::{CorruptAttachment, Failure};
use shared::report::ReportAttachment;

/// What is hashed at once.
const HASH_PIECE_BYTES: usize = 1 << 20;

/// What the warning about a dump that is not stored begins with.
const MINIDUMP_NOT_STORED: &str = "the minidump is not stored: privacy.minidump = ";

/// The files as the report lists them, and what is odd about them.
#[derive(Clone, Default)]
pub(crate) struct ReportFiles {
    pub(crate) stored: Vec<ReportAttachment>,
    pub(crate) warnings: Vec<String>,
}

impl ReportFiles {
    /// The raw dump that its project does not want stored.
    pub(crate) fn note_not_kept(&mut self, minidump: &Attachment, setting: &str) {
        self.warnings
            .push(format!("{MINIDUMP_NOT_STORED}{setting:?}"));
        self.stored.push(ReportAttachment {
            name: minidump.name.clone(),
            kind: minidump.kind.to_string(),
            size: minidump.content.len(),
            sha256: None,
            path: None,
            missing: None,
        });
    }

    /// The raw dump has been stored after all.
    pub(crate) fn note_kept(&mut self, minidump: ReportAttachment) {
        self.warnings
            .retain(|warning| !warning.starts_with(MINIDUMP_NOT_STORED));
        self.stored.retain(|stored| stored.kind != minidump.kind);
        self.stored.push(minidump);
    }

    /// An attachment besides the minidump that is not whole costs a warning, not the report.
    pub(crate) fn note_incomplete(&mut self, kind: &AttachmentKind, failure: &Failure) {
        let (name, size, missing, warning) = match failure {
            Failure::MissingChunks(attachments) => {
                let Some(missing) = attachments.first() else {
                    return;
                };
                let warning = format!(
                    "attachment {:?} is not stored: chunks {:?} of {} never came",
                    missing.attachment, missing.missing, missing.expected_chunks
                );
                (
                    missing.attachment.clone(),
                    missing.expected_bytes,
                    Some(missing.clone()),
                    warning,
                )
            }
            Failure::CorruptAttachment(corrupt) => {
                let CorruptAttachment {
                    attachment,
                    check,
                    expected,
                    found,
                } = corrupt;
                let warning = format!(
                    "attachment {attachment:?} is not stored: expected {check} {expected}, found {found}"
                );
                (attachment.clone(), 0, None, warning)
            }
            Failure::UnreadableMinidump { .. }
            | Failure::ParserCrashed { .. }
            | Failure::ParserTimeout { .. }
            | Failure::ParserOutOfMemory { .. }
            | Failure::LogTruncated(_) => return,
        };
        self.warnings.push(warning);
        self.stored.push(ReportAttachment {
            name,
            kind: kind.to_string(),
            size,
            sha256: None,
            path: None,
            missing,
        });
    }
}

/// Compares an attachment with the hash it was received under.
pub(crate) async fn corruption(attachment: &Attachment) -> Option<CorruptAttachment> {
    let expected = attachment.blake3?;
    let content = attachment.content.clone();
    let hash = move || {
        let mut hasher = blake3::Hasher::new();
        for piece in content.pieces(HASH_PIECE_BYTES) {
            match piece {
                Ok(piece) => hasher.update(&piece),
                Err(error) => return Err(error.to_string()),
            };
        }
        Ok(hasher.finalize())
    };
    let found = if attachment.content.is_in_memory() {
        hash()
    } else {
        tokio::task::spawn_blocking(hash)
            .await
            .unwrap_or_else(|error| Err(error.to_string()))
    };
    let found = match found {
        Ok(found) if found == expected => return None,
        Ok(found) => found.to_hex().to_string(),
        Err(unreadable) => unreadable,
    };
    Some(CorruptAttachment {
        attachment: attachment.name.clone(),
        check: "blake3".into(),
        expected: expected.to_hex().to_string(),
        found,
    })
}
