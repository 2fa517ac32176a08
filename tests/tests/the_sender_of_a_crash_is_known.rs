//! Behind trusted proxies the client's own address is told, from elsewhere nobody's word for it counts; `{{auto}}` becomes it
//! or goes; a dump that is the body has its query for a form; project 0 is one like any other.

use harness::dumps;
use harness::http::{Request, Response};
use harness::multipart::Form;
use harness::settings::KEY;
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use harness::wait;
use serde_json::{Value, json};

const CLIENT: &str = "203.0.113.9";
/// As Sentry's documentation prints it.
const DOCUMENTED_KEY: &str = "examplePublicKey";
const PRIVATE_KEY: &str = "privateProject";

/// Projects 0 and 1, and 3, which keeps no addresses.
fn projects() -> String {
    format!(
        "[{{ id = 0, keys = [{DOCUMENTED_KEY:?}], privacy = {{ public_report = true }} }}, \
         {{ id = 1, keys = [{KEY:?}], privacy = {{ public_report = true }} }}, \
         {{ id = 3, keys = [{PRIVATE_KEY:?}], privacy = {{ public_report = true, client_address = \"drop\" }} }}]"
    )
}

fn behind_a_proxy() -> Stack {
    Plan::standalone()
        .relay_variable("CRASHFERRY__PROJECTS", &projects())
        .relay_variable(
            "CRASHFERRY__RELAY__TRUSTED_PROXIES",
            "127.0.0.0/8, 10.0.0.0/8",
        )
        .start()
}

fn form(project: u64, key: &str, form: Form) -> Request {
    let path = format!("/api/{project}/minidump/?sentry_key={key}");
    Request::post(path, form.finish()).header("Content-Type", &Form::content_type())
}

fn report(stack: &Stack, project: u64, key: &str, answer: &Response) -> Value {
    let id = accepted_id(answer);
    wait::until("the report", FATE_DEADLINE, || {
        let event = Request::get(format!("/api/{project}/events/{id}/?sentry_key={key}"));
        let mut event = event.send(stack.listen()).json();
        match event["status"].as_str() {
            Some("processed") => Ok(event["report"].take()),
            _ => Err(event.to_string()),
        }
    })
}

/// The event with `{{auto}}` in each of the places that event data may come in.
fn asking_for_the_address() -> Vec<Form> {
    let auto = "{{auto}}";
    // {"user": {"ip_address": "{{auto}}", "id": "u"}} in msgpack.
    let msgpack = [b"\x81\xa4user\x82\xaaip_address\xa8{{auto}}\xa2id\xa1u".as_slice()].concat();
    let user = json!({"user": {"ip_address": auto, "id": "u"}}).to_string();
    let form = || Form::minidump(&dumps::unique());
    vec![
        form().field("sentry", &user),
        form().field("sentry___scope", &user),
        form()
            .field("sentry__1", &user[..20])
            .field("sentry__2", &user[20..]),
        form()
            .field("sentry[user][ip_address]", auto)
            .field("sentry[user][id]", "u"),
        form().file("__sentry-event", "__sentry-event", &msgpack),
    ]
}

#[test]
fn a_trusted_proxy_is_believed_wherever_an_event_asks_for_the_address() {
    let stack = behind_a_proxy();
    let mut crashes = 0;
    for sent in asking_for_the_address() {
        let sent = form(1, KEY, sent);
        let sent = sent.header("X-Forwarded-For", &format!("6.6.6.6, {CLIENT}, 10.0.0.2"));
        let report = report(&stack, 1, KEY, &sent.send(stack.listen()));
        assert_eq!(report["user"], json!({"ip_address": CLIENT, "id": "u"}));
        assert_eq!(report["remote_addr"], CLIENT);
        crashes += 1;
    }
    for (header, value, address) in [
        (
            "Forwarded",
            "for=\"[2001:db8::1]:4711\";proto=https",
            json!("2001:db8::1"),
        ),
        ("X-Real-IP", CLIENT, json!(CLIENT)),
        ("X-Forwarded-For", "unknown", Value::Null),
        ("Accept", "*/*", json!("127.0.0.1")),
    ] {
        let sent = asking_for_the_address().swap_remove(0);
        let answer = form(1, KEY, sent)
            .header(header, value)
            .send(stack.listen());
        let report = report(&stack, 1, KEY, &answer);
        assert_eq!(report["remote_addr"], address, "{header}: {value}");
        assert_eq!(report["user"]["ip_address"], address, "{header}: {value}");
        assert_eq!(report["user"]["id"], "u");
        crashes += 1;
    }
    for sent in asking_for_the_address() {
        let sent = form(3, PRIVATE_KEY, sent).header("X-Forwarded-For", CLIENT);
        let report = report(&stack, 3, PRIVATE_KEY, &sent.send(stack.listen()));
        let written = report.to_string();
        for kept_from in [CLIENT, "127.0.0.1", "{{auto}}"] {
            assert!(!written.contains(kept_from), "{kept_from} in {written}");
        }
        assert_eq!(report["user"], json!({"id": "u"}));
        crashes += 1;
    }
    stack.finish(crashes, 0);
}

#[test]
fn nobody_is_believed_unless_that_is_configured() {
    let stack = Plan::standalone().start();
    let sent = asking_for_the_address().swap_remove(0);
    let sent = form(1, KEY, sent).header("X-Forwarded-For", CLIENT);
    let sent = sent
        .header("Forwarded", &format!("for={CLIENT}"))
        .header("X-Real-IP", CLIENT);
    let report = report(&stack, 1, KEY, &sent.send(stack.listen()));
    assert_eq!(report["remote_addr"], "127.0.0.1");
    assert_eq!(report["user"]["ip_address"], "127.0.0.1");
    assert!(!report.to_string().contains(CLIENT), "{report}");
    stack.finish(1, 0);
}

#[test]
fn a_dump_that_is_the_body_has_its_query_for_a_form() {
    let stack = behind_a_proxy();
    let cases = [
        (
            "sentry[release]=0.1&sentry%5Btags%5D%5Bos%5D=a+b",
            json!({"release": "0.1", "tags": {"os": "a b"}}),
        ),
        ("prod=App&ver=3", json!({"release": "App@3"})),
        ("product=App&version=2", json!({"release": "App@2"})),
        (
            "_productName=App&_version=4&prod=Electron&ver=30",
            json!({"release": "App@4"}),
        ),
        (
            "sentry={%22environment%22:%22beta%22}&guid=g-1&note=x&note=y",
            json!({"environment": "beta", "extra": {"note": ["x", "y"]}}),
        ),
    ];
    for (query, expected) in &cases {
        let path = format!("/api/0/minidump/?sentry_key={DOCUMENTED_KEY}&sentry_version=7&{query}");
        let dump = dumps::unique();
        let sent =
            Request::post(path.clone(), dump.clone()).header("Content-Type", "application/x-dmp");
        let raw = report(&stack, 0, DOCUMENTED_KEY, &sent.send(stack.listen()));
        for (name, value) in expected.as_object().expect("an object") {
            let found = &raw[name];
            match value.as_object() {
                Some(fields) => fields
                    .iter()
                    .for_each(|(name, value)| assert_eq!(&found[name], value, "{query}")),
                None => assert_eq!(found, value, "{query}"),
            }
        }
        let written = raw.to_string();
        assert!(!written.contains(DOCUMENTED_KEY), "{written}");
        assert!(!written.contains("sentry_version"), "{written}");
    }
    stack.finish(cases.len() as u64, 0);
}

#[test]
fn project_0_is_one_like_any_other() {
    let stack = Plan::split()
        .relay_variable("CRASHFERRY__PROJECTS", &projects())
        .start();
    let path = format!("/api/0/minidump/?sentry_key={DOCUMENTED_KEY}");
    let answer = Request::post(path, dumps::unique()).send(stack.listen());
    let report = report(&stack, 0, DOCUMENTED_KEY, &answer);
    dumps::check_report(&report);
    assert_eq!(report["project_id"], 0);
    let id = accepted_id(&answer);
    let path = report["attachments"][0]["path"].as_str().expect("a path");
    assert!(path.starts_with("0/") && path.contains(&id), "{path}");
    let strange = Request::get(format!("/api/1/events/{id}/?sentry_key={KEY}"));
    assert_eq!(
        strange.send(stack.listen()).status,
        404,
        "another project's"
    );
    let added = stack.command(&["keys", "add", "0", "--key", "another"]);
    assert!(
        added.contains("another@") && added.contains("/0"),
        "{added}"
    );
    let listed = stack.command(&["keys", "list"]);
    assert!(listed.contains("another"), "{listed}");
    let path = "/api/0/minidump/?sentry_key=another";
    let dump = dumps::unique();
    wait::until_true("the relay to know the key", FATE_DEADLINE, || {
        Request::post(path, dump.clone())
            .send(stack.listen())
            .status
            == 200
    });
    stack.finish(2, 0);
}
