//! A project's privacy switches: what it does not keep is neither in the report nor in the storage.

use harness::dumps;
use harness::multipart::Form;
use harness::settings::{KEY, PUBLIC};
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};

fn stack(privacy: &str) -> Stack {
    let projects = format!("[{{ id = 1, keys = [{KEY:?}], privacy = {{ {PUBLIC}, {privacy} }} }}]");
    Plan::standalone()
        .relay_variable("CRASHFERRY__PROJECTS", &projects)
        .start()
}

fn is_stored(stack: &Stack, id: &str) -> bool {
    stack.stored_dir(id).join("minidump.dmp").exists()
}

/// The report's entry of the dump, and its last warning.
fn told(report: &serde_json::Value) -> (&serde_json::Value, &str) {
    let attachment = &report["attachments"][0];
    assert_eq!(attachment["type"], "event.minidump");
    let warnings = report["processing"]["warnings"].as_array();
    let last = warnings.and_then(|warnings| warnings.last()?.as_str());
    (attachment, last.unwrap_or_default())
}

#[test]
fn a_dump_that_is_never_stored_is_processed_all_the_same() {
    let stack = stack("minidump = \"never\"");
    let id = stack.upload(&dumps::small());
    let report = stack.report(&id);
    dumps::check_report(&report);
    let (attachment, warning) = told(&report);
    assert!(attachment["path"].is_null() && attachment["sha256"].is_null());
    assert_eq!(attachment["size"], dumps::small().len());
    assert_eq!(
        warning,
        "the minidump is not stored: privacy.minidump = \"never\""
    );
    let failed = stack.upload(&dumps::header_only());
    stack.fate(&failed, "failed", FATE_DEADLINE);
    assert!(!is_stored(&stack, &id));
    assert!(!stack.stored_dumps().contains_key(&failed));
    stack.finish(1, 1);
}

#[test]
fn only_the_dump_whose_processing_failed_is_stored() {
    let stack = stack("minidump = \"failed\"");
    let processed = stack.upload(&dumps::small());
    let report = stack.report(&processed);
    assert!(told(&report).0["path"].is_null());
    assert!(!is_stored(&stack, &processed));
    let failed = stack.upload(&dumps::header_only());
    stack.fate(&failed, "failed", FATE_DEADLINE);
    assert!(stack.stored_dump(&failed) == dumps::header_only());
    stack.finish(1, 1);
}

#[test]
fn names_and_command_lines_are_in_no_report() {
    let stack = stack("home_paths = \"drop\"");
    let form = Form::minidump(&dumps::small())
        .field("prod", "Notes")
        .field("switch-1", "--token=secret")
        .field(
            "sentry",
            r#"{"tags":{"dir":"/home/ada/notes"},"contexts":{"os":{"name":"Linux"}}}"#,
        );
    let id = accepted_id(&stack.post_form(form));
    let report = stack.report(&id);
    assert_eq!(report["tags"]["dir"], "/home/~/notes");
    assert_eq!(report["contexts"]["os"]["name"], "Linux");
    assert_eq!(report["client"]["name"], "Notes");
    assert_eq!(
        report["environment"], "nightly",
        "from the dump's annotations"
    );
    let written = report.to_string();
    assert!(
        !written.contains("secret") && !written.contains("ada"),
        "{written}"
    );
    assert!(written.contains("1 command line values were dropped"));
    stack.finish(1, 0);
}
