//! A child that really crashes, its dump written by the library that desktop programs use: the report names the signal,
//! the address, the crashing thread's frames and the modules.

use std::path::Path;

use harness::stack::Plan;
use harness::{crashing, dumps};

#[test]
fn standalone() {
    a_real_crash(Plan::standalone());
}

#[test]
fn through_kafka() {
    a_real_crash(Plan::split());
}

fn a_real_crash(plan: Plan) {
    let stack = plan.start();
    let dump = crashing::dump(Path::new(env!("CARGO_BIN_EXE_crashing-child")));
    let id = stack.upload(&dump);
    let report = stack.report(&id);
    assert_eq!(report["schema"], "crash-report/1");
    assert_eq!(report["event_id"], id);
    assert_eq!(report["os"]["name"], "Linux");
    let crash = &report["crash"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    assert!(text(&crash["type"]).starts_with("SIGSEGV"), "{crash}");
    assert!(text(&crash["reason"]).contains("SEGV_MAPERR"), "{crash}");
    // The library writes 0 for the address: it reads a `siginfo_t` as if it were a `signalfd_siginfo`.
    assert_eq!(dumps::hex(&crash["address"]), 0, "{crash}");
    let index = crash["thread"]
        .as_u64()
        .expect("the crashing thread is known");
    let frames = report["threads"][usize::try_from(index).expect("an index")]["frames"].clone();
    let frames = frames.as_array().expect("frames");
    assert!(frames.len() > 1, "{frames:?}");
    assert!(
        text(&frames[0]["module"]).contains("crashing-child"),
        "{frames:?}"
    );
    let modules = report["modules"].as_array().expect("modules");
    let named = |name: &str| modules.iter().any(|one| text(&one["name"]).contains(name));
    assert!(named("crashing-child") && named("libc"), "{modules:?}");
    assert!(stack.stored_dump(&id) == dump);
    stack.finish(1, 0);
}
