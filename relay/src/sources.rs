//! The files of an upload that say something about its crash, read: small ones as they are, larger ones in a stream, of which
//! only so much is held as a small one may have.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use shared::content::Content;
use shared::lenient::Input;
use shared::limits::EVENT_DATA_BYTES_MAX;
use tokio::sync::Semaphore;

use crate::error::Rejection;
use crate::event_data::{Data, Notation, Source};
use crate::file_name::sanitize;
use crate::limits::{EVENT_DATA_PIECE_BYTES, EVENT_DATA_WAIT};
use crate::seal::{Told, fallback_name};
use crate::unreal::context::event_from_context;
use crate::upload::{EventData, File, Role, Upload};

/// Turns to read large files. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct EventReaders {
    turns: Arc<Semaphore>,
}

impl EventReaders {
    /// So many turns at once.
    pub(crate) fn new(readers: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(readers)),
        }
    }

    /// Reads a file: where it is when it is short and in memory, on a thread for it otherwise. `None` when its turn did not
    /// come in time.
    async fn read<T: Send + 'static>(
        &self,
        content: Content,
        read: impl FnOnce(&Content) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, Rejection> {
        let is_short = content.len() <= EVENT_DATA_BYTES_MAX as u64;
        if is_short && content.is_in_memory() {
            return read(&content).map(Some).map_err(Rejection::Unreadable);
        }
        let turn = Arc::clone(&self.turns).acquire_owned();
        let turn = match is_short {
            true => None,
            false => match tokio::time::timeout(EVENT_DATA_WAIT, turn).await {
                Ok(Ok(turn)) => Some(turn),
                Ok(Err(_)) | Err(_) => return Ok(None),
            },
        };
        let reading = tokio::task::spawn_blocking(move || {
            let read = read(&content);
            drop(turn);
            read
        });
        let read = reading.await.map_err(|_| Rejection::Stopping)?;
        read.map(Some).map_err(Rejection::Unreadable)
    }
}

/// The files that say something about the crash, each with its index among all files.
///
/// # Errors
/// [`Rejection::Unreadable`]
pub(crate) async fn read_sources(
    upload: &Upload,
    told: &mut Told,
    readers: &EventReaders,
) -> Result<Vec<(usize, Source)>, Rejection> {
    let mut sources = Vec::new();
    let (mut context, mut log) = (None, None);
    for (at, file) in upload.files.iter().enumerate() {
        let Role::EventData(data) = file.head.role else {
            continue;
        };
        let content = upload.received.content(file.run);
        let source: fn(Data) -> Source = match data {
            EventData::Item => Source::EventJson,
            EventData::UserReport | EventData::Feedback => Source::UserReport,
            EventData::Event => Source::EventMsgpack,
            EventData::Breadcrumbs => Source::Breadcrumbs,
            EventData::Extra => Source::Extra,
            EventData::UnrealContext => {
                context = Some((at, content));
                continue;
            }
            EventData::UnrealLog => {
                log = readers.read(content.clone(), log_tail).await?;
                continue;
            }
        };
        let notation = notation(data);
        match readers
            .read(content, move |content| read(notation, content))
            .await?
        {
            Some(data) => sources.push((at, source(data))),
            None => told.warnings.push(not_read(file)),
        }
    }
    if let Some((at, content)) = context {
        let user = told.unreal_user.clone();
        let event = readers.read(content, move |content| {
            let mut input = Input::new(content.pieces(EVENT_DATA_PIECE_BYTES));
            let event = event_from_context(&mut input, log.as_deref(), user.as_deref());
            input.finish().map(|()| event)
        });
        match event.await? {
            Some((event, warnings)) => {
                told.warnings.extend(warnings);
                sources.push((at, Source::Event(event)));
            }
            None => told.warnings.push(not_read(&upload.files[at])),
        }
    }
    Ok(sources)
}

fn notation(data: EventData) -> Notation {
    match data {
        EventData::Event => Notation::Msgpack,
        EventData::Breadcrumbs => Notation::Breadcrumbs,
        EventData::Item
        | EventData::UserReport
        | EventData::Feedback
        | EventData::Extra
        | EventData::UnrealContext
        | EventData::UnrealLog => Notation::Json,
    }
}

fn read(notation: Notation, content: &Content) -> io::Result<Data> {
    match content.len() {
        bytes if bytes <= EVENT_DATA_BYTES_MAX as u64 => {
            content.read(0, bytes as usize).map(Data::from)
        }
        _ => Data::read_stream(notation, content),
    }
}

/// The end of a log: it is nearest to the crash.
fn log_tail(content: &Content) -> io::Result<Bytes> {
    let surplus = content.len().saturating_sub(EVENT_DATA_BYTES_MAX as u64);
    content.read(surplus, (content.len() - surplus) as usize)
}

fn not_read(file: &File) -> String {
    let name = file.head.name.as_deref().unwrap_or(fallback_name(file));
    let name = sanitize(name, fallback_name(file));
    format!(
        "{name} is kept as a file and not read: too many large ones were being read for {EVENT_DATA_WAIT:?}"
    )
}
