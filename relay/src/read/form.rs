//! Crash uploads as Crashpad, Breakpad and Mozilla write them: a form with files, or the dump itself as the body.

use bytes::Bytes;
use shared::envelope::AttachmentKind;

use super::{Pieces, first_piece, read_file, role};
use crate::error::Rejection;
use crate::multipart::{Parser, Step};
use crate::part_head::PartHead;
use crate::upload::{EventData, FileHead, Role, UploadBuilder};
use crate::validate::starts_as_minidump;

/// What a form's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Known by the names of their parts.
    Crash,
    /// Files of a crash that came before.
    Late,
}

impl Naming {
    fn role(self, part: &str) -> Role {
        match self {
            Self::Crash => role(part),
            Self::Late => Role::Attachment(AttachmentKind::Plain),
        }
    }
}

/// A body that starts as a dump does is one, whatever its content type; so is one that does not claim to be multipart.
/// What was odd is returned as sentences.
pub(crate) async fn read_upload(
    reader: &mut impl Pieces,
    content_type: &str,
    upload: &mut UploadBuilder,
) -> Result<Vec<String>, Rejection> {
    let start = first_piece(reader).await?;
    if is_multipart(content_type) && !starts_as_minidump(&start) {
        let parser = Parser::new(content_type)?;
        return read_form(reader, parser, start, Naming::Crash, upload).await;
    }
    let head = FileHead {
        role: Role::Minidump,
        name: None,
        content_type: None,
    };
    read_file(reader, start, head, upload).await?;
    Ok(Vec::new())
}

fn is_multipart(content_type: &str) -> bool {
    content_type
        .trim_start()
        .get(..10)
        .is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
}

/// The parts of a form, of which `start` is read already. What was odd is returned as sentences.
pub(crate) async fn read_form(
    reader: &mut impl Pieces,
    mut parser: Parser,
    start: Bytes,
    naming: Naming,
    upload: &mut UploadBuilder,
) -> Result<Vec<String>, Rejection> {
    let mut piece = Some(start);
    let mut read = Ok(());
    while let Some(bytes) = piece {
        // What follows something broken is only waited for: the client wants to send all of it.
        if read.is_ok() {
            parser.push(bytes);
            read = take_steps(&mut parser, naming, upload).await;
        }
        piece = reader.next().await?;
    }
    let read = read.and_then(|()| Ok(parser.finish()?));
    let broken = upload.forgive(read)?;
    let repaired = parser
        .repaired()
        .then(|| "a part's end had no line break before its boundary".to_owned());
    Ok(repaired.into_iter().chain(broken).collect())
}

async fn take_steps(
    parser: &mut Parser,
    naming: Naming,
    upload: &mut UploadBuilder,
) -> Result<(), Rejection> {
    loop {
        match parser.step()? {
            Step::Part(head) => begin_part(head, naming, upload)?,
            Step::Content(bytes) => upload.append(&bytes).await?,
            Step::PartEnd => upload.end_part(),
            Step::More => return Ok(()),
        }
    }
}

/// A part is a file when it has a file name, be it empty, or when its name says what it is; a form field otherwise.
fn begin_part(head: PartHead, naming: Naming, upload: &mut UploadBuilder) -> Result<(), Rejection> {
    let part = head.name.unwrap_or_default();
    let role = naming.role(&part);
    let is_file = match role {
        Role::Minidump => true,
        Role::EventData(EventData::Extra) => is_json(head.content_type.as_deref()),
        Role::EventData(_) => true,
        Role::Attachment(_) => false,
    };
    if head.file_name.is_none() && !is_file {
        return upload.begin_field(part);
    }
    let name = head.file_name.unwrap_or_default();
    // A file without a name of its own has its part's, but for the dump, whose part has the same name everywhere.
    let named = role == Role::Minidump || !name.is_empty();
    upload.begin_file(FileHead {
        role,
        name: Some(if named { name } else { part }),
        content_type: head.content_type,
    })
}

fn is_json(media_type: Option<&str>) -> bool {
    let media_type = media_type.and_then(|media_type| media_type.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}
