//! Uploads published into a local queue: ids, repeats, sizes and quotas.

use axum::body::Body;
use axum::http::HeaderMap;
use shared::config::{ByteSize, Config, KeyConfig, ProjectConfig, Role};
use shared::id::PublicKey;
use shared::quota::Quotas;
use shared::spool::SpoolDirectory;

use super::*;
use crate::admission::{Admission, Bounds};
use crate::decode::Encoding;
use crate::key_ring::KeyRing;
use crate::places::Party;
use crate::receive::{Delivered, Format, Intake, Taken};
use crate::resumable::{ResumableBounds, Uploads};
use crate::seal::{Sender, Told};

const KEY: &str = "abc";
const OTHER_KEY: &str = "def";

/// A queue of its own, and a place to publish into it.
struct Rig {
    services: Services,
    delivery: Delivery,
    spool: SpoolDirectory,
    intake: Intake,
    ring: KeyRing,
    dedupe: Dedupe,
    claims: Claims,
    quotas: QuotaDesk,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        config.spool.min_free_bytes = ByteSize::bytes(0);
        config.projects = [(1, KEY), (2, OTHER_KEY)]
            .map(|(id, key)| ProjectConfig::new(project(id), [key.parse().expect("a key")]))
            .into();
        change(&mut config);
        let services = Services::open(&config, Role::Standalone).await;
        let services = services.expect("services");
        let spool = SpoolDirectory::open(&config).expect("a spool");
        let delivery = Delivery::open(&config, &services, spool.clone()).await;
        let metrics = &services.metrics;
        Self {
            delivery: delivery.expect("a queue"),
            intake: Intake::new(
                config.limits,
                Admission::new(Bounds::of(1024, 256 << 20)),
                metrics,
                Uploads::new(
                    services.storage.clone(),
                    ResumableBounds::of(&config, 64),
                    metrics,
                ),
            ),
            ring: KeyRing::new(&config.projects),
            dedupe: Dedupe::new(config.dedupe.window.get()),
            claims: Claims::new(services.state.clone(), config.relay.ack_deadline.get()),
            quotas: QuotaDesk::new(services.state.clone()),
            services,
            spool,
            _dir: dir,
        }
    }

    /// An upload as it comes from the endpoint.
    async fn received(&self, id: u64, dump: Vec<u8>) -> Validated {
        let sender = Sender {
            event_id: self.delivery.fresh_event_id(),
            project_id: project(id),
            remote_addr: None,
        };
        let mut body = Body::from(dump);
        let (headers, draft) = (HeaderMap::new(), self.spool.draft());
        let party = Party::default();
        let opened = self
            .intake
            .open(&mut body, project(id), Encoding::Identity, &party)
            .await;
        let (_upload, body) = opened.expect("a place");
        let delivered = Delivered {
            headers: &headers,
            body,
            party,
            is_left: &mut false,
            draft,
        };
        let received = self
            .intake
            .receive(sender, Format::Crash, delivered, Told::default());
        match received.await.expect("accepted") {
            Taken::Upload(upload) => *upload,
            Taken::Nothing(_) => panic!("a minidump upload is never nothing"),
        }
    }

    async fn publish(&self, upload: Validated) -> Result<EventId, Rejection> {
        let id = upload.envelope.project_id;
        let key = if id == project(1) { KEY } else { OTHER_KEY };
        let publishing = Publishing {
            delivery: self.delivery.clone(),
            services: self.services.clone(),
            dedupe: self.dedupe.clone(),
            claims: self.claims.clone(),
            quotas: self.quotas.clone(),
            endpoint: Endpoint::Minidump,
            grant: self.ring.check(id, key).expect("granted"),
        };
        let receipt = publishing.run(upload).await?;
        Ok(receipt.event_id())
    }

    /// The events in the queue, the oldest first, with what was noticed about them.
    fn queued(&self) -> Vec<(EventId, Vec<String>)> {
        // Held to the end: one that is let go waits again.
        let entries: Vec<_> = std::iter::from_fn(|| self.spool.try_take()).collect();
        let read = entries.iter().map(|entry| {
            let upload = entry.read().expect("a whole file");
            let event: EventPayload =
                serde_json::from_slice(&upload.envelope.event).expect("an event");
            (upload.envelope.event_id, event.warnings)
        });
        read.collect()
    }

    async fn uploads_this_hour(&self) -> u64 {
        let key: PublicKey = KEY.parse().expect("a key");
        let used = self.services.state.quota_use(&[key]).await;
        used.expect("answers")[0].hour.uploads
    }
}

fn project(id: u64) -> ProjectId {
    ProjectId::new(id)
}

/// A dump whose directory is sound, and which differs by its last byte.
fn dump(last: u8) -> Vec<u8> {
    let mut dump = b"MDMP\x93\xa7\0\0\x01\0\0\0\x20\0\0\0".to_vec();
    dump.resize(999, 7);
    dump.push(last);
    dump
}

fn limited(config: &mut Config, quotas: Quotas) {
    config.projects[0].keys = vec![KeyConfig {
        quotas,
        ..KEY.parse::<PublicKey>().expect("a key").into()
    }];
}

#[tokio::test]
async fn a_client_gets_the_id_that_it_chose_unless_another_upload_has_it() {
    let rig = Rig::new(|_| {}).await;
    let chosen = EventId::random();
    let mut expected = Vec::new();
    for (id, last) in [(1, 1), (1, 2), (2, 1)] {
        let upload = Validated {
            client_event_id: Some(chosen),
            ..rig.received(id, dump(last)).await
        };
        expected.push(rig.publish(upload).await.expect("accepted"));
    }
    assert_eq!(expected[0], chosen);
    assert!(expected[1] != chosen && expected[2] != chosen);
    let queued = rig.queued();
    let ids: Vec<EventId> = queued.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, expected);
    assert_eq!(queued[0].1, Vec::<String>::new());
    for (_, warnings) in &queued[1..] {
        let warning = format!("the client's event id {chosen} was not taken over");
        assert!(warnings[0].starts_with(&warning), "{warnings:?}");
    }
}

#[tokio::test]
async fn an_upload_without_a_minidump_is_known_by_its_fingerprint_or_not_at_all() {
    let rig = Rig::new(|_| {}).await;
    let bare = async |fingerprint: Option<&[u8]>| {
        let mut upload = rig.received(1, dump(1)).await;
        upload.envelope.attachments.clear();
        upload.fingerprint = fingerprint.map(blake3::hash);
        rig.publish(upload).await.expect("accepted")
    };
    let first = bare(Some(b"one")).await;
    assert_eq!(bare(Some(b"one")).await, first);
    assert_ne!(bare(Some(b"two")).await, first);
    assert_ne!(bare(None).await, bare(None).await);
    assert_eq!(rig.services.metrics.uploads_repeated.get(), 1);
}

#[tokio::test]
async fn a_minidump_larger_than_the_project_takes_is_refused_by_name() {
    let max = ByteSize::bytes(999);
    let rig = Rig::new(|config| config.projects[0].minidump_max = Some(max)).await;
    let refused = rig.publish(rig.received(1, dump(1)).await).await;
    let rejection = refused.expect_err("too large");
    assert_eq!(rejection.reason(), "minidump_too_large");
    assert!(rejection.to_string().contains("minidump_max = 999B"));
    rig.publish(rig.received(2, dump(1)).await)
        .await
        .expect("another project");
}

#[tokio::test]
async fn what_does_not_become_durable_is_not_charged_and_leaves_its_place() {
    let quotas = Quotas {
        uploads_per_hour: Some(2),
        ..Quotas::default()
    };
    let full = Rig::new(|config| {
        limited(config, quotas);
        config.spool.max_bytes = ByteSize::bytes(500);
    })
    .await;
    for _ in 0..3 {
        let refused = full.publish(full.received(1, dump(1)).await).await;
        assert_eq!(refused.expect_err("no room").reason(), "spool_full");
        assert_eq!(full.uploads_this_hour().await, 0);
    }
    let rig = Rig::new(|config| limited(config, quotas)).await;
    for last in [1, 1, 2, 2] {
        let id = rig.publish(rig.received(1, dump(last)).await).await;
        id.expect("accepted");
    }
    assert_eq!(rig.uploads_this_hour().await, 2);
    let refused = rig.publish(rig.received(1, dump(3)).await).await;
    assert_eq!(refused.expect_err("used up").reason(), "quota_exceeded");
    let grant = rig.ring.check(project(1), KEY).expect("granted");
    let early = rig.quotas.check_early(&grant).expect_err("known");
    assert_eq!(early.reason(), "quota_exceeded");
    let known = rig.publish(rig.received(1, dump(2)).await).await;
    known.expect("a repeat is charged nothing");
    assert_eq!(rig.queued().len(), 2);
}

#[tokio::test]
async fn a_relay_knows_after_a_restart_what_it_had_before() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.publish(rig.received(1, dump(1)).await).await;
    rig.services.state.flush().await.expect("flushes");
    let again = Dedupe::new(std::time::Duration::from_secs(3600));
    let remembered = rig.services.state.remembered_uploads(10).await;
    again.restore(remembered.expect("answers"));
    let rig = Rig {
        dedupe: again,
        ..rig
    };
    let repeat = rig.publish(rig.received(1, dump(1)).await).await;
    assert_eq!(repeat.expect("a repeat"), first.expect("accepted"));
}
