//! What is read before a body's next piece: bytes that were read before, and come once more.

use bytes::Bytes;
use shared::content::Content;
use shared::content_reader::ContentReader;

use super::Pieces;
use super::wrapped::Unwrapped;
use crate::error::Rejection;

/// A pile of what comes once more; what was put last comes first.
#[derive(Default)]
pub(super) struct Backlog(Vec<Entry>);

enum Entry {
    Bytes(Bytes),
    Content(Unwrapped),
}

impl Backlog {
    pub(super) fn put_bytes(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push(Entry::Bytes(bytes));
        }
    }

    pub(super) fn put_content(&mut self, content: Content) {
        let reader = ContentReader::new(content);
        self.0
            .push(Entry::Content(Unwrapped::new(Box::new(reader), None)));
    }

    /// The next bytes; of the body when there are no others.
    pub(super) async fn next(
        &mut self,
        body: &mut impl Pieces,
    ) -> Result<Option<Bytes>, Rejection> {
        while let Some(entry) = self.0.pop() {
            match entry {
                Entry::Bytes(bytes) => return Ok(Some(bytes)),
                Entry::Content(mut content) => {
                    if let Some(piece) = content.next().await? {
                        self.0.push(Entry::Content(content));
                        return Ok(Some(piece));
                    }
                }
            }
        }
        body.next().await
    }
}
