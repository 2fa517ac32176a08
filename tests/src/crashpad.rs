//! Drives Crashpad's own uploader, the one inside Chromium and Electron: a report is laid into a database of its
//! format, the handler is started on it and uploads what it finds.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wait;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Where Debian and Ubuntu install the handler of Chromium.
const HANDLERS: [&str; 3] = [
    "/usr/lib/chromium/chrome_crashpad_handler",
    "/usr/lib/chromium-browser/chrome_crashpad_handler",
    "/opt/google/chrome/chrome_crashpad_handler",
];
const UPLOAD_DEADLINE: Duration = Duration::from_secs(70);
const EXIT_DEADLINE: Duration = Duration::from_secs(15);
/// The settings file's magic: `CPds` as a multi-character constant.
const SETTINGS_MAGIC: u32 = 0x4350_6473;
const CLIENT_ID: [u8; 16] = [
    0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x43, 0x84, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55,
];

/// How the handler is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Compress the body, the handler's default.
    pub gzip: bool,
}

/// What the handler made of one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The report is marked as uploaded.
    pub uploaded: bool,
    /// The response body, kept byte by byte as the crash id.
    pub id: String,
    /// The report's own id, which is the dump's file name on the wire.
    pub report: String,
}

/// Uploads `dump` with `attachments` (name, content) to `url` and returns the handler's verdict.
pub fn upload(url: &str, dump: &[u8], attachments: &[(&str, &[u8])], options: Options) -> Verdict {
    let database = tempfile::tempdir().expect("a directory for Crashpad");
    let report = seed(database.path(), dump, attachments);
    upload_pending(url, database.path(), &report, options)
}

/// Uploads a report that waits in a database that a program's own handler has written.
pub fn upload_from(url: &str, database: &Path, report: &str, options: Options) -> Verdict {
    // The program's user has not consented to uploads; this one does.
    write(database.join("settings.dat"), &settings());
    upload_pending(url, database, report, options)
}

fn upload_pending(url: &str, database: &Path, report: &str, options: Options) -> Verdict {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::empty(),
        None,
    )
    .expect("a pair of sockets");
    // Both ends pass to the child; a copy of ours would keep it waiting for a client, so that one closes on exec.
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC).expect("a descriptor can be set");
    let mut child = command(url, database, &theirs, options)
        .spawn()
        .expect("the Crashpad handler can be started");
    drop(theirs);
    let pending = database.join("pending").join(format!("{report}.meta"));
    let gone = std::panic::catch_unwind(|| {
        wait::until_true("Crashpad to upload its report", UPLOAD_DEADLINE, || {
            !pending.exists()
        });
    });
    // The last client hangs up: the handler finishes and leaves by itself.
    drop(ours);
    let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait::until_true("the Crashpad handler to leave", EXIT_DEADLINE, || {
            matches!(child.try_wait(), Ok(Some(_)))
        });
    }));
    if left.is_err() {
        child.kill().expect("the Crashpad handler can be killed");
        child
            .wait()
            .expect("the Crashpad handler can be waited for");
    }
    gone.and(left)
        .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    verdict(database, report)
}

fn command(url: &str, database: &Path, client: &OwnedFd, options: Options) -> Command {
    use std::os::fd::AsRawFd;
    let handler = HANDLERS
        .iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or_else(|| panic!("no Crashpad handler at {HANDLERS:?}: tests/run installs one"));
    let mut command = Command::new(handler);
    command
        .arg(format!("--database={}", database.display()))
        .arg(format!("--url={url}"))
        .arg(format!("--initial-client-fd={}", client.as_raw_fd()))
        .arg("--no-rate-limit")
        .stdin(Stdio::null());
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    if !options.gzip {
        command.arg("--no-upload-gzip");
    }
    command
}

/// Lays the database out with one pending report and returns the report's id.
fn seed(root: &Path, dump: &[u8], attachments: &[(&str, &[u8])]) -> String {
    for dir in ["new", "pending", "completed", "attachments"] {
        fs::create_dir(root.join(dir)).expect("a directory of the database");
    }
    write(root.join("settings.dat"), &settings());

    let report = uuid::Uuid::new_v4().hyphenated().to_string();
    write(root.join("pending").join(format!("{report}.dmp")), dump);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    let mut meta = Vec::new();
    meta.extend_from_slice(&1_i32.to_le_bytes());
    meta.extend_from_slice(&0_i32.to_le_bytes());
    meta.extend_from_slice(&0_i64.to_le_bytes());
    meta.extend_from_slice(&now.as_secs().to_le_bytes());
    meta.extend_from_slice(&[0; 8]);
    write(root.join("pending").join(format!("{report}.meta")), &meta);

    let dir = root.join("attachments").join(&report);
    fs::create_dir(&dir).expect("a directory of the database");
    for (name, content) in attachments {
        write(dir.join(name), content);
    }
    report
}

/// Settings that allow uploads.
fn settings() -> Vec<u8> {
    let mut settings = Vec::new();
    for word in [SETTINGS_MAGIC, 1, 1, 0] {
        settings.extend_from_slice(&word.to_le_bytes());
    }
    settings.extend_from_slice(&0_i64.to_le_bytes());
    settings.extend_from_slice(&CLIENT_ID);
    settings
}

fn verdict(database: &Path, report: &str) -> Verdict {
    let path = database.join("completed").join(format!("{report}.meta"));
    let meta = fs::read(&path).expect("the handler keeps the report's fate");
    Verdict {
        uploaded: meta[24] & 1 == 1,
        id: String::from_utf8_lossy(&meta[32..]).into_owned(),
        report: report.to_owned(),
    }
}

fn write(path: PathBuf, content: &[u8]) {
    fs::write(&path, content)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}
