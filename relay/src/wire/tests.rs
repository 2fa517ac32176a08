//! What hyper gets to see of what clients send, wherever it is cut; and what never gets so far.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use super::*;

const CHUNKED: &str = "POST /api/1/minidump/ HTTP/1.0\r\nHost: h\r\ntransfer-ENCODING:  Chunked \r\n\
    Connection: keep-alive\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
const RENEWED: &str = "POST /api/1/minidump/ HTTP/1.1\r\nConnection: close\r\nHost: h\r\n\
    transfer-ENCODING:  Chunked \r\nConnection: keep-alive\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

/// What hyper reads, by so many bytes, of a connection that says `pieces` one after the other, and why it was refused.
async fn read(pieces: &[&[u8]], buffer_bytes: usize) -> (io::Result<String>, Option<HeadError>) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let refused = RefusedHead::default();
    let mut server = Wire::new(server, refused.clone());
    let mut found = Vec::new();
    let mut buffer = vec![0; buffer_bytes];
    for piece in pieces {
        if client.write_all(piece).await.is_err() {
            break;
        }
        // As far as it goes without the rest.
        while let Ok(read) = timeout(Duration::from_millis(1), server.read(&mut buffer)).await {
            match read {
                Ok(0) => break,
                Ok(read) => found.extend_from_slice(&buffer[..read]),
                Err(error) => return (Err(error), refused.take()),
            }
        }
    }
    drop(client);
    let read = server.read_to_end(&mut found).await;
    let text = String::from_utf8_lossy(&found).into_owned();
    (read.map(|_| text), refused.take())
}

async fn given(pieces: &[&[u8]], buffer_bytes: usize) -> String {
    let (given, refused) = read(pieces, buffer_bytes).await;
    assert_eq!(refused, None, "{pieces:?}");
    given.expect("read")
}

async fn refused(request: &str) -> HeadError {
    let (given, refused) = read(&[request.as_bytes()], 4096).await;
    let given = given.expect("a stand-in");
    assert!(
        given.ends_with(std::str::from_utf8(STAND_IN).expect("text")),
        "{request:?}: {given:?}"
    );
    refused.unwrap_or_else(|| panic!("{request:?} was not refused"))
}

#[tokio::test(start_paused = true)]
async fn a_chunked_request_of_http_1_0_becomes_one_of_http_1_1_wherever_it_is_cut() {
    for at in 0..CHUNKED.len() {
        let (start, end) = CHUNKED.as_bytes().split_at(at);
        for buffer_bytes in [1, 24, 4096] {
            assert_eq!(
                given(&[start, end], buffer_bytes).await,
                RENEWED,
                "cut at {at}"
            );
        }
    }
    let bytes: Vec<&[u8]> = CHUNKED.as_bytes().chunks(1).collect();
    assert_eq!(given(&bytes, 24).await, RENEWED);
}

#[tokio::test(start_paused = true)]
async fn requests_follow_one_another_wherever_they_are_cut() {
    let sized = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /";
    let chunked = "POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;x=y\r\n0\r\n\r\n\r\n000a \r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
    let none = "GET /c HTTP/1.1\r\n\r\n";
    let all = [sized, chunked, none, chunked, sized, none].concat();
    for at in 0..all.len() {
        let (start, end) = all.as_bytes().split_at(at);
        for buffer_bytes in [7, 4096] {
            assert_eq!(given(&[start, end], buffer_bytes).await, all, "cut at {at}");
        }
    }
    // The third of them is not hidden by those before it.
    let hidden = format!(
        "{sized}{chunked}POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"
    );
    let (start, end) = hidden.as_bytes().split_at(70);
    for pieces in [&[hidden.as_bytes()][..], &[start, end][..]] {
        let (given, refused) = read(pieces, 4096).await;
        assert_eq!(refused, Some(HeadError::Lengths(2)));
        assert!(
            given
                .expect("a stand-in")
                .starts_with(&format!("{sized}{chunked}POST / HTTP/1.1\r\nConn"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn bare_line_feeds_and_empty_lines_are_borne_as_hyper_bears_them() {
    let request = CHUNKED
        .split_once("3\r\n")
        .expect("a head")
        .0
        .replace("\r\n", "\n");
    let found = given(&[b"\r\n\n", request.as_bytes(), b"0\r\n\r\n"], 24).await;
    let expected = "\r\n\nPOST /api/1/minidump/ HTTP/1.1\nConnection: close\r\nHost: h\n";
    assert!(found.starts_with(expected), "{found}");
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_change_passes_untouched() {
    for other in [
        "",
        "\r\n",
        "GET / HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nContent-Length: 300\r\n\r\nabc",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
        "GET /?a=%20\u{fc} HTTP/1.1\r\nX: \u{fc}\t\r\nEmpty:\r\n\r\n",
    ] {
        for pieces in [other.len().max(1), 7] {
            let pieces: Vec<&[u8]> = other.as_bytes().chunks(pieces).collect();
            assert_eq!(given(&pieces, 24).await, other);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_be_read_in_two_ways_is_refused_with_what_was_found() {
    let shown = |text: &str| Found::new(text.as_bytes());
    let both = HeadError::LengthAndEncoding;
    for (lines, expected) in [
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            both.clone(),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            both.clone(),
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\nContent-Length: 3",
            both,
        ),
        (
            "Content-Length: 3\r\nContent-Length: 3",
            HeadError::Lengths(2),
        ),
        (
            "Content-Length: 3\r\ncontent-length: 4",
            HeadError::Lengths(2),
        ),
        ("Content-Length: 3, 3", HeadError::Length(shown("3, 3"))),
        ("Content-Length: +3", HeadError::Length(shown("+3"))),
        ("Content-Length: -3", HeadError::Length(shown("-3"))),
        ("Content-Length: 0x3", HeadError::Length(shown("0x3"))),
        ("Content-Length: 3 3", HeadError::Length(shown("3 3"))),
        ("Content-Length:", HeadError::Length(shown(""))),
        (
            "Content-Length: 99999999999999999999",
            HeadError::Length(shown("99999999999999999999")),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            HeadError::Encodings(2),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            HeadError::Encodings(2),
        ),
        (
            "Transfer-Encoding: gzip, chunked",
            HeadError::Encoding(shown("gzip, chunked")),
        ),
        (
            "Transfer-Encoding: chunked, chunked",
            HeadError::Encoding(shown("chunked, chunked")),
        ),
        (
            "Transfer-Encoding: xchunked",
            HeadError::Encoding(shown("xchunked")),
        ),
        (
            "Transfer-Encoding: \"chunked\"",
            HeadError::Encoding(shown("\"chunked\"")),
        ),
        (
            "Transfer-Encoding: identity",
            HeadError::Encoding(shown("identity")),
        ),
        ("Transfer-Encoding:", HeadError::Encoding(shown(""))),
        (
            "Transfer-Encoding: chunked;q=1",
            HeadError::Encoding(shown("chunked;q=1")),
        ),
        (
            "Transfer-Encoding : chunked",
            HeadError::HeaderLine(shown("Transfer-Encoding ")),
        ),
        (
            "Transfer-Encoding\t: chunked",
            HeadError::HeaderLine(shown("Transfer-Encoding\t")),
        ),
        ("X: y\r\n\tz", HeadError::Folded(shown("\tz"))),
        (" X: y", HeadError::Folded(shown(" X: y"))),
        ("X: y\rContent-Length: 3", HeadError::HeaderLine(shown("X"))),
        ("X: \0", HeadError::HeaderLine(shown("X"))),
        ("X", HeadError::HeaderLine(shown("X"))),
        (": y", HeadError::HeaderLine(shown(""))),
    ] {
        for version in ["1.0", "1.1"] {
            let request = format!("POST / HTTP/{version}\r\n{lines}\r\n\r\nabc");
            assert_eq!(refused(&request).await, expected, "{request:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_line_is_refused_without_waiting_for_more() {
    for line in [
        "POST  / HTTP/1.1",
        "POST / HTTP/1.1 ",
        "POST /\tHTTP/1.1",
        "POST / HTTP/1.2",
        "POST / HTTP/2.0",
        "POST / http/1.1",
        "POST /",
        "P@ST / HTTP/1.1",
        "POST / x HTTP/1.1",
        "POST /\0 HTTP/1.1",
        " POST / HTTP/1.1",
        "POST / HTTP/01.1",
        "POST / HTTP/1.1\rHost: h",
        "POST  HTTP/1.1",
    ] {
        let error = refused(&format!("{line}\r\nHost: h\r\n\r\n")).await;
        assert!(
            matches!(error, HeadError::RequestLine(_)),
            "{line:?}: {error}"
        );
    }
    // A TLS client, and another protocol, say nothing that ends a line.
    for start in ["\x16\x03\x01\x02\0\x01", "\0\0\0\x01"] {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let heads = RefusedHead::default();
        let mut server = Wire::new(server, heads.clone());
        client.write_all(start.as_bytes()).await.expect("sent");
        let mut buffer = [0; 16];
        assert!(server.read(&mut buffer).await.expect("a stand-in") > 0);
        assert!(matches!(heads.take(), Some(HeadError::RequestLine(_))));
    }
    let endless = format!("POST / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(refused(&endless).await, HeadError::TooLong);
    let long = format!("{endless}\r\n\r\n");
    assert_eq!(refused(&long).await, HeadError::TooLong);
}

#[tokio::test(start_paused = true)]
async fn chunks_that_could_be_read_in_two_ways_end_the_body() {
    for body in [
        "x\r\n",
        "-1\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1\na\n0\n\n",
        "1\r\na0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1 1\r\na\r\n0\r\n\r\n",
        "1;\na\r\n0\r\n\r\n",
        "0\r\n\rX",
        "1\rXa",
        "11111111111111111\r\n",
        ";x\r\n",
        "\r\n",
    ] {
        for buffer_bytes in [3, 4096] {
            let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            let request = format!("{head}{body}GET /hidden HTTP/1.1\r\n\r\n");
            let (given, _) = read(&[request.as_bytes()], buffer_bytes).await;
            let error = given.expect_err(body).to_string();
            assert!(error.starts_with("expected "), "{body:?}: {error}");
        }
    }
}

#[tokio::test]
async fn answers_pass() {
    let (mut client, server) = tokio::io::duplex(1 << 10);
    let mut server = Wire::new(server, RefusedHead::default());
    server.write_all(b"answer").await.expect("sent");
    let mut buffer = [0; 6];
    client.read_exact(&mut buffer).await.expect("read");
    assert_eq!(&buffer, b"answer");
}
