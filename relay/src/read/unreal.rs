//! Unreal Engine's crash archives: each of their files becomes one of the upload's.

use shared::envelope::AttachmentKind;

use super::Pieces;
use crate::error::Rejection;
use crate::unreal::archive::{Parser, Step};
use crate::unreal::kind_of;
use crate::upload::{EventData, FileHead, Role, UploadBuilder};

/// The files of an archive, which the reader has decompressed. What was odd is returned as a sentence.
pub(crate) async fn read_archive(
    reader: &mut impl Pieces,
    upload: &mut UploadBuilder,
) -> Result<Option<String>, Rejection> {
    let mut parser = Parser::default();
    let mut read = Ok(());
    while let Some(piece) = reader.next().await? {
        // What follows something broken is only waited for: the client wants to send all of it.
        if read.is_ok() {
            parser.push(piece);
            read = take_steps(&mut parser, upload).await;
        }
    }
    let read = read.and_then(|()| Ok(parser.finish().map(drop)?));
    upload.forgive(read)
}

async fn take_steps(parser: &mut Parser, upload: &mut UploadBuilder) -> Result<(), Rejection> {
    loop {
        match parser.step()? {
            Step::File { name, .. } => upload.begin_file(FileHead {
                role: role(&name, &[]),
                name: Some(name),
                content_type: None,
            }),
            Step::Content(bytes) => upload.append(&bytes).await?,
            Step::FileEnd => end_file(upload),
            Step::More => return Ok(()),
        }
    }
}

fn end_file(upload: &mut UploadBuilder) {
    if let Some((_, true)) = upload.end_part() {
        upload.name_role(|file| {
            let name = file.head.name.as_deref().unwrap_or_default();
            role(name, &file.start)
        });
    }
}

/// What a file of an archive is: for certain once its first bytes are known.
fn role(name: &str, start: &[u8]) -> Role {
    let kind = kind_of(name, start);
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
