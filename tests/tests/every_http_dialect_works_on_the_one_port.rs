//! HTTP/1.0 with chunks and with a length, HTTP/1.1 kept alive and pipelined, `Expect: 100-continue`, and HTTP/2 with
//! prior knowledge: each upload ends processed, its dump as it was sent.

use bytes::Bytes;
use harness::dumps;
use harness::encodings;
use harness::http::{Request, Response, Transfer};
use harness::multipart::Form;
use harness::raw_http::{RawAnswer, RawConnection};
use harness::settings::KEY;
use harness::stack::{Plan, Stack, accepted_id};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Crashpad's socket transport reads the answer like this: status 200, `Content-Length` in these letters, no chunks.
fn check_for_crashpad(answer: &RawAnswer) -> Response {
    let head = &answer.head;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("\r\nContent-Length: 36"), "{head}");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    for line in head.split("\r\n").skip(1) {
        let (_, value) = line.split_once(':').expect("a header");
        assert!(value.starts_with(' ') && !value.starts_with("  "), "{line}");
    }
    answer.response()
}

fn check(stack: &Stack, response: &Response, dump: &[u8]) {
    let id = accepted_id(response);
    dumps::check_report(&stack.report(&id));
    assert!(stack.stored_dump(&id) == dump, "{id} was changed");
}

fn head(version: &str, more: &str) -> String {
    let content_type = Form::content_type();
    format!(
        "POST /api/1/minidump/?sentry_client=sentry.native/0.4.9&sentry_key={KEY} HTTP/{version}\r\n\
         Content-Type: {content_type}\r\n{more}\r\n"
    )
}

fn sized(version: &str, body: &[u8]) -> Vec<u8> {
    let head = head(
        version,
        &format!("Host: h\r\nContent-Length: {}\r\n", body.len()),
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn http_1_0_with_chunks_is_understood_as_crashpad_sends_it() {
    let stack = Plan::standalone().start();
    // At its head, Crashpad's transport sends no host.
    let bare = "Transfer-Encoding: chunked\r\n";
    let gzip = "Host: 127.0.0.1\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n";
    let shapes = [
        (bare, <[u8]>::to_vec as fn(&[u8]) -> Vec<u8>),
        (gzip, encodings::gzip),
    ];
    let mut sent = 0;
    for (headers, encode) in shapes {
        for bytes in [20_000, 2_000_000] {
            let dump = dumps::sized(bytes, bytes as u64 + sent);
            let mut connection = RawConnection::open(stack.listen());
            connection.send(head("1.0", headers).as_bytes());
            connection.send_chunked(&encode(&Form::minidump(&dump).finish()));
            let response = check_for_crashpad(&connection.answer());
            connection.closed();
            check(&stack, &response, &dump);
            sent += 1;
        }
    }
    stack.finish(sent, 0);
}

#[test]
fn http_1_0_with_a_length_is_understood() {
    let stack = Plan::standalone().start();
    let dump = dumps::unique();
    let mut connection = RawConnection::open(stack.listen());
    connection.send(&sized("1.0", &Form::minidump(&dump).finish()));
    let answer = connection.answer();
    connection.closed();
    check(&stack, &answer.response(), &dump);
    stack.finish(1, 0);
}

#[test]
fn http_1_0_with_two_lengths_is_refused() {
    let stack = Plan::standalone().start();
    let body = Form::minidump(&dumps::unique()).finish();
    let both = format!(
        "Transfer-Encoding: chunked\r\nContent-Length: {}\r\n",
        body.len()
    );
    let mut connection = RawConnection::open(stack.listen());
    connection.send(head("1.0", &both).as_bytes());
    assert_eq!(connection.answer().response().status, 400);
    stack.finish(0, 0);
}

#[test]
fn one_http_1_1_connection_carries_uploads_one_after_the_other_and_ahead_of_answers() {
    let stack = Plan::standalone().start();
    let mut connection = RawConnection::open(stack.listen());
    for _ in 0..3 {
        let dump = dumps::unique();
        connection.send(&sized("1.1", &Form::minidump(&dump).finish()));
        let answer = connection.answer();
        check(&stack, &answer.response(), &dump);
    }
    let dumps = [dumps::unique(), dumps::unique()];
    let uploads = dumps
        .iter()
        .map(|dump| sized("1.1", &Form::minidump(dump).finish()));
    connection.send(&uploads.collect::<Vec<_>>().concat());
    for dump in &dumps {
        let answer = connection.answer();
        check(&stack, &answer.response(), dump);
    }
    drop(connection);
    stack.finish(5, 0);
}

#[test]
fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let stack = Plan::standalone().start();
    let dump = dumps::sized(1_500_000, 1);
    let response = Request::post(Stack::minidump_path(), Form::minidump(&dump).finish())
        .header("Content-Type", &Form::content_type())
        .transfer(Transfer::Expect)
        .send(stack.listen());
    assert!(response.continued);
    check(&stack, &response, &dump);
    stack.finish(1, 0);
}

#[test]
fn http_2_with_prior_knowledge_carries_uploads_side_by_side() {
    let stack = Plan::standalone().start();
    let dumps: Vec<Vec<u8>> = (0..4).map(|seed| dumps::sized(700_000, seed)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let responses = runtime.block_on(send_http_2(stack.listen(), &dumps));
    for (response, dump) in responses.iter().zip(&dumps) {
        check(&stack, response, dump);
    }
    stack.finish(4, 0);
}

/// The answers to all of them, sent at once on one connection.
async fn send_http_2(address: &str, dumps: &[Vec<u8>]) -> Vec<Response> {
    let stream = TcpStream::connect(address).await.expect("connected");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut tasks = JoinSet::new();
    tasks.spawn(async { connection.await.expect("an orderly end") });
    let mut answers = Vec::new();
    for dump in dumps {
        let request = http::Request::post(format!("http://{address}{}", Stack::minidump_path()))
            .header("content-type", Form::content_type())
            .body(())
            .expect("a request");
        client = client.ready().await.expect("room for a stream");
        let (answer, mut body) = client.send_request(request, false).expect("sent");
        let form = Bytes::from(Form::minidump(dump).finish());
        body.send_data(form, true).expect("sent");
        answers.push(answer);
    }
    drop(client);
    let mut responses = Vec::new();
    for answer in answers {
        let (head, mut stream) = answer.await.expect("an answer").into_parts();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            let piece = piece.expect("a body");
            let released = stream.flow_control().release_capacity(piece.len());
            released.expect("it was received");
            body.extend_from_slice(&piece);
        }
        let headers = head.headers.iter();
        responses.push(Response {
            status: head.status.as_u16(),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.to_str().expect("a text").to_owned()))
                .collect(),
            body,
            continued: false,
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("the connection ends");
    }
    responses
}
