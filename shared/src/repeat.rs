//! By what a repeated upload is known: what it contains. Pure.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// One thing that two copies of an upload have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RepeatMark {
    /// BLAKE3 of the minidump, or of whatever stands for an upload without one.
    Content(blake3::Hash),
    /// The report id in the minidump's file name: read from the stores of earlier versions, given to no upload any more.
    Report(Uuid),
}

/// All of an upload's marks; none when it cannot be told from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RepeatMarks {
    /// See [`RepeatMark::Content`].
    pub content: Option<blake3::Hash>,
    /// See [`RepeatMark::Report`].
    pub report: Option<Uuid>,
}

impl RepeatMarks {
    /// The marks there are. Always in the same order, so that two copies that wait for each other's marks never do so in
    /// a circle.
    pub fn iter(&self) -> impl Iterator<Item = RepeatMark> {
        let content = self.content.map(RepeatMark::Content);
        content
            .into_iter()
            .chain(self.report.map(RepeatMark::Report))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_none() && self.report.is_none()
    }
}

impl fmt::Display for RepeatMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(hash) => write!(f, "content:{}", hash.to_hex()),
            Self::Report(id) => write!(f, "report:{}", id.simple()),
        }
    }
}

/// What was expected where a mark should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected content:<64 hex digits> or report:<32 hex digits>")]
pub struct InvalidMark;

impl FromStr for RepeatMark {
    type Err = InvalidMark;

    fn from_str(text: &str) -> Result<Self, InvalidMark> {
        let mark = match text.split_once(':') {
            Some(("content", hex)) => blake3::Hash::from_hex(hex).ok().map(Self::Content),
            Some(("report", id)) => Uuid::try_parse(id).ok().map(Self::Report),
            Some(_) | None => None,
        };
        mark.ok_or(InvalidMark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_nothing_else_is_one() {
        for mark in [
            RepeatMark::Content(blake3::hash(b"a dump")),
            RepeatMark::Report(Uuid::new_v4()),
        ] {
            assert_eq!(mark.to_string().parse(), Ok(mark));
        }
        for text in ["", "content:", "content:12", "report:x", "other:12"] {
            assert_eq!(text.parse::<RepeatMark>(), Err(InvalidMark), "{text}");
        }
    }
}
