//! `crashferry dead-letters replay`: letters go to the topic they came from again, each in one transaction with the marker
//! that says so. Whoever else is replaying is shut out first, so that none is sent by two.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, anyhow};
use shared::config::Config;
use shared::dead_letter::Place;
use shared::kafka::{Admin, PartitionRange, ProducerBounds, TopicReader, TransactionalProducer};
use shared::size_limit::TopicLimit;

use super::scan::{Company, company};
use super::sender::Sender;
use super::survey::{Reading, Row, Survey, place_of};
use super::{ReplayArguments, kafka_error, list};
use crate::output::{counted, print};
use crate::{CommandError, role};

/// Bytes of records that are unconfirmed.
const INFLIGHT_BYTES: usize = 16 << 20;
/// Letters of each kind that are named one by one.
const NAMED_MAX: usize = 20;

/// What is sent and what is left.
struct Plan {
    chosen: Vec<Row>,
    left: Vec<(Place, String)>,
    company: BTreeMap<Place, Company>,
}

/// Sends the letters that the filter chooses.
pub(super) fn run(config: &Config, arguments: ReplayArguments) -> Result<(), CommandError> {
    let mut producer = match arguments.dry_run {
        true => None,
        false => Some(claim(config)?),
    };
    let filter = arguments.filter.clone().filter();
    let survey = Survey::take(config, &filter)?;
    let ingest = &config.kafka.topics.attachments;
    let mut origin = TopicReader::open(&config.kafka, ingest).map_err(kafka_error)?;
    let plan = Plan::make(config, &mut origin, survey, &arguments)?;
    plan.tell()?;
    let Some(producer) = producer.take() else {
        return print("nothing was sent: --dry-run");
    };
    if plan.chosen.is_empty() {
        return Ok(());
    }
    if !arguments.yes && !confirmed(plan.chosen.len())? {
        return print("nothing was sent");
    }
    let mut sender = Sender::new(config, producer, plan.chosen.len());
    let sent = send_all(config, &mut sender, &mut origin, &plan);
    print(&format!(
        "sent {} again, with {}",
        letters(sender.sent()),
        counted(sender.chunks(), "chunk", "chunks")
    ))?;
    sent.map_err(|error| match error {
        CommandError::Failed(error) => CommandError::Failed(error.context(
            "not all letters were sent; run it again: what was sent is known, and is not sent twice",
        )),
        CommandError::Usage(_) => error,
    })
}

/// The producer, and nobody else's.
fn claim(config: &Config) -> Result<TransactionalProducer, CommandError> {
    let runtime = role::command_runtime()?;
    let topics = &config.kafka.topics;
    let mut bytes_max = Vec::new();
    let admin = Admin::new(&config.kafka).map_err(kafka_error)?;
    for topic in [&topics.attachments, &topics.dead_letters] {
        let described = runtime.block_on(admin.describe(topic));
        let limit = described.map_err(kafka_error)?.max_message_bytes;
        let limit = TopicLimit::new(limit)
            .map_err(|error| CommandError::usage(format!("topic {topic:?}: {error}")))?;
        bytes_max.push(limit.client_bytes_max());
    }
    let bounds = ProducerBounds {
        record_bytes_max: bytes_max.iter().copied().max().unwrap_or_default(),
        batch_bytes_max: bytes_max.iter().copied().min().unwrap_or_default(),
        inflight_bytes: INFLIGHT_BYTES,
    };
    let id = format!("{}-dead-letters", config.kafka.group);
    let mut producer = TransactionalProducer::new(&config.kafka, bounds, id);
    producer.reopen().map_err(kafka_error)?;
    Ok(producer)
}

impl Plan {
    fn make(
        config: &Config,
        origin: &mut TopicReader,
        survey: Survey,
        arguments: &ReplayArguments,
    ) -> Result<Self, CommandError> {
        let (mut chosen, mut left) = (Vec::new(), Vec::new());
        for row in survey.rows {
            match why_not(config, origin, &row, arguments) {
                Some(why) => left.push((row.place, why)),
                None => chosen.push(row),
            }
        }
        let rows: Vec<&Row> = chosen.iter().collect();
        let company = company(config, origin, &rows)?;
        Ok(Self {
            chosen,
            left,
            company,
        })
    }

    fn tell(&self) -> Result<(), CommandError> {
        let mut left: HashMap<&str, Vec<Place>> = HashMap::new();
        for (place, why) in &self.left {
            left.entry(why).or_default().push(*place);
        }
        let mut left: Vec<(&str, Vec<Place>)> = left.into_iter().collect();
        left.sort();
        for (why, places) in left {
            let named: Vec<String> = places
                .iter()
                .take(NAMED_MAX)
                .map(Place::to_string)
                .collect();
            let more = if places.len() > NAMED_MAX {
                ", …"
            } else {
                ""
            };
            print(&format!(
                "left: {} {why}: {}{more}",
                letters(places.len()),
                named.join(", ")
            ))?;
        }
        print(&format!("to be sent: {}", list::summary(&self.chosen)))?;
        for (place, company) in self.company.iter().take(NAMED_MAX) {
            let chunks = counted(company.offsets.len(), "chunk goes along", "chunks go along");
            let bytes = counted(company.bytes, "byte", "bytes");
            let gone = match company.missing {
                0 => String::new(),
                missing => {
                    let are = counted(missing, "of its chunks is", "of its chunks are");
                    format!("; {are} no longer in the topic, so it will fail with missing_chunks")
                }
            };
            print(&format!("  {place} is an event: {chunks}, {bytes}{gone}"))?;
        }
        match self.company.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => {
                let others = self.company.values().skip(NAMED_MAX);
                let incomplete = others.filter(|company| company.missing > 0).count();
                let more = counted(more, "more event", "more events");
                let lack = counted(incomplete, "lacks", "lack");
                print(&format!("  and {more} with chunks, of which {lack} some"))
            }
        }
    }

    /// Letters that go along with an event, and are not sent by themselves.
    fn companions(&self) -> BTreeSet<Place> {
        let all = self.company.values();
        all.flat_map(|company| &company.letters).copied().collect()
    }
}

/// Why a letter is left where it is.
fn why_not(
    config: &Config,
    origin: &TopicReader,
    row: &Row,
    arguments: &ReplayArguments,
) -> Option<String> {
    if row.replayed_at.is_some() && !arguments.again {
        return Some("sent before (once more only with --again)".into());
    }
    if row.letter.cut.is_some() {
        return Some(
            "cut to the dead letters' topic's limit, so that what came is not whole".into(),
        );
    }
    let (topic, ingest) = (&row.letter.origin_topic, &config.kafka.topics.attachments);
    if topic != ingest {
        return Some(format!(
            "from topic {topic}, which is not kafka.topics.attachments"
        ));
    }
    if !origin.partitions().contains(&row.letter.origin.partition) {
        return Some("from a partition that the topic does not have".into());
    }
    match &row.message {
        Reading::Refused(reason) if !arguments.force => Some(format!(
            "that this version would refuse again as {reason} (sent only with --force)"
        )),
        Reading::Refused(_) | Reading::Chunk(_) | Reading::Event(..) => None,
    }
}

fn confirmed(count: usize) -> Result<bool, CommandError> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(CommandError::usage(
            "expected --yes or --dry-run, found neither, and no terminal to ask at",
        ));
    }
    eprint!("Send {} again? [y/N] ", letters(count));
    std::io::stderr().flush().context("standard error")?;
    let mut answer = String::new();
    input
        .lock()
        .read_line(&mut answer)
        .context("standard input")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads the chosen letters once more, in their order, and sends each.
fn send_all(
    config: &Config,
    sender: &mut Sender,
    origin: &mut TopicReader,
    plan: &Plan,
) -> Result<(), CommandError> {
    let companions = plan.companions();
    let rows = plan.chosen.iter();
    let rows = rows.filter(|row| !companions.contains(&row.place));
    let chosen: HashMap<Place, &Row> = rows.map(|row| (row.place, row)).collect();
    let mut ranges: BTreeMap<i32, PartitionRange> = BTreeMap::new();
    for Place { partition, offset } in chosen.keys().copied() {
        let range = ranges.entry(partition).or_insert(PartitionRange {
            partition,
            start: offset,
            end: offset + 1,
        });
        range.start = range.start.min(offset);
        range.end = range.end.max(offset + 1);
    }
    let topic = &config.kafka.topics.dead_letters;
    let mut reader = TopicReader::open(&config.kafka, topic).map_err(kafka_error)?;
    let ranges: Vec<PartitionRange> = ranges.into_values().collect();
    reader.read(&ranges).map_err(kafka_error)?;
    let mut found = 0;
    while let Some(record) = reader.next_record().map_err(kafka_error)? {
        let Some(row) = chosen.get(&place_of(&record)) else {
            continue;
        };
        found += 1;
        match plan.company.get(&row.place) {
            Some(company) if !company.offsets.is_empty() => {
                sender.send_with(row, &record, company, origin)?;
            }
            Some(_) | None => sender.add(row, &record)?,
        }
    }
    sender.send_batch()?;
    match chosen.len() - found {
        0 => Ok(()),
        gone => Err(CommandError::Failed(anyhow!(
            "retention has removed {} meanwhile",
            letters(gone)
        ))),
    }
}

fn letters(count: usize) -> String {
    counted(count, "letter", "letters")
}
