//! State in a SQLite file: one connection on a thread of its own, requests that come together in one transaction.

mod deleted;
mod keys;
mod open_events;
mod outcomes;
mod repeats;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::{AcceptedNote, AttemptId, EventStatus, Finished, StateError, stored};
use crate::id::{EventId, ProjectId, PublicKey};
use crate::ledger::Ledger;
use crate::limits;
use crate::outcome::Outcome;

const SCHEMA_VERSION: i64 = SCHEMAS.len() as i64;
/// What each version added to the one before.
const SCHEMAS: [&str; 3] = ["
    CREATE TABLE events (event_id BLOB PRIMARY KEY, status TEXT NOT NULL, finished_at INTEGER) STRICT, WITHOUT ROWID;
    CREATE INDEX events_by_finished_at ON events (finished_at) WHERE finished_at IS NOT NULL;
    CREATE TABLE attempts (event_id BLOB PRIMARY KEY, attempts INTEGER NOT NULL, begun_at INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE ledger (name TEXT PRIMARY KEY, events INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE project_keys (project_id TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;
", "
    CREATE TABLE keys (key TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE quota_use (key TEXT PRIMARY KEY, minute INTEGER NOT NULL, minute_uploads INTEGER NOT NULL,
        minute_bytes INTEGER NOT NULL, hour INTEGER NOT NULL, hour_uploads INTEGER NOT NULL, hour_bytes INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE uploads (project_id TEXT NOT NULL, mark TEXT NOT NULL, event_id BLOB NOT NULL, received_at INTEGER NOT NULL,
        PRIMARY KEY (project_id, mark)) STRICT, WITHOUT ROWID;
    CREATE INDEX uploads_by_received_at ON uploads (received_at);
    CREATE TABLE chosen_ids (event_id BLOB PRIMARY KEY, fingerprint TEXT NOT NULL, chosen_at INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE INDEX chosen_ids_by_chosen_at ON chosen_ids (chosen_at);
    PRAGMA user_version = 2;
", open_events::SCHEMA];

/// A handle on the thread.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    requests: mpsc::Sender<Request>,
    /// How long a durable upload is known to repeats.
    window: Duration,
}

enum Request {
    Run(Durability, Job),
    /// Answered by dropping the sender.
    Close(oneshot::Sender<()>),
}

/// What of a transaction must survive a power cut; everything survives our own death.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Durability {
    /// Nothing: reads, notes that an outcome heals, counts of tries.
    Process,
    /// It: the answer waits for the disk.
    Machine,
}

type Job = Box<dyn FnOnce(&Connection) -> (bool, Reply) + Send>;
type Reply = Box<dyn FnOnce(Result<(), StateError>) + Send>;

impl Sqlite {
    /// Opens or makes the file at `path`. `window` is `dedupe.window`.
    pub(super) async fn open(path: &Path, window: Duration) -> Result<Self, StateError> {
        let (requests, queue) = mpsc::channel(limits::STATE_QUEUE_REQUESTS_MAX);
        let (opened, open) = oneshot::channel();
        let path = path.to_owned();
        let thread = std::thread::Builder::new().name("state".into());
        let spawned = thread.spawn(move || match connect(&path) {
            Ok(connection) => {
                drop(opened.send(Ok(())));
                serve(connection, queue);
            }
            Err(error) => drop(opened.send(Err(error))),
        });
        spawned.map_err(|error| StateError::Away(format!("SQLite: {error}")))?;
        open.await.map_err(|_| stopped())??;
        Ok(Self { requests, window })
    }

    pub(super) async fn accept(&self, notes: Vec<AcceptedNote>) -> Result<(), StateError> {
        self.run(Durability::Process, move |connection| {
            for note in &notes {
                accept(connection, note)?;
                repeats::remember(connection, note)?;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn finish(&self, outcomes: Vec<Outcome>) -> Result<Vec<Finished>, StateError> {
        self.run(Durability::Machine, move |connection| {
            let finish = |outcome| finish(connection, outcome);
            outcomes.iter().map(finish).collect()
        })
        .await
    }

    pub(super) async fn statuses(
        &self,
        events: Vec<EventId>,
    ) -> Result<Vec<Option<(ProjectId, EventStatus)>>, StateError> {
        self.run(Durability::Process, move |connection| {
            let status = |event: &EventId| {
                let value = value(connection, *event)?;
                Ok(value.as_deref().map(stored::status).transpose()?)
            };
            events.iter().map(status).collect()
        })
        .await
    }

    pub(super) async fn ledger(&self) -> Result<Ledger, StateError> {
        self.run(Durability::Process, |connection| {
            let mut rows = connection.prepare_cached("SELECT name, events FROM ledger")?;
            let counts = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let counts: Vec<(String, i64)> = counts.collect::<Result<_, _>>()?;
            let counts = counts.into_iter();
            let counts = counts.map(|(name, events)| (name, events.cast_unsigned()));
            Ok(Ledger {
                open: Some(open_events::open_events(connection)?),
                ..stored::ledger(counts)?
            })
        })
        .await
    }

    /// Which attempt it is needs no telling here: one that was not answered was not counted.
    pub(super) async fn begin_attempt(
        &self,
        event: EventId,
        _: AttemptId,
    ) -> Result<u32, StateError> {
        self.run(Durability::Process, move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO attempts VALUES (?1, 1, ?2)
                 ON CONFLICT DO UPDATE SET attempts = attempts + 1, begun_at = ?2 RETURNING attempts",
            )?;
            let begun_at = Timestamp::now().as_second();
            let attempt = statement.query_row(params![event.as_bytes(), begun_at], |row| row.get(0))?;
            Ok(attempt)
        })
        .await
    }

    pub(super) async fn project_key(&self, project: ProjectId) -> Result<PublicKey, StateError> {
        let fresh = PublicKey::random();
        self.run(Durability::Machine, move |connection| {
            let project = project.to_string();
            connection.execute(
                "INSERT OR IGNORE INTO project_keys VALUES (?1, ?2)",
                params![project, fresh.as_str()],
            )?;
            let select = "SELECT key FROM project_keys WHERE project_id = ?1";
            let key: String = connection.query_row(select, [project], |row| row.get(0))?;
            let key = key.parse().map_err(|_| unreadable("a project key"))?;
            Ok(key)
        })
        .await
    }

    /// Forgets outcomes, counts of tries and chosen ids from before `oldest`, and uploads whose window is over, in small
    /// transactions.
    pub(super) async fn prune(&self, oldest: Timestamp) -> Result<(), StateError> {
        let oldest_upload = Timestamp::now()
            .checked_sub(self.window)
            .unwrap_or(Timestamp::MIN);
        for (delete, oldest) in [
            (
                "DELETE FROM events WHERE event_id IN (SELECT event_id FROM events WHERE finished_at < ?1 LIMIT ?2)",
                oldest,
            ),
            (
                "DELETE FROM attempts WHERE event_id IN (SELECT event_id FROM attempts WHERE begun_at < ?1 LIMIT ?2)",
                oldest,
            ),
            (
                "DELETE FROM chosen_ids WHERE event_id IN (SELECT event_id FROM chosen_ids WHERE chosen_at < ?1 LIMIT ?2)",
                oldest,
            ),
            (
                "DELETE FROM uploads WHERE (project_id, mark) IN
                     (SELECT project_id, mark FROM uploads WHERE received_at < ?1 LIMIT ?2)",
                oldest_upload,
            ),
        ] {
            let oldest = oldest.as_second();
            let rows_max = limits::STATE_PRUNE_ROWS_MAX;
            let prune = move |connection: &Connection| {
                Ok(connection.execute(delete, params![oldest, rows_max])?)
            };
            while self.run(Durability::Process, prune).await? == rows_max as usize {}
        }
        Ok(())
    }

    /// Closes the file; later requests fail.
    pub(super) async fn close(&self) {
        let (close, closed) = oneshot::channel();
        if self.requests.send(Request::Close(close)).await.is_ok() {
            // It never answers: the sender goes when the file is closed.
            let _closed = closed.await;
        }
    }

    /// Runs `job` within a transaction on the thread, and answers when that is committed.
    async fn run<T: Send + 'static>(
        &self,
        durability: Durability,
        job: impl FnOnce(&Connection) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = job(connection).map_err(|JobError(error)| error);
            let done = result.is_ok();
            let reply = move |committed: Result<(), StateError>| {
                // Whoever asked may have gone.
                drop(answer.send(result.and_then(|result| committed.map(|()| result))));
            };
            (done, Box::new(reply) as Reply)
        });
        let request = Request::Run(durability, job);
        self.requests.send(request).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

fn connect(path: &Path) -> Result<Connection, StateError> {
    let unusable = |problem: String| StateError::Unusable {
        key: "data.dir",
        problem: format!("expected a usable {}: {problem}", path.display()),
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| unusable(error.to_string()))?;
    }
    let open = || -> rusqlite::Result<(Connection, i64)> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(limits::STATE_REQUEST_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let schema = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = schema.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let missing = SCHEMAS.iter().skip(usize::try_from(version).unwrap_or(0));
        for added in missing {
            schema.execute_batch(added)?;
        }
        if version < SCHEMA_VERSION {
            schema.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        schema.commit()?;
        Ok((connection, version))
    };
    let (connection, version) = open().map_err(|error| unusable(error.to_string()))?;
    if version > SCHEMA_VERSION {
        let found = format!(
            "{} of version {version}, from a newer crashferry",
            path.display()
        );
        return Err(StateError::Unreadable(found));
    }
    Ok(connection)
}

/// The thread: gathers what is waiting, runs it as one transaction, answers.
fn serve(mut connection: Connection, mut queue: mpsc::Receiver<Request>) {
    let mut batch = Vec::new();
    while queue.blocking_recv_many(&mut batch, limits::STATE_QUEUE_REQUESTS_MAX) > 0 {
        let mut jobs = Vec::new();
        let mut durability = Durability::Process;
        let mut close = None;
        for request in batch.drain(..) {
            match request {
                Request::Run(needed, job) => {
                    durability = durability.max(needed);
                    jobs.push(job);
                }
                Request::Close(closed) => close = Some(closed),
            }
        }
        let mut replies = Vec::new();
        let committed = transact(&mut connection, durability, jobs, &mut replies);
        for reply in replies {
            reply(committed.clone());
        }
        if let Some(closed) = close {
            drop(connection);
            drop(closed);
            return;
        }
    }
}

/// One transaction of many jobs; one that fails takes only its own changes back.
fn transact(
    connection: &mut Connection,
    durability: Durability,
    jobs: Vec<Job>,
    replies: &mut Vec<Reply>,
) -> Result<(), StateError> {
    let transact = || -> rusqlite::Result<()> {
        let synchronous = match durability {
            Durability::Process => "NORMAL",
            Durability::Machine => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        let mut transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs {
            let savepoint = transaction.savepoint()?;
            let (done, reply) = job(&savepoint);
            replies.push(reply);
            if done {
                savepoint.commit()?;
            }
        }
        transaction.commit()
    };
    transact().map_err(|error| {
        tracing::error!(%error, "a transaction of the state store failed");
        StateError::Away(format!("SQLite: {error}"))
    })
}

fn accept(connection: &Connection, note: &AcceptedNote) -> Result<(), JobError> {
    let insert = "INSERT OR IGNORE INTO events VALUES (?1, ?2, NULL)";
    let mut insert = connection.prepare_cached(insert)?;
    let is_new = insert.execute(params![note.event_id.as_bytes(), stored::accepted(note)])? == 1;
    if is_new {
        count(connection, stored::ACCEPTED)?;
    }
    open_events::note_accepted(connection, note, is_new)
}

fn finish(connection: &Connection, outcome: &Outcome) -> Result<Finished, JobError> {
    let event = outcome.event_id;
    match value(connection, event)? {
        Some(known) if known.starts_with(stored::FINISHED_MARK) => {
            return Ok(Finished::Already(stored::outcome(&known)?));
        }
        Some(_) => {}
        None => count(connection, stored::ACCEPTED)?,
    }
    let finished_at = outcome.finished_at.as_second();
    connection
        .prepare_cached("INSERT OR REPLACE INTO events VALUES (?1, ?2, ?3)")?
        .execute(params![
            event.as_bytes(),
            stored::finished(outcome),
            finished_at
        ])?;
    connection
        .prepare_cached("DELETE FROM attempts WHERE event_id = ?1")?
        .execute([event.as_bytes()])?;
    open_events::note_finished(connection, outcome)?;
    count(connection, &stored::count_name(&outcome.verdict))?;
    Ok(Finished::First)
}

fn count(connection: &Connection, name: &str) -> Result<(), JobError> {
    let upsert = "INSERT INTO ledger VALUES (?1, 1) ON CONFLICT DO UPDATE SET events = events + 1";
    connection.prepare_cached(upsert)?.execute([name])?;
    Ok(())
}

fn value(connection: &Connection, event: EventId) -> Result<Option<String>, JobError> {
    let select = "SELECT status FROM events WHERE event_id = ?1";
    let mut select = connection.prepare_cached(select)?;
    let value = select.query_row([event.as_bytes()], |row| row.get(0));
    Ok(value.optional()?)
}

/// Lets `?` turn SQLite's errors into ours.
struct JobError(StateError);

impl From<StateError> for JobError {
    fn from(error: StateError) -> Self {
        Self(error)
    }
}

impl From<rusqlite::Error> for JobError {
    fn from(error: rusqlite::Error) -> Self {
        Self(StateError::Away(format!("SQLite: {error}")))
    }
}

fn unreadable(what: &str) -> StateError {
    StateError::Unreadable(what.into())
}

fn stopped() -> StateError {
    StateError::Away("SQLite: its thread takes no more requests".into())
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::outcome::{Failure, Verdict};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome {
            event_id: EventId::random(),
            project_id: ProjectId::new(1),
            attached_to: None,
            verdict,
            received_at: Timestamp::now(),
            finished_at: Timestamp::now(),
            attempts: 1,
            partition: None,
            offset: None,
        }
    }

    async fn open(dir: &tempfile::TempDir) -> Result<Sqlite, StateError> {
        Sqlite::open(&dir.path().join("made").join("state.db"), DAY).await
    }

    #[tokio::test]
    async fn everything_survives_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let project = ProjectId::new(u64::MAX);
        let timed_out = outcome(Verdict::Failed(Failure::ParserTimeout {
            limit_seconds: 1.0,
        }));
        let open_event = EventId::random();
        let store = open(&dir).await.expect("opens");
        let key = store.project_key(project).await.expect("a key");
        store
            .finish(vec![timed_out.clone()])
            .await
            .expect("finishes");
        assert_eq!(
            store
                .begin_attempt(open_event, AttemptId::random())
                .await
                .expect("begins"),
            1
        );
        let ledger = store.ledger().await.expect("a ledger");
        assert_eq!((ledger.accepted, ledger.failed()), (1, 1));
        store.close().await;
        assert!(store.ledger().await.is_err(), "closed");

        let store = open(&dir).await.expect("opens again");
        assert_eq!(store.project_key(project).await.expect("a key"), key);
        assert_eq!(
            store
                .begin_attempt(open_event, AttemptId::random())
                .await
                .expect("begins"),
            2
        );
        assert_eq!(store.ledger().await.expect("a ledger"), ledger);
        let again = store
            .finish(vec![timed_out.clone()])
            .await
            .expect("finishes");
        assert_eq!(again, [Finished::Already(timed_out)]);
    }

    #[tokio::test]
    async fn an_old_outcome_is_forgotten_and_stays_in_the_ledger() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await.expect("opens");
        let mut outcomes = Vec::new();
        for _ in 0..=limits::STATE_PRUNE_ROWS_MAX {
            let finished_at = Timestamp::now() - 2.hours();
            outcomes.push(Outcome {
                finished_at,
                ..outcome(Verdict::Processed)
            });
        }
        let recent = outcome(Verdict::Processed);
        let (old, young) = (outcomes[0].event_id, recent.event_id);
        outcomes.push(recent);
        store.finish(outcomes).await.expect("finishes");
        let ledger = store.ledger().await.expect("a ledger");
        store
            .prune(Timestamp::now() - 1.hours())
            .await
            .expect("prunes");
        let statuses = store.statuses(vec![old, young]).await.expect("statuses");
        assert!(statuses[0].is_none() && statuses[1].is_some());
        assert_eq!(store.ledger().await.expect("a ledger"), ledger);
        let left = |connection: &Connection| {
            Ok(
                connection.query_row("SELECT count(*) FROM events", [], |row| {
                    row.get::<_, i64>(0)
                })?,
            )
        };
        assert_eq!(
            store.run(Durability::Process, left).await.expect("counts"),
            1
        );
    }

    #[tokio::test]
    async fn a_request_that_fails_takes_only_its_own_changes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await.expect("opens");
        let good = store.finish(vec![outcome(Verdict::Processed)]);
        let bad = store.run(Durability::Process, |connection| {
            count(connection, stored::ACCEPTED)?;
            connection.execute("INSERT INTO nowhere VALUES (1)", [])?;
            Ok(())
        });
        let (good, bad) = tokio::join!(good, bad);
        assert_eq!(good.expect("finishes"), [Finished::First]);
        assert!(matches!(bad, Err(StateError::Away(_))));
        assert_eq!(store.ledger().await.expect("a ledger").accepted, 1);
    }

    #[tokio::test]
    async fn a_file_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await.expect("opens");
        let newer = |connection: &Connection| {
            Ok(connection.pragma_update(None, "user_version", SCHEMA_VERSION + 1)?)
        };
        store
            .run(Durability::Machine, newer)
            .await
            .expect("updates");
        store.close().await;
        assert!(matches!(open(&dir).await, Err(StateError::Unreadable(_))));
    }

    #[tokio::test]
    async fn a_file_of_the_first_version_is_brought_up_to_date_and_keeps_what_it_knows() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("made")).expect("a directory");
        let path = dir.path().join("made").join("state.db");
        let old = Connection::open(&path).expect("opens");
        old.execute_batch(SCHEMAS[0]).expect("the first version");
        old.execute("INSERT INTO project_keys VALUES ('1', 'abc')", [])
            .expect("a key");
        drop(old);
        let store = open(&dir).await.expect("opens");
        let project = ProjectId::new(1);
        let key = store.project_key(project).await.expect("a key");
        assert_eq!(key.as_str(), "abc");
        assert_eq!(store.keys().await.expect("a table"), []);
        store.close().await;
        open(&dir).await.expect("opens again");
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_is_named_with_its_key() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = Sqlite::open(&file.path().join("state.db"), DAY)
            .await
            .expect_err("no directory");
        assert!(
            error.to_string().starts_with("data.dir: expected"),
            "{error}"
        );
    }
}
