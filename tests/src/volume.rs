//! Volumes that fail: one that is small enough to be filled, and one whose `fsync` fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system of a few megabytes in memory, gone with its owner.
pub struct SmallVolume {
    dir: TempDir,
}

/// A library that, loaded before the others, makes every `fsync` and `fdatasync` fail while its flag is up.
pub struct FailingSync {
    dir: TempDir,
}

impl SmallVolume {
    /// Mounts it. Needs root.
    pub fn mount(bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory to mount on");
        let size = format!("size={bytes}");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "crashferry-test"])
            .arg(dir.path()));
        Self { dir }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes `bytes` of its room; removing the file gives them back.
    pub fn ballast(&self, bytes: u64) -> PathBuf {
        let path = self.path().join("ballast");
        let content = vec![1; usize::try_from(bytes).expect("a small volume")];
        fs::write(&path, content).expect("the ballast fits the volume");
        path
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        // Lazily: what still has a file open there is being killed. A failure would leave a few megabytes of memory.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path().display());
        }
    }
}

impl FailingSync {
    /// Compiles the library; its flag is down.
    pub fn compile() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the library");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/failing_sync.c");
        let failing = Self { dir };
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(failing.library())
            .arg(source));
        failing
    }

    /// The variables a process needs to be under its spell.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.library().display().to_string()),
            (
                "CRASHFERRY_TEST_SYNC_FAILS",
                self.flag().display().to_string(),
            ),
        ]
    }

    /// From now on every sync fails.
    pub fn raise(&self) {
        File::create(self.flag()).expect("the flag can be raised");
    }

    /// From now on no sync fails any more.
    pub fn lower(&self) {
        fs::remove_file(self.flag()).expect("the flag is up");
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("failing_sync.so")
    }

    fn flag(&self) -> PathBuf {
        self.dir.path().join("sync-fails")
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "this test needs what {command:?} does, and it said: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
