//! `crashferry dead-letters list`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use shared::config::Config;

use super::survey::{Filter, Row, Survey};
use crate::CommandError;
use crate::moment::show;
use crate::output::{counted, print, table};

/// Characters of an error in the table.
const ERROR_CHARS_SHOWN: usize = 80;

/// A letter as JSON.
#[derive(Serialize)]
struct Line<'r> {
    partition: i32,
    offset: i64,
    kept_at: Option<Timestamp>,
    reason: &'r str,
    error: &'r str,
    origin_topic: &'r str,
    origin_partition: i32,
    origin_offset: i64,
    bytes: usize,
    /// What of the record the letter has, when that is not all of it.
    cut: Option<&'r str>,
    replayed_at: Option<Timestamp>,
}

/// Prints the letters that `filter` chooses.
pub(super) fn run(
    config: &Config,
    filter: &Filter,
    all: bool,
    json: bool,
) -> Result<(), CommandError> {
    let Survey { rows, foreign } = Survey::take(config, filter)?;
    let (hidden, shown): (Vec<Row>, Vec<Row>) = rows
        .into_iter()
        .partition(|row| !all && row.replayed_at.is_some());
    if json {
        let lines: Vec<Line> = shown.iter().map(line).collect();
        let text = serde_json::to_string_pretty(&lines).context("writing JSON")?;
        return print(&text);
    }
    if !shown.is_empty() {
        let names = ["letter", "kept", "reason", "origin", "bytes", "", "error"];
        let mut cells = vec![names.map(str::to_owned)];
        cells.extend(shown.iter().map(row));
        print(&table(&cells))?;
    }
    print(&summary(&shown))?;
    if !hidden.is_empty() {
        print(&counted(
            hidden.len(),
            "was sent again and is not shown: --all shows it",
            "were sent again and are not shown: --all shows them",
        ))?;
    }
    if foreign > 0 {
        let topic = &config.kafka.topics.dead_letters;
        let one = format!("record of {topic} is not a letter");
        let many = format!("records of {topic} are not letters");
        print(&counted(foreign, &one, &many))?;
    }
    Ok(())
}

/// How many there are, and for which reasons.
pub(super) fn summary(rows: &[Row]) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *reasons.entry(&row.letter.reason).or_default() += 1;
    }
    let reasons = reasons.iter();
    let reasons: Vec<String> = reasons
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if rows.is_empty() {
        return "no dead letters".to_owned();
    }
    let letters = counted(rows.len(), "dead letter", "dead letters");
    format!("{letters}: {}", reasons.join(", "))
}

fn row(row: &Row) -> [String; 7] {
    let state = match (row.replayed_at, &row.letter.cut) {
        (Some(at), _) => format!("replayed {}", show(at)),
        (None, Some(_)) => "cut".to_owned(),
        (None, None) => String::new(),
    };
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    let error = row.letter.error.chars().map(one_line);
    let mut error: String = error.take(ERROR_CHARS_SHOWN).collect();
    if error.chars().count() < row.letter.error.chars().count() {
        error.push('…');
    }
    [
        row.place.to_string(),
        row.kept_at.map(show).unwrap_or_default(),
        row.letter.reason.clone(),
        format!("{} {}", row.letter.origin_topic, row.letter.origin),
        row.bytes.to_string(),
        state,
        error,
    ]
}

fn line(row: &Row) -> Line<'_> {
    Line {
        partition: row.place.partition,
        offset: row.place.offset,
        kept_at: row.kept_at,
        reason: &row.letter.reason,
        error: &row.letter.error,
        origin_topic: &row.letter.origin_topic,
        origin_partition: row.letter.origin.partition,
        origin_offset: row.letter.origin.offset,
        bytes: row.bytes,
        cut: row.letter.cut.as_deref(),
        replayed_at: row.replayed_at,
    }
}
