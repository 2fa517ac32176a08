//! Envelopes as SDKs send them, as they may be written, and as they must not be.

use proptest::prelude::*;

use super::*;

/// Recorded from Sentry's SDKs; `@@MINIDUMP@@` stands for the dump.
const RUST_SDK: &str = include_str!("fixtures/rust-sentry.envelope");
const NODE_SDK: &str = include_str!("fixtures/node-sentry.envelope");
const MARK: &str = "@@MINIDUMP@@";

/// All steps but `More`, with adjacent content joined: what does not depend on how the body is cut.
fn steps(body: &[u8], cuts: &[usize]) -> Result<Vec<Step>, ItemsError> {
    let mut parser = Parser::default();
    let mut steps = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([body.len()]) {
        parser.push(Bytes::copy_from_slice(&body[start..end]));
        start = end;
        loop {
            match parser.step()? {
                Step::More => break,
                step @ (Step::Header(_) | Step::Item(_) | Step::Content(_) | Step::ItemEnd) => {
                    add(&mut steps, step);
                }
            }
        }
    }
    for step in parser.finish()? {
        add(&mut steps, step);
    }
    Ok(steps)
}

fn add(steps: &mut Vec<Step>, step: Step) {
    match (steps.last_mut(), step) {
        (_, Step::Content(new)) if new.is_empty() => panic!("empty content"),
        (Some(Step::Content(old)), Step::Content(new)) => {
            *old = [&old[..], &new[..]].concat().into();
        }
        (_, step) => steps.push(step),
    }
}

type Items = Vec<(ItemHead, Vec<u8>)>;

/// The header and each item with its content.
fn items(body: &[u8]) -> Result<(EnvelopeHeader, Items), ItemsError> {
    let mut header = None;
    let mut items: Items = Vec::new();
    let mut open = false;
    for step in steps(body, &[])? {
        match step {
            Step::Header(found) => assert!(header.replace(found).is_none()),
            Step::Item(head) => {
                assert!(!std::mem::replace(&mut open, true));
                items.push((head, Vec::new()));
            }
            Step::Content(bytes) => items.last_mut().expect("an item").1.extend(&bytes),
            Step::ItemEnd => assert!(std::mem::replace(&mut open, false)),
            Step::More => panic!("not among the steps"),
        }
    }
    assert!(!open);
    Ok((header.expect("a header"), items))
}

fn id(text: &str) -> Option<shared::id::EventId> {
    Some(text.parse().expect("an id"))
}

/// A dump with everything in it that could be taken for the envelope's own.
fn dump(bytes: usize) -> Vec<u8> {
    let mut dump = b"MDMP\n{\"type\":\"event\"}\n\r\n{}\n\0\xff".to_vec();
    dump.resize(bytes, b'\n');
    dump
}

fn recorded(recording: &str, dump: &[u8]) -> Vec<u8> {
    let (before, after) = recording.split_once(MARK).expect("the mark");
    [before.as_bytes(), dump, after.as_bytes()].concat()
}

#[test]
fn an_envelope_of_the_rust_sdk_is_read() {
    let dump = dump(72_033);
    let (header, items) = items(&recorded(RUST_SDK, &dump)).expect("an envelope");
    assert_eq!(header.event_id, id("7be4049d645d447085f6799fc00fe3c8"));
    assert!(header.warnings.is_empty());
    let [(event, json), (attachment, content)] = &items[..] else {
        panic!("{} items", items.len());
    };
    assert_eq!((event.kind, json.len()), (ItemKind::Event, 2285));
    let event: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    assert_eq!(event["release"], "sentryclient2@0.1.0");
    assert_eq!(attachment.kind, ItemKind::Attachment);
    assert_eq!(
        attachment.attachment_type.as_deref(),
        Some("event.minidump")
    );
    assert_eq!(
        attachment.file_name.as_deref(),
        Some("62e220e1-ed88-4461-8da8-f386857cded5.dmp")
    );
    assert_eq!(
        attachment.content_type.as_deref(),
        Some("application/octet-stream")
    );
    assert!(*content == dump);
}

#[test]
fn an_envelope_of_the_node_sdk_is_read() {
    let dump = dump(96_464);
    let (header, items) = items(&recorded(NODE_SDK, &dump)).expect("an envelope");
    assert_eq!(header.event_id, id("0dc82b63eb7945d0934b3e9b8d3e1bfe"));
    assert_eq!(
        header.sdk.as_deref(),
        Some("sentry.javascript.node/10.78.0")
    );
    assert!(header.warnings.is_empty(), "{:?}", header.warnings);
    let [(event, json), (attachment, content)] = &items[..] else {
        panic!("{} items", items.len());
    };
    assert_eq!((event.kind, event.length), (ItemKind::Event, None));
    let event: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    assert_eq!(event["tags"]["event.process"], "renderer");
    assert_eq!(attachment.length, Some(96_464));
    assert!(*content == dump);
}

#[test]
fn line_ends_and_lengths_may_be_there_or_not() {
    for body in [
        "{}\n{\"type\":\"event\",\"length\":2}\n{}",
        "{}\n{\"type\":\"event\",\"length\":2}\n{}\n",
        "{}\r\n{\"type\":\"event\",\"length\":2}\r\n{}\r\n",
        "{}\n\n\r\n{\"type\":\"event\",\"length\":2}\n{}\n\n\n",
        "{}\n{\"type\":\"event\",\"length\":null}\n{}",
        "{}\n{\"type\":\"event\"}\n{}\n\n",
    ] {
        let (header, items) = items(body.as_bytes()).expect("an envelope");
        assert_eq!(header, EnvelopeHeader::default(), "{body:?}");
        let [(head, content)] = &items[..] else {
            panic!("{} items in {body:?}", items.len());
        };
        assert_eq!((head.kind, &content[..]), (ItemKind::Event, &b"{}"[..]));
    }
}

#[test]
fn empty_items_are_items() {
    for body in [
        "{}\n{\"type\":\"session\"}\n\n{\"type\":\"attachment\",\"length\":0}\n\n{\"type\":\"log\"}",
        "{}\n{\"type\":\"session\"}\n\n{\"type\":\"attachment\",\"length\":0}\n{\"type\":\"log\"}\n",
    ] {
        let (_, items) = items(body.as_bytes()).expect("an envelope");
        let kinds: Vec<_> = items.iter().map(|(head, _)| head.kind).collect();
        let expected = [
            ItemKind::Other(OtherItem::Session),
            ItemKind::Attachment,
            ItemKind::Other(OtherItem::Log),
        ];
        assert_eq!(kinds, expected, "{body:?}");
        assert!(items.iter().all(|(_, content)| content.is_empty()));
    }
    let (header, items) = items(b"{}").expect("an empty envelope");
    assert_eq!((header, items.len()), (EnvelopeHeader::default(), 0));
}

#[test]
fn damage_beside_the_point_costs_a_warning() {
    let body = "{\"event_id\":\"x\",\"dsn\":7,\"sdk\":{\"name\":\"n\"},\"moon\":1}\n\
        {\"type\":\"user_report_v2\",\"filename\":[],\"content_type\":\"a\\nb\",\"attachment_length\":5}\n{}";
    let (header, items) = items(body.as_bytes()).expect("an envelope");
    assert_eq!((header.event_id, header.dsn), (None, None));
    assert_eq!(header.sdk.as_deref(), Some("n"));
    let warnings = header.warnings.join("; ");
    for part in ["event_id", "dsn", "moon"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    let (head, _) = &items[0];
    assert_eq!(
        (head.kind, head.attachment_length),
        (ItemKind::Feedback, Some(5))
    );
    assert_eq!((&head.file_name, &head.content_type), (&None, &None));
    assert_eq!(head.warnings.len(), 1);
}

#[test]
fn other_items_are_known_by_their_names() {
    for item in OtherItem::ALL {
        assert_eq!(ItemKind::from(item.as_str()), ItemKind::Other(*item));
    }
    let moon = ItemKind::from("moon_phase");
    assert_eq!(moon, ItemKind::Other(OtherItem::Unknown));
}

#[test]
fn what_is_no_envelope_is_refused_with_what_was_found() {
    let long = format!("{{}}\n{{\"x\":\"{}", "y".repeat(ENVELOPE_LINE_BYTES_MAX));
    let many = format!(
        "{{}}\n{}",
        "{\"type\":\"log\"}\n\n".repeat(1 + ENVELOPE_ITEMS_MAX as usize)
    );
    for (body, reason, part) in [
        ("", "cut_envelope", "the envelope's header"),
        ("\n", "broken_envelope", "the envelope's header"),
        ("MDMP", "broken_envelope", "4 bytes that are no JSON"),
        ("[]\n", "broken_envelope", "a list"),
        ("{}\n{}\n", "broken_envelope", "item 1"),
        ("{}\n{\"type\":5}\n", "broken_envelope", "a number"),
        (
            "{}\n{\"type\":\"event\",\"length\":-1}\n",
            "broken_envelope",
            "-1",
        ),
        (
            "{}\n{\"type\":\"event\",\"length\":1}\n{}",
            "broken_envelope",
            "0x7d",
        ),
        (
            "{}\n{\"type\":\"event\",\"length\":1}\nx\r\r\n",
            "broken_envelope",
            "0x0d",
        ),
        (
            "{}\n{\"type\":\"event\",\"length\":9}\n{}",
            "cut_envelope",
            "7 more bytes of item 1",
        ),
        (
            "{}\n{\"type\":\"event\",\"length\":9}",
            "cut_envelope",
            "9 more bytes of item 1",
        ),
        (
            "{}\n{\"type\":\"log\"}\n\n{\"type\":",
            "broken_envelope",
            "item 2",
        ),
        (&long, "broken_envelope", "item 1"),
        (&many, "too_many_items", "at most"),
    ] {
        let error = items(body.as_bytes()).expect_err(body);
        let start: String = body.chars().take(60).collect();
        assert_eq!(error.reason(), reason, "{start:?}: {error}");
        assert!(error.to_string().contains(part), "{start:?}: {error}");
    }
}

#[test]
fn an_error_never_repeats_a_key() {
    for body in [
        "{\"dsn\":\"https://secret@h/1\"\n",
        "\"secret\"\n",
        "secret\n",
    ] {
        let error = items(body.as_bytes()).expect_err("broken");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

proptest! {
    #[test]
    fn cuts_change_nothing(body in envelope(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(steps(&body, &cuts), steps(&body, &[]));
    }

    #[test]
    fn any_content_of_a_stated_length_comes_out_as_it_went_in(contents in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let mut body = b"{}\n".to_vec();
        for content in &contents {
            body.extend(format!("{{\"type\":\"attachment\",\"length\":{}}}\n", content.len()).bytes());
            body.extend(content);
            body.push(b'\n');
        }
        let (_, items) = items(&body).expect("an envelope");
        let found: Vec<Vec<u8>> = items.into_iter().map(|(_, content)| content).collect();
        prop_assert_eq!(found, contents);
    }
}

/// Envelopes, sound and damaged.
fn envelope() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("{}\n".to_owned()),
        Just("{\"type\":\"event\",\"length\":3}\nabc\n".to_owned()),
        Just("{\"type\":\"attachment\"}\nabc\r\n".to_owned()),
        Just("{\"type\":\"log\",\"length\":0}\n\n".to_owned()),
        Just("\r\n".to_owned()),
        "[{}\"a-z:0-9\r\n]{0,12}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| {
        let mut body = b"{}\n".to_vec();
        body.extend(pieces.concat().bytes());
        body
    })
}
