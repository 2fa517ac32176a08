//! Ten thousand uploads of each format whose frames are wrong, each with a whole dump in it: none is answered with a 200
//! and the dump gone.

mod chance;
mod envelopes;
mod forms;

use std::convert::Infallible;

use axum::body::Body;
use axum::http::HeaderMap;
use futures_util::{FutureExt, stream};
use shared::config::{ByteSize, Config, UploadLimits};
use shared::id::ProjectId;
use shared::metrics::Metrics;
use shared::readiness::Readiness;
use shared::spool::SpoolDirectory;
use shared::storage::Storage;
use tokio::runtime::Runtime;

use self::chance::Chance;
use super::*;
use crate::admission::Bounds;
use crate::items::EnvelopeHeader;
use crate::resumable::ResumableBounds;

/// Uploads of each format.
const UPLOADS: u64 = 10_000;

/// An intake for many uploads.
struct Rig {
    intake: Intake,
    spool: SpoolDirectory,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        config.spool.min_free_bytes = ByteSize::bytes(0);
        let storage = Storage::open(&config, Readiness::default()).now_or_never();
        let storage = storage
            .expect("a directory is there at once")
            .expect("a storage");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        Self {
            intake: Intake::new(
                UploadLimits::default(),
                Admission::new(Bounds::of(1024, 256 << 20)),
                &Metrics::default(),
                Uploads::new(
                    storage,
                    ResumableBounds::of(&config, 64),
                    &Metrics::default(),
                ),
            ),
            spool: SpoolDirectory::open(&config).expect("a spool"),
            runtime: runtime.expect("a runtime"),
            _dir: dir,
        }
    }

    fn receive(
        &self,
        format: Format<'_>,
        headers: &HeaderMap,
        body: &[u8],
        piece_bytes: usize,
    ) -> Result<Taken, Rejection> {
        let pieces: Vec<_> = body
            .chunks(piece_bytes)
            .map(|piece| Ok::<_, Infallible>(piece.to_vec()))
            .collect();
        let mut body = Body::from_stream(stream::iter(pieces));
        let sender = Sender {
            event_id: EventId::random(),
            project_id: ProjectId::new(1),
            remote_addr: None,
        };
        let receiving = async {
            let encoding = self.intake.encoding(headers, &format)?;
            let (project, party) = (sender.project_id, Party::default());
            let opened = self.intake.open(&mut body, project, encoding, &party);
            let (_upload, body) = opened.await?;
            let delivered = Delivered {
                headers,
                body,
                party,
                is_left: &mut false,
                draft: self.spool.draft(),
            };
            let received = self
                .intake
                .receive(sender, format, delivered, Told::default());
            received.await
        };
        self.runtime.block_on(receiving)
    }

    fn envelope(&self, body: &[u8], piece_bytes: usize) -> Result<Taken, Rejection> {
        let mut admit = |_: &EnvelopeHeader| Ok(());
        let format = Format::Envelope {
            keep_others: false,
            admit: &mut admit,
        };
        self.receive(format, &HeaderMap::new(), body, piece_bytes)
    }

    fn form(
        &self,
        content_type: &str,
        body: &[u8],
        piece_bytes: usize,
    ) -> Result<Taken, Rejection> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().expect("a value"));
        self.receive(Format::Crash, &headers, body, piece_bytes)
    }
}

/// The dump that came out; an upload without one is a crash that was lost.
fn dump_of(taken: Taken) -> Option<Vec<u8>> {
    let Taken::Upload(upload) = taken else {
        return None;
    };
    let dump = upload.envelope.minidump()?;
    let bytes = dump.content.read(0, dump.content.len() as usize);
    let bytes = bytes.expect("readable").to_vec();
    assert_eq!(dump.blake3, Some(blake3::hash(&bytes)));
    Some(bytes)
}

/// What is wrong with each upload that lost its dump, or some of it; what stands behind a whole one is no loss.
#[derive(Default)]
struct Losses {
    losses: Vec<String>,
    /// Dumps of which only the start is left.
    cut: usize,
}

impl Losses {
    fn check(
        &mut self,
        seed: u64,
        faults: &[&str],
        body: &[u8],
        sent: &[u8],
        taken: Result<Taken, Rejection>,
    ) {
        let loss = match taken.map(dump_of) {
            Ok(Some(found)) if found.starts_with(sent) => return,
            Ok(Some(found)) if sent.starts_with(&found) => {
                self.cut += 1;
                return;
            }
            Ok(Some(found)) => format!("{} bytes of {} are left", found.len(), sent.len()),
            Ok(None) => "it is gone".to_owned(),
            Err(error) => error.to_string(),
        };
        let dump = memchr::memmem::find(body, sent).unwrap_or_default();
        let shown = [
            &body[..dump],
            b"<DUMP>",
            &body[(dump + sent.len()).min(body.len())..],
        ]
        .concat();
        let shown = shown[..shown.len().min(2000)].escape_ascii().to_string();
        self.losses
            .push(format!("seed {seed}, {faults:?}: {loss}: {shown}"));
    }

    fn none(self) {
        let Self { losses, cut } = self;
        let shown = losses
            .iter()
            .take(5)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n");
        assert!(losses.is_empty(), "{} losses:\n{shown}", losses.len());
        // A wrong length may end just where the dump's own bytes look like the next item.
        assert!(cut < 5, "{cut} are cut");
    }
}

#[test]
fn no_envelope_with_a_wrong_frame_loses_its_dump() {
    let rig = Rig::new();
    let mut losses = Losses::default();
    for seed in 0..UPLOADS {
        let envelopes::Sample { body, dump, faults } = envelopes::sample(seed);
        let piece_bytes = [1 << 20, 100, 7][seed as usize % 3];
        let taken = rig.envelope(&body, piece_bytes);
        losses.check(seed, &faults, &body, &dump, taken);
    }
    losses.none();
}

#[test]
fn no_envelope_that_is_cut_loses_what_came_of_its_dump() {
    let rig = Rig::new();
    for seed in 0..UPLOADS / 10 {
        let mut chance = Chance::new(seed);
        let dump = envelopes::dump(&mut chance, seed % 2 == 0);
        let event = "{}\n{\"type\":\"event\",\"length\":15}\n{\"release\":\"r\"}\n";
        let head = format!("{{\"type\":\"attachment\",\"length\":{}}}\n", dump.len());
        let body = [event.as_bytes(), head.as_bytes(), &dump].concat();
        let came = 32 + chance.below(dump.len() - 32);
        let cut = body.len() - dump.len() + came;
        let taken = rig.envelope(&body[..cut], 1 << 20).expect("accepted");
        assert_eq!(
            dump_of(taken).as_deref(),
            Some(&dump[..came]),
            "seed {seed}"
        );
        let cut = chance.below(body.len() - dump.len());
        // Without any of the dump, it is the event that has to be there, or a refusal.
        if let Ok(Taken::Upload(upload)) = rig.envelope(&body[..cut], 1 << 20) {
            let is_event = memchr::memmem::find(&body[..cut], b"event").is_some();
            assert!(
                is_event && !upload.payload.warnings.is_empty() || cut >= event.len() - 1,
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn no_form_with_a_wrong_frame_loses_its_dump_behind_a_200() {
    let rig = Rig::new();
    let mut refused = 0;
    let mut losses = Losses::default();
    for seed in 0..UPLOADS {
        let forms::Sample {
            content_type,
            body,
            dump,
            faults,
        } = forms::sample(seed);
        let piece_bytes = [1 << 20, 100, 7][seed as usize % 3].max(body.len() / 1000);
        match rig.form(&content_type, &body, piece_bytes) {
            Ok(taken) => losses.check(seed, &faults, &body, &dump, Ok(taken)),
            Err(_) => {
                let hopeless = ["a garbled head", "another boundary in the content type"];
                assert!(
                    faults.iter().any(|fault| hopeless.contains(fault)),
                    "seed {seed}: {faults:?}"
                );
                refused += 1;
            }
        }
    }
    losses.none();
    // Where a boundary or the dump's part is garbled beyond recognition, and nowhere else.
    assert!(
        refused < UPLOADS / 10,
        "{refused} of {UPLOADS} were refused"
    );
}

#[test]
fn no_damage_to_an_events_json_costs_the_dump() {
    let rig = Rig::new();
    let sound = "{\"release\":\"r@1\",\"environment\":\"live\",\"user\":{\"id\":\"7\"},\"tags\":{\"a\":\"b\"},\"extra\":{\"n\":1.5,\"l\":[1,null,true]},\"message\":\"Größe ▶\"}";
    for seed in 0..UPLOADS {
        let mut chance = Chance::new(seed);
        let dump = envelopes::dump(&mut chance, seed % 2 == 0);
        let mut event = sound.as_bytes().to_vec();
        if chance.once_in(4) {
            event.truncate(chance.below(event.len()));
        } else {
            chance.garble(&mut event);
        }
        let head = format!("{{}}\n{{\"type\":\"event\",\"length\":{}}}\n", event.len());
        let file = format!(
            "\n{{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"length\":{}}}\n",
            dump.len()
        );
        let body = [head.as_bytes(), &event, file.as_bytes(), &dump].concat();
        let taken = rig.envelope(&body, 1 << 20).expect("accepted");
        assert_eq!(dump_of(taken), Some(dump), "seed {seed}");
    }
}

#[test]
fn an_archive_that_is_cut_keeps_what_came_of_its_dump() {
    let rig = Rig::new();
    let mut chance = Chance::new(1);
    let dump = envelopes::dump(&mut chance, false);
    let name = |text: &str| {
        [
            &260i32.to_le_bytes()[..],
            text.as_bytes(),
            &vec![0; 260 - text.len()],
        ]
        .concat()
    };
    let file = |index: i32, file: &str, content: &[u8]| {
        let bytes = content.len() as i32;
        [
            &index.to_le_bytes()[..],
            &name(file),
            &bytes.to_le_bytes(),
            content,
        ]
        .concat()
    };
    let files = [
        file(0, "CrashContext.runtime-xml", b"<C></C>"),
        file(1, "UEMinidump.dmp", &dump),
    ];
    let numbers = [1000i32, 2].map(i32::to_le_bytes).concat();
    let archive = [
        b"CR1",
        &name("d")[..],
        &name("f"),
        &numbers,
        &files.concat(),
    ]
    .concat();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_ENCODING, "zstd".parse().expect("a value"));
    for came in [dump.len(), dump.len() - 1, 100, 32] {
        let cut = &archive[..archive.len() - dump.len() + came];
        let mut body = Vec::new();
        let mut encoder = async_compression::tokio::bufread::ZstdEncoder::new(cut);
        let encoding = tokio::io::AsyncReadExt::read_to_end(&mut encoder, &mut body);
        rig.runtime.block_on(encoding).expect("encoded");
        let taken = rig.receive(Format::Unreal, &headers, &body, 1000);
        let found = dump_of(taken.expect("accepted"));
        assert_eq!(found.as_deref(), Some(&dump[..came]));
    }
}
