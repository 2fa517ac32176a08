//! What operator commands print: lines and tables, until whoever reads has read enough.

use std::fmt::Display;
use std::io::Write as _;

use anyhow::Context as _;

use crate::CommandError;

/// Prints text and a line end.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    write(format!("{text}\n").as_bytes())
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
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let texts = rows.iter().map(|row| row[column].chars().count());
        texts.max().unwrap_or_default()
    });
    let line = |row: &[String; COLUMNS]| {
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
    fn one_is_no_plural() {
        let letters = |count: usize| counted(count, "letter", "letters");
        assert_eq!(
            [0, 1, 2, 21].map(letters),
            ["0 letters", "1 letter", "2 letters", "21 letters"]
        );
    }
}
