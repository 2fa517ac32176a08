//! Waiting on a condition with a deadline: the only place in the tests where time passes.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition rests between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks at `condition` until it answers `Ok`, and panics with `what` and its last `Err` after `deadline`.
pub fn until<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Result<T, String>) -> T {
    within(deadline, condition)
        .unwrap_or_else(|seen| panic!("waited {deadline:?} for {what}; last seen: {seen}"))
}

/// Looks at `condition` until it answers `Ok`, and gives back its last `Err` after `deadline`.
pub fn within<T>(
    deadline: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let started = Instant::now();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(seen) if started.elapsed() > deadline => return Err(seen),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Lets a fault, or a client's pause, last until `end`. Nothing is being waited for.
pub fn lasting_until(end: Instant) {
    thread::sleep(end.saturating_duration_since(Instant::now()));
}

/// Lets a fault last this long. Nothing is being waited for.
pub fn lasting(duration: Duration) {
    lasting_until(Instant::now() + duration);
}

/// Looks at a yes-or-no `condition` until it holds, and panics with `what` after `deadline`.
pub fn until_true(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    until(what, deadline, || {
        if condition() {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
}
