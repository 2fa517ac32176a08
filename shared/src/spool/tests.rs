use std::fs;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::config::{ByteSize, Config};
use crate::content::Content;
use crate::envelope::{Attachment, AttachmentKind, Envelope};
use crate::id::{AttachmentId, EventId, ProjectId};

struct Fixture {
    config: Config,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        config.spool.min_free_bytes = ByteSize::bytes(0);
        Self { config, _dir: dir }
    }

    fn ready_files(&self) -> Vec<std::path::PathBuf> {
        let dir = self.config.data.dir.join("spool/ready");
        fs::read_dir(dir)
            .expect("listed")
            .map(|entry| entry.expect("entry").path())
            .collect()
    }
}

fn envelope(contents: &[Content], millis: i64) -> Envelope {
    let attachments = contents
        .iter()
        .enumerate()
        .map(|(index, content)| Attachment {
            id: AttachmentId::random(),
            name: format!("{index}.bin"),
            content_type: None,
            kind: if index == 0 {
                AttachmentKind::Minidump
            } else {
                AttachmentKind::Plain
            },
            content: content.clone(),
            blake3: Some(blake3::hash(&whole(content))),
        });
    Envelope {
        event_id: EventId::random(),
        project_id: ProjectId::new(1),
        received_at: Timestamp::from_millisecond(millis).expect("a time"),
        remote_addr: Some("192.0.2.7".into()),
        event: Bytes::from_static(br#"{"platform":"native"}"#),
        attachments: attachments.collect(),
    }
}

fn whole(content: &Content) -> Bytes {
    content.read(0, content.len() as usize).expect("readable")
}

fn assert_same(read: &Envelope, written: &Envelope) {
    assert_eq!(read.event_id, written.event_id);
    assert_eq!(read.project_id, written.project_id);
    assert_eq!(read.remote_addr, written.remote_addr);
    assert_eq!(read.event, written.event);
    assert_eq!(read.attachments.len(), written.attachments.len());
    for (read, written) in read.attachments.iter().zip(&written.attachments) {
        assert_eq!(
            (&read.id, &read.name, &read.kind),
            (&written.id, &written.name, &written.kind)
        );
        assert_eq!(whole(&read.content), whole(&written.content));
        assert_eq!(read.blake3, written.blake3);
    }
}

#[tokio::test]
async fn an_upload_received_into_a_draft_is_stored_without_being_copied() {
    let fixture = Fixture::new();
    let spool = SpoolDirectory::open(&fixture.config).expect("opened");
    let mut draft = spool.draft();
    let dump = vec![7; 300_000];
    let offset = draft.append(&dump).expect("written");
    let mut content = Content::default();
    content.push(draft.segment(offset, dump.len() as u64));
    let written = envelope(&[content, Content::from(b"log".to_vec())], 1);
    let stored = spool.store(&written, draft).expect("stored");
    assert_eq!(stored.event_id(), written.event_id);
    assert!(spool.usage().bytes < 310_000, "{:?}", spool.usage());
    let entry = spool.take().await;
    assert_eq!(entry.ids(), Some((written.project_id, written.event_id)));
    assert_eq!(entry.received_at(), Some(written.received_at));
    let read = entry.read().expect("readable");
    assert!(read.damage.is_empty(), "{:?}", read.damage);
    assert_same(&read.envelope, &written);
    entry.remove().expect("removed");
    assert_eq!(spool.usage().bytes, 0);
    assert!(fixture.ready_files().is_empty());
}

#[tokio::test]
async fn uploads_outlive_the_process_and_come_oldest_first_while_drafts_do_not() {
    let fixture = Fixture::new();
    let spool = SpoolDirectory::open(&fixture.config).expect("opened");
    let written: Vec<Envelope> = [30, 10, 20]
        .into_iter()
        .map(|millis| envelope(&[Content::from(vec![1; 10])], millis))
        .collect();
    for envelope in &written {
        spool.store(envelope, spool.draft()).expect("stored");
    }
    let mut unfinished = spool.draft();
    unfinished.append(b"half of").expect("written");
    std::mem::forget(unfinished);
    drop(spool);
    let spool = SpoolDirectory::open(&fixture.config).expect("opened again");
    for expected in [1, 2, 0] {
        let entry = spool.take().await;
        let read = entry.read().expect("readable");
        assert_eq!(read.envelope.event_id, written[expected].event_id);
        entry.remove().expect("removed");
    }
    let incoming = fixture.config.data.dir.join("spool/incoming");
    assert_eq!(fs::read_dir(incoming).expect("listed").count(), 0);
}

#[test]
fn a_second_owner_is_told_who_the_first_is() {
    let fixture = Fixture::new();
    let _spool = SpoolDirectory::open(&fixture.config).expect("opened");
    let error = SpoolDirectory::open(&fixture.config).expect_err("held");
    assert!(
        matches!(&error, SpoolError::Held { holder, .. } if *holder == std::process::id().to_string()),
        "{error}"
    );
}

#[test]
fn a_full_spool_refuses_and_gives_all_space_back() {
    let mut fixture = Fixture::new();
    fixture.config.spool.max_bytes = ByteSize::bytes(10_000);
    let spool = SpoolDirectory::open(&fixture.config).expect("opened");
    let large = envelope(&[Content::from(vec![0; 20_000])], 1);
    let error = spool.store(&large, spool.draft()).expect_err("too large");
    assert!(
        matches!(error, SpoolError::Full { max: 10_000, .. }),
        "{error}"
    );
    assert_eq!(spool.usage().bytes, 0);
    assert!(fixture.ready_files().is_empty());
    fixture.config.spool.max_bytes = ByteSize::mib(1);
    drop(spool);
    fixture.config.spool.min_free_bytes = ByteSize::bytes(u64::MAX);
    let spool = SpoolDirectory::open(&fixture.config).expect("opened");
    assert!(matches!(spool.check(0), Err(SpoolError::NoSpace { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_torn_or_flipped_file_is_known_as_damaged_and_kept(
        dump in proptest::collection::vec(any::<u8>(), 1..2_000),
        position in 0.0f64..1.0,
        tear in any::<bool>(),
    ) {
        let fixture = Fixture::new();
        let spool = SpoolDirectory::open(&fixture.config).expect("opened");
        let written = envelope(&[Content::from(dump)], 1);
        spool.store(&written, spool.draft()).expect("stored");
        let path = fixture.ready_files().swap_remove(0);
        let mut bytes = fs::read(&path).expect("read");
        let at = ((bytes.len() - 1) as f64 * position) as usize;
        if tear { bytes.truncate(at) } else { bytes[at] ^= 0x10 }
        fs::write(&path, &bytes).expect("written");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let entry = runtime.block_on(spool.take());
        let reason = match entry.read() {
            Ok(read) => {
                prop_assert!(!tear && !read.damage.is_empty());
                read.damage[0].to_string()
            }
            Err(error) => error.to_string(),
        };
        let kept = entry.set_aside(&reason).expect("moved");
        prop_assert_eq!(fs::read(kept).expect("kept"), bytes);
        prop_assert!(fixture.ready_files().is_empty());
        prop_assert_eq!((spool.usage().bytes, spool.quarantined_files().expect("listed")), (0, 1));
    }
}

#[tokio::test]
async fn an_upload_that_was_taken_and_not_dealt_with_waits_again() {
    let fixture = Fixture::new();
    let spool = SpoolDirectory::open(&fixture.config).expect("opened");
    for millis in [10, 20] {
        let written = envelope(&[Content::from(vec![1; 10])], millis);
        spool.store(&written, spool.draft()).expect("stored");
    }
    let oldest = spool.take().await;
    assert_eq!(
        (spool.usage().files, spool.usage().oldest),
        (2, oldest.received_at())
    );
    let name = oldest.name().to_owned();
    drop(oldest);
    assert_eq!(spool.take().await.name(), name);
}

#[test]
fn what_was_reserved_is_there_when_it_is_needed() {
    let mut fixture = Fixture::new();
    fixture.config.spool.max_bytes = ByteSize::bytes(100_000);
    let spool = SpoolDirectory::open(&fixture.config).expect("opened");
    let reserved = spool.reserve(60_000, None).expect("room");
    assert!(spool.reserve(60_000, None).is_err());
    spool.probe().expect("it can be written to");
    let written = envelope(&[Content::from(vec![0; 50_000])], 1);
    spool.store(&written, reserved).expect("stored");
    assert!(spool.usage().bytes < 52_000, "{:?}", spool.usage());
}
