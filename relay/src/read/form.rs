//! Crash uploads as Crashpad, Breakpad and Mozilla write them: a form with files, or the dump itself as the body.

use bytes::Bytes;
use shared::envelope::AttachmentKind;

use super::{Pieces, first_piece, read_file, role};
use crate::error::Rejection;
use crate::multipart::{Parser, Step};
use crate::part_head::PartHead;
use crate::upload::{FileHead, Role, UploadBuilder};
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
    while let Some(bytes) = piece {
        parser.push(bytes);
        loop {
            match parser.step()? {
                Step::Part(head) => begin_part(head, naming, upload)?,
                Step::Content(bytes) => upload.append(&bytes).await?,
                Step::PartEnd => upload.end_part(),
                Step::More => break,
            }
        }
        piece = reader.next().await?;
    }
    parser.finish()?;
    let repaired = parser
        .repaired()
        .then(|| "a part's end had no line break before its boundary".to_owned());
    Ok(repaired.into_iter().collect())
}

/// A part is a file when it has a file name, be it empty, and a form field otherwise.
fn begin_part(head: PartHead, naming: Naming, upload: &mut UploadBuilder) -> Result<(), Rejection> {
    let part = head.name.unwrap_or_default();
    let Some(name) = head.file_name else {
        return upload.begin_field(part);
    };
    let role = naming.role(&part);
    // A file without a name of its own has its part's, but for the dump, whose part has the same name everywhere.
    let named = role == Role::Minidump || !name.is_empty();
    upload.begin_file(FileHead {
        role,
        name: Some(if named { name } else { part }),
        content_type: head.content_type,
    })
}
