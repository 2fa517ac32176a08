//! What users wrote about an event apart from it, listed in its folder: one document for each upload that brought some.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::path::USER_REPORTS;
use super::{EventFolder, Storage, StorageError};
use crate::id::EventId;
use crate::limits;

impl Storage {
    /// Keeps what the upload `late` brought. False when there is no room for it: there are
    /// [`limits::USER_REPORT_LISTS_MAX`] others.
    ///
    /// # Errors
    /// [`StorageError`]
    pub async fn store_user_reports(
        &self,
        folder: EventFolder,
        late: EventId,
        list: Bytes,
    ) -> Result<bool, StorageError> {
        let path = folder.user_reports(late);
        let listed = self.user_report_lists(folder).await?;
        let is_known = listed.iter().any(|other| other.as_ref() == path.as_str());
        if !is_known && listed.len() >= limits::USER_REPORT_LISTS_MAX {
            return Ok(false);
        }
        self.store_document(path, list).await?;
        Ok(true)
    }

    /// What has been kept, each document as it was stored.
    ///
    /// # Errors
    /// [`StorageError`]
    pub async fn user_reports(&self, folder: EventFolder) -> Result<Vec<Bytes>, StorageError> {
        let lists = self.user_report_lists(folder).await?;
        let lists = lists.into_iter().take(limits::USER_REPORT_LISTS_MAX);
        stream::iter(lists)
            .map(|list| async move {
                let found = match self.store.get(&list).await {
                    Ok(found) => found.bytes().await,
                    Err(error) => Err(error),
                };
                self.judge(found)
            })
            .buffered(limits::STORAGE_LISTINGS_MAX)
            .try_collect()
            .await
    }

    async fn user_report_lists(&self, folder: EventFolder) -> Result<Vec<Path>, StorageError> {
        let prefix = Path::from(folder.file(USER_REPORTS).as_str());
        let listed = self.store.list(Some(&prefix));
        let listed = listed.map_ok(|list| list.location).try_collect().await;
        self.judge(listed)
    }
}
