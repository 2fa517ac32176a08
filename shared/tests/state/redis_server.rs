//! The Redis that `tests/run` starts, and servers of a test's own to kill.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const VARIABLE: &str = "CRASHFERRY_TEST_REDIS";

/// The URL of a database of the shared server, emptied. Each test has a database of its own.
pub(crate) fn empty_database(number: u8) -> String {
    let address = address();
    let answer = command(&address, &format!("SELECT {number}\r\nFLUSHDB\r\nQUIT\r\n"));
    match answer {
        Ok(answer) if answer.starts_with("+OK\r\n+OK\r\n") => format!("redis://{address}/{number}"),
        other => panic!("Redis at {address} does not empty database {number}: {other:?}"),
    }
}

/// Seconds until the shared server forgets a key; -1 when it never does.
pub(crate) fn seconds_left(database: u8, key: &str) -> i64 {
    let asked = format!("SELECT {database}\r\nTTL {key}\r\nQUIT\r\n");
    let answer = command(&address(), &asked).expect("an answer");
    let seconds = answer
        .lines()
        .nth(1)
        .and_then(|line| line.strip_prefix(':'));
    seconds
        .and_then(|seconds| seconds.parse().ok())
        .expect("a number")
}

/// Has the shared server forget a key.
pub(crate) fn remove(database: u8, key: &str) {
    let asked = format!("SELECT {database}\r\nDEL {key}\r\nQUIT\r\n");
    let answer = command(&address(), &asked).expect("an answer");
    assert!(answer.starts_with("+OK\r\n:1\r\n"), "{answer:?}");
}

fn address() -> String {
    let address = std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!("{VARIABLE} is not set: run the tests with tests/run, which starts Redis")
    });
    address
        .trim_start_matches("redis://")
        .trim_end_matches('/')
        .to_owned()
}

/// A server of a test's own.
pub(crate) struct RedisServer {
    port: u16,
    dir: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    /// A free port, with no server on it yet.
    pub(crate) fn reserve() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self {
            port: listener.local_addr().expect("an address").port(),
            dir: tempfile::tempdir().expect("a directory"),
            process: None,
        }
    }

    /// Where it is, or will be.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it with what it had written, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string()])
            .args([
                "--bind",
                "127.0.0.1",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .arg("--dir")
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.process = Some(process);
        let address = format!("127.0.0.1:{}", self.port);
        let end = Instant::now() + Duration::from_secs(20);
        while !command(&address, "PING\r\nQUIT\r\n").is_ok_and(|answer| answer.starts_with("+PONG"))
        {
            assert!(
                Instant::now() < end,
                "redis-server does not answer at {address}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
        }
    }

    /// Throws away what a killed one had written.
    pub(crate) fn forget(&self) {
        std::fs::remove_dir_all(self.dir.path().join("appendonlydir")).expect("it had written");
    }

    /// Stops it without closing its connections (SIGSTOP).
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &process]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

fn command(address: &str, inline: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(inline.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
