//! Envelopes with a whole dump in them and everything wrong that a writer can do to their frames.

use super::chance::Chance;

/// An envelope, and what of the dump must come out of it.
pub(super) struct Sample {
    pub(super) body: Vec<u8>,
    pub(super) dump: Vec<u8>,
    /// What was done to it.
    pub(super) faults: Vec<&'static str>,
}

/// A dump's header and noise; with lines in it that look like heads, when `tricky`.
pub(super) fn dump(chance: &mut Chance, tricky: bool) -> Vec<u8> {
    let mut dump = b"MDMP\x93\xa7\0\0\x01\0\0\0\x20\0\0\0".to_vec();
    dump.resize(32, 0);
    let noise = 100 + chance.below(600);
    let stream = 44u32;
    // One stream that takes all of it.
    for number in [7, noise as u32, stream] {
        dump.extend(number.to_le_bytes());
    }
    dump.extend(chance.bytes(noise));
    if tricky {
        let fake = chance.pick(&[
            &b"\n{\"type\":\"event\",\"length\":2}\n{}\n"[..],
            b"\n{\"type\":\"attachment\",\"length\":9000}\nMDMP",
            b"\n{\"type\":\"session\"}\n{}\n{\"type\":\"event\"}\n",
            b"\n{}\n{\"x\":1}\n{\"type\":",
        ]);
        let at = 60 + chance.below(20);
        dump[at..at + fake.len()].copy_from_slice(fake);
    }
    dump
}

struct Item {
    head: Vec<(&'static str, String)>,
    payload: Vec<u8>,
    is_dump: bool,
}

fn item(kind: &str, payload: &[u8]) -> Item {
    Item {
        head: vec![
            ("type", format!("\"{kind}\"")),
            ("length", payload.len().to_string()),
        ],
        payload: payload.to_vec(),
        is_dump: false,
    }
}

fn items(chance: &mut Chance, dump: &[u8]) -> Vec<Item> {
    let event = "{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\",\"message\":\"Größe ▶\",\"release\":\"r@1\",\"tags\":{\"a\":\"b\"}}";
    let mut log = item(
        "attachment",
        "Größe ▶ zu klein\nMDMP\n{\"type\":\"log\",\"m\":1}\n{}\n".as_bytes(),
    );
    log.head.push(("filename", "\"log.txt\"".to_owned()));
    let mut file = item("attachment", dump);
    file.is_dump = true;
    file.head
        .push(("attachment_type", "\"event.minidump\"".to_owned()));
    file.head.push(("filename", "\"a.dmp\"".to_owned()));
    let mut items = vec![file];
    for other in [
        item("event", event.as_bytes()),
        log,
        item("session", b"{\"sid\":\"1\",\"status\":\"crashed\"}"),
        item("attachment", &chance.bytes(40)),
        item("moon_phase", b"full"),
    ] {
        if !chance.once_in(3) {
            let at = chance.below(items.len() + 1);
            items.insert(at, other);
        }
    }
    items
}

/// An envelope with one to three faults.
pub(super) fn sample(seed: u64) -> Sample {
    let mut chance = Chance::new(seed);
    let tricky = chance.once_in(2);
    let dump = dump(&mut chance, tricky);
    let mut items = items(&mut chance, &dump);
    let mut header =
        b"{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\",\"dsn\":\"https://k@h/1\"}".to_vec();
    let mut faults = Vec::new();
    let mut frames = Frames::default();
    for _ in 0..=chance.below(3) {
        let at = chance.below(items.len());
        let fault = chance.below(20);
        faults.push(match fault {
            0..8 => length_fault(&mut chance, &mut items[at]),
            8..13 => head_fault(&mut chance, &mut items[at]),
            13..16 => header_fault(&mut chance, &mut header),
            _ => frames.fault(&mut chance),
        });
    }
    let body = frames.write(&mut chance, &header, &items);
    Sample { body, dump, faults }
}

fn length_fault(chance: &mut Chance, item: &mut Item) -> &'static str {
    let bytes = item.payload.len();
    let text = String::from_utf8_lossy(&item.payload);
    let (characters, units) = (text.chars().count(), text.encode_utf16().count());
    let near = 1 + chance.below(12);
    let (length, fault) = match chance.below(14) {
        0 => (characters.to_string(), "length in characters"),
        1 => (units.to_string(), "length in UTF-16 units"),
        2 => (bytes.saturating_sub(near).to_string(), "length short"),
        3 => ((bytes + near).to_string(), "length long"),
        4 => (
            (bytes + 100 + chance.below(900)).to_string(),
            "length much too long",
        ),
        5 => (
            (20 + chance.below(30)).min(bytes / 2).to_string(),
            "length much too short",
        ),
        6 => (format!("\"{bytes}\""), "length as a text"),
        7 => (format!("{bytes}.0"), "length with a fraction"),
        8 => (format!("-{bytes}"), "length negative"),
        9 => ("null".to_owned(), "length null"),
        10 => ("18446744073709551615".to_owned(), "length absurd"),
        11 => ("0".to_owned(), "length 0"),
        12 => ("NaN".to_owned(), "length not a number"),
        _ => {
            item.head.retain(|(name, _)| *name != "length");
            return "length missing";
        }
    };
    if let Some((_, written)) = item.head.iter_mut().find(|(name, _)| *name == "length") {
        *written = length;
    }
    fault
}

fn head_fault(chance: &mut Chance, item: &mut Item) -> &'static str {
    let raw = |text: &str| format!("\"{text}\"");
    let (name, value, fault) = match chance.below(10) {
        0 => (
            "filename",
            raw(r"C:\Users\ann\AppData\crash.dmp"),
            "bare backslashes",
        ),
        1 => (
            "filename",
            raw(r"C:\dumps\"),
            "a backslash before the quote",
        ),
        2 => ("filename", raw("M\u{1}\u{fffd}ller.dmp"), "raw bytes"),
        3 => ("filename", raw(r"cut \ud83d.dmp"), "half an emoji"),
        4 => ("filename", raw(&"y".repeat(40_000)), "a head too long"),
        5 => ("type", "5".to_owned(), "a type that is a number"),
        6 => ("type", raw("moon_phase"), "an unknown type"),
        7 => ("sample", "NaN,".to_owned(), "NaN and a comma too many"),
        8 => ("filename", "'single'".to_owned(), "single quotes"),
        _ => {
            item.head.retain(|(name, _)| *name != "type");
            return "no type";
        }
    };
    item.head.retain(|(other, _)| *other != name);
    let at = chance.below(item.head.len() + 1);
    item.head.insert(at, (name, value));
    fault
}

fn header_fault(chance: &mut Chance, header: &mut Vec<u8>) -> &'static str {
    match chance.below(6) {
        0 => {
            header.splice(0..0, *b"\xef\xbb\xbf");
            "a byte order mark"
        }
        1 => {
            header.splice(0..0, *b"\n\r\n");
            "blank first lines"
        }
        2 => {
            header.clear();
            "no header"
        }
        3 => {
            let at = header.len().min(1);
            header.splice(at..at, *b"\"trace\":{\"user\":\"\\ud83d\"},");
            "half an emoji in the header"
        }
        4 => {
            chance.garble(header);
            "a garbled header"
        }
        _ => {
            let long = format!("\"x\":\"{}\",", "y".repeat(20_000));
            let at = header.len().min(1);
            header.splice(at..at, long.into_bytes());
            "a header too long"
        }
    }
}

/// How items are put together.
#[derive(Default)]
struct Frames {
    carriage_returns: bool,
    no_line_end: bool,
    blank_lines: bool,
    joined_head: bool,
    garbled: bool,
    behind: &'static [u8],
    many: bool,
}

impl Frames {
    fn fault(&mut self, chance: &mut Chance) -> &'static str {
        match chance.below(8) {
            0 => {
                self.carriage_returns = true;
                "carriage returns"
            }
            1 => {
                self.no_line_end = true;
                "no line end behind an item"
            }
            2 => {
                self.blank_lines = true;
                "blank lines"
            }
            3 => {
                self.joined_head = true;
                "no line end behind a head"
            }
            4 | 5 => {
                self.garbled = true;
                "a garbled frame"
            }
            6 => {
                self.behind = chance.pick(&[
                    &b"\0\0\0\0"[..],
                    b"garbage",
                    b"\n{\"type\":",
                    b"{}",
                    b"\n\n{\"type\":\"event\"}",
                ]);
                "something behind the end"
            }
            _ => {
                self.many = chance.once_in(20);
                "too many items"
            }
        }
    }

    fn write(&self, chance: &mut Chance, header: &[u8], items: &[Item]) -> Vec<u8> {
        let line_end: &[u8] = if self.carriage_returns {
            b"\r\n"
        } else {
            b"\n"
        };
        let unlucky = chance.below(items.len());
        let mut body = header.to_vec();
        if !header.is_empty() {
            body.extend(line_end);
        }
        if self.many {
            body.extend(b"{\"type\":\"log\"}\n{}\n".repeat(1001));
        }
        for (at, item) in items.iter().enumerate() {
            let is_unlucky = at == unlucky;
            let members = item
                .head
                .iter()
                .map(|(name, value)| format!("\"{name}\":{value}"));
            let mut head = format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes();
            replace_marks(&mut head);
            if !(self.joined_head && is_unlucky) {
                head.extend(line_end);
            }
            let mut payload = item.payload.clone();
            if self.garbled && is_unlucky {
                chance.garble(&mut head);
                if !item.is_dump {
                    chance.garble(&mut payload);
                }
            }
            body.extend(head);
            body.extend(payload);
            if !(self.no_line_end && is_unlucky) {
                body.extend(line_end);
            }
            if self.blank_lines {
                body.extend(line_end.repeat(1 + chance.below(3)));
            }
        }
        body.extend(self.behind);
        body
    }
}

/// U+FFFD stands for a byte that is no UTF-8.
fn replace_marks(head: &mut Vec<u8>) {
    const MARK: &[u8] = "\u{fffd}".as_bytes();
    while let Some(at) = memchr::memmem::find(head, MARK) {
        head.splice(at..at + MARK.len(), [0xfc]);
    }
}
