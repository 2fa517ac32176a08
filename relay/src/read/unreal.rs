//! Unreal Engine's crash archives: each of their files becomes one of the upload's.

use shared::envelope::AttachmentKind;

use super::Pieces;
use crate::error::Rejection;
use crate::unreal::archive::{Parser, Step};
use crate::unreal::kind_of;
use crate::upload::{EventData, File, FileHead, Role, UploadBuilder};

/// The files of an archive, which the reader has decompressed.
pub(crate) async fn read_archive(
    reader: &mut impl Pieces,
    upload: &mut UploadBuilder,
) -> Result<(), Rejection> {
    let mut parser = Parser::default();
    while let Some(piece) = reader.next().await? {
        parser.push(piece);
        loop {
            match parser.step()? {
                Step::File { name, .. } => upload.begin_file(FileHead {
                    role: Role::Attachment(AttachmentKind::Plain),
                    name: Some(name),
                    content_type: None,
                })?,
                Step::Content(bytes) => upload.append(&bytes).await?,
                Step::FileEnd => {
                    upload.end_part();
                    upload.name_role(role);
                }
                Step::More => break,
            }
        }
    }
    parser.finish()?;
    Ok(())
}

/// What a file of an archive is: the first bytes of it have to be known.
fn role(file: &File) -> Role {
    let kind = kind_of(file.head.name.as_deref().unwrap_or_default(), &file.start);
    if kind == EventData::UnrealContext.kind() {
        Role::EventData(EventData::UnrealContext)
    } else if kind == EventData::UnrealLog.kind() {
        Role::EventData(EventData::UnrealLog)
    } else if kind == AttachmentKind::Minidump {
        Role::Minidump
    } else {
        Role::Attachment(kind)
    }
}
