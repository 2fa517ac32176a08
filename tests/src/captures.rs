//! Requests recorded from real clients (`tests/captures`), replayed with a dump of ours in the place of theirs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::encodings;
use crate::settings::KEY;

/// Stands for the dump in a recorded body.
const MARK: &[u8] = b"@@MINIDUMP@@";
/// Bytes of one chunk of a chunked body, about what curl uses.
const CHUNK_BYTES: usize = 65_524;
const READ_DEADLINE: Duration = Duration::from_secs(60);

/// The key that every recorded client was given; ours takes its place.
const RECORDED_KEY: &str = "0123456789abcdef0123456789abcdef";

/// One recorded request.
pub struct Capture {
    /// Request line and headers, as they were sent.
    head: Vec<String>,
    body: Vec<u8>,
}

/// What came back: the status, and the body as text.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines.
    pub head: String,
    /// Body, decoded.
    pub body: String,
}

/// The names of all captures, in order.
pub fn names() -> Vec<String> {
    let files = fs::read_dir(directory()).expect("the captures are in the repository");
    let mut names: Vec<String> = files
        .filter_map(|file| {
            let name = file.expect("a file").file_name();
            let name = name.to_string_lossy();
            name.strip_suffix(".req").map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

impl Capture {
    /// Reads a capture by its name.
    pub fn read(name: &str) -> Self {
        let path = directory().join(format!("{name}.req"));
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let end = find(&bytes, b"\r\n\r\n").expect("a head and a body");
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
        let head = head.replace(RECORDED_KEY, KEY);
        Self {
            head: head.split("\r\n").map(str::to_owned).collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    /// The request as its client would send it with this dump.
    pub fn request(&self, dump: &[u8]) -> Vec<u8> {
        let mut body = self.body_with(dump);
        let says = |name: &str, value: &str| {
            let wanted = format!("{name}: {value}").to_ascii_lowercase();
            self.head
                .iter()
                .any(|line| line.to_ascii_lowercase() == wanted)
        };
        if says("Content-Encoding", "gzip") {
            body = encodings::gzip(&body);
        }
        let length = body.len();
        if says("Transfer-Encoding", "chunked") {
            body = chunked(&body);
        }
        let head = self.head.iter().map(|line| {
            let name = line.split(':').next().unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                format!("{name}: {length}\r\n")
            } else {
                format!("{line}\r\n")
            }
        });
        let head: String = head.chain(["\r\n".to_owned()]).collect();
        [head.into_bytes(), body].concat()
    }

    /// Sends the request with this dump on a connection of its own.
    pub fn send(&self, address: &str, dump: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let timeout = Some(READ_DEADLINE);
        stream.set_read_timeout(timeout).expect("a time-out");
        stream
            .write_all(&self.request(dump))
            .expect("the request can be sent");
        read_answer(&mut stream)
    }

    fn body_with(&self, dump: &[u8]) -> Vec<u8> {
        let at = find(&self.body, MARK).expect("a mark for the dump");
        let before = with_length(&self.body[..at], dump.len());
        [&before, dump, &self.body[at + MARK.len()..]].concat()
    }
}

/// In an envelope, the line before the dump says how long it is.
fn with_length(before: &[u8], bytes: usize) -> Vec<u8> {
    let line_start = before
        .strip_suffix(b"\n")
        .and_then(|before| before.iter().rposition(|byte| *byte == b'\n'))
        .map(|at| at + 1);
    let Some(start) = line_start.filter(|start| before[*start] == b'{') else {
        return before.to_vec();
    };
    let mut head: serde_json::Value =
        serde_json::from_slice(&before[start..]).expect("an item's head is JSON");
    head["length"] = bytes.into();
    [&before[..start], head.to_string().as_bytes(), b"\n"].concat()
}

/// Reads one answer with a stated length, whatever else the connection brings later.
pub fn read_answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut byte).expect("an answer");
        assert!(
            read == 1,
            "the answer ends early: {}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).expect("a head is text");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    // The exact case matters to Crashpad's socket transport.
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.unwrap_or_else(|| panic!("expected a Content-Length: {head}"));
    let mut body = vec![0; length.parse().expect("a length")];
    stream.read_exact(&mut body).expect("the whole body");
    Answer {
        status: status.unwrap_or_else(|| panic!("expected a status: {head}")),
        head,
        body: String::from_utf8(body).expect("the body is text"),
    }
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut chunked = Vec::new();
    for chunk in body.chunks(CHUNK_BYTES) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunked.extend([chunk, b"\r\n"].concat());
    }
    chunked.extend(b"0\r\n\r\n");
    chunked
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("captures")
}
