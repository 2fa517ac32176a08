//! A bucket in an S3 server of the tests' own, whose objects can be looked at as files.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::{environment, ports, wait};

/// The one bucket.
pub const BUCKET: &str = "crashes";
/// Below which a stack keeps its files in the bucket.
pub const PREFIX: &str = "some/prefix";
/// Who may use it.
pub const ACCESS_KEY: &str = "harness";
/// The secret to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "a-secret-of-the-harness";

const START_DEADLINE: Duration = Duration::from_secs(20);

/// A running server.
pub struct S3 {
    _process: Process,
    port: u16,
    dir: TempDir,
}

impl S3 {
    /// Starts a server with an empty bucket, and waits until it takes connections.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory for S3");
        let root = dir.path().join("buckets");
        fs::create_dir_all(root.join(BUCKET)).expect("a directory for the bucket");
        let port = ports::free();
        let arguments = [
            port.to_string(),
            root.display().to_string(),
            ACCESS_KEY.to_owned(),
            SECRET_KEY.to_owned(),
        ];
        let process = Process::start(
            "s3",
            &environment::binary().with_file_name("s3-server"),
            &arguments,
            &[],
            &dir.path().join("s3.log"),
        );
        let server = Self {
            _process: process,
            port,
            dir,
        };
        let address = server.address();
        wait::until_true("S3 to answer", START_DEADLINE, || {
            environment::answers(&address)
        });
        server
    }

    /// `host:port` of the server.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the objects below [`PREFIX`] are, by their keys.
    pub fn objects(&self) -> PathBuf {
        self.dir.path().join("buckets").join(BUCKET).join(PREFIX)
    }
}
