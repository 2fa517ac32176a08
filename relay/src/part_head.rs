//! The headers of one part: its name, its file name, its media type. Pure.
//!
//! As browsers and Crashpad write them (RFC 7578), and as libraries that write mail do: on several lines, with encoded
//! words (RFC 2047) and parameters in pieces (RFC 2231).

mod words;

use std::borrow::Cow;

use self::words::{decode_charset, decode_words};
use crate::limits::CONTENT_TYPE_BYTES_MAX;
use crate::multipart::MultipartError;

/// Pieces of one parameter.
const SECTIONS_MAX: usize = 100;

/// What a part's headers say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PartHead {
    /// The form field's name.
    pub name: Option<String>,
    /// The file name as the client wrote it; a part is a file when it has one, be it empty.
    pub file_name: Option<String>,
    /// The media type.
    pub content_type: Option<String>,
    /// Why a line of it is none, when there is such a line.
    pub odd: Option<MultipartError>,
}

impl PartHead {
    /// Reads the header lines. Unknown headers, and lines that are none, are passed over.
    #[must_use]
    pub fn parse(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut part = Self::default();
        for line in unfolded(&text) {
            let Some((name, value)) = line.split_once(':') else {
                part.odd.get_or_insert_with(|| broken(&line));
                continue;
            };
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                part.read_disposition(value);
            } else if name.trim().eq_ignore_ascii_case("content-type") {
                part.content_type = media_type(value);
            }
        }
        part
    }

    /// `form-data; name="…"; filename="…"`
    fn read_disposition(&mut self, value: &str) {
        let mut rest = match value.split_once(';') {
            Some((first, rest)) if !first.contains('=') => rest,
            Some(_) | None => value,
        };
        let mut extended = Extended::default();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = parameter_value(after.trim_start());
            let name = name.trim().trim_start_matches(';').trim();
            if name.eq_ignore_ascii_case("name") {
                self.name.get_or_insert_with(|| plain_value(&value));
            } else if name.eq_ignore_ascii_case("filename") {
                self.file_name.get_or_insert_with(|| plain_value(&value));
            } else if let Some((name, section)) = name.split_once('*') {
                extended.add(name, section, value.into_owned());
            }
            rest = after;
        }
        if let Some(file_name) = extended.value("filename") {
            self.file_name = Some(file_name);
        }
        if let Some(name) = extended.value("name") {
            self.name = Some(name);
        }
    }
}

/// Parameters in pieces, or with a character set (RFC 2231, RFC 5987): `filename*=UTF-8''a%20b`, `filename*0="a"; filename*1*=…`.
#[derive(Default)]
struct Extended(Vec<Section>);

struct Section {
    parameter: String,
    number: usize,
    is_encoded: bool,
    value: String,
}

impl Extended {
    fn add(&mut self, parameter: &str, section: &str, value: String) {
        let (number, is_encoded) = match section.strip_suffix('*') {
            Some(number) => (number, true),
            None => (section, section.is_empty()),
        };
        let number = match number {
            "" => Some(0),
            number => number.parse().ok(),
        };
        if let Some(number) = number.filter(|_| self.0.len() < SECTIONS_MAX) {
            self.0.push(Section {
                parameter: parameter.trim().to_ascii_lowercase(),
                number,
                is_encoded,
                value,
            });
        }
    }

    fn value(&mut self, parameter: &str) -> Option<String> {
        self.0.sort_by_key(|section| section.number);
        let mut sections = self
            .0
            .iter()
            .filter(|section| section.parameter == parameter);
        let first = sections.next()?;
        let (charset, text) = match first.is_encoded {
            true => {
                let (charset, rest) = first.value.split_once('\'')?;
                let (_language, text) = rest.split_once('\'')?;
                (charset, text)
            }
            false => ("utf-8", first.value.as_str()),
        };
        let piece = |text: &str, is_encoded| -> Vec<u8> {
            match is_encoded {
                true => percent_encoding::percent_decode_str(text).collect(),
                false => text.as_bytes().to_vec(),
            }
        };
        let mut bytes = piece(text, first.is_encoded);
        for section in sections {
            bytes.extend(piece(&section.value, section.is_encoded));
        }
        decode_charset(charset, &bytes)
    }
}

/// A line that begins with a space or a tab continues the one before it.
fn unfolded(text: &str) -> Vec<Cow<'_, str>> {
    let mut lines: Vec<Cow<'_, str>> = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        match lines.last_mut() {
            Some(before) if line.starts_with([' ', '\t']) => {
                let before = before.to_mut();
                before.push(' ');
                before.push_str(line.trim_start());
            }
            Some(_) | None => lines.push(line.into()),
        }
    }
    lines
}

fn plain_value(written: &str) -> String {
    decode_words(&decode_escapes(written))
}

fn broken(line: &str) -> MultipartError {
    let found = line.chars().take(80).collect();
    MultipartError::BrokenPartHead { found }
}

/// A media type that can be kept: printable and not overlong.
pub(crate) fn media_type(value: &str) -> Option<String> {
    let value = value.trim();
    let printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (printable && (1..=CONTENT_TYPE_BYTES_MAX).contains(&value.len())).then(|| value.to_owned())
}

/// A token, or a quoted string in which a backslash only escapes a quote: Breakpad on Windows sends whole paths as they
/// are, and a path's backslashes are no escapes.
fn parameter_value(text: &str) -> (Cow<'_, str>, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let token = text[..end].trim_end();
        let single = token
            .strip_prefix('\'')
            .and_then(|token| token.strip_suffix('\''));
        return (single.unwrap_or(token).into(), &text[end..]);
    };
    let mut value = Cow::Borrowed("");
    let mut rest = quoted;
    loop {
        let end = rest.find('"').unwrap_or(rest.len());
        value += &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        // A backslash before the last quote ends a directory, `C:\dumps\`; before any other, it escapes the quote.
        if !value.ends_with('\\') || !rest.contains('"') || rest.trim_start().starts_with(';') {
            return (value, rest);
        }
        let value = value.to_mut();
        value.pop();
        value.push('"');
    }
}

/// The four escapes of Crashpad and of browsers: `%0d`, `%0a`, `%22`, `%25`. Any other percent sign is itself.
fn decode_escapes(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        decoded.push_str(before);
        let (plain, bytes) = match escape.as_bytes() {
            [_, b'0', b'd' | b'D', ..] => ('\r', 3),
            [_, b'0', b'a' | b'A', ..] => ('\n', 3),
            [_, b'2', b'2', ..] => ('"', 3),
            [_, b'2', b'5', ..] => ('%', 3),
            [..] => ('%', 1),
        };
        decoded.push(plain);
        rest = &escape[bytes..];
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disposition(parameters: &str) -> PartHead {
        let head = format!("\r\nContent-Disposition: form-data; {parameters}\r\n\r\n");
        PartHead::parse(head.as_bytes())
    }

    #[test]
    fn a_file_has_a_file_name_and_a_field_has_none() {
        let file = disposition(r#"name="upload_file_minidump"; filename="a.dmp""#);
        assert_eq!(file.name.as_deref(), Some("upload_file_minidump"));
        assert_eq!(file.file_name.as_deref(), Some("a.dmp"));
        let field = disposition(r#"name="prod""#);
        assert_eq!(
            (field.name.as_deref(), field.file_name),
            (Some("prod"), None)
        );
        assert_eq!(
            disposition(r#"filename=""; name=x"#).file_name.as_deref(),
            Some("")
        );
    }

    #[test]
    fn letters_spaces_and_other_headers_change_nothing() {
        for head in [
            "content-disposition: form-data; name=\"a\"; filename=\"b.dmp\"\r\ncontent-type: a/b",
            "CONTENT-TYPE:a/b\r\nContent-Disposition:form-data;NAME=a;FileName=\"b.dmp\"",
            "Content-Disposition: form-data ; name = \"a\" ; filename = b.dmp\r\nContent-Length: 5\r\nContent-Type: a/b \r\nContent-Transfer-Encoding: binary",
            "Content-Disposition: attachment; filename=\"b.dmp\"; name=\"a\"; x=\"name=c; filename=d\"\r\nContent-Type: a/b",
        ] {
            let head = format!("\r\n{head}\r\n\r\n");
            let part = PartHead::parse(head.as_bytes());
            assert_eq!(part.name.as_deref(), Some("a"), "{head}");
            assert_eq!(part.file_name.as_deref(), Some("b.dmp"), "{head}");
            assert_eq!(part.content_type.as_deref(), Some("a/b"), "{head}");
        }
    }

    #[test]
    fn windows_paths_escapes_and_quotes_are_read_as_their_writers_meant_them() {
        for (written, meant) in [
            (r#"filename="C:\Users\A B\x.dmp""#, r"C:\Users\A B\x.dmp"),
            (r#"filename="C:\dumps\"; name="a""#, r"C:\dumps\"),
            (r#"filename="a\"b.dmp""#, "a\"b.dmp"),
            (r#"filename="a%22b%25c%0d%0A%20.dmp""#, "a\"b%c\r\n%20.dmp"),
            (r#"filename=plain.dmp ; name="a""#, "plain.dmp"),
            (r#"filename="x"; filename*=UTF-8''%C3%BC.dmp"#, "ü.dmp"),
            (r#"filename="unclosed"#, "unclosed"),
        ] {
            assert_eq!(
                disposition(written).file_name.as_deref(),
                Some(meant),
                "{written}"
            );
        }
    }

    #[test]
    fn a_line_that_is_no_header_is_passed_over_and_named() {
        let part =
            PartHead::parse(b"\r\nno header\r\nContent-Disposition: form-data; name=a\r\n\r\n");
        assert_eq!(part.name.as_deref(), Some("a"));
        assert_eq!(part.odd.map(|odd| odd.reason()), Some("broken_multipart"));
    }

    #[test]
    fn a_header_may_go_over_several_lines() {
        for (written, name, content_type) in [
            (
                "Content-Disposition: form-data; name=\"n\";\r\n filename=\"data taken from.dmp\"\r\nContent-Type: a/b",
                "data taken from.dmp",
                "a/b",
            ),
            (
                "Content-Disposition: form-data;\r\n\tname=n;\r\n\t filename=a.dmp\r\nContent-Type: a/b;\r\n\tname=\"a.dmp\"",
                "a.dmp",
                "a/b; name=\"a.dmp\"",
            ),
            (
                "Content-Type:\r\n a/b\r\nContent-Disposition:\r\n form-data; name=n; filename=\"two\r\n words\"",
                "two words",
                "a/b",
            ),
            (
                "content-disposition : name=n; filename='a.dmp'\nContent-Type: a/b",
                "a.dmp",
                "a/b",
            ),
        ] {
            let part = PartHead::parse(format!("\r\n{written}\r\n\r\n").as_bytes());
            assert_eq!(part.odd, None, "{written}");
            assert_eq!(part.name.as_deref(), Some("n"), "{written}");
            assert_eq!(part.file_name.as_deref(), Some(name), "{written}");
            assert_eq!(
                part.content_type.as_deref(),
                Some(content_type),
                "{written}"
            );
        }
    }

    #[test]
    fn encoded_words_and_parameters_in_pieces_are_put_together() {
        for (written, meant) in [
            ("filename=\"=?UTF-8?B?R3LDtsOfZS5kbXA=?=\"", "Größe.dmp"),
            (
                "filename=\"=?utf-8?Q?Gr=C3=B6=C3=9Fe_1.dmp?=\"",
                "Größe 1.dmp",
            ),
            ("filename=\"=?ISO-8859-1?Q?Gr=F6=DFe.dmp?=\"", "Größe.dmp"),
            (
                "filename=\"=?UTF-8?Q?Gr=C3=B6?= =?UTF-8?Q?=C3=9Fe.dmp?=\"",
                "Größe.dmp",
            ),
            (
                "filename=\"=?koi8-r?B?xMHN0A==?=\"",
                "=?koi8-r?B?xMHN0A==?=",
            ),
            ("filename=\"=?broken\"", "=?broken"),
            ("filename*0=\"Gr\"; filename*1=\"e.dmp\"", "Gre.dmp"),
            (
                "filename*1*=%C3%9Fe.dmp; filename*0*=UTF-8''Gr%C3%B6",
                "Größe.dmp",
            ),
            ("filename*=iso-8859-1'en'Gr%F6%DFe.dmp", "Größe.dmp"),
            ("filename*=garbled", "plain"),
        ] {
            let part = disposition(&format!("name=n; filename=plain; {written}").replace(
                if written.contains("filename=") {
                    "filename=plain; "
                } else {
                    "\0"
                },
                "",
            ));
            assert_eq!(part.file_name.as_deref(), Some(meant), "{written}");
        }
    }
}
