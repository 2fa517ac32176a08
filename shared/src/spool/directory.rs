//! The directory of spool files: its owner, and the uploads that wait in it, oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::entry::{SpoolEntry, entry_name, received_at};
use super::space::{Space, SpaceShare};
use super::{Draft, SpoolError};
use crate::config::Config;
use crate::envelope::Envelope;
use crate::id::EventId;
use crate::limits::SPOOL_PROMISE_BYTES_MAX;

/// A file that comes and goes: begins with a dot, as no upload does.
const PROBE: &str = ".probe";
/// A process that was killed while it was starting another leaves its locks to that one, until it is the other program.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// The end of a reason's file name in the quarantine.
const REASON_SUFFIX: &str = ".reason.txt";

/// The spool of this process. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SpoolDirectory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    incoming: Arc<Path>,
    ready: PathBuf,
    quarantine: PathBuf,
    space: Arc<Space>,
    uploads: Mutex<Uploads>,
    /// Told of each upload that joins the waiting ones.
    arrived: Notify,
    /// Held open for its lock.
    _lock: File,
}

/// Durable uploads by file name: names begin with the time, so the first is the oldest.
#[derive(Debug, Default)]
struct Uploads {
    /// Those that nobody has taken yet, with their sizes.
    waiting: BTreeMap<String, u64>,
    taken: BTreeSet<String>,
}

/// Proof that an upload is on the disk: file and directory synced. Only [`SpoolDirectory::store`] makes one.
#[derive(Debug)]
pub struct Stored {
    event_id: EventId,
}

impl Stored {
    /// The upload that is on the disk.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.event_id
    }
}

/// What is in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolUsage {
    /// Durable uploads, those taken included.
    pub files: u64,
    /// All bytes, drafts and what is promised to them included.
    pub bytes: u64,
    /// When the relay had the oldest upload.
    pub oldest: Option<Timestamp>,
}

impl SpoolDirectory {
    /// Takes possession of `data.dir/spool`, throws away what was never acknowledged, and lists what waits.
    ///
    /// # Errors
    /// [`SpoolError::Held`] when another process has it, [`SpoolError::Io`] when it cannot be used.
    pub fn open(config: &Config) -> Result<Self, SpoolError> {
        let dir = config.data.dir.join("spool");
        let [incoming, ready, quarantine] =
            ["incoming", "ready", "quarantine"].map(|name| dir.join(name));
        for path in [&incoming, &ready, &quarantine] {
            fs::create_dir_all(path).map_err(SpoolError::io("creating", path))?;
        }
        // The files in a directory are as durable as its own entry in the one above.
        for path in [&dir, &config.data.dir] {
            let opened = File::open(path).and_then(|open| open.sync_all());
            opened.map_err(SpoolError::io("syncing", path))?;
        }
        let lock = lock(&dir)?;
        for (path, _) in list(&incoming)? {
            fs::remove_file(&path).map_err(SpoolError::io("removing", &path))?;
        }
        let mut uploads = Uploads::default();
        let mut used = 0;
        for (path, bytes) in list(&ready)? {
            used += bytes;
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && name != PROBE
            {
                uploads.waiting.insert(name.to_owned(), bytes);
            }
        }
        let opened = Self(Arc::new(Shared {
            incoming: incoming.into(),
            ready,
            quarantine,
            space: Arc::new(Space::new(&config.spool, dir, used)),
            uploads: Mutex::new(uploads),
            arrived: Notify::new(),
            _lock: lock,
        }));
        match opened.probe() {
            // Full is no reason not to start: what waits has to get out.
            Err(error) if !error.is_full() => Err(error),
            Ok(()) | Err(_) => Ok(opened),
        }
    }

    /// A place for an upload, with no space promised to it.
    #[must_use]
    pub fn draft(&self) -> Draft {
        self.draft_of(None)
    }

    /// The same, of a sender whose unfinished uploads have a share of the spool.
    #[must_use]
    pub fn draft_of(&self, sender: Option<&SpaceShare>) -> Draft {
        Draft::new(
            Arc::clone(&self.0.incoming),
            self.0.space.reservation(sender),
        )
    }

    /// A place for an upload of `bytes`. They must fit now, but only [`SPOOL_PROMISE_BYTES_MAX`] of them are promised:
    /// with more, a few clients that announce much and send little would fill the spool with nothing.
    ///
    /// # Errors
    /// [`SpoolError`] when there is no such room.
    pub fn reserve(&self, bytes: u64, sender: Option<&SpaceShare>) -> Result<Draft, SpoolError> {
        self.0.space.check(bytes)?;
        let mut space = self.0.space.reservation(sender);
        space.promise(bytes.min(SPOOL_PROMISE_BYTES_MAX))?;
        Ok(Draft::new(Arc::clone(&self.0.incoming), space))
    }

    /// Makes an upload durable. What is in `draft` already is not written again. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError`]; the upload is then not in the spool.
    pub fn store(&self, envelope: &Envelope, mut draft: Draft) -> Result<Stored, SpoolError> {
        draft.finish(envelope)?;
        let name = entry_name(envelope);
        let target = self.0.ready.join(&name);
        let bytes = draft.rename(&target)?;
        if let Err(error) = self.sync_ready() {
            self.0.space.release(bytes);
            // Nobody is told that it is safe, so it should not come back either.
            fs::remove_file(&target).map_err(SpoolError::io("removing", &target))?;
            return Err(error);
        }
        self.uploads().waiting.insert(name, bytes);
        self.0.arrived.notify_one();
        Ok(Stored {
            event_id: envelope.event_id,
        })
    }

    /// Takes the oldest waiting upload; waits for one when there is none.
    pub async fn take(&self) -> SpoolEntry {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(entry) = self.try_take() {
                return entry;
            }
            arrived.await;
        }
    }

    /// The oldest waiting upload, when there is one.
    #[must_use]
    pub fn try_take(&self) -> Option<SpoolEntry> {
        let mut uploads = self.uploads();
        let (name, bytes) = uploads.waiting.pop_first()?;
        uploads.taken.insert(name.clone());
        let more = !uploads.waiting.is_empty();
        drop(uploads);
        // A permit wakes one taker: it passes the word on.
        if more {
            self.0.arrived.notify_one();
        }
        Some(SpoolEntry::new(self.clone(), name, bytes))
    }

    /// What is in the spool now.
    #[must_use]
    pub fn usage(&self) -> SpoolUsage {
        let uploads = self.uploads();
        let (waiting, taken) = (uploads.waiting.keys().next(), uploads.taken.first());
        let oldest = match (waiting, taken) {
            (Some(waiting), Some(taken)) => Some(waiting.min(taken)),
            (waiting, taken) => waiting.or(taken),
        };
        SpoolUsage {
            files: (uploads.waiting.len() + uploads.taken.len()) as u64,
            bytes: self.0.space.used_bytes(),
            oldest: oldest.and_then(|name| received_at(name)),
        }
    }

    /// Damaged files in the quarantine. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Io`]
    pub fn quarantined_files(&self) -> Result<u64, SpoolError> {
        let is_reason = |path: &Path| path.to_string_lossy().ends_with(REASON_SUFFIX);
        let files = list(&self.0.quarantine)?;
        Ok(files.iter().filter(|(path, _)| !is_reason(path)).count() as u64)
    }

    /// Does in small what an upload needs: makes a file, writes to it, and moves it. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Io`] says what of it is not possible.
    pub fn probe(&self) -> Result<(), SpoolError> {
        let made = self.0.incoming.join(PROBE);
        let moved = self.0.ready.join(PROBE);
        fs::write(&made, PROBE).map_err(SpoolError::io("writing", &made))?;
        fs::rename(&made, &moved).map_err(SpoolError::io("moving to", &moved))?;
        fs::remove_file(&moved).map_err(SpoolError::io("removing", &moved))
    }

    /// Whether an upload of `bytes` would be taken now.
    ///
    /// # Errors
    /// [`SpoolError`] says why not.
    pub fn check(&self, bytes: u64) -> Result<(), SpoolError> {
        self.0.space.check(bytes)
    }

    /// Bytes that could still be promised.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.0.space.room_bytes()
    }

    pub(super) fn ready(&self) -> &Path {
        &self.0.ready
    }

    pub(super) fn quarantine(&self) -> &Path {
        &self.0.quarantine
    }

    pub(super) fn space(&self) -> &Space {
        &self.0.space
    }

    /// A taken upload waits again.
    pub(super) fn put_back(&self, name: &str, bytes: u64) {
        let mut uploads = self.uploads();
        uploads.taken.remove(name);
        uploads.waiting.insert(name.to_owned(), bytes);
        drop(uploads);
        self.0.arrived.notify_one();
    }

    /// A taken upload is the spool's no more.
    pub(super) fn forget(&self, name: &str) {
        self.uploads().taken.remove(name);
    }

    fn sync_ready(&self) -> Result<(), SpoolError> {
        let dir = &self.0.ready;
        File::open(dir)
            .map_err(SpoolError::io("opening", dir))
            .and_then(|open| {
                open.sync_all().map_err(|error| {
                    let error = SpoolError::io("syncing", dir)(error);
                    self.0.space.distrust(&error);
                    error
                })
            })
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.0
            .uploads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(SpoolError::io("opening", &path))?;
    let until = Instant::now() + LOCK_WAIT;
    let mut locked = file.try_lock();
    while matches!(locked, Err(fs::TryLockError::WouldBlock)) && Instant::now() < until {
        std::thread::sleep(LOCK_WAIT / 20);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)
                .map_err(SpoolError::io("reading", &path))?;
            return Err(SpoolError::Held {
                path: dir.to_owned(),
                holder: holder.trim().to_owned(),
            });
        }
        Err(fs::TryLockError::Error(error)) => {
            return Err(SpoolError::io("locking", &path)(error));
        }
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(SpoolError::io("writing", &path))?;
    Ok(file)
}

/// The files of a directory. One that vanishes meanwhile is left out.
fn list(dir: &Path) -> Result<Vec<(PathBuf, u64)>, SpoolError> {
    let mut files = Vec::new();
    let listed = fs::read_dir(dir).map_err(SpoolError::io("listing", dir))?;
    for entry in listed {
        let entry = entry.map_err(SpoolError::io("listing", dir))?;
        match entry.metadata() {
            Ok(metadata) => files.push((entry.path(), metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(SpoolError::io("looking at", entry.path())(error)),
        }
    }
    Ok(files)
}
