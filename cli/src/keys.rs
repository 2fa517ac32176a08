//! `crashferry keys`: what operators do to keys, in the configured state store. Running relays follow within seconds.

mod list;

use anyhow::{Context as _, anyhow};
use shared::config::{ByteSize, Config, ProjectConfig, Role};
use shared::id::{ProjectId, PublicKey};
use shared::limits;
use shared::metrics::Metrics;
use shared::quota::Quotas;
use shared::readiness::{Need, Part, Readiness};
use shared::state::{KeyPut, KeyRecord, State, StateError};

use self::list::{Line, Source};
use crate::output::{print, print_error};
use crate::{CommandError, role, welcome};

/// What may be sent with a new key, unless it is made with other limits. A key is in every program that sends crashes, so
/// it is public: these are bounds on what a stranger does with it. A release that crashes on half a million machines within
/// the hour stays below them.
const NEW_KEY_QUOTAS: Quotas = Quotas {
    uploads_per_minute: Some(30_000),
    uploads_per_hour: Some(600_000),
    bytes_per_minute: Some(ByteSize::mib(20 << 10)),
    bytes_per_hour: Some(ByteSize::mib(200 << 10)),
};

/// What can be done to keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeysCommand {
    /// Show every key, its quotas, and what of them is used in this minute and hour
    List {
        /// As JSON, an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Make a key for a project, with the limits of new keys where no others are named, and print its DSN
    Add {
        /// The project's number
        project: ProjectId,
        /// The key [default: a random one]
        #[arg(long)]
        key: Option<PublicKey>,
        #[command(flatten)]
        quotas: QuotaArguments,
        /// Without the limits that new keys have
        #[arg(long)]
        no_quotas: bool,
    },
    /// Take a key out of use: uploads with it are refused
    Disable {
        /// The key
        key: PublicKey,
    },
    /// Take a key into use again
    Enable {
        /// The key
        key: PublicKey,
    },
    /// Change what may be sent with a key; limits that are not named stay as they are
    Quota {
        /// The key
        key: PublicKey,
        #[command(flatten)]
        quotas: QuotaArguments,
        /// Remove every limit that is not named
        #[arg(long)]
        none: bool,
    },
}

/// A key's limits on the command line.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct QuotaArguments {
    /// Uploads in one minute
    #[arg(long, value_name = "N")]
    uploads_per_minute: Option<u64>,
    /// Uploads in one hour
    #[arg(long, value_name = "N")]
    uploads_per_hour: Option<u64>,
    /// Their bytes in one minute, decompressed
    #[arg(long, value_name = "SIZE")]
    bytes_per_minute: Option<ByteSize>,
    /// Their bytes in one hour, decompressed
    #[arg(long, value_name = "SIZE")]
    bytes_per_hour: Option<ByteSize>,
}

impl QuotaArguments {
    /// The limits that are named, over those of `before`.
    fn over(self, before: Quotas) -> Result<Quotas, CommandError> {
        let quotas = Quotas {
            uploads_per_minute: self.uploads_per_minute.or(before.uploads_per_minute),
            uploads_per_hour: self.uploads_per_hour.or(before.uploads_per_hour),
            bytes_per_minute: self.bytes_per_minute.or(before.bytes_per_minute),
            bytes_per_hour: self.bytes_per_hour.or(before.bytes_per_hour),
        };
        match quotas.problem() {
            None => Ok(quotas),
            Some(problem) => Err(CommandError::usage(problem)),
        }
    }
}

/// Carries out a command on the state store that `config` names.
pub(crate) fn run(mut config: Config, command: KeysCommand) -> Result<(), CommandError> {
    let runtime = role::command_runtime()?;
    config
        .check(Role::Standalone)
        .map_err(CommandError::usage)?;
    runtime.block_on(async {
        role::make_data_directory(&config)?;
        let readiness = Readiness::default();
        readiness.register(Part::State, Need::Informative);
        let state = State::open_patiently(&config, Metrics::default(), readiness).await;
        let state = state.map_err(CommandError::usage)?;
        let done = carry_out(&mut config, &state, command).await;
        state.shutdown().await;
        done
    })
}

async fn carry_out(
    config: &mut Config,
    state: &State,
    command: KeysCommand,
) -> Result<(), CommandError> {
    if config.projects.is_empty() {
        // As a standalone start does: the key is made for whichever comes first.
        let project = role::first_project(state).await?;
        config.projects.push(project);
    }
    let keys = Keys {
        config,
        state,
        stored: state.keys().await.map_err(store_error)?,
    };
    match command {
        KeysCommand::List { json } => keys.list(json).await,
        KeysCommand::Add {
            project,
            key,
            quotas,
            no_quotas,
        } => keys.add(project, key, quotas, no_quotas).await,
        KeysCommand::Disable { key } => keys.set_disabled(&key, true).await,
        KeysCommand::Enable { key } => keys.set_disabled(&key, false).await,
        KeysCommand::Quota { key, quotas, none } => keys.set_quotas(&key, quotas, none).await,
    }
}

/// The keys that there are.
struct Keys<'k> {
    config: &'k Config,
    state: &'k State,
    stored: Vec<KeyRecord>,
}

impl Keys<'_> {
    async fn list(&self, json: bool) -> Result<(), CommandError> {
        let all = self.all();
        let names: Vec<PublicKey> = all.iter().map(|(record, _)| record.key.clone()).collect();
        let used = self.state.quota_use(&names).await.map_err(store_error)?;
        let lines = all.into_iter().zip(used);
        let lines: Vec<Line> = lines
            .map(|((record, source), used)| Line::new(record, source, &used))
            .collect();
        if json {
            let text = serde_json::to_string_pretty(&lines).context("writing JSON")?;
            return print(&text);
        }
        print(&list::table(&lines))
    }

    async fn add(
        &self,
        project: ProjectId,
        key: Option<PublicKey>,
        quotas: QuotaArguments,
        no_quotas: bool,
    ) -> Result<(), CommandError> {
        let quotas = quotas.over(if no_quotas {
            Quotas::default()
        } else {
            NEW_KEY_QUOTAS
        })?;
        let key = key.unwrap_or_else(PublicKey::random);
        if let Some((known, _)) = self.find(&key) {
            return Err(exists(known.project_id));
        }
        let record = KeyRecord {
            key: key.clone(),
            project_id: project,
            disabled: false,
            quotas,
        };
        match self.state.add_key(record).await.map_err(store_error)? {
            KeyPut::Done => {}
            KeyPut::Known => return Err(exists(project)),
            KeyPut::Full => return Err(full()),
        }
        let is_configured = |known: &ProjectConfig| known.id == project;
        if !self.config.projects.iter().any(is_configured) {
            let note = "is not in the configuration; it exists by this key";
            print_error(&format!("note: project {project} {note}"));
        }
        print(&welcome::dsn(self.config.relay.listen, project, &key))
    }

    async fn set_disabled(&self, key: &PublicKey, disabled: bool) -> Result<(), CommandError> {
        let record = self.known(key)?;
        let project = record.project_id;
        self.put(KeyRecord { disabled, ..record }).await?;
        let state = if disabled { "disabled" } else { "enabled" };
        print(&format!("{}: {state} (project {project})", key.as_str()))
    }

    async fn set_quotas(
        &self,
        key: &PublicKey,
        quotas: QuotaArguments,
        none: bool,
    ) -> Result<(), CommandError> {
        let record = self.known(key)?;
        let before = if none {
            Quotas::default()
        } else {
            record.quotas
        };
        let quotas = quotas.over(before)?;
        self.put(KeyRecord { quotas, ..record }).await?;
        let shown = list::show(&quotas, |limit, value| {
            format!("{} = {}", limit.as_str(), limit.show(value))
        });
        print(&format!("{}: {shown}", key.as_str()))
    }

    async fn put(&self, record: KeyRecord) -> Result<(), CommandError> {
        match self.state.put_key(record).await.map_err(store_error)? {
            KeyPut::Done | KeyPut::Known => Ok(()),
            KeyPut::Full => Err(full()),
        }
    }

    fn known(&self, key: &PublicKey) -> Result<KeyRecord, CommandError> {
        let found = self.find(key).map(|(record, _)| record);
        found.ok_or_else(|| {
            CommandError::Failed(anyhow!(
                "expected a key of the configuration or the store, found neither to have {:?}; see crashferry keys list",
                key.as_str()
            ))
        })
    }

    fn find(&self, key: &PublicKey) -> Option<(KeyRecord, Source)> {
        self.all()
            .into_iter()
            .find(|(record, _)| record.key == *key)
    }

    /// Every key as it is in force, the configured ones first.
    fn all(&self) -> Vec<(KeyRecord, Source)> {
        let mut all = Vec::new();
        let mut added: Vec<&KeyRecord> = self.stored.iter().collect();
        for project in &self.config.projects {
            for key in &project.keys {
                let changed = added.iter().position(|record| record.key == key.key);
                let changed = changed.map(|at| added.remove(at));
                let source = match changed {
                    Some(_) => Source::Changed,
                    None => Source::Configuration,
                };
                let record = KeyRecord {
                    key: key.key.clone(),
                    project_id: project.id,
                    disabled: changed.map_or(key.disabled, |record| record.disabled),
                    quotas: changed.map_or(key.quotas, |record| record.quotas),
                };
                all.push((record, source));
            }
        }
        all.extend(
            added
                .into_iter()
                .cloned()
                .map(|record| (record, Source::Store)),
        );
        all
    }
}

fn exists(project: ProjectId) -> CommandError {
    CommandError::Failed(anyhow!(
        "expected a new key, found one that project {project} has already"
    ))
}

fn full() -> CommandError {
    CommandError::Failed(anyhow!(
        "expected fewer than {} keys in the store, found no room for another",
        limits::STATE_KEYS_MAX
    ))
}

fn store_error(error: StateError) -> CommandError {
    CommandError::Failed(anyhow::Error::from(error).context("keys"))
}
