//! Attempts at a dump: how many were begun, in this life of the processor and in earlier ones, and what came of one.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use shared::outcome::Failure;
use shared::report::{CrashDetails, Partial};

use super::worker::Answer;

/// A process that had a processor for this share of its time ran out of time by itself.
const BUSY_SHARE_MIN: f64 = 0.75;

/// Counts the attempts at one dump where the count outlives this process.
pub struct Attempts<B> {
    begin: B,
    /// The attempt that is counted and has not come to an end; 0: none.
    open: AtomicU32,
}

impl<B, F> Attempts<B>
where
    B: Fn() -> F,
    F: Future<Output = u32>,
{
    /// `begin` counts one more attempt, and says how many there are with it.
    pub fn new(begin: B) -> Self {
        Self {
            begin,
            open: AtomicU32::new(0),
        }
    }

    /// Counts an attempt that is about to be made, unless the last one counted was not made after all.
    pub(super) async fn begin(&self) -> u32 {
        match self.open.load(Ordering::Relaxed) {
            0 => {
                let number = (self.begin)().await;
                self.open.store(number, Ordering::Relaxed);
                number
            }
            number => number,
        }
    }

    /// The attempt told something of the dump.
    pub(super) fn end(&self) {
        self.open.store(0, Ordering::Relaxed);
    }
}

/// A dump's parsing, with all its attempts.
#[derive(Debug)]
pub struct Parsed {
    /// How often it was begun, in earlier lives of the processor too; at least 1.
    pub attempts: u32,
    /// The last attempt.
    pub last: Attempt,
}

/// One attempt at a dump.
#[derive(Debug)]
pub struct Attempt {
    /// When a process took it up.
    pub started_at: Timestamp,
    /// How long that process had it.
    pub seconds: f64,
    /// What the dump told, or why it told nothing.
    pub result: Result<Told, AttemptError>,
}

/// What a dump told.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// The crash.
    pub details: CrashDetails,
    /// What was odd about the dump.
    pub warnings: Vec<String>,
    /// What is absent because time ran out.
    pub partial: Option<Partial>,
    /// When the dump was written, by the clock of its machine.
    pub time: Option<Timestamp>,
}

/// Why an attempt at a dump told nothing. The cause lies in the dump, or may.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AttemptError {
    /// It cannot be read.
    #[error("{error}")]
    Unreadable {
        /// What was expected and what was found.
        error: String,
    },
    /// The process died.
    #[error("{error}")]
    Crashed {
        /// How, and the end of what it wrote to standard error.
        error: String,
    },
    /// The process did not answer in time, and was killed.
    #[error("no answer within {limit:?}")]
    TimedOut {
        /// The time it had.
        limit: Duration,
        /// How much of it it had a processor; `None` when nobody knows.
        used: Option<Duration>,
    },
    /// The process wanted more memory than it may have, and died.
    #[error("more than {limit_bytes} bytes of memory wanted")]
    OutOfMemory {
        /// What it may have.
        limit_bytes: u64,
        /// What the machine had left just afterwards; `None` when nobody knows.
        available_bytes: Option<u64>,
    },
}

impl AttemptError {
    /// Whether another attempt may end otherwise. Parsing is deterministic: a dump that met a limit by itself meets it
    /// again. It did not do so by itself when it had no processor for much of its time, or when the machine itself had no
    /// memory to give. Of a crash nobody knows.
    #[must_use]
    pub fn may_be_tried_again(&self) -> bool {
        match self {
            Self::Unreadable { .. } => false,
            Self::Crashed { .. } => true,
            Self::TimedOut { limit, used } => {
                used.is_none_or(|used| used < limit.mul_f64(BUSY_SHARE_MIN))
            }
            Self::OutOfMemory {
                limit_bytes,
                available_bytes,
            } => available_bytes.is_none_or(|available| available < *limit_bytes),
        }
    }
}

impl From<AttemptError> for Failure {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Unreadable { error } => Self::UnreadableMinidump { error },
            AttemptError::Crashed { error } => Self::ParserCrashed { error },
            AttemptError::TimedOut { limit, .. } => Self::ParserTimeout {
                limit_seconds: limit.as_secs_f64(),
            },
            AttemptError::OutOfMemory { limit_bytes, .. } => {
                Self::ParserOutOfMemory { limit_bytes }
            }
        }
    }
}

/// What a process answered.
pub(super) fn told(answer: Answer) -> Result<Told, AttemptError> {
    match answer {
        Answer::Parsed {
            details,
            warnings,
            partial,
            time,
        } => Ok(Told {
            details: *details,
            warnings,
            partial,
            time,
        }),
        Answer::Unreadable { error } => Err(AttemptError::Unreadable { error }),
    }
}

/// Earlier lives of the processor began `attempts`, and none came to an end.
pub(super) fn used_up(attempts: u32) -> Parsed {
    Parsed {
        attempts,
        last: Attempt {
            started_at: Timestamp::now(),
            seconds: 0.0,
            result: Err(AttemptError::Crashed {
                error: format!(
                    "the processor itself ended during each of {attempts} attempts, and did not see how the parser did"
                ),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_end_otherwise_is_tried_again() {
        let unreadable = AttemptError::Unreadable { error: "x".into() };
        assert!(!unreadable.may_be_tried_again());
        let crashed = AttemptError::Crashed { error: "x".into() };
        assert!(crashed.may_be_tried_again());
        let limit = Duration::from_secs(60);
        for (used, again) in [(None, true), (Some(44), true), (Some(45), false)] {
            let used = used.map(Duration::from_secs);
            let late = AttemptError::TimedOut { limit, used };
            assert_eq!(late.may_be_tried_again(), again, "{late:?}");
        }
        let limit_bytes = 7;
        for (available_bytes, again) in [(None, true), (Some(6), true), (Some(7), false)] {
            let starved = AttemptError::OutOfMemory {
                limit_bytes,
                available_bytes,
            };
            assert_eq!(starved.may_be_tried_again(), again, "{starved:?}");
            let failure = Failure::from(starved);
            assert_eq!(failure, Failure::ParserOutOfMemory { limit_bytes });
        }
    }
}
