//! JSON objects on one line as clients really write them: what strict JSON refuses is read as its writer meant it. Pure.
//!
//! Bare backslashes of Windows paths, bytes of other code pages, half surrogates, control characters, single quotes,
//! names without quotes, missing and trailing commas, `NaN`, a missing end. Read in one pass, with a bounded depth.

use serde_json::{Map, Number, Value};

/// Objects and lists in one another that are read; what is deeper is passed over.
const DEPTH_MAX: usize = 8;

/// What a text begins with.
#[derive(Debug, PartialEq)]
pub(super) struct Object {
    /// Its members; of two with one name, the last.
    pub(super) members: Map<String, Value>,
    /// Bytes of the text that it takes.
    pub(super) used: usize,
    /// Whether its end was there.
    pub(super) closed: bool,
}

/// The object that a text begins with; `None` when it does not begin as one.
pub(super) fn read_object(text: &[u8]) -> Option<Object> {
    let mut reader = Reader { text, at: 0 };
    reader.skip_space();
    if reader.peek() != Some(b'{') {
        return None;
    }
    let (members, closed) = reader.object(0);
    Some(Object {
        members,
        used: reader.at,
        closed,
    })
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            let rest = &self.text[self.at..];
            if rest.starts_with(b"\xef\xbb\xbf") {
                self.at += 3;
            } else if byte <= b' ' {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    /// From the brace on. Every turn of the loop uses up at least one byte.
    fn object(&mut self, depth: usize) -> (Map<String, Value>, bool) {
        let mut members = Map::new();
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                None => return (members, false),
                Some(b'}') => {
                    self.at += 1;
                    return (members, true);
                }
                Some(b',' | b':' | b']') => self.at += 1,
                Some(_) => {
                    let name = self.name();
                    self.skip_space();
                    if self.peek() == Some(b':') {
                        self.at += 1;
                        let value = self.value(depth + 1);
                        members.insert(name, value);
                    }
                }
            }
        }
    }

    fn list(&mut self, depth: usize) -> Value {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                None => return Value::Array(items),
                Some(b']') => {
                    self.at += 1;
                    return Value::Array(items);
                }
                Some(b',' | b':' | b'}') => self.at += 1,
                Some(_) => items.push(self.value(depth + 1)),
            }
        }
    }

    fn name(&mut self) -> String {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.text(quote),
            Some(b'{' | b'[') => {
                self.at += 1;
                String::new()
            }
            Some(_) | None => String::from_utf8_lossy(self.token()).into_owned(),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') if depth >= DEPTH_MAX => {
                self.skip_nested();
                Value::Null
            }
            Some(b'{') => Value::Object(self.object(depth).0),
            Some(b'[') => self.list(depth),
            Some(quote @ (b'"' | b'\'')) => Value::String(self.text(quote)),
            Some(_) => literal(self.token()),
            None => Value::Null,
        }
    }

    /// Passes over a value of its own braces and brackets, those within texts included.
    fn skip_nested(&mut self) {
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Up to what ends a number, a name without quotes or a word.
    fn token(&mut self) -> &'t [u8] {
        let rest = &self.text[self.at..];
        let ends = |byte: &u8| *byte <= b' ' || b",:{}[]\"'".contains(byte);
        let end = rest.iter().position(ends).unwrap_or(rest.len()).max(1);
        self.at += end.min(rest.len());
        &rest[..end.min(rest.len())]
    }

    /// A text and its quotes. A quote ends it only where something may follow that belongs behind a text: file names have
    /// quotes in them, and directories end in a backslash before the quote.
    fn text(&mut self, quote: u8) -> String {
        self.at += 1;
        let start = self.at;
        while let Some(byte) = self.peek() {
            if byte == b'\\' && self.text.get(self.at + 1) == Some(&quote) {
                if self.ends_member(self.at + 2) {
                    self.at += 2;
                    return unescaped(&self.text[start..self.at - 1]);
                }
                self.at += 2;
            } else if byte == b'\\' && self.text.get(self.at + 1) == Some(&b'\\') {
                self.at += 2;
            } else if byte == quote && self.ends_value(self.at + 1) {
                self.at += 1;
                return unescaped(&self.text[start..self.at - 1]);
            } else {
                self.at += 1;
            }
        }
        self.at = self.text.len();
        unescaped(&self.text[start..])
    }

    /// Whether a text may have ended just before `at`.
    fn ends_value(&self, at: usize) -> bool {
        let rest = self.text[at..].trim_ascii_start();
        matches!(rest, [] | [b',' | b':' | b'}' | b']', ..])
    }

    /// The same, with more certainty: the object ends, or its next member begins.
    fn ends_member(&self, at: usize) -> bool {
        let rest = self.text[at..].trim_ascii_start();
        match rest {
            [b'}', rest @ ..] => rest.trim_ascii_start().is_empty(),
            [b',', rest @ ..] => {
                let [quote @ (b'"' | b'\''), rest @ ..] = rest.trim_ascii_start() else {
                    return false;
                };
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let end = rest.iter().position(|byte| !is_name(byte));
                end.is_some_and(|end| {
                    rest[end] == *quote && rest[end + 1..].trim_ascii_start().starts_with(b":")
                })
            }
            _ => false,
        }
    }
}

fn literal(token: &[u8]) -> Value {
    let text = String::from_utf8_lossy(token);
    match &*text {
        "true" | "True" => return Value::Bool(true),
        "false" | "False" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(whole) = text.parse::<u64>() {
        return whole.into();
    }
    let number = text.parse().ok().and_then(Number::from_f64);
    number.map_or(Value::Null, Value::Number)
}

/// A text's escapes undone; when one of them is none, its backslashes are a path's, and stay.
fn unescaped(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    match escapes_undone(&text) {
        Some(plain) => plain,
        None => text
            .replace("\\\\", "\\")
            .replace("\\\"", "\"")
            .replace("\\/", "/"),
    }
}

/// `None` when there is an escape that JSON does not have.
fn escapes_undone(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = escape.chars();
        match chars.next()? {
            c @ ('"' | '\\' | '/' | '\'') => plain.push(c),
            'b' => plain.push('\u{8}'),
            'f' => plain.push('\u{c}'),
            'n' => plain.push('\n'),
            'r' => plain.push('\r'),
            't' => plain.push('\t'),
            'u' => {
                let (c, used) = code_point(escape)?;
                plain.push(c);
                rest = &escape[used..];
                continue;
            }
            _ => return None,
        }
        rest = chars.as_str();
    }
    plain.push_str(rest);
    Some(plain)
}

/// `uXXXX`, or a pair of them; half a pair is U+FFFD. And how many bytes it takes.
fn code_point(escape: &str) -> Option<(char, usize)> {
    const UNIT_BYTES: usize = 5;
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix('u')?.get(..4)?, 16).ok();
    let first = unit(escape)?;
    let second = escape
        .get(UNIT_BYTES..)
        .and_then(|rest| unit(rest.strip_prefix('\\')?));
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    match (char::from_u32(first.into()), pair) {
        (Some(c), _) => Some((c, UNIT_BYTES)),
        (None, Some(c)) => Some((c, 2 * UNIT_BYTES + 1)),
        (None, None) => Some((char::REPLACEMENT_CHARACTER, UNIT_BYTES)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &[u8]) -> Value {
        Value::Object(read_object(text).expect("an object").members)
    }

    #[test]
    fn what_strict_json_refuses_is_read_as_it_was_meant() {
        for (written, meant) in [
            (
                &br#"{"a":"C:\Users\ann\x.dmp","b":1}"#[..],
                json!({"a": r"C:\Users\ann\x.dmp", "b": 1}),
            ),
            (
                br#"{"a":"C:\dumps\","b":1}"#,
                json!({"a": r"C:\dumps\", "b": 1}),
            ),
            (
                br#"{"b":1,"a":"C:\dumps\"}"#,
                json!({"a": r"C:\dumps\", "b": 1}),
            ),
            (
                b"{\"a\":\"M\xfcller.dmp\"}",
                json!({"a": "M\u{fffd}ller.dmp"}),
            ),
            (
                b"{\"a\":\"\x95\x5c.dmp\",\"b\":1}",
                json!({"a": "\u{fffd}\\.dmp", "b": 1}),
            ),
            (
                b"{\"a\":\"\x95\x5c\",\"b\":1}",
                json!({"a": "\u{fffd}\\", "b": 1}),
            ),
            (
                br#"{"a":"cut \ud83d.txt","b":"\ud83d\ude00"}"#,
                json!({"a": "cut \u{fffd}.txt", "b": "😀"}),
            ),
            (
                br#"{"a":"say "cheese".dmp","b":1}"#,
                json!({"a": "say \"cheese\".dmp", "b": 1}),
            ),
            (
                br#"{"a":NaN,"b":-Infinity,"c":1e400,"d":1.5}"#,
                json!({"a": null, "b": null, "c": null, "d": 1.5}),
            ),
            (br#"{"a":1,"b":2,}"#, json!({"a": 1, "b": 2})),
            (br#"{"a":1 "b":2}"#, json!({"a": 1, "b": 2})),
            (br#"{'a':'x',b:y}"#, json!({"a": "x", "b": null})),
            (
                b"\xef\xbb\xbf {\"a\":\"tab\there\"}",
                json!({"a": "tab\there"}),
            ),
            (
                br#"{"a":1,"b":{"c":[1,{"d":2}]},"a":3"#,
                json!({"a": 3, "b": {"c": [1, {"d": 2}]}}),
            ),
            (br#"{"a":"unclosed"#, json!({"a": "unclosed"})),
            (
                br#"{"a":"sound \n\u00fc \"q\"\\"}"#,
                json!({"a": "sound \nü \"q\"\\"}),
            ),
        ] {
            assert_eq!(read(written), meant, "{}", written.escape_ascii());
        }
    }

    #[test]
    fn what_follows_an_object_is_not_part_of_it() {
        let object = read_object(br#"{"a":1}MDMP"#).expect("an object");
        assert_eq!((object.used, object.closed), (7, true));
        let object = read_object(br#"{"a":1"#).expect("an object");
        assert!(!object.closed);
        for none in [&b""[..], b"MDMP", b"[1]", b"\"a\""] {
            assert_eq!(read_object(none), None);
        }
    }

    #[test]
    fn deep_nesting_is_passed_over() {
        let deep = [
            &b"{\"a\":"[..],
            &b"[".repeat(9000),
            &b"]".repeat(9000),
            b",\"b\":1}",
        ]
        .concat();
        assert_eq!(read(&deep)["b"], 1);
    }

    proptest! {
        #[test]
        fn sound_objects_are_read_as_strict_json_reads_them(
            members in prop::collection::btree_map("[a-z]{1,4}", "[^'\"]{0,12}", 0..5),
        ) {
            let text = serde_json::to_vec(&members).expect("JSON");
            let object = read_object(&text).expect("an object");
            prop_assert!(object.closed && object.used == text.len());
            prop_assert_eq!(Value::Object(object.members), json!(members));
        }

        #[test]
        fn no_text_makes_it_stand_still(text in prop::collection::vec(prop::sample::select(b"{}[]\"'\\:,au0 \xff".to_vec()), 0..200)) {
            if let Some(object) = read_object(&text) {
                prop_assert!(object.used <= text.len());
            }
        }
    }
}
