//! A crowd of clients that hold connections and send next to nothing on them: a byte a second, or none at all. One
//! thread plays them all.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::stack::Stack;

/// How often each of the crowd sends something.
const ROUND: Duration = Duration::from_secs(1);
/// The crowd is served in as many parts, spread over a round.
const PARTS: usize = 20;
/// The length that a body claims to have.
const CLAIMED_BYTES: usize = 20_000_000;

/// What a client is slow at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A body, with so many bytes at a time.
    Body(usize),
    /// A body of one HTTP/2 stream, with one byte at a time.
    Http2Body,
    /// A request head, with one byte at a time.
    Head,
    /// The same of HTTP/1.0, after all of it that makes it one with a chunked body.
    OldHead,
    /// The bytes by which HTTP/2 is told from HTTP/1, and then nothing.
    Preface,
    /// An HTTP/2 connection without a request.
    Http2Idle,
    /// Everything: nothing is ever sent.
    Silence,
}

/// A connection that the server ended.
#[derive(Clone, Debug)]
pub struct CutOff {
    /// What its client was slow at.
    pub manner: Manner,
    /// Since the crowd began.
    pub after: Duration,
    /// What came back.
    pub answer: Vec<u8>,
}

/// A crowd at work; leaves when it is dropped.
pub struct Crowd {
    begun: Instant,
    connected: Arc<AtomicUsize>,
    cut_off: Arc<Mutex<Vec<CutOff>>>,
    leaves: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Dripper {
    manner: Manner,
    stream: TcpStream,
    /// Bytes of the head that were sent.
    sent: usize,
    answer: Vec<u8>,
}

impl Crowd {
    /// Connects so many of each manner to `address`, one after the other, and lets them begin.
    pub fn start(address: &str, clients: &[(Manner, usize)]) -> Self {
        raise_descriptors();
        let all = clients
            .iter()
            .flat_map(|&(manner, count)| std::iter::repeat_n(manner, count));
        let mut drippers: Vec<Dripper> = all.map(|manner| Dripper::new(address, manner)).collect();
        let begun = Instant::now();
        let connected = Arc::new(AtomicUsize::new(drippers.len()));
        let cut_off = Arc::new(Mutex::new(Vec::new()));
        let leaves = Arc::new(AtomicBool::new(false));
        let thread = {
            let (connected, cut_off) = (Arc::clone(&connected), Arc::clone(&cut_off));
            let leaves = Arc::clone(&leaves);
            std::thread::spawn(move || {
                let mut part = 0;
                while !leaves.load(Ordering::Relaxed) {
                    let after = begun.elapsed();
                    let mut at = 0;
                    let ended = drippers.extract_if(.., |dripper| {
                        at += 1;
                        at % PARTS == part && dripper.drip().is_err()
                    });
                    let ended = ended.map(|dripper| CutOff {
                        manner: dripper.manner,
                        after,
                        answer: dripper.answer,
                    });
                    let mut cut_off = cut_off.lock().unwrap_or_else(PoisonError::into_inner);
                    cut_off.extend(ended);
                    drop(cut_off);
                    connected.store(drippers.len(), Ordering::Relaxed);
                    part = (part + 1) % PARTS;
                    // Slow clients are what this plays; nothing is being waited for.
                    std::thread::park_timeout(ROUND / PARTS as u32);
                }
            })
        };
        Self {
            begun,
            connected,
            cut_off,
            leaves,
            thread: Some(thread),
        }
    }

    /// How many still have their connection.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// How long the crowd has been there.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Those that lost their connection so far.
    pub fn cut_off(&self) -> Vec<CutOff> {
        let cut_off = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        cut_off.clone()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the crowd panicked"
            );
        }
    }
}

impl Dripper {
    fn new(address: &str, manner: Manner) -> Self {
        let mut stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("a dripper cannot connect: {error}"));
        stream
            .set_nodelay(true)
            .expect("a connection can be set up");
        stream
            .write_all(&manner.opening())
            .expect("a new connection takes an opening");
        stream
            .set_nonblocking(true)
            .expect("a connection can be set up");
        Self {
            manner,
            stream,
            sent: 0,
            answer: Vec::new(),
        }
    }

    /// Sends what is due and reads what came; an error when the connection is over.
    fn drip(&mut self) -> std::io::Result<()> {
        let sent = self.send();
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.answer.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self) -> std::io::Result<()> {
        match self.manner {
            Manner::Body(bytes) => self.stream.write_all(&vec![b'x'; bytes]),
            Manner::Http2Body => self.stream.write_all(&frame(0, 0, 1, b"x")),
            Manner::Head => {
                let head = head(CLAIMED_BYTES);
                let byte = head.as_bytes()[self.sent % head.len()];
                self.sent += 1;
                self.stream.write_all(&[byte])
            }
            Manner::OldHead => self.stream.write_all(b"y"),
            Manner::Preface | Manner::Http2Idle | Manner::Silence => Ok(()),
        }
    }
}

impl Manner {
    /// What is sent at once.
    fn opening(self) -> Vec<u8> {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = frame(4, 0, 0, b"");
        match self {
            Self::Body(_) => head(CLAIMED_BYTES).into_bytes(),
            Self::OldHead => format!(
                "POST {} HTTP/1.0\r\nTransfer-Encoding: chunked\r\nX: ",
                Stack::minidump_path()
            )
            .into_bytes(),
            Self::Http2Body => {
                let request = frame(1, 4, 1, &http2_head());
                [PREFACE, &settings, &request].concat()
            }
            Self::Preface => b"PRI".to_vec(),
            Self::Http2Idle => [PREFACE, &settings].concat(),
            Self::Head | Self::Silence => Vec::new(),
        }
    }
}

fn head(body_bytes: usize) -> String {
    format!(
        "POST {} HTTP/1.1\r\nHost: crashes\r\nContent-Length: {body_bytes}\r\n\r\n",
        Stack::minidump_path()
    )
}

/// A frame of RFC 9113: length, type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A POST by RFC 7541: entries of the static table, texts as they are, nothing remembered.
fn http2_head() -> Vec<u8> {
    const METHOD_POST: u8 = 0x83;
    const SCHEME_HTTP: u8 = 0x86;
    const PATH: u8 = 0x04;
    const AUTHORITY: u8 = 0x01;
    let mut block = vec![METHOD_POST, SCHEME_HTTP];
    for (name, text) in [
        (PATH, Stack::minidump_path().as_str()),
        (AUTHORITY, "crashes"),
    ] {
        let length = u8::try_from(text.len()).expect("a short text");
        assert!(length < 127, "a longer text has a longer length");
        block.extend([name, length]);
        block.extend(text.as_bytes());
    }
    block
}

/// A crowd is one open file for each of its connections.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the limit of open files can be raised");
}
