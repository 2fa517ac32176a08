//! The pool: as many parser processes as may run at once, started when wanted, used again, replaced when they die.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use shared::config::ProcessorConfig;
use shared::content::Content;
use shared::id::ProjectId;
use tokio::sync::Semaphore;

use super::attempts::{Attempt, AttemptError, Attempts, Parsed, told, used_up};
use super::child::{ExchangeError, ParserProcess};
use super::confine::Confinement;
use super::idle::Idle;
use super::resources;

/// A processor that is killed again and again, for reasons of its machine, takes the same few events up each time: for each
/// attempt that may fail, so many may go unseen.
const UNSEEN_PER_ATTEMPT_MAX: u32 = 5;
/// A process is replaced after so many dumps, so that what leaks or fragments in it never adds up.
const DUMPS_PER_PROCESS_MAX: u32 = 1000;
/// Idle processes kept for each that may run at once: with many projects, those that sent a dump last have theirs waiting.
const IDLE_PER_WORKER_MAX: usize = 4;
/// A process that was started says how it is confined within this time.
const START_TIME_MAX: Duration = Duration::from_secs(10);
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
    idle: Mutex<Idle<ParserProcess>>,
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
    /// A process that was just started does not say that it is there.
    #[error("a parser process does not start as it should: {0}")]
    Silent(String),
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
            idle: Mutex::new(Idle::new(settings.workers * IDLE_PER_WORKER_MAX)),
            settings,
        }
    }

    /// Attempts at a dump at most, those among them that this process did not see the end of.
    #[must_use]
    pub fn begun_max(&self) -> u32 {
        self.settings.attempts_max * UNSEEN_PER_ATTEMPT_MAX
    }

    /// Starts a process and says how it is confined; it stays for a dump.
    ///
    /// # Errors
    /// [`ParserUnavailable`] when there is no process that would parse.
    pub async fn confinement(&self) -> Result<Confinement, ParserUnavailable> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|_| ParserUnavailable::Stopped)?;
        let (process, confinement) = self.new_process().await?;
        self.keep(process).await;
        Ok(confinement)
    }

    /// Parses a dump of `project`, in a process that has seen no other project's, with a fresh one for each attempt after one
    /// that died, [`ParserSettings::attempts_max`] times at most. An attempt is counted when its process is there and before it gets the dump: so whatever dies of the
    /// dump, this process included, has been counted. One whose end nobody saw may have ended well, so
    /// [`ParserPool::begun_max`] of those are made. Dropping the future kills the process at work.
    ///
    /// # Errors
    /// [`ParserUnavailable`] when the dump could not be tried. Give the same `attempts` again then.
    pub async fn parse<B, F>(
        &self,
        project: ProjectId,
        dump: &Content,
        attempts: &Attempts<B>,
    ) -> Result<Parsed, ParserUnavailable>
    where
        B: Fn() -> F,
        F: Future<Output = u32>,
    {
        loop {
            let permit = self.permits.acquire().await;
            let permit = permit.map_err(|_| ParserUnavailable::Stopped)?;
            let process = self.idle_or_new(project).await?;
            let begun = attempts.begin().await;
            if begun > self.begun_max() {
                self.keep(process).await;
                return Ok(used_up(begun - 1));
            }
            let last = self.attempt(process, project, dump).await?;
            attempts.end();
            drop(permit);
            match &last.result {
                Err(error) if error.may_be_tried_again() && begun < self.settings.attempts_max => {
                    tracing::warn!(attempts = begun, %error, "a parser process failed; trying again");
                }
                Ok(_) | Err(_) => {
                    return Ok(Parsed {
                        attempts: begun,
                        last,
                    });
                }
            }
        }
    }

    async fn attempt(
        &self,
        mut process: ParserProcess,
        project: ProjectId,
        dump: &Content,
    ) -> Result<Attempt, ParserUnavailable> {
        let started_at = Timestamp::now();
        let used_before = process.processor_time();
        let clock = Instant::now();
        let exchange = process.exchange(project, dump);
        let answer = tokio::time::timeout(self.settings.time_max, exchange).await;
        let seconds = clock.elapsed().as_secs_f64();
        let result = match answer {
            Ok(Ok(answer)) => {
                self.keep(process).await;
                told(answer)
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
                let used = process.processor_time();
                process.kill().await;
                let used = used.zip(used_before);
                let used = used.map(|(used, before)| used.saturating_sub(before));
                Err(self.out_of_time(used))
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
        loop {
            let idle = self.idle().any();
            match idle {
                Some(process) => process.stop().await,
                None => return,
            }
        }
    }

    /// An idle process for this project that is alive; else a new one.
    async fn idle_or_new(&self, project: ProjectId) -> Result<ParserProcess, ParserUnavailable> {
        while let Some(mut process) = self.idle().take(project) {
            if process.is_alive() {
                return Ok(process);
            }
            tracing::warn!("a parser process died idle");
        }
        let (process, _) = self.new_process().await?;
        Ok(process)
    }

    /// A process that has started in full: if it cannot, no dump is to blame.
    async fn new_process(&self) -> Result<(ParserProcess, Confinement), ParserUnavailable> {
        let ParserSettings {
            program,
            memory_bytes_max,
            time_max,
            ..
        } = &self.settings;
        let process = ParserProcess::start(program, *memory_bytes_max, *time_max);
        let mut process = process.map_err(ParserUnavailable::Start)?;
        let said = tokio::time::timeout(START_TIME_MAX, process.confinement()).await;
        let why = match said {
            Ok(Ok(confinement)) => return Ok((process, confinement)),
            Ok(Err(ExchangeError::Pipe(error) | ExchangeError::ReadDump(error))) => {
                self.explain_death(process, &error).await.to_string()
            }
            Ok(Err(ExchangeError::Protocol(error))) => {
                process.kill().await;
                error
            }
            Err(_) => {
                process.kill().await;
                format!("no word within {START_TIME_MAX:?}")
            }
        };
        Err(ParserUnavailable::Silent(why))
    }

    fn idle(&self) -> MutexGuard<'_, Idle<ParserProcess>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep(&self, process: ParserProcess) {
        if process.dumps() >= self.settings.dumps_per_process_max || self.permits.is_closed() {
            return process.stop().await;
        }
        let surplus = self.idle().keep(process.project(), process);
        if let Some(surplus) = surplus {
            surplus.stop().await;
        }
    }

    fn out_of_time(&self, used: Option<Duration>) -> AttemptError {
        AttemptError::TimedOut {
            limit: self.settings.time_max,
            used,
        }
    }

    async fn explain_death(&self, process: ParserProcess, pipe: &io::Error) -> AttemptError {
        let (status, stderr) = process.post_mortem().await;
        if is_out_of_memory(&stderr) {
            return AttemptError::OutOfMemory {
                limit_bytes: self.settings.memory_bytes_max,
                available_bytes: resources::memory_available(),
            };
        }
        let ended = match status {
            Ok(status) if status.signal() == Some(Signal::XCPU.as_raw()) => {
                // The kernel ended it, by the same limit in processor time.
                return self.out_of_time(Some(self.settings.time_max));
            }
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
}
