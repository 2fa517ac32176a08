//! The stored events, project by project and day by day, and their removal.

use std::pin::Pin;
use std::str::FromStr;

use futures_util::stream::{self, BoxStream, Peekable};
use futures_util::{StreamExt, TryStreamExt};
use jiff::civil::Date;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::path::{LATE, beginning_of, day_prefix};
use super::{EventFolder, Storage, StorageError, StoragePath};
use crate::id::{EventId, ProjectId};
use crate::limits;

/// What is stored of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEvent {
    /// Where. The time of a listed one is the beginning of its day.
    pub folder: EventFolder,
    /// Its files.
    pub files: Vec<StoredObject>,
}

/// One file of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredObject {
    /// Where.
    pub path: StoragePath,
    /// How long it is.
    pub bytes: u64,
}

impl StoredEvent {
    /// The bytes of all its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The uploads in which files came to it late.
    pub fn late_uploads(&self) -> impl Iterator<Item = EventId> + '_ {
        let lists = format!("{}/{LATE}/", self.folder.as_prefix());
        self.files.iter().filter_map(move |file| {
            let name = file.path.as_str().strip_prefix(&lists)?;
            name.strip_suffix(".json")?.parse().ok()
        })
    }
}

type Listing = Peekable<BoxStream<'static, object_store::Result<ObjectMeta>>>;

impl Storage {
    /// The projects that something is stored of, ascending.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn projects(&self) -> Result<Vec<ProjectId>, StorageError> {
        let mut projects: Vec<ProjectId> = self.names_in(None).await?;
        projects.sort_unstable();
        Ok(projects)
    }

    /// The days that something of a project is stored under, the oldest first.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn days(&self, project: ProjectId) -> Result<Vec<Date>, StorageError> {
        let mut days: Vec<Date> = self.names_in(Some(project.to_string())).await?;
        days.sort_unstable();
        Ok(days)
    }

    /// The names below `prefix` that read as what is looked for; others are not ours.
    async fn names_in<T: FromStr + ToString>(
        &self,
        prefix: Option<String>,
    ) -> Result<Vec<T>, StorageError> {
        let prefix = prefix.map(Path::from);
        let listed = self.store.list_with_delimiter(prefix.as_ref()).await;
        let listed = self.judge(listed)?.common_prefixes;
        let names = listed.iter().filter_map(Path::filename);
        // As we write it: dates and ids have other forms, too.
        let ours = |name: &str| {
            name.parse()
                .ok()
                .filter(|read: &T| read.to_string() == name)
        };
        Ok(names.filter_map(ours).collect())
    }

    /// The events of one day, as they are listed: never more than one of them is in memory.
    pub fn events(
        &self,
        project: ProjectId,
        day: Date,
    ) -> BoxStream<'static, Result<StoredEvent, StorageError>> {
        let prefix = Path::from(day_prefix(project, day));
        let storage = self.clone();
        let listing = self.store.list(Some(&prefix)).peekable();
        let events = stream::try_unfold(
            (storage, listing),
            move |(storage, mut listing)| async move {
                let event = next_event(&mut listing, project, day).await;
                let event = storage.judge(event)?;
                Ok(event.map(|event| (event, (storage, listing))))
            },
        );
        events.boxed()
    }

    /// What is stored of one event; without files when nothing is.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn event(&self, folder: EventFolder) -> Result<StoredEvent, StorageError> {
        let prefix = Path::from(folder.as_prefix());
        let files = self.store.list(Some(&prefix)).map_ok(StoredObject::from);
        let files = self.judge(files.try_collect().await)?;
        Ok(StoredEvent { folder, files })
    }

    /// Everything that is stored of one event, under whatever day: late files may have come before their crash.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn everything_of(
        &self,
        project_id: ProjectId,
        event_id: EventId,
    ) -> Result<Vec<StoredEvent>, StorageError> {
        let folders = self.days(project_id).await?.into_iter().filter_map(|day| {
            Some(EventFolder {
                project_id,
                received_at: beginning_of(day)?,
                event_id,
            })
        });
        stream::iter(folders)
            .map(|folder| self.event(folder))
            .buffered(limits::STORAGE_LISTINGS_MAX)
            .try_filter(|event| std::future::ready(!event.files.is_empty()))
            .try_collect()
            .await
    }

    /// Removes what is stored of `events`. What is gone already is as good.
    ///
    /// # Errors
    /// [`StorageError::Away`]: any of it may be gone; repeat.
    pub async fn remove(&self, events: &[StoredEvent]) -> Result<(), StorageError> {
        let files = events.iter().flat_map(|event| &event.files);
        let paths: Vec<_> = files
            .map(|file| Ok(Path::from(file.path.as_str())))
            .collect();
        let mut removed = self.store.delete_stream(stream::iter(paths).boxed());
        while let Some(result) = removed.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return self.judge(Err(error)),
            }
        }
        for event in events {
            self.remove_unfinished(event.folder).await?;
        }
        Ok(())
    }

    /// Where the storage is a directory, a write that a kill cut off leaves an unfinished file behind (`minidump.dmp#1`),
    /// which no listing shows: what was to be removed may be in it.
    async fn remove_unfinished(&self, folder: EventFolder) -> Result<(), StorageError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        match tokio::fs::remove_dir_all(directory.join(folder.as_prefix())).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.away(&error)),
        }
    }
}

/// The next event of a listing: the files of one stand together.
async fn next_event(
    listing: &mut Listing,
    project: ProjectId,
    day: Date,
) -> object_store::Result<Option<StoredEvent>> {
    let folder_of = |file: &ObjectMeta| EventFolder::of_path(project, day, file.location.as_ref());
    let mut event: Option<StoredEvent> = None;
    loop {
        let belongs = |next: &object_store::Result<ObjectMeta>| match (next, &event) {
            (Ok(file), Some(event)) => folder_of(file) == Some(event.folder),
            (Ok(_), None) => true,
            // An error comes after what came before it.
            (Err(_), event) => event.is_none(),
        };
        let Some(file) = Pin::new(&mut *listing).next_if(belongs).await.transpose()? else {
            return Ok(event);
        };
        let Some(folder) = folder_of(&file) else {
            continue;
        };
        let event = event.get_or_insert_with(|| StoredEvent {
            folder,
            files: Vec::new(),
        });
        event.files.push(file.into());
    }
}

impl From<ObjectMeta> for StoredObject {
    fn from(file: ObjectMeta) -> Self {
        Self {
            path: StoragePath(file.location.into()),
            bytes: file.size,
        }
    }
}
