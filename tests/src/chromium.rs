//! A real Chromium without windows, one of whose renderers really crashes and is dumped by Chromium's own handler.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::wait;

/// The program itself: its wrapper in `/usr/bin` would be one process more to end.
const PROGRAM: &str = "/usr/lib/chromium/chromium-shell";
const START_DEADLINE: Duration = Duration::from_secs(30);
const DUMP_DEADLINE: Duration = Duration::from_secs(30);

/// A running Chromium, ended with its whole family when dropped.
pub struct Chromium {
    browser: Child,
    /// Crashpad's database.
    database: TempDir,
    _profile: TempDir,
}

impl Chromium {
    /// Starts the browser on an empty page, and waits until it has a renderer.
    pub fn start() -> Self {
        let database = tempfile::tempdir().expect("a directory for dumps");
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let browser = Command::new(PROGRAM)
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .arg("--enable-crash-reporter")
            .arg(format!("--crash-dumps-dir={}", database.path().display()))
            .arg(format!("--data-path={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{PROGRAM}: {error}: tests/run installs it"));
        Self {
            browser,
            database,
            _profile: profile,
        }
    }

    /// Kills a renderer with SIGSEGV and waits for its dump. Returns the report's id in [`Chromium::database`].
    pub fn crash_renderer(&self) -> String {
        let renderer = wait::until("a renderer", START_DEADLINE, || {
            // The handler must be there first, or nobody sees the crash.
            self.ours("--database=")
                .and_then(|_| self.ours("--type=renderer"))
                .ok_or_else(|| "none yet".to_owned())
        });
        kill_process(renderer, Signal::SEGV).expect("the renderer can be killed");
        let pending = self.database().join("pending");
        wait::until("the renderer's dump", DUMP_DEADLINE, || {
            let files = fs::read_dir(&pending).map_err(|error| error.to_string())?;
            let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
            let metas: Vec<String> = names.filter(|name| name.ends_with(".meta")).collect();
            let report = metas.first().and_then(|name| name.strip_suffix(".meta"));
            report.map(str::to_owned).ok_or_else(|| "none yet".into())
        })
    }

    /// The database that Chromium's handler writes to.
    pub fn database(&self) -> &Path {
        self.database.path()
    }

    /// A process with this in its arguments, and our database.
    fn ours(&self, argument: &str) -> Option<Pid> {
        let database = self.database().display().to_string();
        processes().into_iter().find_map(|(pid, arguments)| {
            let is_ours = arguments.contains(&database) && arguments.contains(argument);
            Pid::from_raw(pid).filter(|_| is_ours)
        })
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The handler has left the browser's group by design.
        let handler = self.ours("--database=");
        let group = Pid::from_child(&self.browser);
        for ended in [
            kill_process_group(group, Signal::KILL),
            handler.map_or(Ok(()), |handler| kill_process(handler, Signal::KILL)),
        ] {
            if let Err(error) = ended {
                eprintln!("a process of Chromium was gone already: {error}");
            }
        }
        self.browser.wait().expect("the browser can be waited for");
    }
}

/// Every process and its arguments.
fn processes() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").expect("processes are listed in /proc");
    let processes = entries.filter_map(|entry| {
        let dir: PathBuf = entry.ok()?.path();
        let pid = dir.file_name()?.to_str()?.parse().ok()?;
        let arguments = fs::read(dir.join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&arguments).replace('\0', " ")))
    });
    processes.collect()
}
