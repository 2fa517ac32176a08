//! Requests that could be read in two ways, and bodies that are small and become huge: all of them refused, in words, with
//! nothing of them served, kept or held in memory.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use harness::http::{Request, Response};
use harness::multipart::Form;
use harness::settings::KEY;
use harness::stack::{Plan, Stack};
use harness::{dumps, encodings};
use tokio::net::TcpStream as TokioStream;

/// What a smuggled request would be answered with.
const SMUGGLED: &str = "GET /api/relay/healthcheck/live/ HTTP/1.1\r\nHost: h\r\n\r\n";
const SMUGGLED_ANSWER: &str = "is_healthy";
const BODY: &str = "MDMP";
const MIB: usize = 1 << 20;
/// Growth of the peak over all bombs; one of them held whole would exceed it.
const GROWTH_BYTES_MAX: u64 = 96 << 20;

#[test]
fn ninety_framing_tricks_are_refused_with_what_was_found() {
    let stack = Plan::standalone().start();
    let tricks = tricks();
    assert!(tricks.len() >= 90, "{} tricks", tricks.len());
    for trick in &tricks {
        let answer = say(stack.listen(), trick.as_bytes());
        let status: u16 = answer
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("{trick:?} was not answered: {answer:?}"));
        assert!((400..500).contains(&status), "{trick:?}: {answer}");
        assert!(
            !answer.contains(SMUGGLED_ANSWER),
            "{trick:?} smuggled a request: {answer}"
        );
        assert!(
            answer.contains("\"detail\":\"") && answer.contains("X-Request-Id"),
            "{trick:?}: {answer}"
        );
    }
    stack.finish(0, 0);
}

/// Header lines that frame the body in more ways than one, or in none.
const LENGTHS_AND_ENCODINGS: &[&str] = &[
    "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "Transfer-Encoding: chunked\r\nContent-Length: 0",
    "content-length: 4\r\nTRANSFER-ENCODING: CHUNKED",
    "Content-Length: 4\r\nTransfer-Encoding: identity",
    "Content-Length: 4\r\nTransfer-Encoding: xchunked",
    "Content-Length: 4\r\nTransfer-Encoding:\tchunked",
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 4",
    "Content-Length: 4\r\nContent-Length: 4",
    "Content-Length: 4\r\nContent-Length: 5",
    "Content-Length: 0\r\nContent-Length: 4",
    "Content-Length: 4, 4",
    "Content-Length: 4,5",
    "Content-Length: +4",
    "Content-Length: -4",
    "Content-Length: 4.0",
    "Content-Length: 0x4",
    "Content-Length: 4e0",
    "Content-Length: 4 4",
    "Content-Length: four",
    "Content-Length: \u{664}",
    "Content-Length:",
    "Content-Length: 18446744073709551616",
    "Content-Length : 4",
    "Content-Length\t: 4",
    " Content-Length: 4",
    "X: y\r\n Content-Length: 4",
    "X: y\r\n\tContent-Length: 4",
    "X: y\rContent-Length: 4",
    "X: y\0\r\nContent-Length: 4",
    "X: \u{7f}\r\nContent-Length: 4",
    "Content-Length",
    ": 4",
    "Content Length: 4",
    "Content-Length(: 4",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked x",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding:",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-\0Encoding: chunked",
];

/// The same of HTTP/1.0; Crashpad's has chunks and no length beside them.
const OF_HTTP10: &[&str] = &[
    "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Content-Length: 4\r\nContent-Length: 4",
];

/// Chunks that are none.
const CHUNKS: &[&str] = &[
    "x\r\n",
    "-4\r\nMDMP\r\n0\r\n\r\n",
    "+4\r\nMDMP\r\n0\r\n\r\n",
    "0x4\r\nMDMP\r\n0\r\n\r\n",
    " 4\r\nMDMP\r\n0\r\n\r\n",
    "4\nMDMP\n0\n\n",
    "4\r\nMDMP0\r\n\r\n",
    "4\r\nMDMPx\r\n0\r\n\r\n",
    "4 4\r\nMDMP\r\n0\r\n\r\n",
    "4;\nMDMP\r\n0\r\n\r\n",
    "11111111111111111\r\n",
    ";\r\n",
    "\r\n",
    "4\r\nMDMP\r\n0\r\n\rx",
];

/// Hosts that are missing, doubled or none.
const HOSTS: &[&str] = &[
    "Host: a\r\nHost: a",
    "Host: a\r\nHost: b",
    "Host: a\r\nHost:",
    "Host: a, b",
    "Host: a b",
    "Host: a/b",
    "Host: user@a",
    "Host: a:b",
    "Host: a:80:80",
    "Host: [::1",
    "Host: a#",
    "Host: a\\b",
];

/// Request lines that could be read in two ways.
const REQUEST_LINES: &[&str] = &[
    "POST http://a/api/1/minidump/ HTTP/1.1\r\nHost: b\r\nConnection: close",
    "POST http://a@h/api/1/minidump/ HTTP/1.1\r\nHost: h\r\nConnection: close",
    "POST  /api/1/minidump/ HTTP/1.1\r\nHost: h",
    "POST /api/1/minidump/ HTTP/1.1 \r\nHost: h",
    "POST\t/api/1/minidump/ HTTP/1.1\r\nHost: h",
    "POST /api/1/minidump/ HTTP/1.2\r\nHost: h",
    "POST /api/1/minidump/ HTTP/2.0\r\nHost: h",
    "POST /api/1/minidump/ http/1.1\r\nHost: h",
    "POST /api/1/minidump/\r\nHost: h",
    "P\0ST /api/1/minidump/ HTTP/1.1\r\nHost: h",
    "GET /api/%31/minidump/ HTTP/1.1\r\nHost: h\r\nConnection: close",
    "GET /api/1%2fminidump/ HTTP/1.1\r\nHost: h\r\nConnection: close",
];

/// Whole conversations of clients, each with something wrong about it.
fn tricks() -> Vec<String> {
    let mut tricks = Vec::new();
    for lines in LENGTHS_AND_ENCODINGS {
        let body = format!("0\r\n\r\n{SMUGGLED}");
        tricks.push(format!("{}Host: h\r\n{lines}\r\n\r\n{body}", line("1.1")));
    }
    for lines in OF_HTTP10 {
        tricks.push(format!("{}{lines}\r\n\r\n0\r\n\r\n{SMUGGLED}", line("1.0")));
    }
    for chunks in CHUNKS {
        tricks.push(format!(
            "{}Host: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{SMUGGLED}",
            line("1.1")
        ));
    }
    for host in HOSTS {
        let length = BODY.len();
        tricks.push(format!(
            "{}{host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{BODY}",
            line("1.1")
        ));
    }
    for line in REQUEST_LINES {
        tricks.push(format!("{line}\r\n\r\n"));
    }
    tricks
}

fn line(version: &str) -> String {
    format!("POST /api/1/minidump/?sentry_key={KEY} HTTP/{version}\r\n")
}

/// All that comes back to what is said.
fn say(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the relay listens");
    let deadline = Some(Duration::from_secs(20));
    stream.set_read_timeout(deadline).expect("a socket option");
    stream.write_all(bytes).expect("sent");
    stream.shutdown(Shutdown::Write).expect("said everything");
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn http_2_says_host_and_length_once() {
    let stack = Plan::standalone().start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for headers in [
        &[("host", "other")][..],
        &[("host", "crashes:81")],
        &[("host", "crashes"), ("host", "crashes")],
        &[("host", "crashes"), ("host", "other")],
        &[("host", "crashes, other")],
        &[("content-length", "4"), ("content-length", "4")],
        &[("content-length", "4"), ("content-length", "5")],
        &[("content-length", "5")],
        &[("content-length", "3")],
        &[("content-length", "+4")],
        &[("transfer-encoding", "chunked")],
        &[("connection", "close")],
        &[("te", "gzip")],
    ] {
        let answer = runtime.block_on(http_2(stack.listen(), headers));
        // A stream that is reset was refused by the protocol's own rules.
        assert!(
            matches!(answer, None | Some(400)),
            "{headers:?}: {answer:?}"
        );
    }
    let plain = runtime.block_on(http_2(stack.listen(), &[("host", "CRASHES:80")]));
    assert_eq!(
        plain,
        Some(400),
        "four bytes are no minidump, whoever sends them"
    );
    stack.finish(0, 0);
}

/// The status of the answer to four bytes on HTTP/2; `None` when the stream was reset.
async fn http_2(address: &str, headers: &[(&str, &str)]) -> Option<u16> {
    let stream = TokioStream::connect(address).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut client = client.ready().await.expect("room for a stream");
    let mut request = http::Request::post(format!("http://crashes{}", Stack::minidump_path()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let (answer, mut body) = client.send_request(request, false).ok()?;
    body.send_data(bytes::Bytes::from_static(BODY.as_bytes()), true)
        .ok()?;
    tokio::select! {
        answer = answer => Some(answer.ok()?.status().as_u16()),
        _ = connection => None,
    }
}

#[test]
fn a_project_has_one_spelling() {
    let stack = Plan::standalone().start();
    for project in [
        "01",
        "+1",
        "1.0",
        "%31",
        "-1",
        "1e0",
        "0x1",
        "%2b1",
        "1%20",
        "001",
        "18446744073709551617",
    ] {
        let form = Form::minidump(&dumps::unique()).finish();
        let path = format!("/api/{project}/minidump/?sentry_key={KEY}");
        let response = post(&path, form);
        assert_eq!(response.send(stack.listen()).status, 400, "{project}");
    }
    stack.finish(0, 0);
}

#[test]
fn sixty_bombs_are_refused_and_fill_no_memory() {
    let mut stack = Plan::standalone()
        .text("limits", "upload", "20MiB")
        .text("limits", "attachment", "10MiB")
        .start();
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    let before = stack.relay().memory_peak_bytes();
    let bombs = bombs();
    assert!(bombs.len() >= 60, "{} bombs", bombs.len());
    for (name, request) in bombs {
        let response: Response = request.send(stack.listen());
        let text = response.text();
        assert!(
            [400, 413].contains(&response.status),
            "{name}: {} {text}",
            response.status
        );
        let detail = response.json()["detail"].as_str().map(str::len);
        assert!(detail > Some(0), "{name}: {text}");
    }
    let growth = stack.relay().memory_peak_bytes() - before;
    println!("the peak grew by {} MB", growth / 1_000_000);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    stack.finish(1, 0);
}

/// Small bodies of which much more than the limits comes.
fn bombs() -> Vec<(String, Request)> {
    type Encode = fn(&[u8]) -> Vec<u8>;
    let encodings: [(&str, Encode); 4] = [
        ("gzip", encodings::gzip),
        ("deflate", encodings::deflate),
        ("br", encodings::brotli),
        ("zstd", encodings::zstd),
    ];
    let zip: Encode = |content| encodings::zip(&[("a.dmp", content)]);
    let containers: [(&str, Encode); 5] = [
        ("gz", encodings::gzip),
        ("bz2", encodings::bzip2),
        ("xz", encodings::xz),
        ("zst", encodings::zstd),
        ("zip", zip),
    ];
    let zeros = vec![0; 24 * MIB];
    let dump = [&dumps::small()[..], &zeros].concat();
    let envelope = [
        &b"{}\n{\"type\":\"attachment\",\"filename\":\"a\"}\n"[..],
        &zeros,
    ]
    .concat();
    let form = Form::minidump(&dump).finish();
    let field = Form::new().field("f", &"x".repeat(3 * MIB)).finish();
    let fields = Form::new();
    let fields = (0..3000).fold(fields, |form, number| form.field(&number.to_string(), "x"));
    let minidump = Stack::minidump_path();
    let envelopes = format!("/api/1/envelope/?sentry_key={KEY}");
    let unreal = format!("/api/1/unreal/{KEY}/");
    let mut bombs = Vec::new();
    for (encoding, encode) in encodings {
        let bodies: [(&str, &str, Vec<u8>); 7] = [
            ("a dump", &minidump, encode(&dump)),
            ("a form", &minidump, encode(&form)),
            ("a field", &minidump, encode(&field)),
            ("many fields", &minidump, encode(&fields.clone().finish())),
            ("zeros", &minidump, encode(&zeros)),
            ("an envelope", &envelopes, encode(&envelope)),
            ("an archive", &unreal, encode(&zeros)),
        ];
        for (what, path, body) in bodies {
            let request = post(path, body).header("Content-Encoding", encoding);
            bombs.push((format!("{what} in {encoding}"), request));
        }
        // Encoded twice, the inner one is what comes out.
        let twice = post(&minidump, encode(&encode(&zeros))).header("Content-Encoding", encoding);
        bombs.push((format!("{encoding} in {encoding}"), twice));
    }
    for (name, encode) in containers {
        for (what, content) in [("a dump", &dump), ("zeros", &zeros)] {
            let once = encode(content);
            let part = Form::minidump(&once).finish();
            bombs.push((format!("{what} in {name}"), post(&minidump, part.clone())));
            for (other, again) in containers {
                if other != name && what == "a dump" {
                    let nested = Form::minidump(&again(&once)).finish();
                    bombs.push((
                        format!("{what} in {name} in {other}"),
                        post(&minidump, nested),
                    ));
                }
            }
            let gzipped =
                post(&minidump, encodings::gzip(&part)).header("Content-Encoding", "gzip");
            bombs.push((format!("{what} in {name}, in a gzipped form"), gzipped));
        }
    }
    bombs
}

fn post(path: &str, body: Vec<u8>) -> Request {
    Request::post(path, body).header("Content-Type", &Form::content_type())
}
