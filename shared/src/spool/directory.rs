//! The directory of spool files: its owner, its bounds, and the uploads that wait in it, oldest first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use super::format::{MAGIC, Manifest, TRAILER_BYTES};
use super::{Draft, SpoolDamage, SpoolError};
use crate::config::{Config, SpoolConfig};
use crate::content::{Content, Segment};
use crate::envelope::{Attachment, Envelope};
use crate::id::{EventId, ProjectId};

/// How long a reading of the volume's free space is good for.
const FREE_SPACE_FRESH: Duration = Duration::from_millis(250);

/// The spool of this process. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SpoolDirectory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    incoming: PathBuf,
    ready: PathBuf,
    quarantine: PathBuf,
    space: Arc<Space>,
    /// Durable uploads that nobody has taken yet, by name: names begin with the time, so the first is the oldest.
    waiting: Mutex<BTreeMap<String, u64>>,
    /// Told of each upload that joins `waiting`.
    arrived: Notify,
    /// Held open for its lock.
    _lock: File,
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

/// A durable upload that was taken out of the waiting ones.
#[derive(Debug)]
pub struct SpoolEntry {
    name: String,
    bytes: u64,
}

/// `{received_at in milliseconds}-{project}-{event}.upload`: sorts by age, and names the crash even when the file is
/// damaged.
fn entry_name(envelope: &Envelope) -> String {
    let millis = envelope.received_at.as_millisecond().max(0);
    format!(
        "{millis:013}-{}-{}.upload",
        envelope.project_id, envelope.event_id
    )
}

impl SpoolEntry {
    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Project and event, as the name has them.
    #[must_use]
    pub fn ids(&self) -> Option<(ProjectId, EventId)> {
        let mut parts = self.name.strip_suffix(".upload")?.splitn(3, '-').skip(1);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// When the relay had it, as the name has it.
    #[must_use]
    pub fn received_at(&self) -> Option<Timestamp> {
        let millis = self.name.split('-').next()?.parse().ok()?;
        Timestamp::from_millisecond(millis).ok()
    }
}

/// What is in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolUsage {
    /// Uploads that nobody has taken yet.
    pub waiting_files: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// All bytes, drafts included.
    pub bytes: u64,
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
        let lock = lock(&dir)?;
        for (path, _) in list(&incoming)? {
            fs::remove_file(&path).map_err(SpoolError::io("removing", &path))?;
        }
        let mut waiting = BTreeMap::new();
        let mut used = 0;
        for (path, bytes) in list(&ready)? {
            used += bytes;
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                waiting.insert(name.to_owned(), bytes);
            }
        }
        let space = Arc::new(Space::new(&config.spool, dir, used));
        let arrived = Notify::new();
        let waiting = Mutex::new(waiting);
        Ok(Self(Arc::new(Shared {
            incoming,
            ready,
            quarantine,
            space,
            waiting,
            arrived,
            _lock: lock,
        })))
    }

    /// A file for an upload to be received into. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError`] when there is no room or the file cannot be created.
    pub fn draft(&self) -> Result<Draft, SpoolError> {
        let name = format!("{}.part", Uuid::new_v4().simple());
        Draft::create(self.0.incoming.join(name), self.0.space.reserve())
    }

    /// Makes an upload durable. What is in `draft` already is not written again. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError`]; the upload is then not in the spool.
    pub fn store(&self, envelope: &Envelope, draft: Option<Draft>) -> Result<Stored, SpoolError> {
        let mut draft = match draft {
            Some(draft) => draft,
            None => self.draft()?,
        };
        draft.finish(envelope)?;
        let name = entry_name(envelope);
        let target = self.0.ready.join(&name);
        let bytes = draft.rename(&target)?;
        sync_directory(&self.0.ready)?;
        self.waiting().insert(name, bytes);
        self.0.arrived.notify_one();
        Ok(Stored {
            event_id: envelope.event_id,
        })
    }

    /// Takes the oldest waiting upload; waits for one when there is none.
    pub async fn take(&self) -> SpoolEntry {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some((name, bytes)) = self.waiting().pop_first() {
                return SpoolEntry { name, bytes };
            }
            arrived.await;
        }
    }

    /// Reads a taken upload. Its attachments stay in the file. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolDamage`] says what is wrong with the file; [`SpoolDirectory::quarantine`] is where it belongs then.
    pub fn read(&self, entry: &SpoolEntry) -> Result<Envelope, SpoolDamage> {
        let file = File::open(self.0.ready.join(&entry.name))?;
        read_envelope(file)
    }

    /// Removes a taken upload whose fate is sealed elsewhere.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; the upload will then be seen again at the next start.
    pub fn remove(&self, entry: SpoolEntry) -> Result<(), SpoolError> {
        let path = self.0.ready.join(&entry.name);
        fs::remove_file(&path).map_err(SpoolError::io("removing", &path))?;
        self.0.space.release(entry.bytes);
        Ok(())
    }

    /// Puts a taken upload back among the waiting ones.
    pub fn put_back(&self, entry: SpoolEntry) {
        self.waiting().insert(entry.name, entry.bytes);
        self.0.arrived.notify_one();
    }

    /// Moves a damaged file aside, with the reason in a file beside it. It is never deleted.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn quarantine(
        &self,
        entry: &SpoolEntry,
        damage: &SpoolDamage,
    ) -> Result<PathBuf, SpoolError> {
        let target = self.0.quarantine.join(&entry.name);
        let reason = self.0.quarantine.join(format!("{}.reason.txt", entry.name));
        fs::write(&reason, format!("{damage}\n")).map_err(SpoolError::io("writing", &reason))?;
        fs::rename(self.0.ready.join(&entry.name), &target)
            .map_err(SpoolError::io("moving to", &target))?;
        Ok(target)
    }

    /// What is in the spool now.
    #[must_use]
    pub fn usage(&self) -> SpoolUsage {
        let waiting = self.waiting();
        SpoolUsage {
            waiting_files: waiting.len() as u64,
            waiting_bytes: waiting.values().sum(),
            bytes: self.0.space.used.load(Ordering::Relaxed),
        }
    }

    /// Whether an upload would be taken now.
    ///
    /// # Errors
    /// [`SpoolError`] says why not.
    pub fn check(&self) -> Result<(), SpoolError> {
        self.0.space.check(0)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0
            .waiting
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
    match file.try_lock() {
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
            return Err(SpoolError::Io {
                action: "locking",
                path,
                error,
            });
        }
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(SpoolError::io("writing", &path))?;
    Ok(file)
}

fn list(dir: &Path) -> Result<Vec<(PathBuf, u64)>, SpoolError> {
    let read = || -> std::io::Result<Vec<(PathBuf, u64)>> {
        fs::read_dir(dir)?
            .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.metadata()?.len()))))
            .collect()
    };
    read().map_err(SpoolError::io("listing", dir))
}

fn sync_directory(dir: &Path) -> Result<(), SpoolError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(SpoolError::io("syncing", dir))
}

fn read_envelope(file: File) -> Result<Envelope, SpoolDamage> {
    let file_bytes = file.metadata()?.len();
    if file_bytes < MAGIC.len() as u64 + TRAILER_BYTES {
        return Err(SpoolDamage::NotASpoolFile("too few bytes for one"));
    }
    let mut magic = [0; MAGIC.len()];
    file.read_exact_at(&mut magic, 0)?;
    if &magic != MAGIC {
        return Err(SpoolDamage::NotASpoolFile("other first bytes"));
    }
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut trailer, file_bytes - TRAILER_BYTES)?;
    let (manifest_start, expected) = Manifest::locate(&trailer, file_bytes)?;
    let mut bytes = vec![0; (file_bytes - TRAILER_BYTES - manifest_start) as usize];
    file.read_exact_at(&mut bytes, manifest_start)?;
    let manifest = Manifest::decode(&bytes, expected, manifest_start)?;
    let file = Arc::new(file);
    let content = |runs: &[super::format::Run]| {
        let mut content = Content::default();
        for run in runs {
            content.push(Segment::File {
                file: Arc::clone(&file),
                offset: run.offset,
                bytes: run.bytes,
            });
        }
        content
    };
    let event = content(&manifest.event);
    let attachments = manifest
        .attachments
        .into_iter()
        .map(|attachment| Attachment {
            content: content(&attachment.runs),
            id: attachment.id,
            name: attachment.name,
            content_type: attachment.content_type,
            kind: attachment.kind,
            blake3: attachment
                .blake3
                .and_then(|hex| blake3::Hash::from_hex(hex).ok()),
        });
    Ok(Envelope {
        event_id: manifest.event_id,
        project_id: manifest.project_id,
        received_at: manifest.received_at,
        remote_addr: manifest.remote_addr,
        event: event.read(0, event.len() as usize)?,
        attachments: attachments.collect(),
    })
}

/// The spool's bounds and what of them is taken.
#[derive(Debug)]
struct Space {
    dir: PathBuf,
    used: AtomicU64,
    bytes_max: u64,
    free_bytes_min: u64,
    free: Mutex<Option<(Instant, u64)>>,
}

impl Space {
    fn new(config: &SpoolConfig, dir: PathBuf, used: u64) -> Self {
        Self {
            dir,
            used: AtomicU64::new(used),
            bytes_max: config.max_bytes.get(),
            free_bytes_min: config.min_free_bytes.get(),
            free: Mutex::new(None),
        }
    }

    fn reserve(self: &Arc<Self>) -> SpaceReservation {
        SpaceReservation {
            space: Arc::clone(self),
            bytes: 0,
        }
    }

    fn check(&self, bytes: u64) -> Result<(), SpoolError> {
        let used = self.used.load(Ordering::Relaxed);
        if used.saturating_add(bytes) > self.bytes_max {
            return Err(SpoolError::Full {
                used,
                max: self.bytes_max,
            });
        }
        let free = self.free_bytes()?;
        if free.saturating_sub(bytes) < self.free_bytes_min {
            return Err(SpoolError::NoSpace {
                free,
                min: self.free_bytes_min,
            });
        }
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, SpoolError> {
        let mut reading = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, free)) = *reading
            && at.elapsed() < FREE_SPACE_FRESH
        {
            return Ok(free);
        }
        let volume = rustix::fs::statvfs(&self.dir).map_err(|error| {
            SpoolError::io("asking for the free space of", &self.dir)(error.into())
        })?;
        let free = volume.f_bavail * volume.f_frsize;
        *reading = Some((Instant::now(), free));
        Ok(free)
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A part of the spool's space; given back when dropped, unless kept.
#[derive(Debug)]
pub(super) struct SpaceReservation {
    space: Arc<Space>,
    bytes: u64,
}

impl SpaceReservation {
    /// Takes more.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), SpoolError> {
        self.space.check(bytes)?;
        self.space.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        Ok(())
    }

    /// Leaves the space taken: it belongs to a file that stays.
    pub(super) fn keep(&mut self) {
        self.bytes = 0;
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        self.space.release(self.bytes);
    }
}
