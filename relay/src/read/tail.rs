//! A body whose end is broken or too much: it ends there, and what came before it may be the crash all the same.

use bytes::Bytes;

use super::Pieces;
use crate::container::ContainerError;
use crate::decode::BodyError;
use crate::error::Rejection;
use crate::seal::Need;
use crate::upload::UploadBuilder;

/// A body that ends where it cannot be read on.
pub(crate) struct Tail<P> {
    body: P,
    end: Option<End>,
}

/// Why a body ends early.
enum End {
    TooLarge(Rejection),
    Broken(Rejection),
}

impl<P: Pieces> Tail<P> {
    pub(crate) fn new(body: P) -> Self {
        Self { body, end: None }
    }

    /// Whether more of the body was to come than is read.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self.end, Some(End::TooLarge(_)))
    }

    /// What became of the body: what it was read as, and a sentence when its end is missing and nothing depends on it.
    ///
    /// # Errors
    /// What is wrong with the body, or with what was read of it.
    pub(crate) fn settle<T>(
        self,
        read: Result<T, Rejection>,
        need: Need,
        upload: &UploadBuilder,
    ) -> Result<(T, Option<String>), Rejection> {
        let (is_harmless, broken) = match self.end {
            None => return read.map(|read| (read, None)),
            // More of the dump, or the dump itself, may have been to come.
            Some(End::TooLarge(broken)) => (upload.has_dump() && !upload.ends_with_dump(), broken),
            Some(End::Broken(broken)) => {
                let is_enough = need == Need::Anything && !upload.is_empty();
                (upload.has_crash() || is_enough, broken)
            }
        };
        match read {
            Ok(read) if is_harmless => Ok((
                read,
                Some(format!("the end of the body is not used: {broken}")),
            )),
            Ok(_) | Err(_) => Err(broken),
        }
    }
}

impl<P: Pieces + Send> Pieces for Tail<P> {
    async fn next(&mut self) -> Result<Option<Bytes>, Rejection> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.end = Some(match self.body.next().await {
            Err(large @ Rejection::TooLarge(_)) => End::TooLarge(large),
            Err(
                broken @ (Rejection::Container(ContainerError::Broken { .. })
                | Rejection::Body(BodyError::BrokenEncoding { .. })),
            ) => End::Broken(broken),
            read => return read,
        });
        Ok(None)
    }
}
