//! The pool: as many parser processes as may run at once, started when wanted, used again, replaced when they die.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shared::config::ProcessorConfig;
use shared::content::Content;
use shared::outcome::Failure;
use shared::report::CrashDetails;
use tokio::sync::Semaphore;

use super::child::{ExchangeError, ParserProcess};
use super::worker::Answer;

/// A process is replaced after so many dumps, so that what leaks or fragments in it never adds up.
const DUMPS_PER_PROCESS_MAX: u32 = 1000;
/// What the standard library prints before it aborts for lack of memory: `memory allocation of 123 bytes failed`.
const OUT_OF_MEMORY_START: &str = "memory allocation of ";
const OUT_OF_MEMORY_END: &str = " bytes failed";

/// How the pool works.
#[derive(Clone, Debug)]
pub struct ParserSettings {
    /// The program that runs [`super::worker_main`] for the subcommand [`super::WORKER_SUBCOMMAND`].
    pub program: PathBuf,
    /// Processes at once.
    pub workers: usize,
    /// Time for one attempt at one dump.
    pub time_max: Duration,
    /// Address space of a process.
    pub memory_bytes_max: u64,
    /// Attempts at a dump.
    pub attempts_max: u32,
    /// Dumps of one process.
    pub dumps_per_process_max: u32,
}

impl ParserSettings {
    /// The settings of `config`, with this program as the worker's.
    ///
    /// # Errors
    /// What the system said when asked for this program's path.
    pub fn new(config: &ProcessorConfig) -> io::Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            program: this_program()?,
            workers: config
                .workers
                .map_or_else(cores, |workers| workers as usize),
            time_max: config.parse_timeout.get(),
            memory_bytes_max: config.parse_memory.get(),
            attempts_max: config.attempts,
            dumps_per_process_max: DUMPS_PER_PROCESS_MAX,
        })
    }
}

/// On Linux the link to the running file itself: it leads to the same build even after an update replaced the path.
fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        Ok("/proc/self/exe".into())
    } else {
        std::env::current_exe()
    }
}

/// Parser processes.
pub struct ParserPool {
    settings: ParserSettings,
    permits: Semaphore,
    idle: Mutex<Vec<ParserProcess>>,
}

/// A dump's parsing, with all its attempts.
#[derive(Debug)]
pub struct Parsed {
    /// How often it was begun; at least 1.
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
    /// What the dump told and what was odd about it, or why it told nothing.
    pub result: Result<(CrashDetails, Vec<String>), AttemptError>,
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
    },
    /// The process wanted more memory than it may have, and died.
    #[error("more than {limit_bytes} bytes of memory wanted")]
    OutOfMemory {
        /// What it may have.
        limit_bytes: u64,
    },
}

impl AttemptError {
    /// Whether another attempt may end otherwise.
    #[must_use]
    pub fn may_be_tried_again(&self) -> bool {
        match self {
            Self::Unreadable { .. } => false,
            Self::Crashed { .. } | Self::TimedOut { .. } | Self::OutOfMemory { .. } => true,
        }
    }
}

impl From<AttemptError> for Failure {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Unreadable { error } => Self::UnreadableMinidump { error },
            AttemptError::Crashed { error } => Self::ParserCrashed { error },
            AttemptError::TimedOut { limit } => Self::ParserTimeout {
                limit_seconds: limit.as_secs_f64(),
            },
            AttemptError::OutOfMemory { limit_bytes } => Self::ParserOutOfMemory { limit_bytes },
        }
    }
}

/// The dump was not tried, for a reason that is not its own: try again later, and do not hold it against the dump.
#[derive(Debug, thiserror::Error)]
pub enum ParserUnavailable {
    /// No process can be started.
    #[error("no parser process can be started: {0}")]
    Start(io::Error),
    /// The dump's bytes cannot be read where they are kept.
    #[error("the dump's bytes cannot be read: {0}")]
    ReadDump(io::Error),
    /// The pool was stopped.
    #[error("the parser pool was stopped")]
    Stopped,
}

impl ParserPool {
    /// A pool without processes: they are started as dumps come.
    #[must_use]
    pub fn start(settings: ParserSettings) -> Self {
        Self {
            permits: Semaphore::new(settings.workers),
            idle: Mutex::new(Vec::with_capacity(settings.workers)),
            settings,
        }
    }

    /// Parses a dump, with a fresh process for each attempt after one that died, [`ParserSettings::attempts_max`] times
    /// at most. Dropping the future kills the process at work.
    ///
    /// # Errors
    /// [`ParserUnavailable`] when the dump could not be tried.
    pub async fn parse(&self, dump: &Content) -> Result<Parsed, ParserUnavailable> {
        let mut attempts = 0;
        loop {
            let last = self.attempt(dump).await?;
            attempts += 1;
            match &last.result {
                Err(error)
                    if error.may_be_tried_again() && attempts < self.settings.attempts_max =>
                {
                    tracing::warn!(attempts, %error, "a parser process failed; trying again");
                }
                Ok(_) | Err(_) => return Ok(Parsed { attempts, last }),
            }
        }
    }

    /// Tries a dump once: for those who count attempts themselves, across restarts.
    ///
    /// # Errors
    /// [`ParserUnavailable`] when the dump could not be tried.
    pub async fn attempt(&self, dump: &Content) -> Result<Attempt, ParserUnavailable> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|_| ParserUnavailable::Stopped)?;
        let mut process = self.idle_or_new().map_err(ParserUnavailable::Start)?;
        let started_at = Timestamp::now();
        let clock = Instant::now();
        let exchange = process.exchange(dump);
        let answer = tokio::time::timeout(self.settings.time_max, exchange).await;
        let seconds = clock.elapsed().as_secs_f64();
        let result = match answer {
            Ok(Ok(answer)) => {
                self.keep(process).await;
                match answer {
                    Answer::Parsed { details, warnings } => Ok((*details, warnings)),
                    Answer::Unreadable { error } => Err(AttemptError::Unreadable { error }),
                }
            }
            Ok(Err(ExchangeError::Pipe(error))) => Err(self.explain_death(process, &error).await),
            Ok(Err(ExchangeError::Protocol(error))) => {
                process.kill().await;
                Err(AttemptError::Crashed { error })
            }
            Ok(Err(ExchangeError::ReadDump(error))) => {
                process.kill().await;
                return Err(ParserUnavailable::ReadDump(error));
            }
            Err(_) => {
                process.kill().await;
                Err(AttemptError::TimedOut {
                    limit: self.settings.time_max,
                })
            }
        };
        Ok(Attempt {
            started_at,
            seconds,
            result,
        })
    }

    /// Lets the idle processes end and waits for them; nothing is tried after this. A dump being tried gets its answer.
    pub async fn stop(&self) {
        self.permits.close();
        while let Some(process) = self.take_idle() {
            process.stop().await;
        }
    }

    /// An idle process that is alive, the last used first so that surplus ones are not kept warm; else a new one.
    fn idle_or_new(&self) -> io::Result<ParserProcess> {
        while let Some(mut process) = self.take_idle() {
            if process.is_alive() {
                return Ok(process);
            }
            tracing::warn!("a parser process died idle");
        }
        ParserProcess::start(&self.settings.program, self.settings.memory_bytes_max)
    }

    fn take_idle(&self) -> Option<ParserProcess> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    async fn keep(&self, process: ParserProcess) {
        if process.dumps() >= self.settings.dumps_per_process_max || self.permits.is_closed() {
            process.stop().await;
        } else {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(process);
        }
    }

    async fn explain_death(&self, process: ParserProcess, pipe: &io::Error) -> AttemptError {
        let (status, stderr) = process.post_mortem().await;
        if is_out_of_memory(&stderr) {
            return AttemptError::OutOfMemory {
                limit_bytes: self.settings.memory_bytes_max,
            };
        }
        let ended = match status {
            Ok(status) => describe(status),
            Err(error) => format!("the parser process is gone ({pipe}; {error})"),
        };
        let error = match stderr.is_empty() {
            true => ended,
            false => format!("{ended}: {stderr}"),
        };
        AttemptError::Crashed { error }
    }
}

/// `the parser process died: signal: 6 (SIGABRT)`
fn describe(status: ExitStatus) -> String {
    format!("the parser process died: {status}")
}

fn is_out_of_memory(stderr: &str) -> bool {
    stderr.lines().any(|line| {
        line.split_once(OUT_OF_MEMORY_START)
            .is_some_and(|(_, rest)| rest.contains(OUT_OF_MEMORY_END))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_told_from_other_deaths() {
        assert!(is_out_of_memory(
            "note\nmemory allocation of 17179869184 bytes failed\n"
        ));
        assert!(!is_out_of_memory("thread 'parser' panicked at memory"));
        assert!(!is_out_of_memory(""));
    }

    #[test]
    fn only_what_may_end_otherwise_is_tried_again() {
        let unreadable = AttemptError::Unreadable { error: "x".into() };
        assert!(!unreadable.may_be_tried_again());
        let limit_bytes = 7;
        let starved = AttemptError::OutOfMemory { limit_bytes };
        assert!(starved.may_be_tried_again());
        assert_eq!(
            Failure::from(starved),
            Failure::ParserOutOfMemory { limit_bytes }
        );
    }
}
