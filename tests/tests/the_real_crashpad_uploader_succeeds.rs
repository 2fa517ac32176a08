//! Crashpad's own uploader, with and without gzip and with attachments, ends "uploaded" and keeps exactly our event id.

use harness::crashpad::{self, Options};
use harness::dumps;
use harness::stack::Plan;

const BREADCRUMBS: &[u8] = b"opened a.txt\nsaved a.txt\n";

#[test]
fn with_gzip_standalone() {
    uploads(Plan::standalone(), Options { gzip: true });
}

#[test]
fn without_gzip_standalone() {
    uploads(Plan::standalone(), Options { gzip: false });
}

#[test]
fn with_gzip_through_kafka() {
    uploads(Plan::split(), Options { gzip: true });
}

#[test]
fn without_gzip_through_kafka() {
    uploads(Plan::split(), Options { gzip: false });
}

fn uploads(plan: Plan, options: Options) {
    let stack = plan.start();
    let dump = dumps::sized(2_500_000, 77);
    // One name sorts before the dump's part, one after it.
    let log = vec![b'l'; 70_000];
    let attachments = [("Alpha.json", BREADCRUMBS), ("zzz.log", log.as_slice())];
    let verdict = crashpad::upload(&stack.minidump_url(), &dump, &attachments, options);
    assert!(verdict.uploaded, "{verdict:?}");
    let id = uuid::Uuid::parse_str(&verdict.id)
        .unwrap_or_else(|error| panic!("{error}: {:?}", verdict.id));
    assert_eq!(
        id.hyphenated().to_string(),
        verdict.id,
        "nothing but the id"
    );

    let report = stack.report(&verdict.id);
    assert!(stack.stored_dump(&verdict.id) == dump, "the stored dump");
    assert_eq!(
        report["annotations"]["channel"], "nightly",
        "the dump's annotation: {}",
        report["annotations"]
    );
    for (name, content) in attachments {
        let attachment = report["attachments"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == name))
            .unwrap_or_else(|| panic!("no {name} in {}", report["attachments"]));
        assert_eq!(attachment["size"], content.len());
        let path = attachment["path"].as_str().expect("it is stored");
        let file = path.split_once(&verdict.id).map(|(_, rest)| rest);
        let file = file
            .expect("the path names the event")
            .trim_start_matches('/');
        assert!(stack.stored(&verdict.id, file) == content, "{name}");
    }
    stack.finish(1, 0);
}
