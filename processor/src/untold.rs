//! Whether a finished event still has to be told: its message comes again after a restart, and after somebody has reset the
//! group's offsets.

use shared::outcome::Outcome;

use crate::pipeline::{Pipeline, again};

impl Pipeline {
    /// Whether the outcome, which was recorded for the message at hand, may not have landed in its topic. In embedded mode the
    /// state is the only one to be told.
    pub(crate) async fn is_untold(&self, outcome: &Outcome) -> bool {
        let Some(partition) = outcome.partition else {
            return true;
        };
        let event = outcome.event_id;
        again("asking whether the outcome is told", || {
            self.state.is_untold(event, partition)
        })
        .await
    }
}
