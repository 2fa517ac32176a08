//! What strict readers refuse, leaf by leaf; what they take, as they take it; what no document should be, in bounds.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Leaves that strict JSON refuses, and some that it takes and nobody means, each with what is made of it.
fn bad_leaves() -> Vec<(&'static [u8], Value)> {
    vec![
        (b"\"a\xffb\"", json!("a\u{fffd}b")),
        (b"\"gr\xfc\xdfe\"", json!("gr\u{fffd}\u{fffd}e")),
        (b"\"\x83e\x83X\"", json!("\u{fffd}e\u{fffd}X")),
        (b"\"\xc0\xaf\"", json!("\u{fffd}\u{fffd}")),
        (b"\"cut \xe2\x82\"", json!("cut \u{fffd}")),
        (b"\"half \\ud83d\"", json!("half \u{fffd}")),
        (b"\"half \\ude00 more\"", json!("half \u{fffd} more")),
        (b"\"\\ude00\\ud83d\"", json!("\u{fffd}\u{fffd}")),
        (b"\"\\ud83d\\u0041\"", json!("\u{fffd}A")),
        (b"\"\\ud83d\\n\"", json!("\u{fffd}\n")),
        (b"\"nul \0 here\"", json!("nul \0 here")),
        (b"\"line\nbreak\r\n\ttab\"", json!("line\nbreak\r\n\ttab")),
        (b"\"\x1b[31mred\"", json!("\u{1b}[31mred")),
        (b"\"\\x41\"", json!("\\x41")),
        (b"\"\\u01\"", json!("\\u01")),
        (b"\"\\u\"", json!("\\u")),
        (b"\"\\Q\"", json!("\\Q")),
        (b"\"it\\'s\"", json!("it's")),
        (b"\"C:\\Users\\new\\table\"", json!("C:\\Users\\new\\table")),
        (b"\"at D:\\Users\\x\"", json!("at D:\\Users\\x")),
        (b"\"\\\\server\\share\"", json!("\\\\server\\share")),
        (b"\"C:\\Program Files\\\"", json!("C:\\Program Files\\")),
        (b"NaN", json!(null)),
        (b"nan", json!(null)),
        (b"Infinity", json!(null)),
        (b"-Infinity", json!(null)),
        (b"-nan(ind)", json!(null)),
        (b"1e400", json!("1e400")),
        (b"-1e400", json!("-1e400")),
        (b"007", json!(7)),
        (b"+1", json!(1)),
        (b".5", json!(0.5)),
        (b"0x1F", json!(31)),
        (b"'single'", json!("single")),
        (b"'say \"x\"'", json!("say \"x\"")),
        (b"undefined", json!(null)),
        (b"None", json!(null)),
        (b"True", json!(true)),
        (b"word", json!("word")),
        (b"[1,2,]", json!([1, 2])),
        (b"[1 2]", json!([1, 2])),
        (b"[,1]", json!([1])),
        (b"{\"x\":1,}", json!({"x": 1})),
        (b"{\"x\":1 \"y\":2}", json!({"x": 1, "y": 2})),
        (b"{x:1}", json!({"x": 1})),
        (b"{'x':1}", json!({"x": 1})),
        (b"{\"x\" 1}", json!({"x": 1})),
        (b"{\"x\":}", json!({})),
        (b"{\"bad \xff name\":1}", json!({"bad \u{fffd} name": 1})),
        (b"/* why */ 1", json!(1)),
        (b"1 // why\n", json!(1)),
    ]
}

/// Fields around the bad one, with what is easily mistaken for structure.
const GOOD: &str = r#""release":"app@2.0","environment":"production","user":{"id":"7"},"tags":{"k":"v","list":"[1,{]}\\"}"#;
const MORE: &str = r#""level":"fatal","extra":{"":"empty","path":"C:\\x\\","json":"{\"a\":\"b\",\"c\":1}"},"n":-1.5e3"#;

fn pieces(bytes: &[u8], piece_bytes: usize) -> Input<'_> {
    let pieces = bytes.chunks(piece_bytes);
    Input::new(pieces.map(|piece| Ok(Bytes::copy_from_slice(piece))))
}

fn good() -> Map<String, Value> {
    serde_json::from_str(&format!("{{{GOOD},{MORE}}}")).expect("JSON")
}

fn at_level(leaf: &[u8], level: usize) -> Vec<u8> {
    let (open, close) = [("", ""), ("{\"in\":", "}"), ("[0,", ",9]")][level];
    [open.as_bytes(), leaf, close.as_bytes()].concat()
}

#[test]
fn a_bad_leaf_costs_itself_and_is_named() {
    for (leaf, meant) in bad_leaves() {
        for level in 0..3 {
            for (before, behind) in [(GOOD, MORE), (MORE, GOOD)] {
                let leaf_text = at_level(leaf, level);
                let document = [
                    format!("{{{before},\"bad\":").as_bytes(),
                    &leaf_text,
                    format!(",{behind}}}").as_bytes(),
                ]
                .concat();
                let shown = String::from_utf8_lossy(&document).into_owned();
                let read = json(&document, Limits::default());
                let (mut fields, repairs) = read.into_object().expect("an object");
                let expected =
                    [meant.clone(), json!({"in": meant}), json!([0, meant, 9])][level].clone();
                assert_eq!(fields.remove("bad"), Some(expected), "{shown}");
                assert_eq!(fields, good(), "{shown}");
                let warnings = repairs.warnings("the event");
                assert!(
                    warnings
                        .iter()
                        .any(|warning| warning.contains("bad") || warning.contains("comment")),
                    "{shown}: {warnings:?}"
                );
                assert!(
                    warnings
                        .iter()
                        .all(|warning| !warning.contains(char::is_control)),
                    "{warnings:?}"
                );
            }
        }
    }
}

#[test]
fn nesting_costs_no_stack_and_only_itself() {
    for levels in [65, 70, 129, 1000, 300_000] {
        for (open, close) in [("{\"a\":", "}"), ("[", "]"), ("[{\"]\":", "}]")] {
            let deep = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            let document = format!("{{{GOOD},\"deep\":{deep},{MORE}}}");
            let (mut fields, repairs) = json(document.as_bytes(), Limits::default())
                .into_object()
                .expect("an object");
            assert!(fields.remove("deep").is_some());
            assert_eq!(fields, good());
            let warnings = repairs.warnings("x");
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(
                warnings[0].contains("deep") && warnings[0].len() < 400,
                "{warnings:?}"
            );
        }
    }
}

#[test]
fn a_document_that_is_cut_keeps_every_leaf_before() {
    let document = format!("{{{GOOD},\"list\":[1,22,{{\"x\":\"y\"}}],{MORE}}}");
    let whole: Value = serde_json::from_str(&document).expect("JSON");
    for end in 1..document.len() {
        let cut = &document[..end];
        let reading = json(cut.as_bytes(), Limits::default());
        assert!(!reading.repairs.is_empty(), "{cut}");
        assert!(is_part(&reading.value, &whole), "{cut}: {}", reading.value);
        // As many leaves as there are ends of leaves: a colon or comma within a text ends none.
        if cut.ends_with("\"production\"") {
            assert_eq!(reading.value["environment"], "production", "{cut}");
        }
        if cut.len() > document.len() - 8 {
            assert_eq!(reading.value["extra"], whole["extra"], "{cut}");
        }
    }
}

/// Whether everything in `part` is in `whole`, as it is there.
fn is_part(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|whole| is_part(value, whole))),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() <= whole.len()
                && part
                    .iter()
                    .zip(whole)
                    .all(|(part, whole)| is_part(part, whole))
        }
        (part, whole) => part == whole,
    }
}

#[test]
fn marks_other_encodings_and_what_stands_around_a_document_cost_nothing_of_it() {
    let text = format!("{{{GOOD},{MORE}}}");
    let utf_16 = |unit: fn(u16) -> [u8; 2], mark: bool| -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter()
            .chain(text.encode_utf16())
            .flat_map(unit)
            .collect()
    };
    let around = |before: &str, behind: &str| format!("{before}{text}{behind}").into_bytes();
    for (document, faults) in [
        (around("", ""), 0),
        (around("\u{feff}", ""), 0),
        (utf_16(u16::to_le_bytes, true), 1),
        (utf_16(u16::to_be_bytes, true), 1),
        (utf_16(u16::to_le_bytes, false), 1),
        (utf_16(u16::to_be_bytes, false), 1),
        (around("var event = ", ";"), 2),
        (around("", "\0\0"), 1),
        (around("", " trailing \"{ garbage"), 1),
        (around("", "}}"), 1),
        (around("", &text), 1),
        (around("// a comment\n", "\n# another"), 1),
        (around("\u{feff}\u{feff}", ""), 1),
    ] {
        let shown = String::from_utf8_lossy(&document).into_owned();
        for piece_bytes in [1, 7, 1 << 20] {
            let read = json_stream(&mut pieces(&document, piece_bytes), Limits::default());
            let (fields, repairs) = read.into_object().expect("an object");
            assert_eq!(fields, good(), "{shown}");
            assert_eq!(repairs.warnings("x").len(), faults, "{shown}: {repairs:?}");
        }
    }
    let more = br#"{"a":1,"tags":{"x":1}} {"a":2,"b":3,"tags":{"y":2}}"#;
    let (fields, _) = json(more, Limits::default())
        .into_object()
        .expect("an object");
    assert_eq!(
        Value::from(fields),
        json!({"a": 1, "b": 3, "tags": {"x": 1, "y": 2}})
    );
    let closed_early = br#"{"a":{"b":1}},"c":2}"#;
    let (fields, _) = json(closed_early, Limits::default())
        .into_object()
        .expect("an object");
    assert_eq!(Value::from(fields), json!({"a": {"b": 1}, "c": 2}));
}

#[test]
fn a_missing_quote_or_bracket_costs_its_neighbour_at_most() {
    for (document, kept) in [
        (r#"{"a":"x, "b":1, "c":2, "d":3}"#, vec!["c", "d"]),
        (r#"{"a":x", "b":1, "c":2}"#, vec!["b", "c"]),
        (r#"{a":1, "b":1, "c":2}"#, vec!["b", "c"]),
        (r#"{"a:1, "b":1, "c":2}"#, vec!["c"]),
        (r#"{"a":[1,2, "b":1, "c":2}"#, vec![]),
        (r#"{"a":[{"x":1], "b":1, "c":2}"#, vec!["b", "c"]),
        (r#"{"a":1]], "b":1, "c":2}"#, vec!["b", "c"]),
        (r#"{"a":}, "b":1, "c":2}"#, vec!["b", "c"]),
        (r#"{"a"::1,, "b":1, "c":2}"#, vec!["b", "c"]),
        (r#"{"a"="1"; "b":1, "c":2}"#, vec!["b", "c"]),
        (r#"{{"a":1}, "b":1, "c":2}"#, vec!["b", "c"]),
    ] {
        let reading = json(document.as_bytes(), Limits::default());
        for name in kept {
            assert!(
                reading.value[name].is_number(),
                "{document}: {}",
                reading.value
            );
        }
        assert!(!reading.repairs.is_empty(), "{document}");
    }
}

#[test]
fn duplicate_names_add_and_warnings_are_bounded() {
    let twice = br#"{"a":1,"a":2,"o":{"x":1},"o":{"x":2,"y":NaN},"n":null,"n":5}"#;
    let reading = json(twice, Limits::default());
    assert_eq!(
        reading.value,
        json!({"a": 1, "o": {"x": 1, "y": null}, "n": 5})
    );
    let many = format!("{{{}}}", "\"\\ud800\u{1}\u{1b}\":NaN,".repeat(50_000));
    let warnings = json(many.as_bytes(), Limits::default())
        .repairs
        .warnings("x");
    assert!(warnings.len() < 20, "{}", warnings.len());
    assert!(
        warnings
            .iter()
            .all(|warning| warning.len() < 400 && !warning.contains(char::is_control)),
        "{warnings:?}"
    );
}

fn leaf_bytes(value: &Value) -> usize {
    shed::cost(value).0
}

#[test]
fn of_a_large_document_short_fields_stay_and_the_largest_go() {
    let crumbs: Vec<Value> = (0..30_000)
        .map(|n| json!({"timestamp": 1_790_000_000 + n, "message": format!("step {n} {}", "x".repeat(90))}))
        .collect();
    let mut event = good();
    event.insert("breadcrumbs".into(), crumbs.into());
    event.insert("zz_log".into(), "log line\n".repeat(1 << 20).into());
    event.insert("modules".into(), json!((0..200_000).collect::<Vec<u32>>()));
    event["extra"]["dump"] = "d".repeat(3 << 20).into();
    event["extra"]["state"] = json!({"deep": [[["s".repeat(2 << 20)]]]});
    event.insert("last".into(), "field".into());
    let text = Value::from(event.clone()).to_string();
    let msgpack_bytes = rmp_serde::to_vec_named(&Value::from(event)).expect("encodes");
    for reading in [
        json_stream(&mut pieces(text.as_bytes(), 1000), Limits::default()),
        msgpack(&mut pieces(&msgpack_bytes, 1000), Limits::default()),
    ] {
        assert!(
            leaf_bytes(&reading.value) <= EVENT_DATA_BYTES_MAX
                && reading.values <= EVENT_VALUES_MAX
        );
        let mut expected = good();
        let value = reading.value;
        for name in ["release", "environment", "user", "tags", "level", "n"] {
            assert_eq!(Some(&value[name]), expected.get(name), "{name}");
        }
        assert_eq!(value["last"], "field");
        assert_eq!(value["extra"]["json"], expected["extra"]["json"].take());
        let crumbs = value["breadcrumbs"].as_array().expect("a list");
        assert_eq!(
            crumbs.last().map(|crumb| &crumb["timestamp"]),
            Some(&json!(1_790_029_999))
        );
        assert!(crumbs.len() >= 1000, "{}", crumbs.len());
        assert!(
            value["zz_log"]
                .as_str()
                .is_some_and(|log| log.starts_with("log line\nlog"))
        );
        let warnings = reading.repairs.warnings("the event");
        for name in [
            "breadcrumbs",
            "zz_log",
            "modules",
            "extra.dump",
            "extra.state",
        ] {
            assert!(
                warnings.iter().any(|warning| warning.contains(name)),
                "{name}: {warnings:?}"
            );
        }
        assert!(
            warnings.len() < 12 && reading.repairs.is_lossy(),
            "{warnings:?}"
        );
    }
}

#[test]
fn whatever_is_large_ends_within_bounds() {
    let unit = [
        "[",
        "{\"a\":",
        "{\"extra\":{\"b\":[",
        "\"",
        "\\\"",
        "\"\\\"",
        "{\"a\":1}",
        "{\"a\":\"b",
        "0,",
        "[0,",
        "{,",
        "/*",
        "//\n",
        "'",
        "{\"a\"",
        "\"C:\\x\\\",",
        "}",
        "\0",
        "{x",
        "[\"\\ud800\",",
    ];
    const BYTES: usize = 512 << 10;
    let within = |what: &str, begin: Instant| {
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
    };
    for lead in [
        "",
        "{\"release\":\"r\",\"extra\":{\"k\":[",
        "{\"breadcrumbs\":[",
        "{\"breadcrumbs\":[{\"data\":[",
    ] {
        for unit in unit {
            let document = [lead, &unit.repeat(BYTES / unit.len())].concat();
            let begin = Instant::now();
            let reading = json_stream(&mut Input::from(document.as_bytes()), SMALL_VALUES);
            assert!(
                leaf_bytes(&reading.value) <= SMALL_VALUES.bytes
                    && reading.values <= SMALL_VALUES.values
            );
            if lead.contains("release") {
                assert_eq!(reading.value["release"], "r", "{lead} {unit}");
            }
            within(&format!("{lead} {unit}"), begin);
        }
    }
    for byte in [
        0x00, 0x80, 0x81, 0x8f, 0x91, 0x9f, 0xa0, 0xa1, 0xc0, 0xc1, 0xc4, 0xc7, 0xd4, 0xd9, 0xdb,
        0xdc, 0xdd, 0xde, 0xdf, 0xff,
    ] {
        let document = vec![byte; BYTES];
        let begin = Instant::now();
        let one = msgpack(&mut Input::from(&document[..]), SMALL_VALUES);
        let list = msgpack_list(&mut Input::from(&document[..]), "breadcrumbs", SMALL_VALUES);
        assert!(one.values <= SMALL_VALUES.values && list.values <= SMALL_VALUES.values);
        within(&format!("msgpack of {byte:#x}"), begin);
    }
}

#[test]
fn a_bad_leaf_of_msgpack_costs_itself_and_is_named() {
    let around = |leaf: &[u8]| {
        [
            b"\x83\xa7release\xa1r\xa3bad",
            leaf,
            b"\xa4tags\x81\xa1a\xa1b",
        ]
        .concat()
    };
    for (leaf, meant) in [
        (&b"\xa2g\xfc"[..], json!("g\u{fffd}")),
        (b"\xcb\x7f\xf8\0\0\0\0\0\0", json!(null)),
        (b"\xca\x7f\x80\0\0", json!(null)),
        (b"\xc1", json!(null)),
        (b"\x81\xa2\xff\xfe\x01", json!({"\u{fffd}\u{fffd}": 1})),
        (&[&[0x91; 100][..], b"\xc0"].concat(), json!(deep(64))),
    ] {
        let bytes = around(leaf);
        let (fields, repairs) = msgpack(&mut Input::from(&bytes[..]), Limits::default())
            .into_object()
            .expect("an object");
        let expected = json!({"release": "r", "bad": meant, "tags": {"a": "b"}});
        assert_eq!(Value::from(fields), expected, "{leaf:?}");
        let warnings = repairs.warnings("x");
        assert!(warnings[0].contains("bad"), "{warnings:?}");
    }
    // Not bad: binary that is text, extensions, names that are no texts.
    let bytes = around(b"\x84\xc4\x02hi\xc4\x02yo\x07\xd4\x05x\xc2\xd0\xff\x91\x01\xc0");
    let reading = msgpack(&mut Input::from(&bytes[..]), Limits::default());
    assert_eq!(
        reading.value["bad"],
        json!({"hi": "yo", "7": [5, "x"], "false": -1, "(a name that is no text)": null})
    );
    assert!(reading.repairs.is_empty(), "{:?}", reading.repairs);
}

/// Lists in lists as deep as they may be, with null in the last.
fn deep(levels: usize) -> Value {
    (1..levels).fold(Value::Null, |value, _| json!([value]))
}

#[test]
fn cut_msgpack_keeps_every_leaf_before_and_claims_cost_nothing() {
    let event = Value::from(good());
    let bytes = rmp_serde::to_vec_named(&event).expect("encodes");
    for end in 0..bytes.len() {
        let reading = msgpack(&mut pieces(&bytes[..end], 3), Limits::default());
        assert!(
            reading.value.is_null() || is_part(&reading.value, &event),
            "{end}: {}",
            reading.value
        );
        assert!(!reading.repairs.is_empty());
    }
    for claim in [
        &b"\xdf\xff\xff\xff\xff"[..],
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
    ] {
        let bytes = [b"\x82\xa1a\x01\xa1b", claim, b"\xa1x\x07"].concat();
        let reading = msgpack(&mut Input::from(&bytes[..]), Limits::default());
        assert_eq!(reading.value["a"], 1, "{claim:?}");
        assert!(reading.repairs.is_lossy());
    }
    let behind = [&bytes[..], b"junk"].concat();
    assert_eq!(
        msgpack(&mut Input::from(&behind[..]), Limits::default()).value,
        event
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(
            |number| serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
        ),
        "\\PC{0,8}".prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        "[\\\\\"/{}\\[\\]:,'#C]{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(".{1,5}", any_json(), 0..6)
        .prop_map(|fields| fields.into_iter().collect())
}

fn token_soup() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "'", "\"a\":", "\"b\"", "1", "null", "NaN", "/*", "*/", "//", "#", "\n",
            "\\ud83d", "\\u", "C:\\", "true", "-", "1e400", "\u{0}", "x", "\"extra\":{", "\"breadcrumbs\":["]).prop_map(|token| token.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

/// Many times as much comes.
const SMALL_VALUES: Limits = Limits {
    bytes: 16 << 10,
    values: 1000,
    levels: 64,
};

const SMALL: Limits = Limits {
    bytes: 64,
    values: 20,
    levels: 8,
};

proptest! {
    #[test]
    fn sound_json_is_read_as_the_strict_reader_reads_it(value in any_json(), pretty: bool, piece_bytes in 1_usize..40) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.expect("JSON");
        let strict: Value = serde_json::from_str(&text).expect("JSON");
        let reading = json_stream(&mut pieces(text.as_bytes(), piece_bytes), Limits::default());
        prop_assert_eq!(&reading.value, &strict);
        prop_assert!(reading.repairs.is_empty(), "{:?}", reading.repairs);
        prop_assert_eq!(json(text.as_bytes(), Limits::default()), reading);
    }

    #[test]
    fn sound_msgpack_is_read_as_it_was_written(value in any_json(), piece_bytes in 1_usize..40) {
        let bytes = rmp_serde::to_vec_named(&value).expect("encodes");
        let reading = msgpack(&mut pieces(&bytes, piece_bytes), Limits::default());
        prop_assert_eq!(reading.value, value);
        prop_assert!(reading.repairs.is_empty(), "{:?}", reading.repairs);
    }

    #[test]
    fn any_documents_other_leaves_are_kept(
        before in any_object(), behind in any_object(), bad in prop::sample::select(bad_leaves()), level in 0_usize..3,
    ) {
        let mut expected = before.clone();
        expected.remove("bad");
        crate::event::fill_map(&mut expected, behind.clone());
        expected.remove("bad");
        // Written and read again: serde_json's last digit may differ.
        let mut expected: Map<String, Value> = serde_json::from_str(&Value::from(expected).to_string()).expect("JSON");
        let inner = |fields: &Map<String, Value>| {
            let text = Value::from(fields.clone()).to_string();
            let text = text[1..text.len() - 1].to_owned();
            if text.is_empty() { "\"pad\":null".to_owned() } else { text }
        };
        let document = [
            format!("{{{},\"bad\":", inner(&before)).as_bytes(), &at_level(bad.0, level), format!(",{}}}", inner(&behind)).as_bytes(),
        ].concat();
        let (mut fields, repairs) = json(&document, Limits::default()).into_object().expect("an object");
        fields.remove("bad");
        fields.remove("pad");
        expected.remove("pad");
        prop_assert_eq!(fields, expected, "{}", String::from_utf8_lossy(&document));
        prop_assert!(!repairs.is_empty());
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200), soup in token_soup(), piece_bytes in 1_usize..20) {
        for document in [&bytes, &soup] {
            for limits in [Limits::default(), SMALL] {
                let json = json_stream(&mut pieces(document, piece_bytes), limits);
                let one = msgpack(&mut pieces(document, piece_bytes), limits);
                let list = msgpack_list(&mut pieces(document, piece_bytes), "breadcrumbs", limits);
                for reading in [json, one, list] {
                    let written = serde_json::to_string(&reading.value).expect("JSON");
                    prop_assert!(serde_json::from_str::<Value>(&written).is_ok(), "{written}");
                    prop_assert!(leaf_bytes(&reading.value) <= limits.bytes && reading.values <= limits.values.max(1));
                    for warning in reading.repairs.warnings("x") {
                        prop_assert!(!warning.contains(char::is_control), "{warning:?}");
                    }
                }
            }
        }
    }
}
