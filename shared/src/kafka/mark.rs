//! The mark by which a transaction is known among the group's committed positions: it tells whether a commit whose answer
//! was lost was carried out. It stands at the end of the metadata, behind the place where reading begins again. Pure.

use uuid::Uuid;

use super::consumer::CommitPosition;

/// One transaction's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TransactionMark(String);

impl TransactionMark {
    /// What is added to the metadata: how far below the offset reading begins again, and the mark.
    pub(super) const BYTES: usize = 1 + 20 + 1 + 32;

    /// A mark that no other transaction has.
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    /// The text that is committed with a position.
    pub(super) fn add_to(&self, position: &CommitPosition) -> String {
        let below = position.offset - position.resume;
        format!("{};{below};{}", position.metadata, self.0)
    }

    /// Whether the metadata has this mark.
    pub(super) fn is_in(&self, metadata: &str) -> bool {
        metadata
            .rsplit_once(';')
            .is_some_and(|(_, mark)| mark == self.0)
    }
}

/// A committed position from what the group has of it. A text that we did not write counts as none.
pub(super) fn committed(partition: i32, offset: i64, text: &str) -> CommitPosition {
    let mut parts = text.split(';');
    let metadata = parts.next().unwrap_or_default().to_owned();
    let below = parts.next().and_then(|below| below.parse().ok());
    CommitPosition {
        partition,
        offset,
        resume: offset.saturating_sub(below.unwrap_or(0)).max(0),
        metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_without_the_mark() {
        let (mark, other) = (TransactionMark::random(), TransactionMark::random());
        for (metadata, resume) in [("", 7), ("1:AbC+/", 7), ("", 3)] {
            let position = CommitPosition {
                partition: 2,
                offset: 7,
                resume,
                metadata: metadata.to_owned(),
            };
            let text = mark.add_to(&position);
            assert!(text.len() <= metadata.len() + TransactionMark::BYTES);
            assert!(mark.is_in(&text) && !other.is_in(&text));
            assert_eq!(committed(2, 7, &text), position);
        }
        assert_eq!(committed(2, 7, "").resume, 7);
        assert_eq!(committed(2, 7, "something else").resume, 7);
    }
}
