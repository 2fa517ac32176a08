use std::collections::HashSet;

use proptest::prelude::*;
use shared::id::ProjectId;
use shared::message::{AttachmentEntry, AttachmentMessage, StartTime, write_checksums};
use shared::outcome::{CorruptAttachment, MissingChunks};

use super::super::foreign;
use super::*;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn assembly(incomplete_after: Duration) -> Assembly {
    Assembly::new(incomplete_after, 1 << 30)
}

fn received_at() -> ReceivedAt {
    ReceivedAt {
        at: "2026-09-21T13:33:20Z".parse().expect("a time"),
        warning: None,
    }
}

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
                attachment_type: if number == 0 {
                    AttachmentKind::Minidump
                } else {
                    AttachmentKind::Plain
                },
                chunks: chunks.len() as u32,
                size: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
                ..AttachmentEntry::default()
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
        now: LogTime,
    ) -> (Taken, Option<Action>) {
        match part {
            Part::Chunk { attachment, index } => {
                let (entry, chunks) = &self.attachments[*attachment];
                let payload = Bytes::from(chunks[*index].clone());
                let chunk = (self.event_id, entry.id.clone(), *index as u32);
                assembly.take_chunk(chunk, offset, now, payload.len() as u64, || {
                    Segment::Memory(payload)
                })
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
                    project_id: ProjectId::new(1),
                    start_time: StartTime::default(),
                    remote_addr: None,
                    payload: b"{}",
                    attachments: self
                        .attachments
                        .iter()
                        .map(|(entry, _)| entry.clone())
                        .collect(),
                };
                let received = Received {
                    source: message.event_id,
                    received_at: received_at(),
                    message,
                    payload: Bytes::from_static(b"{}"),
                    headers,
                    offset,
                };
                assembly.take_event(received, now)
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
        let mut assembly = assembly(WEEK);
        let mut handed_over: HashMap<EventId, i64> = HashMap::new();
        let mut begun = HashSet::new();
        let now = LogTime::default();
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
            let is_chunk = matches!(part, Part::Chunk { .. });
            let (taken, action) = sent.give(&mut assembly, &part, offset, now);
            match taken {
                Taken::Begins if is_chunk => { prop_assert!(begun.insert(offset)); }
                Taken::Begins | Taken::Continues => {}
                Taken::Repeats(ended) => for offset in ended {
                    prop_assert!(begun.remove(&offset), "an attachment ends once");
                }
            }
            if let Some(Action::Process(assembled)) = action {
                sent.assert_whole(&assembled);
                prop_assert!(handed_over.insert(sent.event_id, offset).is_none(), "handed over twice");
                if pick.index(2) == 0 {
                    for offset in assembly.finish(sent.event_id).begun {
                        prop_assert!(begun.remove(&offset), "an attachment ends once");
                    }
                }
            }
            offset += 1;
        }
        prop_assert_eq!(handed_over.len(), events.len());
        for sent in &events {
            for offset in assembly.finish(sent.event_id).begun {
                prop_assert!(begun.remove(&offset), "an attachment ends once");
            }
        }
        prop_assert_eq!(begun, HashSet::new());
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
        let mut assembly = assembly(WEEK);
        let now = LogTime::default();
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
        prop_assert!(assembly.take_time(now + (LATE_CHUNK_WAIT - Duration::from_millis(1))).is_empty());
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
    let mut assembly = assembly(WEEK);
    let now = LogTime::default();
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
    let late = now + (LATE_CHUNK_WAIT - Duration::from_secs(1));
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
    let mut assembly = assembly(Duration::from_secs(600));
    let now = LogTime::default();
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
        matches!(&actions[..], [Action::Abandon { begun, chunks: 1, event_id }] if *event_id == sent.event_id && *begun == [4]),
        "{actions:?}"
    );
    assert_eq!(assembly.open_events(), 0);
}

#[test]
fn stragglers_of_a_finished_event_begin_nothing() {
    let sent = Sent::new(&[vec![b"one".to_vec()]]);
    let mut assembly = assembly(WEEK);
    let now = LogTime::default();
    for (offset, part) in sent.parts().iter().enumerate() {
        sent.give(&mut assembly, part, offset as i64, now);
    }
    let ended = assembly.finish(sent.event_id);
    assert_eq!(ended.begun, [0]);
    for part in sent.parts() {
        let (taken, action) = sent.give(&mut assembly, &part, 9, now);
        assert!(
            taken == Taken::Repeats(Vec::new()) && action.is_none(),
            "{taken:?}"
        );
    }
}

#[test]
fn a_whole_copy_is_taken_in_place_of_a_message_whose_chunks_were_given_up() {
    let lost = Sent::new(&[vec![b"one".to_vec()]]);
    let mut again = Sent::new(&[vec![b"one".to_vec()]]);
    again.event_id = lost.event_id;
    let mut assembly = assembly(WEEK);
    let now = LogTime::default();
    assert!(lost.give(&mut assembly, &Part::Event, 0, now).1.is_none());
    let chunk = Part::Chunk {
        attachment: 0,
        index: 0,
    };
    assert!(again.give(&mut assembly, &chunk, 1, now).1.is_none());
    let (taken, action) = again.give(&mut assembly, &Part::Event, 2, now);
    assert_eq!(taken, Taken::Begins);
    let Some(Action::Process(assembled)) = action else {
        panic!("handed over")
    };
    again.assert_whole(&assembled);
    assert_eq!(assembled.offset, 2);
    let ended = Ended {
        begun: vec![1],
        superseded: vec![0],
    };
    assert_eq!(assembly.finish(lost.event_id), ended);
}

#[test]
fn an_attachment_of_another_size_than_announced_is_corrupt() {
    let mut sent = Sent::new(&[vec![b"dump".to_vec()], vec![b"log".to_vec()]]);
    sent.attachments[1].0.size = 5;
    let mut assembly = assembly(WEEK);
    let now = LogTime::default();
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

/// The message of a file that is sent apart from its crash.
fn apart(crash: &Sent, number: usize, offset: i64) -> Received<'static> {
    let message = AttachmentMessage {
        event_id: crash.event_id,
        project_id: ProjectId::new(1),
        attachment: crash.attachments[number].0.clone(),
    };
    foreign::file(message, received_at(), Headers::default(), offset)
}

#[test]
fn a_file_sent_apart_from_its_crash_is_found_before_and_after_it() {
    let both = Sent::new(&[vec![b"dump".to_vec()], vec![b"lo".to_vec(), b"g".to_vec()]]);
    let mut crash = both.clone();
    crash.attachments.truncate(1);
    let chunk = |attachment, index| Part::Chunk { attachment, index };
    for crash_first in [true, false] {
        let mut assembly = assembly(WEEK);
        let now = LogTime::default();
        let give_crash = |assembly: &mut Assembly| {
            crash.give(assembly, &chunk(0, 0), 10, now);
            let message = Received {
                headers: Headers::default(),
                ..event_of(&crash, 11)
            };
            let (_, action) = assembly.take_event(message, now);
            assert!(matches!(action, Some(Action::Process(_))), "{action:?}");
            assert_eq!(assembly.finish(crash.event_id).begun, [10]);
        };
        if crash_first {
            give_crash(&mut assembly);
        }
        assert_eq!(
            both.give(&mut assembly, &chunk(1, 0), 20, now).0,
            Taken::Begins
        );
        let file = apart(&both, 1, 21);
        let late_id = file.message.event_id;
        assert!(
            assembly.take_event(file, now).1.is_none(),
            "it waits for its second chunk"
        );
        let (_, action) = both.give(&mut assembly, &chunk(1, 1), 22, now);
        let Some(Action::Process(assembled)) = action else {
            panic!("whole")
        };
        assert_eq!(assembled.envelope.event_id, late_id);
        assert_eq!(assembled.incomplete, []);
        assert_eq!(assembled.attached_to(), Some(both.event_id));
        assert_eq!(assembly.finish(late_id).begun, [20]);
        let copy = assembly.take_event(apart(&both, 1, 23), now);
        assert!(matches!(copy, (Taken::Repeats(_), None)), "{copy:?}");
        if !crash_first {
            give_crash(&mut assembly);
        }
        assert_eq!(assembly.open_events(), 0);
    }
}

fn event_of(sent: &Sent, offset: i64) -> Received<'static> {
    Received {
        message: EventMessage {
            event_id: sent.event_id,
            project_id: ProjectId::new(1),
            start_time: StartTime::default(),
            remote_addr: None,
            payload: b"{}",
            attachments: sent
                .attachments
                .iter()
                .map(|(entry, _)| entry.clone())
                .collect(),
        },
        source: sent.event_id,
        received_at: received_at(),
        payload: Bytes::from_static(b"{}"),
        headers: Headers::default(),
        offset,
    }
}

#[test]
fn bytes_that_do_not_come_in_chunks_are_taken_or_named() {
    let mut sent = Sent::new(&[vec![], vec![], vec![]]);
    let data = Bytes::from_static(b"in the message");
    sent.attachments[0].0.size = data.len() as u64;
    sent.attachments[0].0.data = Some(data.clone());
    sent.attachments[1].0.stored_id = Some("elsewhere".into());
    sent.attachments[2].0.rate_limited = true;
    let mut assembly = assembly(WEEK);
    let (_, action) = assembly.take_event(event_of(&sent, 0), LogTime::default());
    let Some(Action::Process(assembled)) = action else {
        panic!("nothing is waited for")
    };
    let [inline] = &assembled.envelope.attachments[..] else {
        panic!("one is whole")
    };
    assert_eq!(inline.content.read(0, data.len()).expect("in memory"), data);
    let check = |incomplete: &Incomplete| {
        let Failure::CorruptAttachment(corrupt) = &incomplete.failure else {
            panic!("{incomplete:?}")
        };
        corrupt.check.clone()
    };
    let checks: Vec<String> = assembled.incomplete.iter().map(check).collect();
    assert_eq!(checks, ["stored_id", "rate_limited"]);
}

#[test]
fn what_is_odd_about_its_time_goes_along_with_the_event() {
    let sent = Sent::new(&[vec![]]);
    let received_at = ReceivedAt {
        warning: Some("odd".into()),
        ..received_at()
    };
    let received = Received {
        received_at: received_at.clone(),
        ..event_of(&sent, 0)
    };
    let (_, action) = assembly(WEEK).take_event(received, LogTime::default());
    let Some(Action::Process(assembled)) = action else {
        panic!("nothing is waited for")
    };
    assert_eq!(assembled.envelope.received_at, received_at.at);
    assert_eq!(assembled.warnings, ["odd"]);
}

#[test]
fn an_event_that_no_room_is_enough_for_is_given_up_and_named() {
    let sent = Sent::new(&[vec![vec![1; 60], vec![2; 60], vec![3; 60]]]);
    let mut assembly = Assembly::new(WEEK, 100);
    let mut last = None;
    for (offset, part) in sent.parts().iter().enumerate() {
        last = sent
            .give(&mut assembly, part, offset as i64, LogTime::default())
            .1;
    }
    let Some(Action::Process(assembled)) = last else {
        panic!("handed over")
    };
    let Failure::CorruptAttachment(corrupt) = &assembled.incomplete[0].failure else {
        panic!("{:?}", assembled.incomplete)
    };
    assert_eq!(corrupt.found, "180 bytes and more");
    assert_eq!(assembly.finish(sent.event_id).begun, [0]);
}
