//! Envelopes as SDKs send them, as they may be written, and as they must not be.

use proptest::prelude::*;

use super::*;

/// Recorded from Sentry's SDKs; `@@MINIDUMP@@` stands for the dump.
const RUST_SDK: &str = include_str!("fixtures/rust-sentry.envelope");
const NODE_SDK: &str = include_str!("fixtures/node-sentry.envelope");
const MARK: &str = "@@MINIDUMP@@";

/// An item: its head, its content, and whether its frame was wrong.
type Item = (ItemHead, Vec<u8>, bool);

#[derive(Debug, Default, PartialEq)]
struct Read {
    header: Option<EnvelopeHeader>,
    items: Vec<Item>,
}

/// What comes of a body that is cut at these places. Items whose frames are wrong are read once more, as the relay does.
fn read(body: &[u8], cuts: &[usize]) -> Read {
    let mut parser = Parser::default();
    let mut read = Read::default();
    let mut open = false;
    let mut start = 0;
    let ends = cuts.iter().copied().chain([body.len()]);
    let mut pieces: Vec<Bytes> = ends
        .map(|end| Bytes::copy_from_slice(&body[std::mem::replace(&mut start, end)..end]))
        .collect();
    pieces.reverse();
    loop {
        let piece = pieces.pop();
        let ended = piece.is_none();
        match piece {
            Some(piece) => parser.push(piece),
            None => parser.finish(),
        }
        loop {
            match parser.step() {
                Step::More if ended => {
                    assert!(!open);
                    return read;
                }
                Step::More => break,
                Step::Misframed(_) => {
                    assert!(open);
                    let item = read.items.last_mut().expect("an item");
                    item.2 = true;
                    let unread = parser.rescan(0);
                    pieces.extend([unread, std::mem::take(&mut item.1).into()]);
                    break;
                }
                Step::Header(header) => assert!(read.header.replace(header).is_none()),
                Step::Item(head) => {
                    assert!(read.header.is_some() && !std::mem::replace(&mut open, true));
                    read.items.push((head, Vec::new(), false));
                }
                Step::Content(bytes) => {
                    assert!(open && !bytes.is_empty());
                    read.items.last_mut().expect("an item").1.extend(&bytes);
                }
                Step::ItemEnd => assert!(std::mem::replace(&mut open, false)),
            }
        }
    }
}

type Items = Vec<(ItemHead, Vec<u8>)>;

/// The header and each item with its content, of an envelope with nothing wrong in it.
fn items(body: &[u8]) -> (EnvelopeHeader, Items) {
    let Read { header, items } = read(body, &[]);
    let header = header.expect("a header");
    assert_eq!(header.fault, None);
    let items = items.into_iter().map(|(head, content, is_misframed)| {
        assert!(head.fault.is_none() && !is_misframed, "{head:?}");
        (head, content)
    });
    (header, items.collect())
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
    let (header, items) = items(&recorded(RUST_SDK, &dump));
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
    let (header, items) = items(&recorded(NODE_SDK, &dump));
    assert_eq!(header.event_id, id("0dc82b63eb7945d0934b3e9b8d3e1bfe"));
    assert_eq!(
        header.sdk.as_deref(),
        Some("sentry.javascript.node/10.78.0")
    );
    assert!(header.warnings.is_empty(), "{:?}", header.warnings);
    let [(event, json), (attachment, content)] = &items[..] else {
        panic!("{} items", items.len());
    };
    assert_eq!((event.kind, event.extent), (ItemKind::Event, Extent::Line));
    let event: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    assert_eq!(event["tags"]["event.process"], "renderer");
    assert_eq!(attachment.extent, Extent::Bytes(96_464));
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
        let (header, items) = items(body.as_bytes());
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
        let (_, items) = items(body.as_bytes());
        let kinds: Vec<_> = items.iter().map(|(head, _)| head.kind).collect();
        let expected = [
            ItemKind::Other(OtherItem::Session),
            ItemKind::Attachment,
            ItemKind::Other(OtherItem::Log),
        ];
        assert_eq!(kinds, expected, "{body:?}");
        assert!(items.iter().all(|(_, content)| content.is_empty()));
    }
    let (header, items) = items(b"{}");
    assert_eq!((header, items.len()), (EnvelopeHeader::default(), 0));
}

#[test]
fn damage_beside_the_point_costs_a_warning() {
    let body = "{\"event_id\":\"x\",\"dsn\":7,\"sdk\":{\"name\":\"n\"},\"moon\":1}\n\
        {\"type\":\"user_report_v2\",\"filename\":[],\"content_type\":\"a\\nb\",\"attachment_length\":5}\n{}";
    let (header, items) = items(body.as_bytes());
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

/// What an envelope comes to: its items' kinds and contents, those of no item as `stray`.
fn told(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let kind = |kind: ItemKind| match kind {
        ItemKind::Event => "event".to_owned(),
        ItemKind::Attachment => "attachment".to_owned(),
        ItemKind::UserReport | ItemKind::Feedback => "report".to_owned(),
        ItemKind::Other(other) => other.as_str().to_owned(),
        ItemKind::Stray => "stray".to_owned(),
    };
    let read = read(body, &[]);
    assert!(read.header.is_some());
    let items = read.items.into_iter();
    items
        .map(|(head, content, _)| (kind(head.kind), content))
        .collect()
}

/// A dump of an item that is framed well, and what stands before it.
fn before_a_dump(before: &[u8]) -> Vec<(String, Vec<u8>)> {
    let dump = [&b"MDMP\x93\xa7\0\0"[..], &dump(300)].concat();
    let head = format!(
        "{{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"length\":{}}}\n",
        dump.len()
    );
    let body = [before, head.as_bytes(), &dump, b"\n"].concat();
    let mut items = told(&body);
    let last = items.pop().expect("an item");
    assert!(
        last == ("attachment".to_owned(), dump),
        "{}: {items:?}, {last:?}",
        before.escape_ascii()
    );
    items
}

#[test]
fn wrong_lengths_end_where_the_next_head_stands() {
    let log = "Größe ▶ zu klein\nund {noch eine Zeile}\n{\"type\":\"x\"}";
    for length in [
        "1",
        "10",
        "17",
        "18",
        "19",
        "20",
        "56",
        "80",
        "140",
        "100000",
        "18446744073709551615",
        "0",
        "\"12\"",
        "\"x\"",
        "1e3",
        "-1",
        "1.5",
        "1e30",
        "true",
        "[]",
        "null",
    ] {
        let before = format!(
            "{{}}\n{{\"type\":\"attachment\",\"length\":{length},\"filename\":\"l\"}}\n{log}\n"
        );
        let mut items = before_a_dump(before.as_bytes());
        // One byte too many is the line end: the head behind it needs none.
        let too_many = usize::from(items[0].1.ends_with(b"\n"));
        let bytes = items[0].1.len() - too_many;
        items[0].1.truncate(bytes);
        let content = ("attachment".to_owned(), log.as_bytes().to_vec());
        assert_eq!(items, [content], "{length}");
    }
    for length in ["\"13\"", "13.0", "13"] {
        let items = before_a_dump(
            format!("{{}}\n{{\"type\":\"event\",\"length\":{length}}}\n{{\"release\":1}}\n")
                .as_bytes(),
        );
        assert_eq!(
            items,
            [("event".to_owned(), b"{\"release\":1}".to_vec())],
            "{length}"
        );
    }
}

#[test]
fn payloads_with_line_ends_and_missing_ones_are_kept() {
    let event = |content: &str| vec![("event".to_owned(), content.as_bytes().to_vec())];
    for (before, items) in [
        (
            "{}\n{\"type\":\"event\"}\n{\n  \"a\": 1\n}\n",
            event("{\n  \"a\": 1\n}"),
        ),
        ("{}\n{\"type\":\"event\",\"length\":2}\n{}", event("{}")),
        ("{}\n{\"type\":\"event\",\"length\":2}{}\n", event("{}")),
        (
            "{}\n{\"type\":\"event\",\"length\":0}\n{\"type\":\"error\",\"a\":1}\n",
            event("{\"type\":\"error\",\"a\":1}"),
        ),
        (
            "{}\n{\"type\":\"event\",\"length\":2}\n{}\n\n\n\n",
            event("{}"),
        ),
        (
            "{}\r\n{\"type\":\"event\",\"length\":9}\r\n{}\r\n",
            event("{}"),
        ),
        ("{}{\"type\":\"event\",\"length\":2}\n{}\n", event("{}")),
    ] {
        assert_eq!(before_a_dump(before.as_bytes()), items, "{before:?}");
    }
}

#[test]
fn broken_heads_cost_no_item_behind_them() {
    let long = format!(
        "{{}}\n{{\"type\":\"event\",\"x\":\"{}\",\"length\":2}}\n{{}}\n",
        "y".repeat(3 * ENVELOPE_LINE_BYTES_MAX)
    );
    let long_header = format!(
        "{{\"x\":\"{}\"}}\n",
        "y".repeat(3 * ENVELOPE_LINE_BYTES_MAX)
    );
    for (before, kinds) in [
        (&b""[..], &[][..]),
        (b"\n\n{}\n", &[]),
        (b"\xef\xbb\xbf{}\n", &[]),
        (b"[]\n", &["stray"]),
        (b"garbage\n", &["stray"]),
        (b"{\"a\":\"\\ud83d\"}\n", &[]),
        (b"{}\n{}\nx\n", &["stray"]),
        (b"{}\n{\"type\":5}\nx\n", &["stray"]),
        (
            b"{}\n{\"filename\":\"a\",\"length\":1}\nx\n",
            &["attachment"],
        ),
        (b"{}\n{\"length\":1}\nx\n", &["stray"]),
        (
            b"{}\n{\"type\":\"attachment\",\"length\":3,\"filename\":\"C:\\temp\\x.log\"}\nlog\n",
            &["attachment"],
        ),
        (
            b"{}\n{\"type\":\"attachment\",\"length\":3,\"filename\":\"M\xfcller\"}\nlog\n",
            &["attachment"],
        ),
        (
            b"{}\n{\"type\":\"attachment\",\"length\":3,\"filename\":\"\\ud83d\"}\nlog\n",
            &["attachment"],
        ),
        (
            b"{}\n{\"type\":\"moon_phase\",\"length\":3}\nlog\n",
            &["unknown"],
        ),
        (b"{}\n{\"type\":\"event\",\"length\":2,}\n{}\n", &["event"]),
        (b"{}\n{'type':'event','length':2}\n{}\n", &["event"]),
        (
            b"{}\n{\"type\":\"event\",\"length\":2,\"length\":2}\n{}\n",
            &["event"],
        ),
        (b"{}\n{\"type\":\"event\",\"length\":2\n{}\n", &["event"]),
        (long.as_bytes(), &["event"]),
        (long_header.as_bytes(), &[]),
    ] {
        let found = before_a_dump(before);
        let found: Vec<&str> = found.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(
            found,
            kinds,
            "{}",
            before[..before.len().min(80)].escape_ascii()
        );
    }
}

#[test]
fn what_follows_an_item_may_be_padding_or_cut() {
    let dump = dump(200);
    let framed = |length: usize, behind: &[u8]| {
        let head = format!("{{}}\n{{\"type\":\"attachment\",\"length\":{length}}}\n");
        told(&[head.as_bytes(), &dump[..length.min(dump.len())], behind].concat())
    };
    for behind in [&b""[..], b"\n", b"\n\n", b"\0\0\0", b"\n\0\0", b"\r\n  "] {
        assert_eq!(
            framed(200, behind),
            [("attachment".to_owned(), dump.clone())]
        );
    }
    // Lines of the dump that look like heads end it when its own length is too large for what came.
    let items = framed(250, b"");
    assert_eq!(
        items
            .iter()
            .map(|(_, content)| content.len())
            .sum::<usize>()
            / 10,
        17
    );
    assert_eq!(read(b"", &[]), Read::default());
}

#[test]
fn more_items_than_the_limit_are_one_remainder() {
    let item = "{\"type\":\"log\"}\n\n";
    let body = format!("{{}}\n{}", item.repeat(5 + ENVELOPE_ITEMS_MAX as usize));
    let items = told(body.as_bytes());
    assert_eq!(items.len(), 1 + ENVELOPE_ITEMS_MAX as usize);
    assert_eq!(items.last().map(|(kind, _)| kind.as_str()), Some("stray"));
}

#[test]
fn a_warning_never_repeats_a_key() {
    for body in [
        "{\"dsn\":\"https://secret@h/1\n",
        "\"secret\"\n",
        "secret\n",
    ] {
        let header = read(body.as_bytes(), &[]).header.expect("a header");
        let fault = header.fault.map(|fault| fault.to_string());
        let told = [header.warnings.concat(), fault.unwrap_or_default()].concat();
        assert!(!told.is_empty() && !told.contains("secret"), "{told}");
    }
}

proptest! {
    #[test]
    fn cuts_change_nothing(body in envelope(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read(&body, &cuts), read(&body, &[]));
    }

    #[test]
    fn any_content_of_a_stated_length_comes_out_as_it_went_in(contents in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let mut body = b"{}\n".to_vec();
        for content in &contents {
            body.extend(format!("{{\"type\":\"attachment\",\"length\":{}}}\n", content.len()).bytes());
            body.extend(content);
            body.push(b'\n');
        }
        let (_, items) = items(&body);
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
        Just("{\"type\":\"event\",\"length\":9}\nabc\r\n".to_owned()),
        Just("{\"type\":\"attachment\",\"length\":\"2\"}\r\nab{c\n{\n".to_owned()),
        Just("{'type':'session','length':40,}\n{}".to_owned()),
        Just("\r\n".to_owned()),
        "[{}\"a-z:0-9\r\n]{0,12}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| {
        let mut body = b"{}\n".to_vec();
        body.extend(pieces.concat().bytes());
        body
    })
}
