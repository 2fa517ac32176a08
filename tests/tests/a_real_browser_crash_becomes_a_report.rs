//! A renderer of a real Chromium gets SIGSEGV, Chromium's handler dumps it, Crashpad's uploader sends it with Chromium's
//! own parameters: the report names the signal, the product and the process.

use harness::chromium::Chromium;
use harness::crashpad::{self, Options};
use harness::stack::Plan;

#[test]
fn from_the_signal_to_the_report() {
    let stack = Plan::standalone().start();
    let chromium = Chromium::start();
    let crash = chromium.crash_renderer();
    let url = stack.minidump_url();
    let dump = chromium.database().join(format!("pending/{crash}.dmp"));
    let dump = std::fs::read(dump).expect("the dump can be read");
    let options = Options { gzip: true };
    let verdict = crashpad::upload_from(&url, chromium.database(), &crash, options);
    assert!(verdict.uploaded, "{verdict:?}");

    let report = stack.report(&verdict.id);
    assert!(stack.stored_dump(&verdict.id) == dump, "the stored dump");
    assert_eq!(report["crash"]["type"], "SIGSEGV", "{}", report["crash"]);
    assert_eq!(report["os"]["name"], "Linux");
    assert_eq!(report["client"]["name"], "content_shell");
    assert_eq!(report["process"]["type"], "renderer");
    assert_ne!(report["client"]["guid"], serde_json::Value::Null);
    let version = report["client"]["version"].as_str().expect("a version");
    assert_eq!(report["release"], format!("content_shell@{version}"));
    let modules = report["modules"].as_array().expect("a list");
    let own = |module: &&serde_json::Value| {
        let name = module["name"].as_str().unwrap_or_default();
        name.ends_with("chromium-shell")
    };
    assert!(modules.iter().any(|module| own(&module)), "{modules:?}");
    stack.finish(1, 0);
}
