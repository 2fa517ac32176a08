//! Looking through the outcomes that are known, page by page.

use jiff::Timestamp;

use super::{State, StateError};
use crate::id::EventId;
use crate::metrics::StateOperation;
use crate::outcome::Outcome;

/// Some outcomes, and where the others are.
#[derive(Clone, Debug)]
pub struct OutcomePage {
    /// In no order that matters; one of them may come again on a later page.
    pub outcomes: Vec<Outcome>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<OutcomesAfter>,
}

/// A place between two pages, in the words of the store that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutcomesAfter {
    /// The last row of the page before: when it finished, in seconds since 1970, and which it is.
    Row(i64, EventId),
    /// Redis' cursor.
    Cursor(u64),
}

impl State {
    /// A page of the outcomes of events that finished at `since` or later; the first one where `after` is `None`. Every
    /// outcome that was there from the first page on and stays until the last is on one of them.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn outcomes(
        &self,
        since: Timestamp,
        after: Option<OutcomesAfter>,
    ) -> Result<OutcomePage, StateError> {
        let page = self.0.store.outcomes(since, after).await;
        let mut page = self.counted(StateOperation::Status, page)?;
        page.outcomes.retain(|outcome| outcome.finished_at >= since);
        Ok(page)
    }
}
