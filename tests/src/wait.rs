//! Waiting on a condition with a deadline: the only place in the tests where time passes.

use std::time::{Duration, Instant};

/// How long a condition rests between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks at `condition` until it answers `Ok`, and panics with `what` and its last `Err` after `deadline`.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(seen) if started.elapsed() > deadline => {
                panic!("waited {deadline:?} for {what}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
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
