//! What recorded clients send, and what no client should.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// `__sentry-event` of sentry-native 0.4.9 with Crashpad, as recorded.
const NATIVE_EVENT: &[u8] = b"\x8a\xa8platform\xa6native\xa7release\xb4test-example-release\
    \xabenvironment\xabdevelopment\xa5level\xa7warning\xa4user\x82\xa2id*\xa8username\xa9some_name\
    \xabtransaction\xb0test-transaction\xa3sdk\x84\xa4name\xadsentry.native\xa7version\xa50.4.9\xa8packages\
    \x91\x82\xa4name\xbegithub:getsentry/sentry-native\xa7version\xa50.4.9\xacintegrations\x91\xa8crashpad\
    \xa4tags\x81\xacexpected-tag\xaasome value\xa5extra\x82\xabextra stuff\xaasome value\
    \xb1\xe2\x80\xa6unicode key\xe2\x80\xa6\xd9%\xc5\x91\xc3\xa1\xe2\x80\xa6\xe2\x80\x93\xf0\x9f\xa4\xae\xf0\x9f\x9a\x80\
    \xc2\xbf \xed\x95\x9c\xea\xb8\x80 \xed\x85\x8c\xec\x8a\xa4\xed\x8a\xb8\xa8contexts\x82\xa2os\x83\xa5build\xa7fc-v595\
    \xa4name\xa5Linux\xa7version\xa76.18.44\xa7runtime\x82\xa4type\xa7runtime\xa4name\xaftesting-runtime";
/// Its `__sentry-breadcrumb1`.
const NATIVE_BREADCRUMBS: &[u8] =
    b"\x82\xa9timestamp\xb82026-11-21T10:19:24.621Z\xa7message\xb5default level is info\
    \x85\xa9timestamp\xb82026-11-21T10:19:24.622Z\xa4type\xa4http\xa7message\xabdebug crumb\xa8category\xa8example!\
    \xa5level\xa5debug\x83\xa9timestamp\xb82026-11-21T10:19:24.622Z\xa7message\xaflf\ncrlf\r\nlf\n...\
    \xa8category\xaesomething else";
/// The part `extra` of Mozilla's crash reporter, as recorded.
const MOZILLA_EXTRA: &str = r#"{"ProductName":"Firefox","Version":"141.0","BuildID":"20250701000000","Vendor":"Mozilla",
    "ReleaseChannel":"release","ProcessType":"main","SubmittedFrom":"Client","Throttleable":"1","CrashTime":"1795255939"}"#;
/// What @sentry/node 10 put into its event item, shortened.
const NODE_EVENT: &str = r#"{"level":"fatal","platform":"native","tags":{"event.environment":"native",
    "event.process":"renderer"},"contexts":{"runtime":{"name":"node","version":"v20.20.2"}},"server_name":"vm",
    "event_id":"0dc82b63eb7945d0934b3e9b8d3e1bfe","timestamp":1795256589.768,"environment":"production",
    "release":"nodeclient@0.1.0","sdk":{"name":"sentry.javascript.node","version":"10.78.0"},"modules":{"ms":"2.1.3"}}"#;

fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    fields.collect()
}

fn merged(sources: Vec<Source>, form: &[(&str, &str)]) -> Merged {
    merge(sources, fields(form), None, Vec::new())
}

fn form(form: &[(&str, &str)]) -> EventPayload {
    merged(vec![], form).payload
}

fn json_source(text: &str) -> Source {
    Source::EventJson(text.to_owned().into())
}

#[test]
fn sentry_natives_files_and_fields_are_all_there() {
    let sources = vec![
        Source::Breadcrumbs(NATIVE_BREADCRUMBS.into()),
        Source::Breadcrumbs(Vec::new().into()),
        Source::EventMsgpack(NATIVE_EVENT.into()),
    ];
    let form = fields(&[("guid", "34fa1d63"), ("custom", "kept")]);
    let merged = merge(sources, form, Some("sentry.native/0.4.9".into()), vec![]);
    let payload = merged.payload;
    assert_eq!(payload.warnings, [""; 0]);
    assert_eq!(merged.damaged, [0; 0]);
    assert_eq!(payload.release.as_deref(), Some("test-example-release"));
    assert_eq!(payload.environment.as_deref(), Some("development"));
    assert_eq!(payload.level.as_deref(), Some("warning"));
    assert_eq!(
        payload.user,
        Some(json!({"id": 42, "username": "some_name"}))
    );
    assert_eq!(payload.tags["expected-tag"], "some value");
    assert_eq!(payload.extra["…unicode key…"], "őá…–🤮🚀¿ 한글 테스트");
    assert_eq!(payload.extra["custom"], "kept");
    assert_eq!(payload.contexts["os"]["build"], "fc-v595");
    assert_eq!(payload.event["transaction"], "test-transaction");
    assert_eq!(payload.client.name.as_deref(), Some("sentry.native"));
    assert_eq!(payload.client.version.as_deref(), Some("0.4.9"));
    assert_eq!(payload.client.guid.as_deref(), Some("34fa1d63"));
    let told: Vec<_> = payload
        .breadcrumbs
        .iter()
        .map(|crumb| &crumb["message"])
        .collect();
    assert_eq!(
        told,
        [
            "default level is info",
            "debug crumb",
            "lf\ncrlf\r\nlf\n..."
        ]
    );
}

#[test]
fn electrons_form_says_product_version_and_process() {
    let payload = form(&[
        ("_companyName", "Umbrella"),
        ("_productName", "Zombies"),
        ("_version", "0.1.0"),
        ("guid", "38275092-b1fb-4b04-9589-6e044bfd7fdf"),
        ("platform", "linux"),
        ("process_type", "renderer"),
        ("prod", "Electron"),
        ("ptype", "renderer"),
        ("ver", "37.2.1"),
        ("electron.v8-oom.stack", "at f"),
        ("list_annotations", "a\nb"),
    ]);
    assert_eq!(payload.client.name.as_deref(), Some("Electron"));
    assert_eq!(payload.client.version.as_deref(), Some("37.2.1"));
    assert_eq!(payload.release.as_deref(), Some("Zombies@0.1.0"));
    assert_eq!(payload.process_type.as_deref(), Some("renderer"));
    assert_eq!(payload.tags["process_type"], "renderer");
    assert_eq!(payload.platform.as_deref(), Some("native"));
    assert_eq!(payload.contexts["v8"]["oom"]["stack"], "at f");
    assert_eq!(payload.extra["list_annotations"], json!(["a", "b"]));
    assert_eq!(payload.extra.len(), 11, "every field is kept");
}

#[test]
fn mozillas_json_says_as_much_as_a_form() {
    let sources = vec![Source::Extra(MOZILLA_EXTRA.as_bytes().into())];
    let payload = merged(sources, &[("BuildID", "of the form")]).payload;
    assert_eq!(payload.client.name.as_deref(), Some("Firefox"));
    assert_eq!(payload.release.as_deref(), Some("Firefox@141.0"));
    assert_eq!(payload.environment.as_deref(), Some("release"));
    assert_eq!(payload.process_type.as_deref(), Some("main"));
    assert_eq!(payload.extra["Vendor"], "Mozilla");
    assert_eq!(payload.extra["BuildID"], "of the form");
}

#[test]
fn an_envelopes_event_is_read_in_full_with_its_own_id() {
    let report = Source::UserReport(br#"{"comments":"it broke"}"#[..].into());
    let merged = merged(vec![report, json_source(NODE_EVENT)], &[]);
    let id = "0dc82b63eb7945d0934b3e9b8d3e1bfe".parse().expect("an id");
    assert_eq!(merged.event_id, Some(id));
    let payload = merged.payload;
    assert_eq!(payload.process_type.as_deref(), Some("renderer"));
    assert_eq!(
        payload.client.name.as_deref(),
        Some("sentry.javascript.node")
    );
    assert_eq!(payload.event["modules"]["ms"], "2.1.3");
    assert_eq!(payload.user_reports, [json!({"comments": "it broke"})]);
    assert!(payload.timestamp.is_some());
    assert_eq!(payload.warnings, [""; 0]);
}

#[test]
fn higher_places_win_and_no_place_discards_another() {
    let places =
        |name: &str| json!({"release": name, "tags": {"who": name, (name): 1}}).to_string();
    let msgpack = |name: &str| {
        let value: Value = serde_json::from_str(&places(name)).expect("JSON");
        Source::EventMsgpack(rmp_serde::to_vec_named(&value).expect("encodes").into())
    };
    let read = serde_json::from_str(&places("read")).expect("JSON");
    let pieces = places("pieces");
    let all = [
        ("prod", "field".to_owned()),
        ("ver", "1".to_owned()),
        ("sentry[release]", "nested".to_owned()),
        ("sentry[tags][who]", "nested".to_owned()),
        ("sentry[tags][nested]", "1".to_owned()),
        ("sentry__2", pieces[9..].to_owned()),
        ("sentry__1", pieces[..9].to_owned()),
        ("sentry___initialScope", places("namespace")),
        ("sentry", places("whole")),
    ];
    let sources = [
        Source::Event(read),
        msgpack("msgpack"),
        json_source(&places("item")),
    ];
    let ranked = [
        "nested",
        "pieces",
        "namespace",
        "whole",
        "read",
        "msgpack",
        "item",
    ];
    // With one place more each time, from the lowest to the highest, the new one wins.
    for (n, winner) in ranked.iter().enumerate() {
        let with = [5, 7, 8, 9][n.min(3)];
        let form: Vec<_> = all[..with]
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let sources = sources[..n.saturating_sub(3)].to_vec();
        let payload = merged(sources, &form).payload;
        assert_eq!(payload.release.as_deref(), Some(*winner));
        assert_eq!(payload.tags["who"], *winner);
        for name in &ranked[..=n] {
            assert!(payload.tags.contains_key(*name), "{name} with {winner}");
        }
        assert_eq!(payload.extra["prod"], "field");
        assert_eq!(payload.client.name.as_deref(), Some("field"));
        assert_eq!(payload.warnings, [""; 0]);
    }
}

#[test]
fn pieces_are_joined_by_number_and_missing_ones_are_told() {
    let event = json!({"message": "0123456789".repeat(3)}).to_string();
    let piece = |n: usize| &event[4 * (n - 1)..(4 * n).min(event.len())];
    let last = event.len().div_ceil(4);
    let names: Vec<String> = (1..=last).map(|n| format!("sentry__{n}")).collect();
    let mut shuffled: Vec<_> = (1..=last)
        .map(|n| (names[n - 1].as_str(), piece(n)))
        .collect();
    shuffled.sort_by_key(|(name, _)| *name);
    let whole = form(&shuffled);
    assert_eq!(whole.event["message"], "0123456789".repeat(3));
    assert_eq!(whole.warnings, [""; 0]);
    assert!(whole.extra.is_empty());

    let hole = form(&shuffled[1..]);
    assert!(
        hole.warnings[0].contains("pieces of the field \"sentry\" are missing"),
        "{:?}",
        hole.warnings
    );
    assert_eq!(hole.extra.len(), last - 1, "the pieces are kept");

    let twice = form(&[
        ("sentry__1", "{\"a\":1}"),
        ("sentry__1", "x"),
        ("sentry__0", ""),
    ]);
    assert_eq!(twice.event["a"], 1);
    assert_eq!(twice.extra["sentry__1"], "x");
    assert_eq!(twice.warnings.len(), 1, "{:?}", twice.warnings);
}

#[test]
fn old_breakpads_pieces_become_one_value() {
    let payload = form(&[
        ("_productName__2", "bies"),
        ("_productName__1", "Zom"),
        ("_version__1", "2"),
        ("sentry___initialScope__1", "{\"tags\":"),
        ("sentry___initialScope__2", "{\"a\":\"b\"}}"),
        ("odd__2", "no first"),
        ("taken__1", "x"),
        ("taken", "y"),
    ]);
    assert_eq!(payload.release.as_deref(), Some("Zombies@2"));
    assert_eq!(payload.tags["a"], "b");
    assert_eq!(
        Value::from(payload.extra),
        json!({"_productName": "Zombies", "_version": "2", "odd__2": "no first", "taken__1": "x", "taken": "y"})
    );
}

#[test]
fn nested_fields_go_seven_deep_and_no_deeper() {
    let payload = form(&[
        ("sentry[contexts][a][b][c][d][e][f]", "deep"),
        ("sentry[contexts][a][b][c][d][e][f][g]", "too deep"),
        ("sentry[contexts][a]", "in the way"),
        ("sentry[]", "nameless"),
        ("sentry[a]b]", "odd"),
    ]);
    assert_eq!(payload.contexts["a"]["b"]["c"]["d"]["e"]["f"], "deep");
    let kept = [
        "sentry[contexts][a][b][c][d][e][f][g]",
        "sentry[contexts][a]",
        "sentry[]",
        "sentry[a]b]",
    ];
    for name in kept {
        assert!(payload.extra.contains_key(name), "{name}");
    }
    assert_eq!(payload.warnings.len(), 3, "{:?}", payload.warnings);
}

#[test]
fn damage_costs_a_warning_and_what_is_damaged_is_named() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let many = format!("{{\"a\":[{}0]}}", "0,".repeat(EVENT_VALUES_MAX));
    // As Crashpad's handler sent it in a recording: two entries announced, one there.
    let cut = Source::EventMsgpack(Data::from(&b"\x82\xa1a\x01"[..]));
    let sources = [
        cut,
        Source::EventMsgpack(Vec::new().into()),
        Source::EventMsgpack(Data::from(&b"\x80\x80"[..])),
        Source::EventMsgpack(Data::from(&b"\xc1"[..])),
        Source::EventMsgpack(Data::from(&b"\xdf\xff\xff\xff\xff"[..])),
        Source::EventMsgpack(Data::from(&b"\xdb\xff\xff\xff\xff"[..])),
        Source::EventMsgpack(vec![0x91; 1 << 20].into()),
        json_source("[]"),
        json_source("{\"a\":1} x"),
        json_source(&format!("{{\"a\":{deep}}}")),
        Source::Extra(Data::from(&b"7"[..])),
        Source::UserReport(Data::from(&b"\xff"[..])),
        Source::Event(Value::Null),
        json_source(&many),
    ];
    let count = sources.len();
    for (at, source) in sources.into_iter().enumerate() {
        let merged = merged(vec![source], &[("sentry", "{broken"), ("prod", "P")]);
        assert_eq!(merged.damaged, [0], "source {at} of {count}");
        assert_eq!(
            merged.payload.warnings.len(),
            2,
            "{:?}",
            merged.payload.warnings
        );
        assert_eq!(merged.payload.extra["sentry"], "{broken");
        assert_eq!(merged.payload.client.name.as_deref(), Some("P"));
    }
}

#[test]
fn breadcrumbs_before_the_damage_are_kept() {
    let mut bytes = NATIVE_BREADCRUMBS.to_vec();
    bytes.truncate(bytes.len() - 3);
    let merged = merged(vec![Source::Breadcrumbs(bytes.into())], &[]);
    assert_eq!(merged.payload.breadcrumbs.len(), 3);
    assert!(
        merged.payload.breadcrumbs[2].get("category").is_none(),
        "a leaf that is cut is none"
    );
    assert_eq!(merged.damaged, [0]);
}

#[test]
fn breadcrumbs_of_all_places_are_in_order() {
    let event = r#"{"breadcrumbs":[{"message":"own","timestamp":1795256364.6215}]}"#;
    let sources = vec![
        Source::Breadcrumbs(NATIVE_BREADCRUMBS.into()),
        json_source(event),
    ];
    let payload = merged(sources, &[]).payload;
    let told: Vec<_> = payload
        .breadcrumbs
        .iter()
        .map(|crumb| &crumb["message"])
        .collect();
    assert_eq!(told[..3], ["default level is info", "own", "debug crumb"]);
}

#[test]
fn msgpack_that_json_has_no_word_for_is_readable() {
    let bytes =
        b"\x88\xa3bin\xc4\x02hi\xa3raw\xc4\x02\x00\xff\xa3ext\xd4\x05x\x07\xa3int\xc2\xa4bool\
        \xa3nan\xcb\x7f\xf8\0\0\0\0\0\0\xa3bad\xa2g\xfc\x91\x01\xa4list";
    let payload = merged(vec![Source::EventMsgpack(Data::from(&bytes[..]))], &[]).payload;
    assert_eq!(
        Value::from(payload.event),
        json!({"bin": "hi", "raw": "2 bytes: 00ff", "ext": [5, "x"], "7": "int", "false": "bool",
            "bad": "g\u{fffd}", "(a name that is no text)": "list"})
    );
}

#[test]
fn a_clients_own_id_is_taken_from_the_highest_place_that_has_a_valid_one() {
    let id = |digit: &str| digit.repeat(32);
    let of = |sources, form: &[(&str, &str)]| {
        let merged = merged(sources, form);
        (
            merged.event_id.map(|id| id.simple()),
            merged.payload.warnings.len(),
        )
    };
    let (a, b) = (
        json!({"event_id": id("a")}).to_string(),
        json!({"event_id": id("b")}).to_string(),
    );
    let nested = ("sentry[event_id]", "cccccccc-cccc-cccc-cccc-cccccccccccc");
    assert_eq!(of(vec![], &[nested]), (Some(id("c")), 0));
    assert_eq!(of(vec![], &[nested, ("sentry", &b)]), (Some(id("b")), 0));
    assert_eq!(
        of(vec![json_source(&a)], &[nested, ("sentry", &b)]),
        (Some(id("a")), 0)
    );
    for odd in ["\"x\"", "7", &format!("{:?}", id("0"))] {
        let odd = json_source(&format!("{{\"event_id\":{odd}}}"));
        assert_eq!(of(vec![odd], &[nested]), (Some(id("c")), 1));
    }
}

#[test]
fn repeated_nameless_and_undecodable_fields_lose_nothing_silently() {
    let mut sent = fields(&[
        ("a", "1"),
        ("a", "2"),
        ("a", "3"),
        ("prod", "P"),
        ("prod", "Q"),
    ]);
    sent.push(("latin".to_owned(), b"gr\xfc\xdfe".to_vec()));
    sent.push((String::new(), b"?".to_vec()));
    let payload = merge(vec![], sent, None, vec!["before".into()]).payload;
    assert_eq!(payload.extra["a"], json!(["1", "2", "3"]));
    assert_eq!(payload.extra["latin"], "gr\u{fffd}\u{fffd}e");
    assert_eq!(payload.client.name.as_deref(), Some("P"));
    assert_eq!(payload.warnings.len(), 3);
    assert!(
        payload.warnings[2].contains("latin"),
        "{:?}",
        payload.warnings
    );
}

/// What every kind of event data says, with one leaf that strict readers refuse.
#[test]
fn one_bad_leaf_costs_no_kind_of_event_data_the_rest() {
    let event = |bad: &[u8]| {
        let rest = br#"{"release":"r@1","environment":"lab","user":{"id":"7"},"tags":{"k":"v"},"extra":{"good":1,"bad":"#;
        [&rest[..], bad, b"}}"].concat()
    };
    let bad_leaves: [&[u8]; 6] = [
        b"\"\\ud83d\"",
        b"\"\xff\"",
        b"\"\x01\"",
        b"NaN",
        b"1e400",
        b"[[[1]],,]",
    ];
    for bad in bad_leaves {
        let event = event(bad);
        let halves = event.split_at(40);
        let pieces = vec![
            ("sentry__1".to_owned(), halves.0.to_vec()),
            ("sentry__2".to_owned(), halves.1.to_vec()),
        ];
        let msgpack = Source::EventMsgpack(Data::from(
            &b"\x85\xa7release\xa3r@1\xabenvironment\xa3lab\xa4user\x81\xa2id\xa17\xa4tags\x81\xa1k\xa1v\xa5extra\x82\xa4good\x01\xa3bad\xa2\xff\xfe"[..],
        ));
        let all = [
            (vec![Source::EventJson(event.clone().into())], vec![]),
            (vec![msgpack], vec![]),
            (vec![], vec![("sentry".to_owned(), event.clone())]),
            (
                vec![],
                vec![("sentry___initialScope".to_owned(), event.clone())],
            ),
            (vec![], pieces),
        ];
        for (sources, sent) in all {
            let payload = merge(sources, sent, None, vec![]).payload;
            assert_eq!(payload.release.as_deref(), Some("r@1"), "{payload:?}");
            assert_eq!(payload.environment.as_deref(), Some("lab"));
            assert_eq!(payload.user, Some(json!({"id": "7"})));
            assert_eq!(payload.tags["k"], "v");
            assert_eq!(payload.extra["good"], 1);
            assert!(
                payload.warnings[0].contains("extra.bad"),
                "{:?}",
                payload.warnings
            );
        }
        let extra = [
            br#"{"ProductName":"P","Version":"1","Bad":"#,
            bad,
            br#","ReleaseChannel":"c"}"#,
        ]
        .concat();
        let report = [br#"{"name":"n","bad":"#, bad, br#","comments":"c"}"#].concat();
        let nested = ("sentry[tags][k]".to_owned(), b"v\xff".to_vec());
        let sources = vec![
            Source::Extra(extra.into()),
            Source::UserReport(report.into()),
        ];
        let payload = merge(sources, vec![nested], None, vec![]).payload;
        assert_eq!(payload.release.as_deref(), Some("P@1"));
        assert_eq!(payload.environment.as_deref(), Some("c"));
        assert_eq!(payload.user_reports[0]["comments"], "c");
        assert_eq!(payload.tags["k"], "v\u{fffd}");
        for name in ["Bad", "bad", "sentry[tags][k]"] {
            assert!(
                payload
                    .warnings
                    .iter()
                    .any(|warning| warning.contains(name)),
                "{:?}",
                payload.warnings
            );
        }
    }
}

/// Only what is lost of a source makes its bytes worth keeping.
#[test]
fn what_is_repaired_without_loss_is_not_kept_twice() {
    for (text, damaged) in [
        ("\u{feff}{\"a\":1}", 0),
        ("{\"a\":1,}", 0),
        ("{\"a\":1,\"b\":NaN}", 0),
        ("{\"a\":\"\\ud83d\"}", 0),
        ("{\"a\":1", 1),
        ("{\"a\":1} x", 1),
    ] {
        let merged = merged(vec![json_source(text)], &[]);
        assert!(
            merged.payload.event.contains_key("a") || damaged == 1,
            "{text}"
        );
        assert_eq!(merged.damaged.len(), damaged, "{text}");
    }
}

/// Events whose leaves are all different, below objects that are not.
fn any_events() -> impl Strategy<Value = Vec<Map<String, Value>>> {
    let above = prop::sample::select(vec![
        "tags",
        "extra",
        "contexts",
        "user",
        "exception",
        "odd",
    ]);
    let path = (above, prop::collection::vec("[ab]", 0..3));
    prop::collection::vec(prop::collection::vec(path, 0..6), 1..6).prop_map(|events| {
        let mut leaf = 0;
        let mut event = |paths: Vec<(&str, Vec<String>)>| {
            let mut event = Map::new();
            for (above, path) in paths {
                leaf += 1;
                let mut value = json!({format!("k{leaf}"): format!("leaf-{leaf}.")});
                for name in path.into_iter().rev() {
                    value = json!({ name: value });
                }
                fill_map(&mut event, Map::from_iter([(above.to_owned(), value)]));
            }
            event
        };
        events.into_iter().map(&mut event).collect()
    })
}

fn any_name() -> impl Strategy<Value = String> {
    "(sentry|__|_|\\[|\\]|[0-9]|tags|event_id|prod|a){0,6}"
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        r#"[\[\]{}":,a0-9. -]{0,40}"#.prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn no_leaf_is_lost(events in any_events(), places in prop::collection::vec(0..5_u8, 6)) {
        let (mut sources, mut sent) = (Vec::new(), Vec::new());
        let mut leaves = 0;
        for (at, (event, place)) in events.into_iter().zip(places).enumerate() {
            let text = Value::from(event.clone()).to_string();
            leaves += text.matches("leaf-").count();
            match place {
                0 => sources.push(Source::EventJson(text.into())),
                1 => {
                    let bytes = rmp_serde::to_vec_named(&event).expect("encodes");
                    sources.push(Source::EventMsgpack(bytes.into()));
                }
                2 => sources.push(Source::Event(event.into())),
                3 => sent.push(("sentry".to_owned(), text.into_bytes())),
                _ => sent.push((format!("sentry___{at}"), text.into_bytes())),
            }
        }
        let merged = merge(sources, sent, None, vec![]);
        let written = serde_json::to_string(&merged.payload).expect("encodes");
        for leaf in 1..=leaves {
            prop_assert!(written.contains(&format!("leaf-{leaf}.")), "{leaf} not in {written}");
        }
        prop_assert_eq!(merged.damaged, [0; 0]);
    }

    #[test]
    fn no_field_is_lost_and_no_bytes_are_too_odd(
        sent in prop::collection::vec((any_name(), any_bytes()), 0..12),
        files in prop::collection::vec((0..5_u8, any_bytes()), 0..4),
    ) {
        let sources = files.into_iter().map(|(kind, bytes)| match kind {
            0 => Source::EventJson(bytes.into()),
            1 => Source::EventMsgpack(bytes.into()),
            2 => Source::Breadcrumbs(bytes.into()),
            3 => Source::Extra(bytes.into()),
            _ => Source::UserReport(bytes.into()),
        });
        // A text that is no JSON is found again as it is.
        let sent: Vec<Field> = sent
            .into_iter()
            .enumerate()
            .map(|(at, (name, bytes))| (name, [&bytes[..], format!("#{at}#").as_bytes()].concat()))
            .collect();
        let payload = merge(sources.collect(), sent.clone(), None, vec![]).payload;
        let written = serde_json::to_string(&payload).expect("encodes");
        for (at, (name, _)) in sent.iter().enumerate() {
            prop_assert!(name.is_empty() || written.contains(&format!("#{at}#")), "{name:?} not in {written}");
        }
    }
}

/// Found by fuzzing: as text within text within text, such names grew twice as long with every level.
#[test]
fn maps_as_names_of_maps_cost_no_more_than_they_are_long() {
    let mut bytes = vec![0x81; 60];
    bytes.extend(b"\xa1k\x01".repeat(61));
    let payload = merged(vec![Source::EventMsgpack(bytes.into())], &[]).payload;
    let written = serde_json::to_vec(&payload).expect("JSON");
    assert!(written.len() < 10_000, "{} bytes", written.len());
}
