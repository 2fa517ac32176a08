//! One parser process, seen from its parent.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use shared::content::Content;
use shared::id::ProjectId;
use shared::report::RawJson;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::confine::Confinement;
use super::resources;
use super::worker::{Answer, WORKER_SUBCOMMAND};

/// What a process is called in lists of processes.
const PROCESS_NAME: &str = "crashferry";
/// Bytes of a file-backed dump read at a time.
const FILE_PIECE_BYTES: usize = 256 << 10;
/// Pieces read ahead of the pipe.
const FILE_PIECES_AHEAD_MAX: usize = 2;
/// Bytes kept of what a process writes to standard error: the end of it.
const STDERR_TAIL_BYTES_MAX: usize = 4096;
/// A part of an answer that is longer than this is a broken process's: what a sound one tells is bounded.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// What is set aside for an answer before its bytes come.
const ANSWER_RESERVE_BYTES_MAX: u64 = 1 << 20;
/// What a pipe to or from a process holds: as much as Linux gives to anybody.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 1 << 20;
/// A process that closed its pipes, or whose standard input was closed, ends within this time or is killed.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// A running parser process.
pub(super) struct ParserProcess {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: StderrTail,
    project: Option<ProjectId>,
    dumps: u32,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The dump's own bytes could not be read: not the process's fault.
    ReadDump(io::Error),
    /// A pipe broke: the process died.
    Pipe(io::Error),
    /// The process said something else than an answer.
    Protocol(String),
}

impl ParserProcess {
    /// Starts `program` as a worker that may take so much memory, and so much time for a dump. It gets no environment:
    /// settings may hold secrets.
    pub(super) fn start(
        program: &Path,
        memory_bytes_max: u64,
        time_max: Duration,
    ) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg0(PROCESS_NAME)
            .arg(WORKER_SUBCOMMAND)
            .arg(memory_bytes_max.to_string())
            .arg(time_max.as_millis().to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("the parser process has no pipes"));
        };
        widen(&stdin);
        widen(&stdout);
        Ok(Self {
            child,
            stdin,
            stdout,
            stderr: StderrTail {
                pipe: stderr,
                tail: Vec::new(),
            },
            project: None,
            dumps: 0,
        })
    }

    /// The project it serves; `None` before its first dump.
    pub(super) fn project(&self) -> Option<ProjectId> {
        self.project
    }

    /// How long it has used processors; `None` where the system does not say.
    pub(super) fn processor_time(&self) -> Option<Duration> {
        resources::processor_time(self.child.id()?)
    }

    /// How many dumps it answered.
    pub(super) fn dumps(&self) -> u32 {
        self.dumps
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it is confined: the first thing it says. After an error the process is of no more use.
    pub(super) async fn confinement(&mut self) -> Result<Confinement, ExchangeError> {
        unpack(&receive_part(&mut self.stdout).await?)
    }

    /// Sends a dump of `project` and takes the answer. After an error the process is of no more use.
    ///
    /// Writing, reading and draining standard error go on at once, so no full pipe can stop the others.
    pub(super) async fn exchange(
        &mut self,
        project: ProjectId,
        dump: &Content,
    ) -> Result<Answer, ExchangeError> {
        self.project = Some(project);
        let Self {
            stdin,
            stdout,
            stderr,
            ..
        } = self;
        stderr.tail.clear();
        let talk = async {
            let ((), answer) = tokio::try_join!(send(stdin, dump), receive(stdout))?;
            Ok(answer)
        };
        let drain = async {
            stderr.drain().await;
            std::future::pending::<Infallible>().await
        };
        let answer = tokio::select! {
            answer = talk => answer?,
            never = drain => match never {},
        };
        self.dumps += 1;
        Ok(answer)
    }

    /// Closes its standard input and sees it off.
    pub(super) async fn stop(mut self) {
        drop(self.stdin);
        if let Err(error) = see_off(&mut self.child).await {
            tracing::warn!(%error, "a parser process cannot be waited for");
        }
    }

    /// Kills it.
    pub(super) async fn kill(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "a parser process cannot be killed");
        }
    }

    /// How it died, and the end of what it wrote to standard error.
    pub(super) async fn post_mortem(mut self) -> (io::Result<ExitStatus>, String) {
        drop(self.stdin);
        let status = see_off(&mut self.child).await;
        // It is dead, so its end of the pipe is closed; the grace is for a grandchild that should not be.
        if tokio::time::timeout(EXIT_GRACE, self.stderr.drain())
            .await
            .is_err()
        {
            tracing::warn!("the standard error of a dead parser process is still open");
        }
        let tail = String::from_utf8_lossy(&self.stderr.tail).trim().to_owned();
        (status, tail)
    }
}

async fn see_off(child: &mut Child) -> io::Result<ExitStatus> {
    match tokio::time::timeout(EXIT_GRACE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}

async fn send(stdin: &mut ChildStdin, dump: &Content) -> Result<(), ExchangeError> {
    write(stdin, &dump.len().to_le_bytes()).await?;
    if dump.is_in_memory() {
        for piece in dump.pieces(usize::MAX) {
            write(stdin, &piece.map_err(ExchangeError::ReadDump)?).await?;
        }
        return Ok(());
    }
    let (pieces, mut read) = mpsc::channel(FILE_PIECES_AHEAD_MAX);
    let content = dump.clone();
    let reader = tokio::task::spawn_blocking(move || read_pieces(&content, &pieces));
    while let Some(piece) = read.recv().await {
        write(stdin, &piece.map_err(ExchangeError::ReadDump)?).await?;
    }
    reader
        .await
        .map_err(|error| ExchangeError::ReadDump(io::Error::other(error)))
}

/// Reads a file-backed dump ahead of the pipe; ends when nobody wants more of it.
fn read_pieces(content: &Content, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    for piece in content.pieces(FILE_PIECE_BYTES) {
        if pieces.blocking_send(piece).is_err() {
            return;
        }
    }
}

async fn write(stdin: &mut ChildStdin, bytes: &[u8]) -> Result<(), ExchangeError> {
    stdin.write_all(bytes).await.map_err(ExchangeError::Pipe)
}

fn unpack<T: DeserializeOwned>(part: &[u8]) -> Result<T, ExchangeError> {
    rmp_serde::from_slice(part)
        .map_err(|error| ExchangeError::Protocol(format!("expected an answer: {error}")))
}

async fn receive(stdout: &mut ChildStdout) -> Result<Answer, ExchangeError> {
    let head = receive_part(stdout).await?;
    let minidump = receive_part(stdout).await?;
    let mut answer: Answer = unpack(&head)?;
    if let Answer::Parsed { details, .. } = &mut answer
        && !minidump.is_empty()
    {
        let text = String::from_utf8(minidump)
            .map_err(|error| ExchangeError::Protocol(format!("expected JSON: {error}")))?;
        let json = RawJson::new(text)
            .map_err(|error| ExchangeError::Protocol(format!("expected JSON: {error}")))?;
        details.minidump = Some(json);
    }
    Ok(answer)
}

async fn receive_part(stdout: &mut ChildStdout) -> Result<Vec<u8>, ExchangeError> {
    let bytes = stdout.read_u64_le().await.map_err(ExchangeError::Pipe)?;
    if bytes > ANSWER_BYTES_MAX {
        return Err(ExchangeError::Protocol(format!(
            "expected an answer of at most {ANSWER_BYTES_MAX} bytes, found {bytes}"
        )));
    }
    let mut part = Vec::with_capacity(bytes.min(ANSWER_RESERVE_BYTES_MAX) as usize);
    let mut rest = stdout.take(bytes);
    while rest.limit() > 0 {
        let read = rest.read_buf(&mut part).await;
        if read.map_err(ExchangeError::Pipe)? == 0 {
            return Err(ExchangeError::Pipe(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(part)
}

/// Lets a pipe hold a usual dump, or the answer to it, so that neither end waits for the other half-way. Where the system
/// gives no more, its own size does.
fn widen(pipe: impl AsFd) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES) {
        tracing::debug!(%error, "a pipe keeps its size");
    }
    #[cfg(not(target_os = "linux"))]
    let _as_it_is = pipe;
}

/// The end of what a process writes to standard error.
struct StderrTail {
    pipe: ChildStderr,
    tail: Vec<u8>,
}

impl StderrTail {
    /// Reads until it is closed. May be dropped at any await.
    async fn drain(&mut self) {
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = self.pipe.read(&mut buffer).await {
            self.tail.extend_from_slice(&buffer[..read]);
            let excess = self.tail.len().saturating_sub(STDERR_TAIL_BYTES_MAX);
            self.tail.drain(..excess);
        }
    }
}
