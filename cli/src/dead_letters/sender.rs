//! Letters on their way back: batches of them, and events behind their chunks, each transaction with its markers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use shared::config::Config;
use shared::dead_letter::{
    Place, REPLAYED_OFFSET_HEADER, REPLAYED_PARTITION_HEADER, original_headers,
};
use shared::kafka::{
    KafkaError, OutputRecord, PartitionRange, TopicReader, TopicRecord, TransactionalProducer,
};
use shared::limits::{REPLAY_BYTES_MAX, REPLAY_LETTERS_MAX};

use super::kafka_error;
use super::scan::Company;
use super::survey::Row;
use crate::CommandError;
use crate::output::counted;

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Sends letters.
pub(super) struct Sender {
    producer: TransactionalProducer,
    ingest: Arc<str>,
    letters: Arc<str>,
    batch: Batch,
    sent: usize,
    chunks: usize,
    /// How many are to be sent.
    all: usize,
    told_at: Instant,
}

/// Letters that go out in one transaction.
#[derive(Default)]
struct Batch {
    records: Vec<OutputRecord>,
    letters: usize,
    bytes: usize,
}

impl Sender {
    /// Sends `all` letters with a producer that nobody shares.
    pub(super) fn new(config: &Config, producer: TransactionalProducer, all: usize) -> Self {
        let topics = &config.kafka.topics;
        Self {
            producer,
            ingest: topics.attachments.as_str().into(),
            letters: topics.dead_letters.as_str().into(),
            batch: Batch::default(),
            sent: 0,
            chunks: 0,
            all,
            told_at: Instant::now(),
        }
    }

    /// Letters sent so far.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Chunks that went along.
    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Sends a letter with others.
    pub(super) fn add(&mut self, row: &Row, letter: &TopicRecord) -> Result<(), CommandError> {
        let message = self.message(row, letter);
        let bytes = message.bytes();
        let is_full =
            self.batch.letters >= REPLAY_LETTERS_MAX || self.batch.bytes + bytes > REPLAY_BYTES_MAX;
        if is_full {
            self.send_batch()?;
        }
        let marker = self.marker(row.place, &letter.key);
        self.batch.records.extend([message, marker]);
        self.batch.letters += 1;
        self.batch.bytes += bytes;
        Ok(())
    }

    /// Sends what waits for company.
    pub(super) fn send_batch(&mut self) -> Result<(), CommandError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.letters == 0 {
            return Ok(());
        }
        self.transact(&batch.records).map_err(kafka_error)?;
        self.note_sent(batch.letters);
        Ok(())
    }

    fn transact(&mut self, records: &[OutputRecord]) -> Result<(), KafkaError> {
        let mut transaction = self.producer.begin()?;
        for record in records {
            transaction.send(record)?;
        }
        transaction.commit()
    }

    /// Sends an event behind its chunks, which come from the log as they are.
    pub(super) fn send_with(
        &mut self,
        row: &Row,
        letter: &TopicRecord,
        company: &Company,
        origin: &mut TopicReader,
    ) -> Result<(), CommandError> {
        self.send_batch()?;
        let mut last = vec![
            self.message(row, letter),
            self.marker(row.place, &letter.key),
        ];
        let letters = company.letters.iter();
        last.extend(letters.map(|place| self.marker(*place, &letter.key)));
        let ingest = Arc::clone(&self.ingest);
        let chunks = chunks_of(row, company, origin)?;
        let mut transaction = self.producer.begin().map_err(kafka_error)?;
        let mut sent = 0;
        for chunk in chunks {
            let chunk = chunk.map_err(kafka_error)?;
            let chunk = as_it_was(&ingest, chunk);
            transaction.send(&chunk).map_err(kafka_error)?;
            sent += 1;
        }
        if sent != company.offsets.len() {
            return Err(CommandError::Failed(anyhow!(
                "retention has removed {} of letter {} meanwhile",
                counted(company.offsets.len() - sent, "chunk", "chunks"),
                row.place
            )));
        }
        for record in &last {
            transaction.send(record).map_err(kafka_error)?;
        }
        transaction.commit().map_err(kafka_error)?;
        self.chunks += sent;
        self.note_sent(1 + company.letters.len());
        Ok(())
    }

    fn message(&self, row: &Row, letter: &TopicRecord) -> OutputRecord {
        let headers = original_headers(letter);
        OutputRecord {
            topic: Arc::clone(&self.ingest),
            partition: Some(row.letter.origin.partition),
            key: letter.key.clone(),
            headers: headers
                .map(|(name, value)| (name.to_owned().into(), value.clone()))
                .collect(),
            value: letter.value.clone(),
        }
    }

    /// Beside the letter, so that whoever reads its partition finds both.
    fn marker(&self, place: Place, key: &Bytes) -> OutputRecord {
        let Place { partition, offset } = place;
        OutputRecord {
            topic: Arc::clone(&self.letters),
            partition: Some(partition),
            key: key.clone(),
            headers: vec![
                (
                    REPLAYED_PARTITION_HEADER.into(),
                    partition.to_string().into(),
                ),
                (REPLAYED_OFFSET_HEADER.into(), offset.to_string().into()),
            ],
            value: Bytes::new(),
        }
    }

    fn note_sent(&mut self, count: usize) {
        self.sent += count;
        if self.told_at.elapsed() >= TOLD_EVERY {
            self.told_at = Instant::now();
            eprintln!("{} of {} sent", self.sent, self.all);
        }
    }
}

/// The chunks that go along with an event, out of its partition.
fn chunks_of<'r>(
    row: &Row,
    company: &'r Company,
    origin: &'r mut TopicReader,
) -> Result<impl Iterator<Item = Result<TopicRecord, KafkaError>> + use<'r>, CommandError> {
    let ends = company.offsets.first().zip(company.offsets.last());
    let range = ends.map(|(first, last)| PartitionRange {
        partition: row.letter.origin.partition,
        start: *first,
        end: last + 1,
    });
    let ranges: Vec<PartitionRange> = range.into_iter().collect();
    origin.read(&ranges).map_err(kafka_error)?;
    let records = std::iter::from_fn(|| origin.next_record().transpose());
    Ok(records.filter(|record| match record {
        Ok(record) => company.offsets.contains(&record.offset),
        Err(_) => true,
    }))
}

/// A record that goes to its topic once more.
fn as_it_was(topic: &Arc<str>, record: TopicRecord) -> OutputRecord {
    let headers = record.headers.into_iter();
    OutputRecord {
        topic: Arc::clone(topic),
        partition: Some(record.partition),
        key: record.key,
        headers: headers.map(|(name, value)| (name.into(), value)).collect(),
        value: record.value,
    }
}
