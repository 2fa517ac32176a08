//! The headers of one part: its name, its file name, its media type. Pure.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::limits::CONTENT_TYPE_BYTES_MAX;
use crate::multipart::MultipartError;

/// What a part's headers say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PartHead {
    /// The form field's name.
    pub name: Option<String>,
    /// The file name as the client wrote it; a part is a file when it has one, be it empty.
    pub file_name: Option<String>,
    /// The media type.
    pub content_type: Option<String>,
}

impl PartHead {
    /// Reads the header lines. Unknown headers are passed over.
    ///
    /// # Errors
    /// [`MultipartError::BrokenPartHead`] for a line that is no header.
    pub fn parse(head: &[u8]) -> Result<Self, MultipartError> {
        let text = String::from_utf8_lossy(head);
        let mut part = Self::default();
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| broken(line))?;
            if name.eq_ignore_ascii_case("content-disposition") {
                part.read_disposition(value);
            } else if name.eq_ignore_ascii_case("content-type") {
                part.content_type = media_type(value);
            }
        }
        Ok(part)
    }

    /// `form-data; name="…"; filename="…"`
    fn read_disposition(&mut self, value: &str) {
        let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
        let mut extended = None;
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = parameter_value(after.trim_start());
            let name = name.trim().trim_start_matches(';').trim();
            if name.eq_ignore_ascii_case("name") {
                self.name.get_or_insert_with(|| decode_escapes(&value));
            } else if name.eq_ignore_ascii_case("filename") {
                self.file_name.get_or_insert_with(|| decode_escapes(&value));
            } else if name.eq_ignore_ascii_case("filename*") {
                extended = extended_value(&value);
            }
            rest = after;
        }
        if extended.is_some() {
            self.file_name = extended;
        }
    }
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
        return (text[..end].trim_end().into(), &text[end..]);
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

/// RFC 5987: `UTF-8''percent-encoded`.
fn extended_value(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    Some(percent_decode_str(encoded).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disposition(parameters: &str) -> PartHead {
        let head = format!("\r\nContent-Disposition: form-data; {parameters}\r\n\r\n");
        PartHead::parse(head.as_bytes()).expect("a head")
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
            let part = PartHead::parse(head.as_bytes()).expect("a head");
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
    fn a_line_that_is_no_header_is_refused() {
        let error = PartHead::parse(b"\r\nno header\r\n\r\n").expect_err("refused");
        assert_eq!(error.reason(), "broken_multipart");
    }
}
