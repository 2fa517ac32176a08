//! Dumps that come wrapped: compressed within their part, or as a form within the form.

use std::io::{self, Read};

use bytes::Bytes;
use memchr::memmem;
use shared::content::Content;
use shared::content_reader::ContentReader;

use super::form::Naming;
use super::{Pieces, first_piece, read_file, read_form};
use crate::container::{self, Container};
use crate::decode::WideDecoders;
use crate::error::Rejection;
use crate::inflation::Inflation;
use crate::limits::{UNWRAPPED_PIECE_BYTES, WRAPPINGS_MAX};
use crate::multipart::Parser;
use crate::upload::{File, FileHead, Role, UploadBuilder};

/// How the headers of a form's part begin.
const PART_HEADER: &[u8] = b"content-";

/// What a dump is wrapped in.
enum Wrapping {
    Container(Container),
    /// Electron on Linux, up to 15, sends a whole form as the file of a form.
    Form(Box<Parser>),
}

/// Reads what is wrapped in the place of the dump once more, until a dump is there or what is there is no wrapping.
/// What was odd is returned as sentences.
pub(crate) async fn unwrap(
    upload: &mut UploadBuilder,
    unwrappers: &WideDecoders,
    inflation: Inflation,
) -> Result<Vec<String>, Rejection> {
    let mut warnings = Vec::new();
    for _ in 0..WRAPPINGS_MAX {
        let files = upload.files().iter();
        let dump = files.enumerate().find(|(_, file)| is_dump(file));
        let wrapped = dump.and_then(|(at, file)| Some((at, wrapping(&file.start)?)));
        let Some((at, wrapping)) = wrapped else {
            break;
        };
        let _turn = unwrappers.any_turn().await?;
        let (file, content) = upload.take_file(at).await?;
        warnings.extend(match wrapping {
            Wrapping::Form(parser) => read_nested(content, *parser, upload).await?,
            Wrapping::Container(container) => {
                inflate(file, container, content, inflation, upload).await?
            }
        });
    }
    Ok(warnings)
}

fn is_dump(file: &File) -> bool {
    file.head.role == Role::Minidump
}

fn wrapping(start: &[u8]) -> Option<Wrapping> {
    if let Some(container) = container::sniff(start) {
        return Some(Wrapping::Container(container));
    }
    // Its boundary stands in no header: it is the first line, before the headers of the first part.
    let rest = start.strip_prefix(b"--")?;
    let end = memmem::find(rest, b"\r\n")?;
    let (line, headers) = rest.split_at(end);
    let is_part = headers.get(2..2 + PART_HEADER.len())?;
    if !is_part.eq_ignore_ascii_case(PART_HEADER) {
        return None;
    }
    let boundary = std::str::from_utf8(line).ok()?;
    let parser = Parser::with_boundary(boundary).ok()?;
    Some(Wrapping::Form(Box::new(parser)))
}

async fn read_nested(
    content: Content,
    parser: Parser,
    upload: &mut UploadBuilder,
) -> Result<Vec<String>, Rejection> {
    let mut pieces = Unwrapped::new(Box::new(ContentReader::new(content)), None);
    let start = first_piece(&mut pieces).await?;
    let mut warnings = read_form(&mut pieces, parser, start, Naming::Crash, upload).await?;
    warnings.push("the minidump was a form of its own, which was unwrapped".into());
    Ok(warnings)
}

async fn inflate(
    file: File,
    container: Container,
    content: Content,
    inflation: Inflation,
    upload: &mut UploadBuilder,
) -> Result<Vec<String>, Rejection> {
    let encoded = content.len();
    let opened = tokio::task::spawn_blocking(move || container::open(container, content)).await;
    let reader = opened.map_err(|_| Rejection::Stopping)??;
    let name = file.head.name.as_deref();
    let head = FileHead {
        name: name.map(|name| container::stem(name, container).to_owned()),
        ..file.head
    };
    let mut pieces = Unwrapped {
        bound: Some((inflation, encoded)),
        ..Unwrapped::new(reader, Some(container))
    };
    let start = first_piece(&mut pieces).await?;
    read_file(&mut pieces, start, head, upload).await?;
    Ok(Vec::new())
}

/// A reader's bytes, read on the threads for blocking work.
struct Unwrapped {
    /// `None` while a read is under way, and at the end.
    reader: Option<Box<dyn Read + Send>>,
    /// What its errors are about.
    container: Option<Container>,
    /// Of what is decompressed: how much it may become, and of how many bytes.
    bound: Option<(Inflation, u64)>,
    decoded: u64,
}

impl Unwrapped {
    fn new(reader: Box<dyn Read + Send>, container: Option<Container>) -> Self {
        Self {
            reader: Some(reader),
            container,
            bound: None,
            decoded: 0,
        }
    }
}

impl Pieces for Unwrapped {
    async fn next(&mut self) -> Result<Option<Bytes>, Rejection> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(None);
        };
        let read = move || {
            let mut piece = Vec::with_capacity(UNWRAPPED_PIECE_BYTES);
            let limit = UNWRAPPED_PIECE_BYTES as u64;
            reader.by_ref().take(limit).read_to_end(&mut piece)?;
            Ok((reader, piece))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let read: io::Result<_> = read.map_err(|_| Rejection::Stopping)?;
        let (reader, piece) = read.map_err(|error| match self.container {
            Some(container) => container::cause(container, error).into(),
            None => Rejection::Unreadable(error),
        })?;
        if piece.is_empty() {
            return Ok(None);
        }
        self.decoded += piece.len() as u64;
        if let Some((inflation, encoded)) = self.bound {
            inflation.check(encoded, self.decoded)?;
        }
        self.reader = Some(reader);
        Ok(Some(piece.into()))
    }
}
