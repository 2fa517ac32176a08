//! The relay on a real socket, in front of its local queue: what only a connection shows.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared::config::{ByteSize, Config, ProjectConfig, Role};
use shared::services::Services;
use shared::spool::SpoolDirectory;
use tokio_util::sync::CancellationToken;

const KEY: &str = "0123456789abcdef";
const DEADLINE: Duration = Duration::from_secs(20);

/// A relay on a thread of its own, stopped when dropped.
struct Relay {
    address: SocketAddr,
    spool: SpoolDirectory,
    shutdown: CancellationToken,
    running: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Relay {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut config = Config::default();
        config.relay.listen = address;
        config.data.dir = dir.path().to_owned();
        config.spool.min_free_bytes = ByteSize::bytes(0);
        config.limits.upload = ByteSize::mib(1);
        config.limits.attachment = ByteSize::mib(1);
        let key = KEY.parse().expect("a key");
        config.projects = vec![ProjectConfig::new("1".parse().expect("an id"), [key])];
        let spool = SpoolDirectory::open(&config).expect("a spool");
        let shutdown = CancellationToken::new();
        let running = {
            let (spool, shutdown) = (spool.clone(), shutdown.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(async {
                    let services = Services::open(&config, Role::Standalone).await;
                    let services = services.expect("services");
                    let ended = relay::run(Arc::new(config), services, spool, shutdown);
                    ended.await.expect("a clean end");
                });
            })
        };
        Self {
            address,
            spool,
            shutdown,
            running: Some(running),
            _dir: dir,
        }
    }

    fn connect(&self) -> TcpStream {
        let started = Instant::now();
        let stream = loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => break stream,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    assert!(started.elapsed() < DEADLINE, "the relay does not listen");
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        };
        let timeout = Some(DEADLINE);
        stream.set_read_timeout(timeout).expect("a time-out");
        stream.set_write_timeout(timeout).expect("a time-out");
        stream
    }

    fn wait_for_waiting(&self, files: u64) {
        let started = Instant::now();
        while self.spool.usage().files != files {
            assert!(started.elapsed() < DEADLINE, "{:?}", self.spool.usage());
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.join().expect("no panic");
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn dump(bytes: usize) -> Vec<u8> {
    let mut dump = b"MDMP\x93\xa7\0\0\x01\0\0\0\x20\0\0\0".to_vec();
    dump.resize(bytes, 7);
    dump
}

fn head(key: &str, length: usize, more: &str) -> String {
    format!(
        "POST /api/1/minidump/?sentry_key={key} HTTP/1.1\r\nHost: h\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n{more}\r\n"
    )
}

/// One answer: its head, and as many bytes of body as it announces.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).expect("a text").to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    (head, String::from_utf8(body).expect("a text"))
}

#[test]
fn one_connection_carries_many_uploads_and_each_gets_its_id() {
    let relay = Relay::start();
    let mut stream = relay.connect();
    // Pipelined: both are there before the first answer is.
    let uploads =
        [1000, 1001].map(|bytes| [head(KEY, bytes, "").as_bytes(), &dump(bytes)].concat());
    stream.write_all(&uploads.concat()).expect("sent");
    for _ in 0..2 {
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/plain\r\n"), "{head}");
        assert_eq!((body.len(), body.matches('-').count()), (36, 4));
    }
    assert_eq!(relay.spool.usage().files, 2);
}

#[test]
fn an_upload_that_will_be_refused_is_not_asked_for() {
    let relay = Relay::start();
    for (key, bytes, status) in [("nobody", 1000, "403"), (KEY, 2 << 20, "413")] {
        let mut stream = relay.connect();
        let head = head(key, bytes, "Expect: 100-continue\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let (head, _) = answer(&mut stream);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
    }
    let mut stream = relay.connect();
    let head = head(KEY, 1000, "Expect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    assert!(answer(&mut stream).0.starts_with("http/1.1 100"));
    stream.write_all(&dump(1000)).expect("sent");
    assert!(answer(&mut stream).0.starts_with("http/1.1 200"));
}

#[test]
fn a_client_that_sends_everything_before_it_reads_still_reads_its_refusal() {
    let relay = Relay::start();
    for (key, status) in [("nobody", "403"), (KEY, "413")] {
        let mut stream = relay.connect();
        let body = dump(12 << 20);
        stream
            .write_all(head(key, body.len(), "").as_bytes())
            .expect("sent");
        stream
            .write_all(&body)
            .expect("sent, though nobody wants it");
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(head.contains("x-sentry-error: "), "{head}");
        assert!(body.contains("\"reason\":"), "{body}");
    }
}

#[test]
fn a_client_that_hangs_up_after_the_last_byte_has_delivered_its_crash() {
    let relay = Relay::start();
    let mut stream = relay.connect();
    let upload = [head(KEY, 100_000, "").as_bytes(), &dump(100_000)].concat();
    stream.write_all(&upload).expect("sent");
    drop(stream);
    relay.wait_for_waiting(1);
}

#[test]
fn an_upload_under_way_at_shutdown_is_finished() {
    let mut relay = Relay::start();
    let mut stream = relay.connect();
    let body = dump(50_000);
    stream
        .write_all(head(KEY, body.len(), "Expect: 100-continue\r\n").as_bytes())
        .expect("sent");
    // The relay reads the body by now.
    assert!(answer(&mut stream).0.starts_with("http/1.1 100"));
    stream.write_all(&body[..20_000]).expect("sent");
    relay.shutdown.cancel();
    let client = std::thread::spawn(move || {
        stream.write_all(&body[20_000..]).expect("sent");
        answer(&mut stream)
    });
    relay.stop();
    let (head, _) = client.join().expect("an answer");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(relay.spool.usage().files, 1);
}

#[test]
fn http_2_works_on_the_same_port() {
    let relay = Relay::start();
    let mut stream = relay.connect();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("sent");
    stream
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .expect("sent");
    let mut frame = [0; 9];
    stream
        .read_exact(&mut frame)
        .expect("the server's settings");
    assert_eq!(frame[3], 4, "{frame:?}");
}
