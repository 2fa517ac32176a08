//! The mark by which a transaction is known among the group's committed positions: it tells whether a commit whose answer
//! was lost was carried out. It stands at the end of the metadata, after a semicolon. Pure.

use uuid::Uuid;

/// One transaction's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TransactionMark(String);

impl TransactionMark {
    /// What it adds to the metadata.
    pub(super) const BYTES: usize = 1 + 32;

    /// A mark that no other transaction has.
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    /// The metadata with the mark.
    pub(super) fn add_to(&self, metadata: &str) -> String {
        format!("{metadata};{}", self.0)
    }

    /// Whether the metadata has this mark.
    pub(super) fn is_in(&self, metadata: &str) -> bool {
        metadata
            .rsplit_once(';')
            .is_some_and(|(_, mark)| mark == self.0)
    }

    /// The metadata without any mark.
    pub(super) fn without(metadata: &str) -> &str {
        metadata
            .rsplit_once(';')
            .map_or(metadata, |(metadata, _)| metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_and_taken_off_again() {
        let (mark, other) = (TransactionMark::random(), TransactionMark::random());
        for metadata in ["", "1:AbC+/"] {
            let marked = mark.add_to(metadata);
            assert_eq!(marked.len(), metadata.len() + TransactionMark::BYTES);
            assert!(mark.is_in(&marked) && !other.is_in(&marked));
            assert!(!mark.is_in(metadata));
            assert_eq!(TransactionMark::without(&marked), metadata);
            assert_eq!(TransactionMark::without(metadata), metadata);
        }
    }
}
