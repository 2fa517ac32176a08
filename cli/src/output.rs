//! What operator commands print: lines and tables, until whoever reads has read enough. What strangers wrote does nothing to
//! the terminal it is shown on.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::Write as _;

use anyhow::Context as _;

use crate::CommandError;

/// Prints text and a line end.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    write(format!("{}\n", escape(text)).as_bytes())
}

/// Prints text and a line end to standard error. One that is gone cannot be complained of either.
pub(crate) fn print_error(text: &str) {
    drop(writeln!(std::io::stderr(), "{}", escape(text)));
}

/// The text with what terminals obey, and what hides or reorders other text, written out as JSON does it (`\u001b`): so
/// JSON stays the same JSON. Line ends and tabs are layout.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    escape_where(text, |c| c != '\n' && c != '\t')
}

/// As [`escape`], for a text that stands in one line of others: line ends and tabs are none of its business either.
pub(crate) fn escape_cell(text: &str) -> Cow<'_, str> {
    escape_where(text, |_| true)
}

fn escape_where(text: &str, unwanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_escaped = |c: char| is_control(c) && unwanted(c);
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if !is_escaped(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // INVARIANT: writing to a `String` does not fail.
            write!(shown, "\\u{unit:04x}").expect("a string takes every text");
        }
    }
    Cow::Owned(shown)
}

/// C0, DEL and C1; marks of direction, of width zero, of lines and paragraphs within a line, and tags.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Writes bytes as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<(), CommandError> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Whoever reads may have read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("standard output")?),
    }
}

/// A count and the words that go with it: `1 letter`, `2 letters`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(
    count: N,
    one: &str,
    many: &str,
) -> String {
    let words = if count == N::from(1) { one } else { many };
    format!("{count} {words}")
}

/// Rows as columns, each as wide as its widest text.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let rows = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| escape_cell(cell)));
    let rows: Vec<[Cow<'_, str>; COLUMNS]> = rows.collect();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let texts = rows.iter().map(|row| row[column].chars().count());
        texts.max().unwrap_or_default()
    });
    let line = |row: &[Cow<'_, str>; COLUMNS]| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(text, width)| format!("{text:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_is_obeyed_or_hidden_and_json_stays_json() {
        let controls = (0..0x20u32)
            .chain(0x7f..0xa0)
            .chain([
                0xad, 0x61c, 0x200b, 0x200e, 0x200f, 0x2028, 0x202e, 0x2066, 0xfeff,
            ])
            .chain([0xe0001, 0xe0041])
            .filter_map(char::from_u32);
        let nasty: String = controls.collect();
        let shown = escape(&nasty);
        assert!(
            shown.chars().all(|c| matches!(c, ' '..='~' | '\n' | '\t')),
            "{shown:?}"
        );
        assert!(!escape_cell(&nasty).contains(['\n', '\t']));
        let json = serde_json::json!({ "name": nasty });
        let printed = escape(&json.to_string()).into_owned();
        let read: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(read, json);
        let plain = "grün, 日本語, עברית, 👩\n\ttwo";
        assert!(matches!(escape(plain), Cow::Borrowed(_)));
    }

    #[test]
    fn a_cell_makes_no_rows() {
        let rows = [
            ["a\nb\u{1b}[2J".to_owned(), "c".to_owned()],
            ["d".to_owned(), "e".to_owned()],
        ];
        assert_eq!(table(&rows).lines().count(), 2);
    }

    #[test]
    fn one_is_no_plural() {
        let letters = |count: usize| counted(count, "letter", "letters");
        assert_eq!(
            [0, 1, 2, 21].map(letters),
            ["0 letters", "1 letter", "2 letters", "21 letters"]
        );
    }
}
