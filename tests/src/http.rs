//! An HTTP/1.1 client as good and as bad as crash clients are: it sends exactly the bytes it is told to, at the pace
//! it is told to, and reads whatever comes back, even when the server answers before the body is sent.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// How long a silent server is waited for.
const READ_DEADLINE: Duration = Duration::from_secs(120);
/// Bytes of one chunk of a chunked body, about what curl uses.
const CHUNK_BYTES: usize = 65_524;

/// How the body travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// With its `Content-Length`.
    Sized,
    /// With `Transfer-Encoding: chunked` and no length.
    Chunked,
    /// With its `Content-Length`, after the server said `100 Continue`.
    Expect,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    /// Pieces that many requests may share.
    body: Vec<Arc<[u8]>>,
    transfer: Transfer,
    /// Bytes per second, when the client is slow.
    pace: Option<u64>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Decoded body.
    pub body: Vec<u8>,
    /// Whether `100 Continue` came first.
    pub continued: bool,
}

impl Request {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path.into(), Vec::new())
    }

    /// A POST of `body`.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::post_pieces(path, vec![Arc::from(body.into())])
    }

    /// A POST of a body in pieces, which many requests may share.
    pub fn post_pieces(path: impl Into<String>, pieces: Vec<Arc<[u8]>>) -> Self {
        Self::new("POST", path.into(), pieces)
    }

    /// Any other request.
    pub fn of(method: &'static str, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new(method, path.into(), vec![Arc::from(body.into())])
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Chooses how the body travels.
    pub fn transfer(mut self, transfer: Transfer) -> Self {
        self.transfer = transfer;
        self
    }

    /// Sends the body at this many bytes per second.
    pub fn pace(mut self, bytes_per_second: u64) -> Self {
        self.pace = Some(bytes_per_second);
        self
    }

    /// Sends the request to `address` (`host:port`) on a connection of its own and reads the answer.
    pub fn send(&self, address: &str) -> Response {
        self.try_send(address)
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.path))
    }

    /// As [`Request::send`], for a server that may be away or leave.
    pub fn try_send(&self, address: &str) -> std::io::Result<Response> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_DEADLINE))?;
        stream.write_all(self.head(address).as_bytes())?;
        let mut reader = Reader::new(stream.try_clone()?);
        let mut continued = false;
        if self.transfer == Transfer::Expect {
            let first = reader.head()?;
            if first.status != 100 {
                return reader.finish(first, false);
            }
            continued = true;
        }
        match self.write_body(&mut stream) {
            Ok(()) => {}
            // The server has answered and closed: its answer is what counts.
            Err(error) if is_closed(&error) => {}
            Err(error) => return Err(error),
        }
        let mut head = reader.head()?;
        while head.status == 100 {
            continued = true;
            head = reader.head()?;
        }
        if self.method == "HEAD" {
            // What it says about a body is about one that does not come.
            let Head { status, headers } = head;
            let body = Vec::new();
            return Ok(Response {
                status,
                headers,
                body,
                continued,
            });
        }
        reader.finish(head, continued)
    }

    fn new(method: &'static str, path: String, body: Vec<Arc<[u8]>>) -> Self {
        Self {
            method,
            path,
            headers: Vec::new(),
            body,
            transfer: Transfer::Sized,
            pace: None,
        }
    }

    fn head(&self, address: &str) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.transfer {
            Transfer::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Transfer::Sized if self.method == "GET" => {}
            Transfer::Sized => head.push_str(&format!("Content-Length: {}\r\n", self.body_bytes())),
            Transfer::Expect => head.push_str(&format!(
                "Content-Length: {}\r\nExpect: 100-continue\r\n",
                self.body_bytes()
            )),
        }
        head.push_str("\r\n");
        head
    }

    fn body_bytes(&self) -> usize {
        self.body.iter().map(|piece| piece.len()).sum()
    }

    fn write_body(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let bytes = self.piece_bytes();
        for piece in self.body.iter().flat_map(|piece| piece.chunks(bytes)) {
            if self.transfer == Transfer::Chunked {
                write!(stream, "{:x}\r\n", piece.len())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            } else {
                stream.write_all(piece)?;
            }
            if let Some(bytes_per_second) = self.pace {
                // A slow client is what this simulates; nothing is being waited for.
                let nanos = piece.len() as u64 * 1_000_000_000 / bytes_per_second;
                std::thread::park_timeout(Duration::from_nanos(nanos));
            }
        }
        if self.transfer == Transfer::Chunked {
            stream.write_all(b"0\r\n\r\n")?;
        }
        stream.flush()
    }

    fn piece_bytes(&self) -> usize {
        match self.pace {
            // Twenty pieces a second keep the pace even.
            Some(bytes_per_second) => {
                usize::try_from(bytes_per_second / 20).map_or(CHUNK_BYTES, |bytes| bytes.max(1))
            }
            None => CHUNK_BYTES,
        }
    }
}

impl Response {
    /// A header's value; the name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text()))
    }
}

struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

struct Reader {
    stream: TcpStream,
    /// Received and not yet used.
    buffer: Vec<u8>,
}

impl Reader {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    fn head(&mut self) -> std::io::Result<Head> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.fill()? {
                let seen = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(broken(&format!("closed before a whole head: {seen:?}")));
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| broken(&format!("no status line: {text:?}")))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Head { status, headers })
    }

    fn finish(&mut self, head: Head, continued: bool) -> std::io::Result<Response> {
        let mut response = Response {
            status: head.status,
            headers: head.headers,
            body: Vec::new(),
            continued,
        };
        let length = response.header("content-length").map(str::parse::<usize>);
        if let Some(length) = length {
            let length = length.map_err(|error| broken(&error.to_string()))?;
            while self.buffer.len() < length {
                if !self.fill()? {
                    return Err(broken("closed before the end of the body"));
                }
            }
            response.body = self.buffer.drain(..length).collect();
        } else if response.header("transfer-encoding") == Some("chunked") {
            response.body = self.chunked_body()?;
        } else {
            while self.fill()? {}
            response.body = std::mem::take(&mut self.buffer);
        }
        Ok(response)
    }

    fn chunked_body(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = find(&self.buffer, b"\r\n") {
                    break at;
                }
                if !self.fill()? {
                    return Err(broken("closed inside a chunked body"));
                }
            };
            let size = String::from_utf8_lossy(&self.buffer[..line]).into_owned();
            let size = usize::from_str_radix(size.trim(), 16)
                .map_err(|error| broken(&format!("chunk size {size:?}: {error}")))?;
            while self.buffer.len() < line + 2 + size + 2 {
                if !self.fill()? {
                    return Err(broken("closed inside a chunk"));
                }
            }
            body.extend_from_slice(&self.buffer[line + 2..line + 2 + size]);
            self.buffer.drain(..line + 2 + size + 2);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Receives more; false at the end.
    fn fill(&mut self) -> std::io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let count = match self.stream.read(&mut piece) {
            Ok(count) => count,
            Err(error) if is_closed(&error) => 0,
            Err(error) => return Err(error),
        };
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count > 0)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, what.to_owned())
}
