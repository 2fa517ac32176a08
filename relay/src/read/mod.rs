//! From a request body's pieces to the parts of an upload: one file for each format that clients write.

mod backlog;
mod buried;
mod envelope;
mod extent;
mod form;
mod tail;
mod unreal;
mod wrapped;

use bytes::{Bytes, BytesMut};
use shared::envelope::AttachmentKind;

pub(crate) use envelope::{Admit, Reference, read_items};
pub(crate) use form::{Naming, read_form, read_upload};
pub(crate) use tail::Tail;
pub(crate) use unreal::read_archive;
pub(crate) use wrapped::{Unwrappers, unwrap};

use crate::decode::BodyReader;
use crate::error::Rejection;
use crate::upload::{EventData, FileHead, Role, UploadBuilder};

/// The part that holds the dump, by the protocol of Breakpad and Crashpad.
const MINIDUMP_PART: &str = "upload_file_minidump";
/// Sentry's files of event data, as its SDKs send them beside the dump.
const EVENT_PART: &str = "__sentry-event";
const BREADCRUMB_PARTS: [&str; 2] = ["__sentry-breadcrumb1", "__sentry-breadcrumb2"];
/// Mozilla's crash annotations.
const EXTRA_PART: &str = "extra";
/// Sentry's picture of a program's windows.
const VIEW_HIERARCHY_PART: &str = "view-hierarchy.json";
const VIEW_HIERARCHY: &str = "event.view_hierarchy";

/// Where pieces come from: a request's body, or a file of it that is read once more.
pub(crate) trait Pieces {
    /// The next bytes, never empty; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Rejection>> + Send;
}

impl Pieces for BodyReader<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Rejection> {
        BodyReader::next(self).await
    }
}

/// Enough to know a format by.
pub(super) const FORMAT_BYTES: usize = 8;

/// The first bytes, so many at least when there are as many.
pub(super) async fn first_piece(
    reader: &mut impl Pieces,
    bytes: usize,
) -> Result<Bytes, Rejection> {
    let start = reader.next().await?.unwrap_or_default();
    more_of(start, reader, bytes).await
}

/// The first bytes, and as many behind them as make them so many.
async fn more_of(
    mut start: Bytes,
    reader: &mut impl Pieces,
    bytes: usize,
) -> Result<Bytes, Rejection> {
    while start.len() < bytes {
        let Some(piece) = reader.next().await? else {
            break;
        };
        let mut joined = BytesMut::from(&start[..]);
        joined.extend_from_slice(&piece);
        start = joined.freeze();
    }
    Ok(start)
}

/// One file that takes all the pieces there are.
async fn read_file(
    reader: &mut impl Pieces,
    start: Bytes,
    head: FileHead,
    upload: &mut UploadBuilder,
) -> Result<(), Rejection> {
    upload.begin_file(head);
    let mut piece = Some(start);
    while let Some(bytes) = piece {
        upload.append(&bytes).await?;
        // However short, it holds the buffer that it was read into.
        drop(bytes);
        piece = reader.next().await?;
    }
    upload.end_part();
    Ok(())
}

/// What a form's file is, by the name of its part.
fn role(part: &str) -> Role {
    match part {
        MINIDUMP_PART => Role::Minidump,
        EVENT_PART => Role::EventData(EventData::Event),
        EXTRA_PART => Role::EventData(EventData::Extra),
        VIEW_HIERARCHY_PART => Role::Attachment(AttachmentKind::from(VIEW_HIERARCHY)),
        part if BREADCRUMB_PARTS.contains(&part) => Role::EventData(EventData::Breadcrumbs),
        _ => Role::Attachment(AttachmentKind::Plain),
    }
}
