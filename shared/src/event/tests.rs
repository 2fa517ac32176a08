use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(fields) = value else {
        panic!("expected an object, found {value}");
    };
    fields
}

#[test]
fn an_event_as_an_sdk_writes_it_is_read_in_full() {
    let payload = read(object(json!({
        "platform": "native", "level": "fatal", "timestamp": 1795257378.5, "release": "a@1",
        "environment": "lab", "user": {"id": 7}, "tags": {"a": "b"}, "extra": {"x": 1},
        "contexts": {"os": {"name": "Linux"}}, "breadcrumbs": [{"message": "first"}, null],
        "exception": {"values": [{"type": "Boom"}]}, "sdk": {"name": "sentry.rust"}, "dist": null,
    })));
    assert_eq!(payload.warnings, [""; 0]);
    assert_eq!(payload.level.as_deref(), Some("fatal"));
    assert_eq!(payload.timestamp, moment(&json!(1795257378.5)));
    assert_eq!(payload.user, Some(json!({"id": 7})));
    assert_eq!(payload.contexts["os"]["name"], "Linux");
    assert_eq!(payload.breadcrumbs, [json!({"message": "first"})]);
    let rest: Vec<&str> = payload.event.keys().map(String::as_str).collect();
    assert_eq!(rest, ["exception", "sdk"]);
}

#[test]
fn relays_normalised_event_is_read_in_full() {
    let payload = read_payload(object(json!({
        "event_id": "0dc82b63eb7945d0934b3e9b8d3e1bfe", "type": "error", "timestamp": 1795256589.0,
        "tags": [["event.process", "renderer"], null, ["gone", null]],
        "breadcrumbs": {"values": [{"message": "b", "timestamp": 20.0}, null, {"message": "a", "timestamp": 10.0}]},
        "sdk": {"name": "sentry.native", "version": "0.7"}, "_meta": {"x": 1},
        "exception": {"values": [{"type": "Minidump"}]},
    })));
    assert_eq!(payload.warnings, [""; 0]);
    assert_eq!(payload.tags, object(json!({"event.process": "renderer"})));
    let told: Vec<_> = payload
        .breadcrumbs
        .iter()
        .map(|crumb| &crumb["message"])
        .collect();
    assert_eq!(told, ["a", "b"]);
    assert_eq!(payload.event["exception"]["values"][0]["type"], "Minidump");
    assert_eq!(payload.event["type"], "error");
    let mut named = payload;
    name_client_by_sdk(&mut named);
    assert_eq!(named.client.name.as_deref(), Some("sentry.native"));
    assert_eq!(named.client.version.as_deref(), Some("0.7"));
}

#[test]
fn what_has_another_shape_stays_in_the_event_with_a_warning() {
    let odd = json!({
        "release": ["x"], "environment": {"a": 1}, "user": "someone", "tags": "red", "extra": [1],
        "contexts": 3, "breadcrumbs": {"value": []}, "timestamp": "now", "level": true,
    });
    let payload = read(object(odd.clone()));
    assert_eq!(Value::from(payload.event), odd);
    assert_eq!(payload.warnings.len(), 9, "{:?}", payload.warnings);
    let pairs = read(object(
        json!({"tags": [["a", "b"], ["a", "c"], ["d"], 5], "release": 12}),
    ));
    assert_eq!(pairs.tags, object(json!({"a": "b"})));
    assert_eq!(pairs.event["tags"], json!([["a", "c"], ["d"], 5]));
    assert_eq!(pairs.release.as_deref(), Some("12"));
}

#[test]
fn our_own_words_in_a_clients_event_mean_nothing() {
    let foreign =
        json!({"client": {"name": "x"}, "warnings": ["y"], "attached_to": "z", "event": {"a": 1}});
    let payload = read(object(foreign.clone()));
    assert_eq!(payload.client, Client::default());
    assert_eq!(Value::from(payload.event), foreign);
    let odd = read_payload(object(
        json!({"client": 7, "warnings": 8, "event": "e", "attached_to": "z"}),
    ));
    assert_eq!(odd.warnings.len(), 4, "{:?}", odd.warnings);
    assert_eq!(odd.event["client"], 7);
}

#[test]
fn breadcrumbs_are_ordered_by_time_and_the_newest_kept() {
    let crumb = |n: usize| json!({"timestamp": (n * 7919 % 2000) as f64, "n": n});
    let mut payload = EventPayload {
        breadcrumbs: (0..2000).map(crumb).collect(),
        ..EventPayload::default()
    };
    order_breadcrumbs(&mut payload);
    let times: Vec<_> = payload
        .breadcrumbs
        .iter()
        .map(|crumb| crumb["timestamp"].as_f64())
        .collect();
    let newest: Vec<_> = (1000..2000).map(|at| Some(f64::from(at))).collect();
    assert_eq!(times, newest);
    assert!(
        payload.warnings[0].contains("1000 breadcrumbs were left out"),
        "{:?}",
        payload.warnings
    );

    let mixed = json!([{"m": 1}, {"m": 2, "timestamp": "2026-01-01T00:00:02Z"}, {"m": 3}, {"m": 4, "timestamp": 5}]);
    let mut payload = read(object(json!({"breadcrumbs": mixed})));
    order_breadcrumbs(&mut payload);
    let order: Vec<_> = payload
        .breadcrumbs
        .iter()
        .map(|crumb| &crumb["m"])
        .collect();
    assert_eq!(order, [1, 4, 2, 3]);
}

#[test]
fn what_lies_too_deep_becomes_text() {
    let mut deep = json!("bottom");
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let payload = read_payload(object(json!({"extra": {"deep": deep}})));
    let written = serde_json::to_string(&payload).expect("encodes");
    assert!(written.contains("bottom"));
    let (mut levels, mut at) = (0, &payload.extra["deep"]);
    while let Some(inner) = at.get(0) {
        (levels, at) = (levels + 1, inner);
    }
    assert_eq!(levels, EVENT_DEPTH_MAX);
    assert!(at.as_str().is_some_and(|text| text.starts_with("[[")));
}

#[test]
fn the_first_writer_of_a_leaf_wins_and_the_second_adds() {
    let mut first = read(object(
        json!({"tags": {"a": 1, "n": null}, "user": {"id": 1}, "release": "r",
        "contexts": {"os": {"name": "Linux"}}, "breadcrumbs": [1]}),
    ));
    let second = read(object(
        json!({"tags": {"a": 2, "b": 3, "n": 4}, "user": {"id": 2, "name": "x"},
        "release": "s", "level": "info", "contexts": {"os": {"name": "BSD", "version": "6"}, "gpu": {}}, "breadcrumbs": [2]}),
    ));
    fill(&mut first, second);
    assert_eq!(Value::from(first.tags), json!({"a": 1, "b": 3, "n": 4}));
    assert_eq!(first.user, Some(json!({"id": 1, "name": "x"})));
    assert_eq!(first.release.as_deref(), Some("r"));
    assert_eq!(first.level.as_deref(), Some("info"));
    assert_eq!(
        Value::from(first.contexts),
        json!({"os": {"name": "Linux", "version": "6"}, "gpu": {}})
    );
    assert_eq!(first.breadcrumbs, [1, 2]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The standard fields and others, each of any shape.
fn any_event() -> impl Strategy<Value = Map<String, Value>> {
    let names = [
        "platform",
        "level",
        "timestamp",
        "release",
        "environment",
        "user",
        "tags",
        "extra",
        "contexts",
        "breadcrumbs",
        "exception",
        "client",
        "warnings",
        "event",
        "user_reports",
        "process_type",
        "attached_to",
    ];
    prop::collection::btree_map(prop::sample::select(names.to_vec()), any_json(), 0..8).prop_map(
        |fields| {
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        },
    )
}

proptest! {
    #[test]
    fn a_written_payload_is_read_back_as_it_was(event in any_event(), other in any_event()) {
        let mut payload = read(event);
        fill(&mut payload, read_payload(other));
        order_breadcrumbs(&mut payload);
        let written = serde_json::to_value(&payload).expect("encodes");
        let again = read_payload(object(written.clone()));
        prop_assert_eq!(serde_json::to_value(again).expect("encodes"), written);
    }
}
