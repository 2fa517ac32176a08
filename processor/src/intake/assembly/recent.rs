//! A set that remembers what was put in last. Pure.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// The last so many different values.
#[derive(Debug)]
pub(super) struct Recent<T> {
    known: HashSet<T>,
    order: VecDeque<T>,
    most: usize,
}

impl<T: Clone + Eq + Hash> Recent<T> {
    pub(super) fn of(most: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: VecDeque::new(),
            most,
        }
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        self.known.contains(value)
    }

    pub(super) fn insert(&mut self, value: T) {
        if !self.known.insert(value.clone()) {
            return;
        }
        self.order.push_back(value);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut recent = Recent::of(2);
        for value in [1, 2, 1, 3] {
            recent.insert(value);
        }
        assert_eq!(
            [1, 2, 3].map(|value| recent.contains(&value)),
            [false, true, true]
        );
    }
}
