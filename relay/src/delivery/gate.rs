//! What an upload's last step waits for: its chunks may be on their way while it is being found out whether another relay
//! has the same upload, but its event message, or its place among the durable files, comes after that.

use tokio::sync::watch;

/// Opens once, or never.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Receiver<bool>);

/// Who opens the gate.
#[derive(Debug)]
#[must_use = "until it is opened, nothing passes"]
pub(crate) struct GateOpener(watch::Sender<bool>);

impl Gate {
    /// A gate that is closed.
    pub(crate) fn closed() -> (GateOpener, Self) {
        let (opener, gate) = watch::channel(false);
        (GateOpener(opener), Self(gate))
    }

    /// A gate that is open.
    pub(crate) fn open() -> Self {
        Self(watch::channel(true).1)
    }

    /// Waits until it is open. Whoever finds that it is not to be opened stops waiting by dropping what waits.
    pub(crate) async fn passed(&self) {
        let mut gate = self.0.clone();
        if gate.wait_for(|open| *open).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl GateOpener {
    /// Lets everyone pass.
    pub(crate) fn open(self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn nobody_passes_before_it_is_opened_and_everybody_afterwards() {
        let (opener, gate) = Gate::closed();
        assert!(timeout(LONG, gate.passed()).await.is_err());
        opener.open();
        gate.clone().passed().await;
        gate.passed().await;
        Gate::open().passed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_nobody_will_open_stays_closed() {
        let (opener, gate) = Gate::closed();
        drop(opener);
        assert!(timeout(LONG, gate.passed()).await.is_err());
    }
}
