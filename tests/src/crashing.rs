//! A dump of a child that really crashed: the child asks a server in the test to write it, as desktop programs do.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use minidumper::{LoopAction, MinidumpBinary, Server, ServerHandler, SocketName};

/// Address the child writes to.
pub const CRASH_ADDRESS: u64 = 0x42;

/// Runs `child` (the `crashing-child` program) until it dies of SIGSEGV, and returns its dump.
pub fn dump(child: &Path) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory for the dump");
    let socket = dir.path().join("socket");
    let socket = socket
        .to_str()
        .expect("the temporary directory has a plain name");
    let mut server = Server::with_name(SocketName::path(socket)).expect("a dump server can listen");
    let path = dir.path().join("crash.dmp");
    let mut running = Command::new(child)
        .arg(socket)
        .arg(std::process::id().to_string())
        .spawn()
        .expect("the crashing child can be started");
    let writer = Box::new(Writer {
        path: path.clone(),
        failure: Mutex::new(None),
    });
    server
        .run(writer, &AtomicBool::new(false), None)
        .expect("the dump server runs until the dump is written");
    let status = running.wait().expect("the child can be waited for");
    assert!(!status.success(), "the child was to crash: {status}");
    std::fs::read(&path).expect("the dump was written")
}

struct Writer {
    path: PathBuf,
    failure: Mutex<Option<String>>,
}

impl ServerHandler for Writer {
    fn create_minidump_file(&self) -> Result<(File, PathBuf), std::io::Error> {
        Ok((File::create(&self.path)?, self.path.clone()))
    }

    fn on_minidump_created(&self, result: Result<MinidumpBinary, minidumper::Error>) -> LoopAction {
        if let Err(error) = result {
            *self.failure.lock().expect("nobody panics with the lock") = Some(error.to_string());
        }
        LoopAction::Exit
    }

    fn on_message(&self, _kind: u32, _message: Vec<u8>) {}

    fn on_client_disconnected(&self, clients: usize) -> LoopAction {
        // The child died without a dump: the test then finds no file and says so.
        if clients == 0 {
            LoopAction::Exit
        } else {
            LoopAction::Continue
        }
    }
}
