//! A connection that speaks whatever HTTP/1 it is told to, and shows answers letter by letter, as clients that are not
//! so lenient read them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::http::Response;

/// How long a silent server is waited for.
const READ_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of one chunk, those of Crashpad's socket transport.
const CHUNK_BYTES: usize = 32 * 1024 - 2;

/// A connection.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    /// Received and not yet used.
    buffer: Vec<u8>,
}

/// An answer, its head as it was sent.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Status line and headers, without the empty line.
    pub head: String,
    /// As many bytes as `Content-Length` says, in exactly these letters.
    pub body: Vec<u8>,
}

impl RawConnection {
    /// Connects to `host:port`.
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket option");
        let deadline = Some(READ_DEADLINE);
        stream.set_read_timeout(deadline).expect("a socket option");
        let buffer = Vec::new();
        Self { stream, buffer }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends a body in chunks, and the chunk that ends it.
    pub fn send_chunked(&mut self, body: &[u8]) {
        for chunk in body.chunks(CHUNK_BYTES) {
            self.send(format!("{:x}\r\n", chunk.len()).as_bytes());
            self.send(chunk);
            self.send(b"\r\n");
        }
        self.send(b"0\r\n\r\n");
    }

    /// The next answer.
    pub fn answer(&mut self) -> RawAnswer {
        let end = loop {
            let found = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at;
            }
            self.receive();
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).expect("a head is text");
        self.buffer.drain(..end + 4);
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap_or_else(|| panic!("no Content-Length in {head:?}"));
        let length: usize = length.parse().expect("a length is a number");
        while self.buffer.len() < length {
            self.receive();
        }
        let body = self.buffer.drain(..length).collect();
        RawAnswer { head, body }
    }

    /// Insists that the server closes the connection and says nothing more.
    pub fn closed(mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("an orderly end");
        self.buffer.extend(rest);
        assert!(self.buffer.is_empty(), "more was said: {:?}", self.buffer);
    }

    fn receive(&mut self) {
        let mut piece = [0; 4096];
        let count = self.stream.read(&mut piece).expect("the server answers");
        assert!(count > 0, "closed before an answer: {:?}", self.buffer);
        self.buffer.extend_from_slice(&piece[..count]);
    }
}

impl RawAnswer {
    /// The same as a [`Response`].
    pub fn response(&self) -> Response {
        let mut lines = self.head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Response {
            status: status.unwrap_or_else(|| panic!("no status in {:?}", self.head)),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: self.body.clone(),
            continued: false,
        }
    }
}
