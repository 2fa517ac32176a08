//! `crashferry dead-letters`: what could not be taken from the ingest topic, to be looked at and sent again.

mod list;
mod replay;
mod scan;
mod sender;
mod show;
mod survey;

use clap::builder::PossibleValuesParser;
use shared::config::{Config, Role};
use shared::dead_letter::Place;
use shared::kafka::KafkaError;
use shared::message::MessageError;

use self::survey::Filter;
use crate::CommandError;
use crate::moment::Moment;

/// What can be done with dead letters.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Show the letters, newest last, and how many there are for each reason
    List {
        #[command(flatten)]
        filter: FilterArguments,
        /// Also those that were sent again
        #[arg(long)]
        all: bool,
        /// As JSON, an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Show one letter: its headers, what its message looks like, and what to do
    Show {
        /// PARTITION:OFFSET, as the list has it
        letter: Place,
        /// Write the message's bytes there instead; `-` is standard output
        #[arg(long, value_name = "FILE")]
        raw: Option<std::path::PathBuf>,
    },
    /// Send letters to the topic they came from again, after a fix; each once
    Replay(ReplayArguments),
}

/// Which letters.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FilterArguments {
    /// Those refused for this reason; may be repeated
    #[arg(long, value_parser = PossibleValuesParser::new(MessageError::REASONS))]
    reason: Vec<String>,
    /// Those kept then or later: a time such as 2026-01-31T12:00:00Z, or how long ago such as 2h
    #[arg(long, value_name = "T")]
    since: Option<Moment>,
    /// Those kept then or earlier
    #[arg(long, value_name = "T")]
    until: Option<Moment>,
    /// Those in this partition of the dead letters
    #[arg(long, value_name = "P")]
    partition: Option<i32>,
    /// This very letter, PARTITION:OFFSET; may be repeated
    #[arg(long, value_name = "P:O")]
    offset: Vec<Place>,
}

/// Which letters are sent again, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Only say what would be sent
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Also letters that were sent again before
    #[arg(long)]
    again: bool,
    /// Also letters that this version would refuse again
    #[arg(long)]
    force: bool,
}

impl FilterArguments {
    fn filter(self) -> Filter {
        let Self {
            reason,
            since,
            until,
            partition,
            offset,
        } = self;
        Filter {
            reasons: reason,
            since: since.map(|moment| moment.0),
            until: until.map(|moment| moment.0),
            partition,
            places: offset,
        }
    }
}

/// Carries out a command on the cluster that `config` names.
pub(crate) fn run(config: &Config, command: DeadLettersCommand) -> Result<(), CommandError> {
    config
        .check(Role::Standalone)
        .map_err(CommandError::usage)?;
    if config.kafka.brokers.is_none() {
        let quarantine = config.data.dir.join("spool").join("quarantine");
        return Err(CommandError::usage(format!(
            "kafka.brokers: expected an address, found none: without Kafka there are no dead letters. Spool files that \
             are damaged are kept in {}, each beside the reason",
            quarantine.display()
        )));
    }
    match command {
        DeadLettersCommand::List { filter, all, json } => {
            list::run(config, &filter.filter(), all, json)
        }
        DeadLettersCommand::Show { letter, raw } => show::run(config, letter, raw.as_deref()),
        DeadLettersCommand::Replay(arguments) => replay::run(config, arguments),
    }
}

fn kafka_error(error: KafkaError) -> CommandError {
    match error {
        error @ (KafkaError::NoTopic { .. } | KafkaError::Unsuitable(_)) => {
            CommandError::usage(format!("kafka.topics: {error}"))
        }
        error @ (KafkaError::Misconfigured { .. } | KafkaError::Unavailable { .. }) => {
            CommandError::Failed(error.into())
        }
    }
}
