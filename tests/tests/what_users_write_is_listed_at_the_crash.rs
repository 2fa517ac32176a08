//! Feedback and user reports that come apart from their crash are listed at it, whichever of them comes first, once however
//! often they come, and without what the project does not keep.

use harness::dumps;
use harness::http::Request;
use harness::settings::KEY;
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wait;
use serde_json::{Value, json};
use uuid::Uuid;

/// One item of an envelope.
fn item(head: Value, content: &[u8]) -> Vec<u8> {
    let mut head = head;
    head["length"] = content.len().into();
    [format!("{head}\n").as_bytes(), content, b"\n"].concat()
}

fn post(stack: &Stack, id: Uuid, items: &[Vec<u8>]) {
    let header = format!("{}\n", json!({"event_id": id.simple().to_string()}));
    let body = [header.into_bytes(), items.concat()].concat();
    let path = format!("/api/1/envelope/?sentry_key={KEY}");
    let answer = Request::post(path, body).send(stack.listen());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn post_crash(stack: &Stack, id: Uuid) {
    let head =
        json!({"type": "attachment", "attachment_type": "event.minidump", "filename": "a.dmp"});
    post(stack, id, &[item(head, &dumps::unique())]);
}

fn post_feedback(stack: &Stack, id: Uuid, crash: Uuid, message: &str) {
    let feedback = json!({"event_id": id.simple().to_string(), "user": {"ip_address": "{{auto}}"}, "contexts": {"feedback": {
        "message": message, "name": "Ann", "associated_event_id": crash.simple().to_string()}}});
    post(
        stack,
        id,
        &[item(
            json!({"type": "feedback"}),
            feedback.to_string().as_bytes(),
        )],
    );
}

fn post_report(stack: &Stack, crash: Uuid, comments: &str) {
    let report = json!({"event_id": crash.simple().to_string(), "name": "Bob", "email": "b@example.org", "comments": comments});
    post(
        stack,
        crash,
        &[item(
            json!({"type": "user_report"}),
            report.to_string().as_bytes(),
        )],
    );
}

/// What is listed at the crash once that is so much.
fn listed(stack: &Stack, crash: Uuid, count: usize) -> Value {
    wait::until("what users wrote to be listed", FATE_DEADLINE, || {
        let event = stack.event(&crash.to_string());
        if event.status != 200 {
            return Err(event.text());
        }
        let event = event.json();
        let found = event["late_user_reports"].as_array().map_or(0, Vec::len);
        if event["status"] == "processed" && found == count {
            Ok(event)
        } else {
            Err(event.to_string())
        }
    })
}

fn in_either_order(plan: Plan) {
    let stack = plan.start();
    let (before, after) = (Uuid::new_v4(), Uuid::new_v4());
    let mut finished = 0;
    for crash in [before, after] {
        let feedback = Uuid::new_v4();
        if crash == after {
            post_crash(&stack, crash);
            stack.report(&crash.to_string());
        }
        post_feedback(&stack, feedback, crash, "it froze first");
        post_report(&stack, crash, "clicked save");
        stack.report(&feedback.to_string());
        if crash == before {
            post_crash(&stack, crash);
        }
        let event = listed(&stack, crash, 2);
        let reports = event["late_user_reports"].as_array().expect("a list");
        let of_feedback = reports
            .iter()
            .find(|report| report["event_id"] == feedback.to_string());
        let of_feedback = of_feedback.expect("by the feedback's own id");
        assert_eq!(
            of_feedback["report"]["contexts"]["feedback"]["message"],
            "it froze first"
        );
        let written = event["late_user_reports"].to_string();
        assert!(written.contains("clicked save"), "{written}");
        assert_eq!(event["late_attachments"][0]["name"], "user_report.json");
        finished += 3;
    }
    // The same again changes nothing.
    post_report(&stack, after, "clicked save");
    let event = listed(&stack, after, 2);
    assert_eq!(event["late_user_reports"].as_array().map(Vec::len), Some(2));
    stack.finish(finished, 0);
}

#[test]
fn in_one_process() {
    in_either_order(Plan::standalone());
}

#[test]
fn through_kafka_and_with_redis() {
    in_either_order(Plan::split());
}

#[test]
fn what_a_project_does_not_keep_is_not_listed_and_a_deleted_crash_lists_nothing() {
    let privacy = "privacy = { home_paths = \"drop\", client_address = \"drop\" }";
    let stack = Plan::standalone().project(privacy).start();
    let (crash, feedback) = (Uuid::new_v4(), Uuid::new_v4());
    post_crash(&stack, crash);
    stack.report(&crash.to_string());
    post_report(&stack, crash, "in /home/ada/notes");
    post_feedback(&stack, feedback, crash, "see /home/ada/log");
    let event = listed(&stack, crash, 2);
    let written = event.to_string();
    for kept_from in ["ada", "{{auto}}", "127.0.0.1"] {
        assert!(!written.contains(kept_from), "{kept_from} in {written}");
    }
    assert!(
        written.contains("/home/~/notes") && written.contains("/home/~/log"),
        "{written}"
    );
    for file in event["late_attachments"].as_array().into_iter().flatten() {
        assert_ne!(
            file["name"], "user_report.json",
            "it would hold what is not kept"
        );
    }
    stack.command(&["reports", "delete", &crash.to_string(), "--yes"]);
    post_feedback(&stack, Uuid::new_v4(), crash, "too late");
    stack.report(&feedback.to_string());
    assert_eq!(stack.event(&crash.to_string()).status, 410);
    assert!(!stack.stored_dumps().contains_key(&crash.to_string()));
    stack.stop();
}

#[test]
fn so_many_are_listed_and_the_others_counted() {
    const LISTED_MAX: usize = 50;
    let mut stack = Plan::standalone().start();
    let crash = Uuid::new_v4();
    post_crash(&stack, crash);
    stack.report(&crash.to_string());
    for n in 0..LISTED_MAX {
        post_report(&stack, crash, &format!("report {n}"));
    }
    listed(&stack, crash, LISTED_MAX);
    for n in 0..3 {
        post_report(&stack, crash, &format!("one too many: {n}"));
    }
    wait::until_true("the others to be counted", FATE_DEADLINE, || {
        stack
            .relay()
            .metric("crashferry_user_reports_left_out_total")
            == 3.0
    });
    listed(&stack, crash, LISTED_MAX);
    stack.finish(LISTED_MAX as u64 + 4, 0);
}
