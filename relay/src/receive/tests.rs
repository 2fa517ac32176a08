//! Whole requests up to the envelope: what clients send, and every refusal.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use futures_util::{FutureExt, StreamExt, stream};
use proptest::prelude::*;
use shared::config::{ByteSize, Config, UploadLimits};
use shared::envelope::{Attachment, AttachmentKind};
use shared::id::ProjectId;
use shared::metrics::Metrics;
use shared::readiness::Readiness;
use shared::spool::SpoolDirectory;
use shared::storage::Storage;
use tokio::io::AsyncReadExt;

use super::*;
use crate::admission::Bounds;
use crate::resumable::ResumableBounds;

const MULTIPART: &str = "multipart/form-data; boundary=-bnd";

/// A request and an intake of its own.
struct Given {
    limits: UploadLimits,
    headers: HeaderMap,
    pieces: Vec<Vec<u8>>,
}

impl Given {
    fn body(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = HeaderMap::new();
        let given = Self {
            limits: UploadLimits::default(),
            headers,
            pieces: vec![body.into()],
        };
        given.header("content-type", content_type)
    }

    fn form(parts: &[Part<'_>]) -> Self {
        Self::body(MULTIPART, form(parts))
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().expect("a value"));
        self
    }

    fn limits(mut self, change: impl FnOnce(&mut UploadLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    fn cut_into(mut self, bytes: usize) -> Self {
        self.pieces = self
            .pieces
            .concat()
            .chunks(bytes)
            .map(<[u8]>::to_vec)
            .collect();
        self
    }

    fn receive(self) -> Result<Validated, Rejection> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        config.spool.min_free_bytes = ByteSize::bytes(0);
        let spool = SpoolDirectory::open(&config).expect("a spool");
        let storage = Storage::open(&config, Readiness::default()).now_or_never();
        let storage = storage.expect("a directory is there at once");
        let storage = storage.expect("a storage");
        let uploads = Uploads::new(
            storage,
            ResumableBounds::of(&config, 64),
            &Metrics::default(),
        );
        let admission = Admission::new(Bounds::of(1024, 256 << 20));
        let intake = Intake::new(self.limits, admission.clone(), &Metrics::default(), uploads);
        let pieces = self.pieces.into_iter().map(Ok::<_, std::io::Error>);
        let mut body = Body::from_stream(stream::iter(pieces));
        let sender = Sender {
            event_id: shared::id::EventId::random(),
            project_id: ProjectId::new(1),
            remote_addr: Some("192.0.2.1".into()),
        };
        let received = async {
            let format = Format::Crash;
            let encoding = intake.encoding(&self.headers, &format)?;
            let party = Party::default();
            let (_upload, body) = intake
                .open(&mut body, sender.project_id, encoding, &party)
                .await?;
            let delivered = Delivered {
                headers: &self.headers,
                body,
                party,
                is_left: &mut false,
                draft: spool.draft(),
            };
            intake
                .receive(sender, format, delivered, Told::default())
                .await
        };
        match block_on(received)? {
            Taken::Upload(validated) => Ok(*validated),
            Taken::Nothing(_) => panic!("a minidump upload is never nothing"),
        }
    }

    fn refused(self) -> Rejection {
        self.receive().map(|_| ()).expect_err("refused")
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().build().expect("a runtime");
    runtime.block_on(future)
}

/// Name, file name, content.
type Part<'p> = (&'p str, Option<&'p str>, &'p [u8]);

fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file_name, content) in parts {
        let file = file_name.map(|name| format!("; filename=\"{name}\""));
        let head = format!(
            "---bnd\r\nContent-Disposition: form-data; name=\"{name}\"{}\r\n\r\n",
            file.unwrap_or_default()
        );
        body.extend([head.as_bytes(), content, b"\r\n"].concat());
    }
    body.extend(b"---bnd--\r\n");
    body
}

fn dump(bytes: usize) -> Vec<u8> {
    let mut dump = b"MDMP\x93\xa7\0\0\x01\0\0\0\x20\0\0\0".to_vec();
    dump.extend((dump.len()..bytes).map(|at| (at % 253) as u8));
    dump
}

fn dump_part(dump: &[u8]) -> Part<'_> {
    ("upload_file_minidump", Some("a.dmp"), dump)
}

fn content(attachment: &Attachment) -> Vec<u8> {
    let bytes = attachment.content.len() as usize;
    attachment
        .content
        .read(0, bytes)
        .expect("readable")
        .to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut encoder = async_compression::tokio::bufread::GzipEncoder::new(bytes);
    block_on(encoder.read_to_end(&mut encoded)).expect("encoded");
    encoded
}

#[test]
fn fields_and_files_in_any_order_become_an_envelope() {
    let sent = dump(100_000);
    let event = b"\x81\xa7release\xa3a@1";
    let parts = [
        ("__sentry-event", Some("__sentry-event"), &event[..]),
        ("ver", None, b"39.0.0"),
        ("upload_file_minidump", Some(r"C:\Temp\b c.dmp"), &sent),
        ("prod", None, b"Electron"),
        ("__sentry-breadcrumb1", Some("__sentry-breadcrumb1"), b""),
        ("log", Some("../../etc/passwd"), b"a log"),
    ];
    for bytes in [1, 7, 4096, 1 << 20] {
        let envelope = Given::form(&parts).cut_into(bytes).receive();
        let Validated {
            envelope, payload, ..
        } = envelope.expect("accepted");
        let named = |attachment: &Attachment| (attachment.name.clone(), attachment.kind.clone());
        assert_eq!(
            envelope.attachments.iter().map(named).collect::<Vec<_>>(),
            [
                ("b c.dmp".into(), AttachmentKind::Minidump),
                ("passwd".into(), AttachmentKind::Plain),
            ]
        );
        let minidump = envelope.minidump().expect("a minidump");
        assert_eq!(content(minidump), sent);
        assert_eq!(minidump.blake3, Some(blake3::hash(&sent)));
        assert_eq!(content(&envelope.attachments[1]), b"a log");
        assert_eq!(envelope.remote_addr.as_deref(), Some("192.0.2.1"));
        assert_eq!(payload.release.as_deref(), Some("a@1"));
        assert_eq!(payload.extra["prod"], "Electron");
    }
}

#[test]
fn a_dump_needs_no_file_name_and_what_is_broken_behind_it_costs_nothing() {
    let sent = dump(1000);
    let bare = form(&[("prod", None, b"x"), ("upload_file_minidump", None, &sent)]);
    let empty_first = form(&[dump_part(b""), dump_part(&sent)]);
    let broken = [&form(&[dump_part(&sent)])[..], b""];
    let mut broken = broken.concat();
    broken.truncate(broken.len() - b"--\r\n".len());
    broken.extend(b"\r\nno header\r\n\r\nrest");
    for (body, warnings) in [(bare, 0), (empty_first, 0), (broken, 2)] {
        let received = Given::body(MULTIPART, body).cut_into(100).receive();
        let received = received.expect("accepted");
        assert_eq!(
            received.payload.warnings.len(),
            warnings,
            "{:?}",
            received.payload
        );
        let minidump = received.envelope.minidump().expect("a minidump");
        assert_eq!(content(minidump), sent);
    }
}

#[test]
fn a_dump_may_be_the_whole_body_whatever_its_content_type() {
    let sent = dump(3000);
    for content_type in [
        "application/octet-stream",
        "application/x-dmp; charset=binary",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ] {
        let received = Given::body(content_type, &sent[..]).cut_into(3).receive();
        let envelope = received.expect("accepted").envelope;
        let minidump = envelope.minidump().expect("a minidump");
        assert_eq!(
            (content(minidump), minidump.name.as_str()),
            (sent.clone(), "minidump.dmp")
        );
    }
}

#[test]
fn a_large_dump_is_in_a_draft() {
    let sent = dump(5_000_000);
    let received = Given::form(&[dump_part(&sent)]).cut_into(65_524).receive();
    let received = received.expect("accepted");
    assert!(received.draft.has_file());
    assert_eq!(
        content(received.envelope.minidump().expect("a minidump")),
        sent
    );
}

#[test]
fn event_data_that_is_too_large_to_be_held_is_read_and_kept() {
    let sent = dump(1000);
    let log = "line\n".repeat(1 << 20);
    let event = serde_json::json!({"release": "a@1", "tags": {"k": "v"}, "extra": {"log": log, "short": 1}});
    let event = rmp_serde::to_vec_named(&event).expect("encodes");
    let extra = serde_json::json!({"ProductName": "P", "Version": "2", "ReleaseChannel": "beta", "Long": log}).to_string();
    let parts = [
        dump_part(&sent),
        ("__sentry-event", Some("__sentry-event"), &event[..]),
        ("extra", Some("extra.json"), extra.as_bytes()),
    ];
    let received = Given::form(&parts)
        .cut_into(65_524)
        .receive()
        .expect("accepted");
    let payload = received.payload;
    assert_eq!(payload.release.as_deref(), Some("a@1"));
    assert_eq!(payload.environment.as_deref(), Some("beta"));
    assert_eq!(
        (&payload.tags["k"], &payload.extra["short"]),
        (&"v".into(), &1.into())
    );
    let warnings = payload.warnings.join("; ");
    assert!(
        warnings.contains("extra.log") && warnings.contains("Long"),
        "{warnings}"
    );
    let kept: Vec<_> = received
        .envelope
        .attachments
        .iter()
        .skip(1)
        .map(content)
        .collect();
    assert!(kept == [event, extra.into_bytes()]);
}

#[test]
fn breakpads_missing_line_break_is_repaired_and_noted() {
    let sent = dump(2000);
    let whole = form(&[("prod", None, b"x"), dump_part(&sent)]);
    let end = whole.len() - "\r\n---bnd--\r\n".len();
    let body = [&whole[..end], b"---bnd--\r\n"].concat();
    for bytes in [1, 5, 3000] {
        let given = Given::body(MULTIPART, &body[..]).cut_into(bytes);
        let received = given.receive().expect("accepted");
        let minidump = received.envelope.minidump().expect("a minidump");
        assert_eq!(content(minidump), sent);
        assert!(received.payload.warnings[0].contains("no line break"));
    }
}

#[test]
fn a_compressed_body_is_decoded_whatever_it_is_compressed_with() {
    use async_compression::tokio::bufread as encoders;
    let sent = dump(300_000);
    let body = form(&[dump_part(&sent)]);
    let encode = |name: &str| {
        let mut encoded = Vec::new();
        block_on(async {
            let body = &body[..];
            match name {
                "gzip" => {
                    encoders::GzipEncoder::new(body)
                        .read_to_end(&mut encoded)
                        .await
                }
                "zlib" => {
                    encoders::ZlibEncoder::new(body)
                        .read_to_end(&mut encoded)
                        .await
                }
                "raw" => {
                    encoders::DeflateEncoder::new(body)
                        .read_to_end(&mut encoded)
                        .await
                }
                "br" => {
                    encoders::BrotliEncoder::new(body)
                        .read_to_end(&mut encoded)
                        .await
                }
                "zstd" => {
                    encoders::ZstdEncoder::new(body)
                        .read_to_end(&mut encoded)
                        .await
                }
                _ => tokio::io::AsyncReadExt::read_to_end(&mut &*body, &mut encoded).await,
            }
            .expect("encoded");
        });
        encoded
    };
    for (header, encoder) in [
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "zlib"),
        ("deflate", "raw"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("", ""),
        ("identity", ""),
        ("UTF-8", ""),
    ] {
        for bytes in [1000, 1 << 20] {
            let given = Given::body(MULTIPART, encode(encoder)).header("content-encoding", header);
            let received = given.cut_into(bytes).receive().expect(header);
            assert_eq!(
                content(received.envelope.minidump().expect("a minidump")),
                sent
            );
        }
    }
}

#[test]
fn two_gzip_members_are_one_body() {
    let body = form(&[dump_part(&dump(5000))]);
    let (first, second) = body.split_at(2000);
    let given = Given::body(MULTIPART, [gzip(first), gzip(second)].concat());
    let received = given.header("content-encoding", "gzip").receive();
    assert_eq!(received.expect("accepted").envelope.attachments.len(), 1);
}

/// The answer's body, one refusal a line.
#[test]
fn every_refusal_says_what_was_expected_and_what_was_found() {
    let whole = form(&[dump_part(&dump(1000))]);
    let small = |limits: &mut UploadLimits| {
        limits.upload = ByteSize::bytes(4096);
        limits.attachment = ByteSize::bytes(2048);
        limits.form = ByteSize::bytes(64);
        limits.attachments = 2;
    };
    let encoded = |body: Vec<u8>, encoding: &str| {
        Given::body(MULTIPART, body).header("content-encoding", encoding)
    };
    let gzipped = gzip(&whole);
    let dump_of = |dump: &[u8]| Given::form(&[dump_part(dump)]);
    let refusals = [
        dump_of(b""),
        dump_of(&dump(16)),
        dump_of(&[&dump(16)[..], &[0; 15]].concat()),
        dump_of(b"it crashed when I pressed save\n"),
        dump_of(b"-----BEGIN BREAKPAD MICRODUMP-----\nV x:1\n"),
        dump_of(&[b"MDMP\x94\xa7\0\0", &[0; 24][..]].concat()),
        Given::body("application/octet-stream", "hello"),
        Given::body("application/octet-stream", ""),
        Given::form(&[("prod", None, b"x"), ("log", Some("a.log"), b"y")]),
        Given::form(&[]),
        Given::body("multipart/form-data; boundary=another", &whole[6..]),
        Given::body("multipart/form-data", &whole[6..]),
        Given::body(MULTIPART, &whole[..whole.len() - 1000]),
        encoded(gzipped[..20].to_vec(), "gzip"),
        Given::body(MULTIPART, "---bnd\r\nno header\r\n\r\n"),
        Given::body(MULTIPART, vec![b'x'; 1 << 20]),
        Given::body(MULTIPART, ""),
        encoded(whole.clone(), "gzip"),
        encoded(whole.clone(), "br"),
        encoded(whole.clone(), "zstd"),
        encoded(whole.clone(), "deflate"),
        encoded(whole.clone(), "compress"),
        encoded(gzip(&gzipped), "gzip, gzip"),
        encoded(gzip(&vec![0; 1 << 20]), "gzip").limits(small),
        Given::body(MULTIPART, vec![b'x'; 5000]).limits(small),
        Given::body(MULTIPART, "")
            .header("content-length", "4097")
            .limits(small),
        dump_of(&dump(3000)).limits(small),
        Given::form(&[
            dump_part(b"x"),
            ("a", Some("a"), b"x"),
            ("b", Some("b"), b"x"),
        ])
        .limits(small),
        Given::form(&[("a", None, &[b'x'; 64])]).limits(small),
    ];
    let lines: Vec<String> = refusals
        .into_iter()
        .map(|given| {
            let rejection = given.cut_into(1000).refused();
            let body = serde_json::to_string(&rejection.body()).expect("JSON");
            format!("{} {body}", rejection.status().as_u16())
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// The dump that was received, and the warnings.
fn received(given: Given) -> (Vec<u8>, String) {
    let received = given.cut_into(1000).receive().expect("accepted");
    let dump = content(received.envelope.minidump().expect("a minidump"));
    (dump, received.payload.warnings.join("; "))
}

#[test]
fn what_is_broken_at_its_end_or_framed_wrongly_keeps_the_dump() {
    let sent = dump(3000);
    let whole = form(&[("prod", None, b"x"), dump_part(&sent)]);
    let encoded = |body: Vec<u8>, encoding: &str| {
        Given::body(MULTIPART, body).header("content-encoding", encoding)
    };
    let gzipped = gzip(&whole);
    let mut wrong = gzipped.clone();
    let checksum = wrong.len() - 8;
    wrong[checksum] ^= 1;
    let zstd = {
        let mut encoded = Vec::new();
        let mut encoder = async_compression::tokio::bufread::ZstdEncoder::new(&whole[..]);
        block_on(encoder.read_to_end(&mut encoded)).expect("encoded");
        encoded
    };
    let zlib = {
        let mut encoded = Vec::new();
        let mut encoder = async_compression::tokio::bufread::ZlibEncoder::new(&whole[..]);
        block_on(encoder.read_to_end(&mut encoded)).expect("encoded");
        encoded
    };
    let tail = "the end of the body is not used";
    for (given, warning) in [
        (encoded([&gzipped[..], &[0; 10]].concat(), "gzip"), tail),
        (encoded([&gzipped[..], b"garbage"].concat(), "gzip"), tail),
        (encoded(gzipped[..gzipped.len() - 8].to_vec(), "gzip"), tail),
        (encoded(gzipped[..gzipped.len() - 3].to_vec(), "gzip"), tail),
        (encoded(wrong, "gzip"), tail),
        (encoded([&zstd[..], &[0; 10]].concat(), "zstd"), tail),
        (encoded(zlib[..zlib.len() - 4].to_vec(), "deflate"), tail),
        (encoded([&zlib[..], &[0; 10]].concat(), "deflate"), ""),
        (
            Given::body("multipart/form-data; boundary=another", &whole[..]),
            "boundary",
        ),
        (Given::body("multipart/form-data", &whole[..]), "boundary"),
        (
            Given::form(&[("file", Some("a.dmp"), &sent)]),
            "\"a.dmp\" is a minidump",
        ),
        (
            Given::form(&[("__sentry-event", Some("e"), &sent)]),
            "is a minidump",
        ),
        (
            Given::form(&[("dump", None, &sent)]),
            "\"dump\" is a minidump",
        ),
        (
            Given::form(&[("file", Some("a.dmp.gz"), &gzip(&sent))]),
            "compressed",
        ),
        (
            Given::form(&[dump_part(&[&gzip(&sent)[..], b"\0\0"].concat())]),
            tail,
        ),
    ] {
        let (dump, warnings) = received(given);
        assert!(dump == sent && warnings.contains(warning), "{warnings}");
    }
}

#[test]
fn a_dump_that_is_cut_is_kept_as_far_as_it_came() {
    let sent = dump(300_000);
    let whole = form(&[dump_part(&sent)]);
    let gzipped = gzip(&whole);
    let encoded = Given::body(MULTIPART, &gzipped[..gzipped.len() / 2]);
    for given in [
        Given::body(MULTIPART, &whole[..whole.len() / 2]),
        Given::body(MULTIPART, &whole[..whole.len() - 12]),
        encoded.header("content-encoding", "gzip"),
    ] {
        let (dump, warnings) = received(given);
        assert!(
            dump.len() > 100 && sent.starts_with(&dump),
            "{} bytes",
            dump.len()
        );
        assert!(!warnings.is_empty());
    }
}

#[test]
fn more_than_the_limits_of_count_and_fields_costs_the_rest_and_not_the_dump() {
    let sent = dump(1000);
    let few = |limits: &mut UploadLimits| {
        limits.attachments = 2;
        limits.form = ByteSize::bytes(100);
        limits.attachment = ByteSize::bytes(1500);
        limits.upload = ByteSize::bytes(6000);
    };
    let files: Vec<String> = (0..8).map(|n| format!("f{n}")).collect();
    let mut parts: Vec<Part<'_>> = files
        .iter()
        .map(|name| (&**name, Some(&**name), &b"x"[..]))
        .collect();
    let many_fields = || {
        let fields: Vec<String> = (0..2010).map(|n| format!("p{n}")).collect();
        let mut parts: Vec<Part<'_>> = fields
            .iter()
            .map(|name| (&**name, None, &b""[..]))
            .collect();
        parts.push(dump_part(&sent));
        Given::form(&parts)
    };
    let large = [b'x'; 2000];
    let three = [&large[..1400], &large[..1400], &large[..1400]];
    parts.push(dump_part(&sent));
    let mut dump_first = parts.clone();
    dump_first.rotate_right(1);
    for (given, warning) in [
        (Given::form(&parts).limits(few), "not kept: \"f2\", \"f3\""),
        (
            Given::form(&dump_first).limits(few),
            "not kept: \"f1\", \"f2\"",
        ),
        (
            Given::form(&[("log", Some("l"), &large), dump_part(&sent)]).limits(few),
            "not kept: \"l\", for a file is larger",
        ),
        (
            Given::form(&[
                ("comments", None, &large),
                dump_part(&sent),
                ("ver", None, b"1"),
            ])
            .limits(few),
            "cut: \"comments\"",
        ),
        (
            Given::form(&[
                dump_part(&sent),
                ("a", Some("a"), three[0]),
                ("b", Some("b"), three[1]),
                ("c", Some("c"), three[2]),
                ("d", Some("d"), three[0]),
            ])
            .limits(|limits| limits.upload = ByteSize::bytes(4000)),
            "the end of the body is not used",
        ),
        (many_fields(), "not kept: \"p2000\""),
    ] {
        let (dump, warnings) = received(given);
        assert!(dump == sent && warnings.contains(warning), "{warnings}");
    }
}

#[test]
fn a_dump_that_is_too_large_is_refused_whatever_stands_beside_it() {
    let sent = dump(3000);
    let small = |limits: &mut UploadLimits| limits.attachment = ByteSize::bytes(2000);
    for given in [
        Given::form(&[dump_part(&sent)]),
        Given::form(&[("file", Some("a"), &sent)]),
        Given::form(&[("field", None, &sent)]),
        Given::form(&[("log", Some("a"), b"x"), dump_part(&sent)]),
    ] {
        let rejection = given.limits(small).refused();
        assert_eq!(rejection.reason(), "attachment_too_large");
    }
    let upload = |limits: &mut UploadLimits| limits.upload = ByteSize::bytes(2000);
    let rejection = Given::form(&[dump_part(&sent)])
        .limits(upload)
        .cut_into(500)
        .refused();
    assert_eq!(rejection.reason(), "body_too_large");
}

/// What reading a body ends with when it brings these pieces; time passes only while nothing else happens.
fn read_to_failure(
    pieces: impl stream::Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static,
) -> Rejection {
    let mut body = Body::from_stream(pieces);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let counters = BodyCounters::new(&Metrics::default());
        let admission = Admission::new(Bounds::of(1024, 256 << 20));
        let frames = Frames::new(
            &mut body,
            ByteSize::mib(1),
            counters.encoded,
            admission,
            Party::default(),
        );
        let inflation = Inflation::times(200);
        let decoded = counters.decoded;
        let reader = BodyReader::new(frames, Encoding::Identity, None, decoded, inflation).await;
        let mut reader = reader.expect("begun");
        loop {
            match reader.next().await {
                Ok(piece) => assert!(piece.is_some(), "the body ended"),
                Err(rejection) => break rejection,
            }
        }
    })
}

#[test]
fn a_body_that_stands_still_or_drips_for_ever_is_given_up() {
    let begun = stream::iter([Ok(b"MDMP".to_vec())]);
    let rejection = read_to_failure(begun.chain(stream::pending()));
    assert_eq!(rejection.reason(), "stalled_body");
    let drip = |seconds| {
        stream::repeat_with(|| Ok(b"x".to_vec())).then(move |piece| async move {
            tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
            piece
        })
    };
    assert_eq!(read_to_failure(drip(50)).reason(), "stalled_body");
    let rejection = read_to_failure(drip(1));
    assert_eq!(rejection.reason(), "body_too_slow");
    assert_eq!(rejection.status(), StatusCode::REQUEST_TIMEOUT);
}

#[test]
fn a_body_that_breaks_off_is_refused_as_cut() {
    let pieces = [
        Ok(b"MDMP".to_vec()),
        Err(std::io::Error::other("connection reset")),
    ];
    assert_eq!(read_to_failure(stream::iter(pieces)).reason(), "cut_body");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_form_arrives_byte_for_byte_however_it_is_cut(
        tail in prop::collection::vec(prop::sample::select(b"\r\n-bnd-x".to_vec()), 0..300),
        other in prop::collection::vec(any::<u8>(), 0..300),
        bytes in 1usize..200,
    ) {
        let sent = [dump(40), tail].concat();
        // A boundary inside would be one.
        prop_assume!(!sent.windows(6).any(|window| window == b"---bnd"));
        prop_assume!(!other.windows(6).any(|window| window == b"---bnd"));
        let parts = [("a", Some("a"), &other[..]), dump_part(&sent), ("b", None, b"field")];
        let given = Given::form(&parts).cut_into(bytes);
        let envelope = given.receive().expect("accepted").envelope;
        prop_assert_eq!(content(&envelope.attachments[0]), other);
        prop_assert_eq!(content(&envelope.attachments[1]), sent);
    }

    #[test]
    fn no_body_makes_it_panic(
        body in prop::collection::vec(prop::sample::select(b"\r\n-bnd:;=\"ax ".to_vec()), 0..400),
        bytes in 1usize..50,
    ) {
        let body = [b"---bnd\r\n", &body[..]].concat();
        drop(Given::body(MULTIPART, body).cut_into(bytes).receive());
    }
}
