//! Crash uploads as Crashpad, Breakpad and Mozilla write them: a form with files, or the dump itself as the body.

use bytes::Bytes;
use memchr::memmem;
use shared::envelope::AttachmentKind;

use super::{FORMAT_BYTES, Pieces, first_piece, more_of, read_file, role};
use crate::error::Rejection;
use crate::limits::BOUNDARY_BYTES_MAX;
use crate::multipart::{MultipartError, Parser, Step};
use crate::part_head::PartHead;
use crate::upload::{EventData, FileHead, Role, UploadBuilder};
use crate::validate::starts_as_minidump;

/// How the headers of a form's part begin.
const PART_HEADER: &[u8] = b"content-";
/// Enough of a form to see its first boundary and the start of a header.
const BOUNDARY_LINE_BYTES: usize = BOUNDARY_BYTES_MAX + 2 + 2 + PART_HEADER.len();

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
    let mut start = first_piece(reader, FORMAT_BYTES).await?;
    if start.starts_with(b"--") {
        start = more_of(start, reader, BOUNDARY_LINE_BYTES).await?;
    }
    if is_multipart(content_type) && !starts_as_minidump(&start) {
        let (parser, odd) = form_parser(content_type, &start)?;
        let mut odd: Vec<String> = odd.into_iter().collect();
        odd.extend(read_form(reader, parser, start, Naming::Crash, upload).await?);
        return Ok(odd);
    }
    let head = FileHead {
        role: Role::Minidump,
        name: None,
        content_type: None,
    };
    read_file(reader, start, head, upload).await?;
    Ok(Vec::new())
}

/// By the boundary of the content type; when that is none, or the body begins with another, by the body's own.
fn form_parser(
    content_type: &str,
    start: &[u8],
) -> Result<(Parser, Option<String>), MultipartError> {
    let parser = Parser::new(content_type);
    let Some(boundary) = first_boundary(start) else {
        return Ok((parser?, None));
    };
    let fits = |parser: &Parser| parser.delimiter()[2..] == *boundary.as_bytes();
    match parser {
        Ok(parser) if fits(&parser) => Ok((parser, None)),
        Ok(_) | Err(_) => {
            let odd = "the boundary in the content type is not the one in the body".to_owned();
            Ok((Parser::with_boundary(boundary)?, Some(odd)))
        }
    }
}

/// The boundary that a form begins with: its first line, before the headers of the first part.
pub(super) fn first_boundary(start: &[u8]) -> Option<&str> {
    let rest = start.strip_prefix(b"--")?;
    let end = memmem::find(rest, b"\r\n")?;
    let (line, headers) = rest.split_at(end);
    let is_part = headers.get(2..2 + PART_HEADER.len())?;
    if !is_part.eq_ignore_ascii_case(PART_HEADER) {
        return None;
    }
    let boundary = std::str::from_utf8(line).ok()?;
    Some(boundary.trim_end_matches([' ', '\t']))
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
    let mut odd = None;
    while let Some(bytes) = piece {
        // What follows something broken is only waited for: the client wants to send all of it.
        if read.is_ok() {
            parser.push(bytes);
            read = take_steps(&mut parser, naming, &mut odd, upload).await;
        }
        piece = reader.next().await?;
    }
    let read = read.and_then(|()| Ok(parser.finish()?));
    let broken = upload.forgive(read)?;
    let repaired = parser
        .repaired()
        .then(|| "a part's end had no line break before its boundary".to_owned());
    let fault = parser
        .fault()
        .map(|fault| format!("a part is not used: {fault}"));
    let odd = odd.map(|odd| format!("a line of a part's head is not used: {odd}"));
    Ok([repaired, fault, odd, broken]
        .into_iter()
        .flatten()
        .collect())
}

async fn take_steps(
    parser: &mut Parser,
    naming: Naming,
    odd: &mut Option<MultipartError>,
    upload: &mut UploadBuilder,
) -> Result<(), Rejection> {
    loop {
        match parser.step()? {
            Step::Part(mut head) => {
                *odd = odd.take().or(head.odd.take());
                begin_part(head, naming, upload);
            }
            Step::Content(bytes) => upload.append(&bytes).await?,
            Step::PartEnd => {
                upload.end_part();
            }
            Step::More => return Ok(()),
        }
    }
}

/// A part is a file when it has a file name, be it empty, or when its name says what it is; a form field otherwise.
fn begin_part(head: PartHead, naming: Naming, upload: &mut UploadBuilder) {
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
