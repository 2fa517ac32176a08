//! A request body, from the socket's pieces through decompression and its format to a validated envelope.
//!
//! The first byte of the input chooses encoding, content type and format, the second how the body is cut into pieces.
//! An envelope of these bytes and a whole dump behind them is never accepted without the dump.
#![no_main]

use std::convert::Infallible;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use futures_util::stream;
use libfuzzer_sys::fuzz_target;
use relay::admission::{Admission, Bounds};
use relay::items::EnvelopeHeader;
use relay::places::Party;
use relay::receive::{Delivered, Format, Intake, Taken};
use relay::resumable::{ResumableBounds, Uploads};
use relay::seal::{Sender, Told};
use shared::config::{ByteSize, Config, UploadLimits};
use shared::id::ProjectId;
use shared::metrics::Metrics;
use shared::readiness::Readiness;
use shared::spool::SpoolDirectory;
use shared::storage::Storage;
use tokio::runtime::Runtime;

const ENCODINGS: [&str; 5] = ["", "gzip", "deflate", "br", "zstd"];
const CONTENT_TYPES: [&str; 3] = [
    "multipart/form-data; boundary=b",
    "multipart/form-data; boundary=\"--b--\"",
    "application/octet-stream",
];

/// What one process makes once.
struct Rig {
    intake: Intake,
    spool: SpoolDirectory,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

static RIG: LazyLock<Rig> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.data.dir = dir.path().to_owned();
    config.spool.min_free_bytes = ByteSize::bytes(0);
    let spool = SpoolDirectory::open(&config).expect("a spool");
    let limits = UploadLimits {
        upload: ByteSize::bytes(64 << 10),
        attachment: ByteSize::bytes(32 << 10),
        attachments: 4,
        form: ByteSize::bytes(4 << 10),
        inflation: 200,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime");
    let storage = runtime.block_on(Storage::open(&config, Readiness::default()));
    let uploads = Uploads::new(
        storage.expect("a storage"),
        ResumableBounds::of(&config, 64),
        &Metrics::default(),
    );
    Rig {
        intake: Intake::new(
            limits,
            Admission::new(Bounds::of(1024, 256 << 20)),
            &Metrics::default(),
            uploads,
        ),
        spool,
        runtime,
        _dir: dir,
    }
});

fuzz_target!(|input: &[u8]| {
    let [shape, piece_bytes, body @ ..] = input else {
        return;
    };
    keeps_a_dump(*piece_bytes, body);
    let shape = usize::from(*shape);
    let content_type = CONTENT_TYPES[shape / ENCODINGS.len() % CONTENT_TYPES.len()];
    let encoding = ENCODINGS[shape % ENCODINGS.len()];
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    let pieces: Vec<_> = body
        .chunks(usize::from(*piece_bytes) + 1)
        .map(|piece| Ok::<_, Infallible>(piece.to_vec()))
        .collect();
    let mut body = Body::from_stream(stream::iter(pieces));
    let sender = Sender {
        event_id: shared::id::EventId::random(),
        project_id: ProjectId::new(1),
        remote_addr: None,
    };
    let shape = shape / ENCODINGS.len() / CONTENT_TYPES.len();
    let mut admit = |_: &EnvelopeHeader| Ok(());
    let format = match shape % 4 {
        0 => Format::Late(sender.event_id),
        1 => Format::Envelope {
            keep_others: true,
            admit: &mut admit,
        },
        2 => Format::Unreal,
        _ => Format::Crash,
    };
    let receiving = async {
        let encoding = RIG.intake.encoding(&headers, &format)?;
        let party = Party::default();
        let (_upload, body) = RIG.intake.open(&mut body, sender.project_id, encoding, &party).await?;
        let delivered = Delivered {
            headers: &headers,
            body,
            party,
            is_left: &mut false,
            draft: RIG.spool.draft(),
        };
        RIG.intake.receive(sender, format, delivered, Told::default()).await
    };
    let Ok(Taken::Upload(received)) = RIG.runtime.block_on(receiving) else {
        return;
    };
    serde_json::to_vec(&received.payload).expect("a payload is JSON");
    let Some(minidump) = received.envelope.minidump() else {
        return;
    };
    let content = minidump.content.read(0, minidump.content.len() as usize);
    let content = content.expect("readable");
    assert!(content.starts_with(b"MDMP") || content.starts_with(b"PMDM"));
    assert!(minidump.blake3.is_some());
});

/// What a dump is sent behind, and what stands there for its head.
const DUMP_HEAD: &[u8] = b"\n{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"length\":52}\n";

/// "200 and no dump though one was sent" is never the answer to an envelope.
fn keeps_a_dump(piece_bytes: u8, before: &[u8]) {
    // A dump of its own among the input would be the first.
    let magics: [&[u8]; 2] = [b"MDMP", b"PMDM"];
    if magics.iter().any(|magic| before.windows(4).any(|window| window == *magic)) {
        return;
    }
    let mut dump = b"MDMP\x93\xa7\0\0\x01\0\0\0\x20\0\0\0".to_vec();
    dump.resize(32, 0);
    // One stream of 8 bytes.
    for number in [7u32, 8, 44] {
        dump.extend(number.to_le_bytes());
    }
    dump.extend(b"a stream");
    let body = [before, DUMP_HEAD, &dump, b"\n"].concat();
    let pieces: Vec<_> = body
        .chunks(usize::from(piece_bytes) + 1)
        .map(|piece| Ok::<_, Infallible>(piece.to_vec()))
        .collect();
    let mut body = Body::from_stream(stream::iter(pieces));
    let mut admit = |_: &EnvelopeHeader| Ok(());
    let sender = Sender {
        event_id: shared::id::EventId::random(),
        project_id: ProjectId::new(1),
        remote_addr: None,
    };
    let format = Format::Envelope {
        keep_others: false,
        admit: &mut admit,
    };
    let headers = HeaderMap::new();
    let receiving = async {
        let encoding = RIG.intake.encoding(&headers, &format)?;
        let (project, party) = (sender.project_id, Party::default());
        let (_upload, body) = RIG.intake.open(&mut body, project, encoding, &party).await?;
        let delivered = Delivered {
            headers: &headers,
            body,
            party,
            is_left: &mut false,
            draft: RIG.spool.draft(),
        };
        RIG.intake.receive(sender, format, delivered, Told::default()).await
    };
    match RIG.runtime.block_on(receiving) {
        Ok(Taken::Upload(received)) => {
            let minidump = received.envelope.minidump().expect("the dump is kept");
            let content = minidump.content.read(0, minidump.content.len() as usize);
            assert!(content.expect("readable").starts_with(&dump));
        }
        Ok(Taken::Nothing(_)) => panic!("the dump is gone"),
        Err(_) => {}
    }
}
