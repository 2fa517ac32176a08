use std::path::Path;

use super::*;
use crate::id::{EventId, ProjectId};
use crate::readiness::{Need, Part};
use uuid::Uuid;

fn folder() -> EventFolder {
    EventFolder {
        project_id: ProjectId::new(7),
        received_at: "2026-01-02T23:59:59Z".parse().expect("a time"),
        event_id: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".parse().expect("an id"),
    }
}

fn at(url: Option<String>) -> Config {
    let mut config = Config::default();
    config.storage.url = url;
    config
}

async fn open(dir: &Path) -> Storage {
    let config = at(Some(dir.display().to_string()));
    let storage = Storage::open(&config, Readiness::default()).await;
    storage.expect("a storage")
}

#[test]
fn paths_are_those_of_the_documentation() {
    let event = "7/2026-01-02/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
    assert_eq!(folder().report().as_str(), format!("{event}/report.json"));
    assert_eq!(
        folder().minidump().as_str(),
        format!("{event}/minidump.dmp")
    );
    let path = folder().attachment(2, "log.txt");
    assert_eq!(path.as_str(), format!("{event}/attachments/2-log.txt"));
}

#[tokio::test]
async fn no_name_leaves_its_folder() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = open(dir.path()).await;
    for (n, name) in ["../../x", "a/b", "", "..", "ж %2e#?", &"é".repeat(255)]
        .iter()
        .enumerate()
    {
        let path = folder().attachment(n, name);
        assert_eq!(path.as_str().split('/').count(), 5, "{path}");
        let stored = storage
            .store(path, &Content::from(vec![1]))
            .await
            .expect("stores");
        assert!(
            dir.path().join(stored.path.as_str()).is_file(),
            "{}",
            stored.path
        );
    }
}

#[tokio::test]
async fn what_is_stored_is_whole_hashed_and_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = open(dir.path()).await;
    let piece = limits::STORAGE_PIECE_BYTES;
    for bytes in [0, 1, piece, piece + 1, 2 * piece] {
        let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
        let stored = storage
            .store(folder().minidump(), &content.clone().into())
            .await
            .expect("stores");
        assert_eq!(stored.bytes, bytes as u64);
        let expected: String = Sha256::digest(&content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(stored.sha256, expected);
        let found = std::fs::read(dir.path().join(stored.path.as_str())).expect("a file");
        assert!(found == content, "{bytes} bytes differ");
    }
    let files = std::fs::read_dir(
        dir.path()
            .join(folder().minidump().as_str())
            .parent()
            .expect("a folder"),
    );
    assert_eq!(
        files.expect("a folder").count(),
        1,
        "nothing is left beside it"
    );
}

#[tokio::test]
async fn a_report_is_found_or_said_to_be_absent() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = open(dir.path()).await;
    assert_eq!(storage.report(folder()).await.expect("answers"), None);
    storage
        .store(folder().report(), &Content::from(b"{}".to_vec()))
        .await
        .expect("stores");
    let report = storage.report(folder()).await.expect("answers");
    assert_eq!(report.as_deref(), Some(&b"{}"[..]));
}

#[tokio::test]
async fn a_storage_that_fails_says_so_until_it_works() {
    let dir = tempfile::tempdir().expect("a directory");
    let readiness = Readiness::default();
    readiness.register(Part::Storage, Need::Required);
    let config = at(Some(dir.path().display().to_string()));
    let storage = Storage::open(&config, readiness.clone()).await;
    let storage = storage.expect("a storage");
    assert!(readiness.is_ready());
    let in_the_way = dir.path().join("7");
    std::fs::write(&in_the_way, "").expect("a file");
    let content = Content::from(vec![1]);
    let failed = storage.store(folder().report(), &content).await;
    assert!(matches!(failed, Err(StorageError::Away(_))));
    assert!(!readiness.is_ready());
    std::fs::remove_file(&in_the_way).expect("removes");
    storage
        .store(folder().report(), &content)
        .await
        .expect("stores");
    assert!(readiness.is_ready());
}

#[tokio::test]
async fn a_url_may_name_a_directory_which_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}/new", dir.path().display());
    let opened = Storage::open(&at(Some(url)), Readiness::default()).await;
    opened.expect("a storage");
    assert!(dir.path().join("new").is_dir());
}

#[tokio::test]
async fn a_bucket_that_is_away_is_waited_for() {
    // Nobody listens on the discard port.
    let mut config = at(Some("s3://crashes/prefix".into()));
    for (name, value) in [
        ("aws_endpoint", "http://127.0.0.1:9"),
        ("allow_http", "true"),
        ("aws_access_key_id", "a"),
        ("aws_secret_access_key", "b"),
    ] {
        let value = crate::config::Secret::new(value.into());
        config.storage.options.insert(name.into(), value);
    }
    let readiness = Readiness::default();
    readiness.register(Part::Storage, Need::Required);
    let storage = Storage::open(&config, readiness.clone()).await;
    let storage = storage.expect("away is no mistake of the configuration");
    assert!(!readiness.is_ready());
    let content = Content::from(vec![1]);
    let stored = storage.store(folder().report(), &content).await;
    assert!(matches!(stored, Err(StorageError::Away(_))));
}

#[tokio::test]
async fn events_are_listed_by_project_and_day_with_all_their_files_and_removed_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = open(dir.path()).await;
    let store = async |path: StoragePath, bytes: usize| {
        let content = Content::from(vec![7; bytes]);
        storage.store(path, &content).await.expect("stores");
    };
    let older = EventFolder {
        received_at: "2025-12-31T00:00:00Z".parse().expect("a time"),
        ..folder()
    };
    let sibling = EventFolder {
        event_id: EventId::random(),
        ..folder()
    };
    for folder in [folder(), older, sibling] {
        store(folder.report(), 10).await;
        store(folder.minidump(), 100).await;
        store(folder.attachment(1, "log.txt"), 1).await;
    }
    store(folder().late_list(EventId::random()), 1000).await;
    // What is not an event's stays out of it.
    store(StoragePath::upload(folder().project_id, Uuid::nil()), 5).await;
    store(StoragePath("7/2026-01-02/notes.txt".into()), 5).await;
    let project = folder().project_id;
    assert_eq!(storage.projects().await.expect("lists"), [project]);
    let days = storage.days(project).await.expect("lists");
    assert_eq!(days, [older.day(), folder().day()]);

    let listed: Vec<StoredEvent> = storage
        .events(project, folder().day())
        .try_collect()
        .await
        .expect("lists");
    let mut sizes: Vec<_> = listed
        .iter()
        .map(|event| (event.bytes(), event.files.len()))
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [(111, 3), (1111, 4)]);

    let event = storage.event(folder()).await.expect("lists");
    assert_eq!((event.bytes(), event.files.len()), (1111, 4));
    let unfinished = dir.path().join(format!("{}#1", folder().minidump()));
    std::fs::write(&unfinished, "cut off by a kill").expect("writes");
    for _ in 0..2 {
        storage
            .remove(std::slice::from_ref(&event))
            .await
            .expect("removes, also what is gone");
    }
    assert_eq!(storage.event(folder()).await.expect("lists").files, []);
    assert!(
        !unfinished.exists(),
        "what no listing shows is removed, too"
    );
    assert_eq!(storage.event(sibling).await.expect("lists").files.len(), 3);
    let older = storage.event(older).await.expect("lists");
    storage.remove(&[older]).await.expect("removes");
    let days = storage.days(project).await.expect("lists");
    assert_eq!(days, [folder().day()], "no empty day is left");
}
