use proptest::prelude::*;
use shared::message::write_checksums;

use super::*;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// One event as a producer would send it: its chunks' payloads by attachment.
#[derive(Clone, Debug)]
struct Sent {
    event_id: EventId,
    attachments: Vec<(AttachmentEntry, Vec<Vec<u8>>)>,
}

/// A message of [`Sent`].
#[derive(Clone, Debug)]
enum Part {
    Chunk { attachment: usize, index: usize },
    Event,
}

impl Sent {
    fn new(attachments: &[Vec<Vec<u8>>]) -> Self {
        let entry = |(number, chunks): (usize, &Vec<Vec<u8>>)| {
            let entry = AttachmentEntry {
                id: AttachmentId::random(),
                name: format!("{number}.bin"),
                content_type: None,
                attachment_type: if number == 0 {
                    AttachmentKind::Minidump
                } else {
                    AttachmentKind::Plain
                },
                chunks: chunks.len() as u32,
                size: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
                rate_limited: false,
            };
            (entry, chunks.clone())
        };
        Self {
            event_id: EventId::random(),
            attachments: attachments.iter().enumerate().map(entry).collect(),
        }
    }

    fn parts(&self) -> Vec<Part> {
        let chunks = self
            .attachments
            .iter()
            .enumerate()
            .flat_map(|(attachment, (_, chunks))| {
                (0..chunks.len()).map(move |index| Part::Chunk { attachment, index })
            });
        chunks.chain([Part::Event]).collect()
    }

    fn give(
        &self,
        assembly: &mut Assembly,
        part: &Part,
        offset: i64,
        now: Instant,
    ) -> (Taken, Option<Action>) {
        match part {
            Part::Chunk { attachment, index } => {
                let (entry, chunks) = &self.attachments[*attachment];
                let payload = Bytes::from(chunks[*index].clone());
                let chunk = (self.event_id, entry.id.clone(), *index as u32);
                assembly.take_chunk(chunk, offset, now, || Segment::Memory(payload))
            }
            Part::Event => {
                let hashes: Vec<_> = self
                    .attachments
                    .iter()
                    .map(|(entry, chunks)| (&entry.id, blake3::hash(&chunks.concat())))
                    .collect();
                let header = write_checksums(hashes);
                let headers = Headers::read([(shared::message::BLAKE3_HEADER, header.as_bytes())]);
                let message = EventMessage {
                    event_id: self.event_id,
                    project_id: ProjectId::new(1).expect("not zero"),
                    start_time: 1_790_000_000,
                    remote_addr: None,
                    payload: b"{}",
                    attachments: self
                        .attachments
                        .iter()
                        .map(|(entry, _)| entry.clone())
                        .collect(),
                };
                assembly.take_event(message, Bytes::from_static(b"{}"), headers, offset, now)
            }
        }
    }

    fn assert_whole(&self, assembled: &Assembled) {
        assert_eq!(assembled.incomplete, []);
        assert_eq!(assembled.envelope.attachments.len(), self.attachments.len());
        for (attachment, (entry, chunks)) in
            assembled.envelope.attachments.iter().zip(&self.attachments)
        {
            let bytes = attachment
                .content
                .read(0, entry.size as usize)
                .expect("in memory");
            assert_eq!(bytes, chunks.concat());
            assert_eq!(attachment.blake3, Some(blake3::hash(&bytes)));
        }
    }
}

fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..6)
}

fn events() -> impl Strategy<Value = Vec<Sent>> {
    let event =
        proptest::collection::vec(chunks(), 0..4).prop_map(|attachments| Sent::new(&attachments));
    proptest::collection::vec(event, 1..5)
}

proptest! {
    /// Any order, any repeats, any interleaving: each event is handed over once and whole.
    #[test]
    fn every_event_is_handed_over_once_and_whole(
        events in events(),
        order in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..400),
    ) {
        let mut queue: Vec<(usize, Part)> = events
            .iter()
            .enumerate()
            .flat_map(|(event, sent)| sent.parts().into_iter().map(move |part| (event, part)))
            .collect();
        let mut assembly = Assembly::new(WEEK);
        let mut handed_over: HashMap<EventId, i64> = HashMap::new();
        let mut begun = HashMap::new();
        let now = Instant::now();
        let mut order = order.into_iter().cycle();
        let mut offset = 0;
        while !queue.is_empty() {
            let (pick, repeat) = order.next().expect("endless");
            let (event, part) = if repeat && offset < 2_000 {
                queue[pick.index(queue.len())].clone()
            } else {
                queue.swap_remove(pick.index(queue.len()))
            };
            let sent = &events[event];
            let (taken, action) = sent.give(&mut assembly, &part, offset, now);
            if taken == Taken::Begins {
                prop_assert!(begun.insert(sent.event_id, offset).is_none(), "an event begins once");
            }
            if let Some(Action::Process(assembled)) = action {
                sent.assert_whole(&assembled);
                prop_assert!(handed_over.insert(sent.event_id, offset).is_none(), "handed over twice");
                if pick.index(2) == 0 {
                    prop_assert_eq!(assembly.finish(sent.event_id).map(|ended| ended.first_offset), begun.get(&sent.event_id).copied());
                }
            }
            offset += 1;
        }
        prop_assert_eq!(handed_over.len(), events.len());
        for sent in &events {
            assembly.finish(sent.event_id);
        }
        prop_assert_eq!(assembly.open_events(), 0);
    }

    /// Whatever is lost is named, exactly.
    #[test]
    fn lost_chunks_are_named_after_the_wait(chunks in chunks(), lost in any::<u8>()) {
        prop_assume!(!chunks.is_empty());
        let sent = Sent::new(std::slice::from_ref(&chunks));
        let is_lost = |index: usize| lost & (1 << index) != 0;
        let missing: Vec<u32> = (0..chunks.len()).filter(|index| is_lost(*index)).map(|index| index as u32).collect();
        prop_assume!(!missing.is_empty());
        let mut assembly = Assembly::new(WEEK);
        let now = Instant::now();
        let mut last_offset = 7;
        for part in sent.parts() {
            match part {
                Part::Chunk { index, .. } if is_lost(index) => {}
                Part::Chunk { .. } | Part::Event => {
                    let (_, action) = sent.give(&mut assembly, &part, last_offset, now);
                    prop_assert!(action.is_none());
                    last_offset += 1;
                }
            }
        }
        prop_assert!(assembly.take_time(now + LATE_CHUNK_WAIT - Duration::from_millis(1)).is_empty());
        let actions = assembly.take_time(now + LATE_CHUNK_WAIT);
        let [Action::Process(assembled)] = &actions[..] else { panic!("one event, found {actions:?}") };
        let received: usize = (0..chunks.len()).filter(|index| !is_lost(*index)).map(|index| chunks[index].len()).sum();
        let expected = MissingChunks {
            attachment: "0.bin".into(),
            expected_chunks: chunks.len() as u32,
            missing,
            expected_bytes: chunks.concat().len() as u64,
            received_bytes: received as u64,
            first_offset: 7,
            last_offset: last_offset - 1,
        };
        let failure = Failure::MissingChunks(vec![expected]);
        prop_assert_eq!(&assembled.incomplete, &vec![Incomplete { kind: AttachmentKind::Minidump, failure }]);
        prop_assert!(assembly.take_time(now + WEEK).is_empty(), "told once");
    }
}

#[test]
fn a_late_chunk_within_the_wait_completes_the_event() {
    let sent = Sent::new(&[vec![b"one".to_vec(), b"two".to_vec()]]);
    let mut assembly = Assembly::new(WEEK);
    let now = Instant::now();
    sent.give(
        &mut assembly,
        &Part::Chunk {
            attachment: 0,
            index: 1,
        },
        0,
        now,
    );
    sent.give(&mut assembly, &Part::Event, 1, now);
    let late = now + LATE_CHUNK_WAIT - Duration::from_secs(1);
    let (_, action) = sent.give(
        &mut assembly,
        &Part::Chunk {
            attachment: 0,
            index: 0,
        },
        2,
        late,
    );
    let Some(Action::Process(assembled)) = action else {
        panic!("complete")
    };
    sent.assert_whole(&assembled);
}

#[test]
fn chunks_without_an_event_are_abandoned_once_and_hold_their_offset_until_then() {
    let sent = Sent::new(&[vec![b"one".to_vec(), b"two".to_vec()]]);
    let mut assembly = Assembly::new(Duration::from_secs(600));
    let now = Instant::now();
    let (taken, _) = sent.give(
        &mut assembly,
        &Part::Chunk {
            attachment: 0,
            index: 0,
        },
        4,
        now,
    );
    assert_eq!(taken, Taken::Begins);
    assert!(
        assembly
            .take_time(now + Duration::from_secs(599))
            .is_empty()
    );
    let actions = assembly.take_time(now + Duration::from_secs(600));
    assert!(
        matches!(&actions[..], [Action::Abandon { first_offset: 4, chunks: 1, event_id }] if *event_id == sent.event_id),
        "{actions:?}"
    );
    assert_eq!(assembly.open_events(), 0);
}

#[test]
fn stragglers_of_a_finished_event_begin_nothing() {
    let sent = Sent::new(&[vec![b"one".to_vec()]]);
    let mut assembly = Assembly::new(WEEK);
    let now = Instant::now();
    for (offset, part) in sent.parts().iter().enumerate() {
        sent.give(&mut assembly, part, offset as i64, now);
    }
    let ended = assembly.finish(sent.event_id);
    assert_eq!(ended.map(|ended| ended.first_offset), Some(0));
    for part in sent.parts() {
        assert!(matches!(
            sent.give(&mut assembly, &part, 9, now),
            (Taken::Repeats, None)
        ));
    }
}

#[test]
fn a_whole_copy_is_taken_in_place_of_a_message_whose_chunks_were_given_up() {
    let lost = Sent::new(&[vec![b"one".to_vec()]]);
    let mut again = Sent::new(&[vec![b"one".to_vec()]]);
    again.event_id = lost.event_id;
    let mut assembly = Assembly::new(WEEK);
    let now = Instant::now();
    assert!(lost.give(&mut assembly, &Part::Event, 0, now).1.is_none());
    let chunk = Part::Chunk {
        attachment: 0,
        index: 0,
    };
    assert!(again.give(&mut assembly, &chunk, 1, now).1.is_none());
    let (taken, action) = again.give(&mut assembly, &Part::Event, 2, now);
    assert!(matches!(taken, Taken::Continues), "{taken:?}");
    let Some(Action::Process(assembled)) = action else {
        panic!("handed over")
    };
    again.assert_whole(&assembled);
    assert_eq!(assembled.offset, 2);
    let ended = Ended {
        first_offset: 0,
        superseded: vec![0],
    };
    assert_eq!(assembly.finish(lost.event_id), Some(ended));
}

#[test]
fn an_attachment_of_another_size_than_announced_is_corrupt() {
    let mut sent = Sent::new(&[vec![b"dump".to_vec()], vec![b"log".to_vec()]]);
    sent.attachments[1].0.size = 5;
    let mut assembly = Assembly::new(WEEK);
    let now = Instant::now();
    let mut last = None;
    for (offset, part) in sent.parts().iter().enumerate() {
        last = sent.give(&mut assembly, part, offset as i64, now).1;
    }
    let Some(Action::Process(assembled)) = last else {
        panic!("handed over")
    };
    assert_eq!(assembled.envelope.attachments.len(), 1);
    let expected = CorruptAttachment {
        attachment: "1.bin".into(),
        check: "size".into(),
        expected: "5".into(),
        found: "3".into(),
    };
    assert_eq!(
        assembled.incomplete[0].failure,
        Failure::CorruptAttachment(expected)
    );
}
