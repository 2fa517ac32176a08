//! Dumps that come wrapped: compressed within their part, or as a form within the form.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread::available_parallelism;

use bytes::Bytes;
use shared::content::Content;
use shared::content_reader::ContentReader;
use shared::envelope::AttachmentKind;
use tokio::sync::Semaphore;

use super::form::{Naming, first_boundary};
use super::{FORMAT_BYTES, Pieces, Tail, first_piece, read_file, read_form};
use crate::container::{self, Container};
use crate::error::Rejection;
use crate::inflation::Inflation;
use crate::limits::{
    COMPRESSED_FILES_MAX, CONTAINER_READ_BYTES, UNWRAPPED_FIRST_PIECES, UNWRAPPED_PIECE_BYTES,
    UNWRAPPING_WAIT, WRAPPINGS_MAX,
};
use crate::multipart::Parser;
use crate::places::{Party, Permit, Pool};
use crate::seal::Need;
use crate::upload::{File, FileHead, Role, UploadBuilder};
use crate::validate::starts_as_minidump;

/// What a dump is wrapped in.
enum Wrapping {
    Container(Container),
    /// Electron on Linux, up to 15, sends a whole form as the file of a form.
    Form(Box<Parser>),
}

/// What unwrapping is bounded by. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Unwrappers {
    /// Bytes of decoders.
    memory: Pool,
    /// Processor time for the first pieces of each.
    first_pieces: Arc<Semaphore>,
    /// The same for those behind: what becomes huge waits for itself alone.
    later_pieces: Arc<Semaphore>,
}

impl Unwrappers {
    /// Unwrappers with so much memory, and half of the processors for either kind of piece.
    pub(crate) fn new(memory: Pool) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let turns = || Arc::new(Semaphore::new((processors / 2).max(1)));
        Self {
            memory,
            first_pieces: turns(),
            later_pieces: turns(),
        }
    }

    /// Memory for a decoder, when it comes free in time.
    async fn memory(&self, party: &Party, bytes: usize) -> Result<Permit, Rejection> {
        let memory = self.memory.take(party, bytes as u64, UNWRAPPING_WAIT);
        memory.await.map_err(|_| Rejection::Overloaded)
    }

    /// Does a piece of work on the threads for it when its turn has come, by how many pieces came before.
    async fn work<T: Send + 'static>(
        &self,
        pieces: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let turns = if pieces < UNWRAPPED_FIRST_PIECES {
            &self.first_pieces
        } else {
            &self.later_pieces
        };
        let turn = Arc::clone(turns).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|_| Rejection::Stopping)
    }
}

/// Reads what is wrapped in the place of the dump once more, until a dump is there or what is there is no wrapping. What
/// was odd is returned as sentences.
///
/// # Errors
/// [`Rejection`] for what cannot be unwrapped, when nothing but a dump will do.
pub(crate) async fn unwrap(
    upload: &mut UploadBuilder,
    need: Need,
    unwrappers: &Unwrappers,
    party: &Party,
    inflation: Inflation,
) -> Result<Vec<String>, Rejection> {
    let mut warnings = Vec::new();
    if !upload.has_dump() {
        warnings.extend(recognise_compressed(upload, unwrappers, party).await?);
    }
    for _ in 0..WRAPPINGS_MAX {
        let files = upload.files().iter();
        let dump = files.enumerate().find(|(_, file)| is_dump(file));
        let wrapped = dump.and_then(|(at, file)| Some((at, wrapping(&file.start)?)));
        let Some((at, wrapping)) = wrapped else {
            break;
        };
        let _memory = unwrappers.memory(party, wrapping.memory_bytes()).await?;
        let (file, content) = upload.take_file(at).await?;
        match wrapping {
            Wrapping::Form(parser) => {
                warnings.extend(read_nested(content, *parser, unwrappers, upload).await?);
            }
            Wrapping::Container(container) => {
                let kept = file.clone();
                match inflate(file, container, content, inflation, unwrappers, upload).await {
                    Ok(odd) => warnings.extend(odd),
                    Err(Rejection::Container(error))
                        if need == Need::Anything && !error.is_ours() =>
                    {
                        warnings.push(format!("a compressed minidump is kept as a file: {error}"));
                        upload.add_file(File {
                            head: FileHead {
                                role: Role::Attachment(AttachmentKind::Plain),
                                ..kept.head
                            },
                            ..kept
                        });
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(warnings)
}

/// A compressed dump that came as any other file is one by what comes out of it first.
async fn recognise_compressed(
    upload: &mut UploadBuilder,
    unwrappers: &Unwrappers,
    party: &Party,
) -> Result<Option<String>, Rejection> {
    let compressed = |file: &File| Some((file.run, container::sniff(&file.start)?));
    let files = upload.files().iter().enumerate();
    let files = files.filter_map(|(at, file)| Some((at, compressed(file)?)));
    let files: Vec<_> = files.take(COMPRESSED_FILES_MAX).collect();
    for (at, (run, container)) in files {
        let memory_bytes = UNWRAPPED_PIECE_BYTES + container.memory_bytes_max();
        let _memory = unwrappers.memory(party, memory_bytes).await?;
        let content = upload.content(run).await?;
        let holds_dump = move || {
            let mut start = Vec::new();
            let opened = container::open(container, content).ok()?;
            // What cannot be inflated is no dump, and stays the file that it is.
            let read = opened.take(8).read_to_end(&mut start);
            read.is_ok().then(|| starts_as_minidump(&start))
        };
        if unwrappers.work(0, holds_dump).await? == Some(true) {
            upload.take_for_dump(at);
            let warning = "a compressed file is the minidump by what is in it".to_owned();
            return Ok(Some(warning));
        }
    }
    Ok(None)
}

impl Wrapping {
    /// What unwrapping takes at most.
    fn memory_bytes(&self) -> usize {
        UNWRAPPED_PIECE_BYTES
            + match self {
                Self::Container(container) => container.memory_bytes_max(),
                Self::Form(_) => CONTAINER_READ_BYTES,
            }
    }
}

fn is_dump(file: &File) -> bool {
    file.head.role == Role::Minidump
}

fn wrapping(start: &[u8]) -> Option<Wrapping> {
    if let Some(container) = container::sniff(start) {
        return Some(Wrapping::Container(container));
    }
    // Its boundary stands in no header.
    let parser = Parser::with_boundary(first_boundary(start)?).ok()?;
    Some(Wrapping::Form(Box::new(parser)))
}

async fn read_nested(
    content: Content,
    parser: Parser,
    unwrappers: &Unwrappers,
    upload: &mut UploadBuilder,
) -> Result<Vec<String>, Rejection> {
    let reader = Box::new(ContentReader::new(content));
    let mut pieces = Unwrapped {
        unwrappers: Some(unwrappers.clone()),
        ..Unwrapped::new(reader, None)
    };
    let start = first_piece(&mut pieces, FORMAT_BYTES).await?;
    let mut warnings = read_form(&mut pieces, parser, start, Naming::Crash, upload).await?;
    warnings.push("the minidump was a form of its own, which was unwrapped".into());
    Ok(warnings)
}

async fn inflate(
    file: File,
    container: Container,
    content: Content,
    inflation: Inflation,
    unwrappers: &Unwrappers,
    upload: &mut UploadBuilder,
) -> Result<Option<String>, Rejection> {
    let encoded = content.len();
    let opened = unwrappers.work(0, move || container::open(container, content));
    let reader = opened.await??;
    let name = file.head.name.as_deref();
    let head = FileHead {
        name: name.map(|name| container::stem(name, container).to_owned()),
        ..file.head
    };
    let mut pieces = Tail::new(Unwrapped {
        bound: Some((inflation, encoded)),
        unwrappers: Some(unwrappers.clone()),
        ..Unwrapped::new(reader, Some(container))
    });
    let start = first_piece(&mut pieces, FORMAT_BYTES).await?;
    let read = read_file(&mut pieces, start, head, upload).await;
    let ((), odd) = pieces.settle(read, Need::Minidump, upload)?;
    Ok(odd)
}

/// A reader's bytes, read on the threads for blocking work.
pub(super) struct Unwrapped {
    /// Whose turns it waits for; what only passes through waits for none.
    unwrappers: Option<Unwrappers>,
    /// Pieces that were read.
    pieces: u32,
    /// `None` while a read is under way, and at the end.
    reader: Option<Box<dyn Read + Send>>,
    /// What its errors are about.
    container: Option<Container>,
    /// Of what is decompressed: how much it may become, and of how many bytes.
    bound: Option<(Inflation, u64)>,
    decoded: u64,
    /// What it ended with, behind the bytes before.
    error: Option<io::Error>,
}

impl Unwrapped {
    pub(super) fn new(reader: Box<dyn Read + Send>, container: Option<Container>) -> Self {
        Self {
            unwrappers: None,
            pieces: 0,
            reader: Some(reader),
            container,
            bound: None,
            decoded: 0,
            error: None,
        }
    }

    fn cause(&self, error: io::Error) -> Rejection {
        match self.container {
            Some(container) => container::cause(container, error).into(),
            None => Rejection::Unreadable(error),
        }
    }
}

impl Pieces for Unwrapped {
    async fn next(&mut self) -> Result<Option<Bytes>, Rejection> {
        if let Some(error) = self.error.take() {
            return Err(self.cause(error));
        }
        let Some(mut reader) = self.reader.take() else {
            return Ok(None);
        };
        let read = move || {
            let mut piece = Vec::with_capacity(UNWRAPPED_PIECE_BYTES);
            let limit = UNWRAPPED_PIECE_BYTES as u64;
            let read = reader.by_ref().take(limit).read_to_end(&mut piece);
            (reader, piece, read.err())
        };
        let read = match &self.unwrappers {
            Some(unwrappers) => unwrappers.work(self.pieces, read).await?,
            None => {
                let read = tokio::task::spawn_blocking(read).await;
                read.map_err(|_| Rejection::Stopping)?
            }
        };
        self.pieces += 1;
        let (reader, piece, error) = read;
        match error {
            Some(error) if piece.is_empty() => return Err(self.cause(error)),
            Some(error) => self.error = Some(error),
            None if piece.is_empty() => return Ok(None),
            None => self.reader = Some(reader),
        }
        self.decoded += piece.len() as u64;
        if let Some((inflation, encoded)) = self.bound {
            inflation.check(encoded, self.decoded)?;
        }
        Ok(Some(piece.into()))
    }
}
