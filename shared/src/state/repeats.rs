//! Which upload is the first of its kind, among all relays and across restarts.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{State, StateError};
use crate::id::{EventId, ProjectId};
use crate::metrics::StateOperation;
use crate::repeat::{RepeatMark, RepeatMarks};

/// One upload's claim to be the first with its marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The project that the marks are of.
    pub project_id: ProjectId,
    /// By what repeats are known.
    pub marks: RepeatMarks,
    token: Uuid,
}

impl Claim {
    /// A claim like no other.
    #[must_use]
    pub fn new(project_id: ProjectId, marks: RepeatMarks) -> Self {
        Self {
            project_id,
            marks,
            token: Uuid::new_v4(),
        }
    }

    /// Says whose claim it is.
    pub(super) fn token(&self) -> String {
        self.token.simple().to_string()
    }
}

/// What a claim came to.
#[derive(Debug)]
pub enum Claimed {
    /// No other upload has any of the marks.
    First,
    /// Another one has, and is not durable yet.
    UnderWay,
    /// Another one has, and is durable.
    Durable(DurableElsewhere),
}

/// Proof that an upload is durable, by the word of the relay that made it so. Only the state store makes one.
#[derive(Debug)]
pub struct DurableElsewhere {
    event_id: EventId,
    left: Duration,
}

impl DurableElsewhere {
    pub(super) fn new(event_id: EventId, left: Duration) -> Self {
        Self { event_id, left }
    }

    /// The upload.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// What is left of `dedupe.window`.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.left
    }
}

/// A durable upload that an earlier process has noted.
#[derive(Debug)]
pub struct RememberedUpload {
    /// Its project.
    pub project_id: ProjectId,
    /// One of its marks.
    pub mark: RepeatMark,
    /// That it is durable.
    pub proof: DurableElsewhere,
}

impl State {
    /// Claims to be the first upload with its marks, for the time `lasts`, after which a claim counts no more. Made good
    /// by [`State::note_accepted`]. In SQLite, which one relay has for itself, every claim is the first, and nothing is
    /// asked. Answers within [`crate::limits::STATE_SOON_TIMEOUT`].
    ///
    /// # Errors
    /// [`StateError`]: whether it was claimed is not known.
    pub async fn claim_upload(
        &self,
        claim: &Claim,
        lasts: Duration,
    ) -> Result<Claimed, StateError> {
        let claimed = self.0.store.claim_upload(claim, lasts);
        self.soon(StateOperation::Repeat, claimed).await
    }

    /// Ends a claim whose upload came to nothing. Answers within [`crate::limits::STATE_SOON_TIMEOUT`].
    ///
    /// # Errors
    /// [`StateError`]: the claim ends by itself in its time.
    pub async fn release_upload(&self, claim: &Claim) -> Result<(), StateError> {
        let released = self.0.store.release_upload(claim);
        self.soon(StateOperation::Repeat, released).await
    }

    /// The durable uploads of `dedupe.window` that SQLite knows, the oldest first, and of too many the latest `marks_max`.
    /// Redis is asked upload by upload instead.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn remembered_uploads(
        &self,
        marks_max: usize,
    ) -> Result<Vec<RememberedUpload>, StateError> {
        let remembered = self.0.store.remembered_uploads(marks_max).await;
        self.counted(StateOperation::Repeat, remembered)
    }

    /// Whether an event may have the id that its client chose: nobody has it, or the upload with this very fingerprint
    /// had it within [`crate::limits::STATUS_KEPT`]. Answers within [`crate::limits::STATE_SOON_TIMEOUT`].
    ///
    /// # Errors
    /// [`StateError`]: whether it was claimed is not known.
    pub async fn claim_event_id(
        &self,
        event: EventId,
        fingerprint: blake3::Hash,
    ) -> Result<bool, StateError> {
        let claimed = self.0.store.claim_event_id(event, fingerprint);
        self.soon(StateOperation::EventId, claimed).await
    }
}

/// What is left of `window` for an upload that was received at `received_at`.
pub(super) fn left_of(window: Duration, received_at: Timestamp, now: Timestamp) -> Duration {
    let age = Duration::try_from(now.duration_since(received_at)).unwrap_or_default();
    window.saturating_sub(age)
}
