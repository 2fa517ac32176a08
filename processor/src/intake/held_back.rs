//! Partitions are held back while there is no room for what comes of them.

use std::collections::BTreeSet;

use shared::kafka::RecordConsumer;

use super::scratch::Room;

/// What is not read for want of room.
#[derive(Default)]
pub(super) struct HeldBack {
    room: Room,
    partitions: BTreeSet<i32>,
}

impl HeldBack {
    /// How much room there was at the last look.
    pub(super) fn room(&self) -> Room {
        self.room
    }

    /// Whether a partition is not read.
    pub(super) fn holds(&self, partition: i32) -> bool {
        self.partitions.contains(&partition)
    }

    /// How many are not read.
    pub(super) fn count(&self) -> usize {
        self.partitions.len()
    }

    /// A partition is no longer ours.
    pub(super) fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Holds back and reads on what `room` asks for. `ours` are our partitions, and up to when the log of each was written
    /// where its oldest open event stands, if it has one.
    pub(super) fn adjust(
        &mut self,
        room: Room,
        ours: impl Iterator<Item = (i32, Option<i64>)>,
        consumer: &RecordConsumer,
    ) {
        if room != self.room {
            tracing::info!(?room, "room for chunks of unfinished events");
            self.room = room;
        }
        let partitions = to_hold_back(room, ours);
        if partitions != self.partitions {
            match consumer.hold_back(partitions.clone()) {
                Ok(()) => self.partitions = partitions,
                Err(error) => tracing::warn!(%error, "partitions are not held back yet"),
            }
        }
    }
}

/// Without room, all but the one whose event waits longest: what that one waits for is the only thing that makes room.
fn to_hold_back(room: Room, ours: impl Iterator<Item = (i32, Option<i64>)>) -> BTreeSet<i32> {
    match room {
        Room::Some => BTreeSet::new(),
        Room::NoDisk => ours.map(|(number, _)| number).collect(),
        Room::Full => {
            let (mut numbers, mut oldest) = (BTreeSet::new(), None);
            for (number, waiting_since) in ours {
                numbers.insert(number);
                let waiting = waiting_since.map(|since| (since, number));
                oldest = oldest.into_iter().chain(waiting).min();
            }
            if let Some((_, read_on)) = oldest {
                numbers.remove(&read_on);
            }
            numbers
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_room_only_what_may_make_some_is_read() {
        let held = |room, ours: &[(i32, Option<i64>)]| {
            let held = to_hold_back(room, ours.iter().copied());
            held.into_iter().collect::<Vec<_>>()
        };
        let ours = [(0, None), (1, Some(20)), (2, Some(10)), (3, Some(10))];
        assert!(held(Room::Some, &ours).is_empty());
        assert_eq!(held(Room::Full, &ours), [0, 1, 3]);
        assert_eq!(held(Room::NoDisk, &ours), [0, 1, 2, 3]);
        assert_eq!(
            held(Room::Full, &[(5, None)]),
            [5],
            "what is under way ends without it"
        );
    }
}
