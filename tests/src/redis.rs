//! A Redis server of the tests' own, and the few commands the harness needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::{environment, ports, wait};

const START_DEADLINE: Duration = Duration::from_secs(20);

/// Databases of the server: one per loopback port, so a stack's first port names a database of its own.
const DATABASES: u16 = 32_000;

/// A running `redis-server` that keeps its data in a directory of its own.
pub struct Redis {
    /// Whether it writes down what it confirms: `yes` or `no`.
    append_only: &'static str,
    process: Option<Process>,
    port: u16,
    dir: TempDir,
}

impl Redis {
    /// Starts a server on a free port and waits until it answers. What it confirmed a second ago survives a kill.
    pub fn start() -> Self {
        Self::start_with("yes")
    }

    /// As [`Redis::start`], with nothing on disk: nobody waits for a disk that others keep busy.
    pub fn start_in_memory() -> Self {
        Self::start_with("no")
    }

    fn start_with(append_only: &'static str) -> Self {
        let mut redis = Self {
            append_only,
            process: None,
            port: ports::free(),
            dir: tempfile::tempdir().expect("a directory for Redis"),
        };
        redis.restart();
        redis
    }

    /// Starts the server again on the same port, with what it had written.
    pub fn restart(&mut self) {
        let arguments = format!(
            "--port {} --bind 127.0.0.1 --databases {DATABASES} --appendonly {} --save  --dir {}",
            self.port,
            self.append_only,
            self.dir.path().display()
        );
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        self.process = Some(Process::start(
            "redis",
            Path::new("redis-server"),
            &arguments,
            &[],
            &self.dir.path().join("redis.log"),
        ));
        let address = self.address();
        wait::until("Redis to answer", START_DEADLINE, || ping(&address));
    }

    /// `host:port` of the server.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many keys of database 0 fit the pattern.
    pub fn keys(&self, pattern: &str) -> usize {
        let answer = command(&self.address(), &format!("KEYS {pattern}\r\nQUIT\r\n"));
        let answer = answer.expect("Redis answers");
        let count = answer
            .lines()
            .next()
            .and_then(|line| line.strip_prefix('*'));
        count
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| panic!("no list of keys: {answer:?}"))
    }

    /// Kills the server (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }
}

/// Asks `PING`; `Err` says what came instead of the answer.
pub fn ping(address: &str) -> Result<(), String> {
    let answer = command(address, "PING\r\nQUIT\r\n").map_err(|error| error.to_string())?;
    if answer.starts_with("+PONG") {
        Ok(())
    } else {
        Err(answer)
    }
}

/// Empties one database of the shared server.
pub fn flush(database: u16) {
    let address = environment::redis();
    let answer = command(
        &address,
        &format!("SELECT {database}\r\nFLUSHDB\r\nQUIT\r\n"),
    )
    .unwrap_or_else(|error| panic!("Redis at {address} is not reachable: {error}"));
    assert!(
        answer.starts_with("+OK\r\n+OK\r\n"),
        "Redis at {address} refused to empty database {database}: {answer}"
    );
}

fn command(address: &str, inline: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(inline.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
