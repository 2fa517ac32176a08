//! The configuration: defaults < file < environment, checked before anything listens.

mod admin;
mod envelope;
mod kafka_options;
mod load;
mod network;
mod privacy;
mod project;
mod secret_url;
mod storage;
mod toml_error;
mod units;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

pub use admin::AdminConfig;
pub use envelope::{EnvelopeConfig, OtherItems};
pub use kafka_options::KafkaOptions;
pub use load::{ConfigError, ENVIRONMENT_PREFIX, load};
pub use network::{InvalidNetwork, Network};
pub use privacy::{Keep, KeepMinidump, PrivacyConfig};
pub use project::{KeyConfig, ProjectConfig, ProjectLimits};
pub use storage::{KeepConfig, StorageConfig};
pub use units::{ByteSize, Secret, Span};

/// So many bytes every body may become, however small it came.
pub const INFLATION_FREE_BYTES: ByteSize = ByteSize::mib(10);
/// Where Redis listens unless its URL says otherwise.
const REDIS_PORT: u16 = 6379;

/// Everything an operator can set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// A stop that takes longer is cut off.
    pub shutdown_timeout: Span,
    /// The HTTP side.
    pub relay: RelayConfig,
    /// The operators' side.
    pub admin: AdminConfig,
    /// Where files go.
    pub data: DataConfig,
    /// Bounds of the spool.
    pub spool: SpoolConfig,
    /// The scaled-out queue.
    pub kafka: KafkaConfig,
    /// The scaled-out state.
    pub redis: RedisConfig,
    /// Where dumps and reports are kept.
    pub storage: StorageConfig,
    /// Bounds of one upload.
    pub limits: UploadLimits,
    /// Repeated uploads.
    pub dedupe: DedupeConfig,
    /// What SDKs send besides crashes.
    pub envelope: EnvelopeConfig,
    /// The parsing side.
    pub processor: ProcessorConfig,
    /// Log output.
    pub log: LogConfig,
    /// Who may send.
    pub projects: Vec<ProjectConfig>,
}

/// `[relay]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RelayConfig {
    /// Where uploads are accepted.
    pub listen: SocketAddr,
    /// Kafka must have confirmed an upload by then.
    pub ack_deadline: Span,
    /// Memory for the bodies and chunks of all uploads under way.
    pub max_inflight_bytes: ByteSize,
    /// Proxies whose word for whom they forward is taken.
    #[serde(deserialize_with = "network::networks")]
    pub trusted_proxies: Vec<Network>,
}

/// `[data]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DataConfig {
    /// Holds `spool/`, `state.db` and `storage/`.
    pub dir: PathBuf,
}

/// `[spool]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SpoolConfig {
    /// The spool never grows past this.
    pub max_bytes: ByteSize,
    /// Its volume always keeps this much free.
    pub min_free_bytes: ByteSize,
    /// The part of it that files may take which come before their crash (TUS); none: a quarter.
    pub resumable_max_bytes: Option<ByteSize>,
}

impl SpoolConfig {
    /// The part of the spool that files may take which come before their crash.
    #[must_use]
    pub fn resumable_max(&self) -> ByteSize {
        let quarter = ByteSize::bytes(self.max_bytes.get() / 4);
        self.resumable_max_bytes.unwrap_or(quarter)
    }
}

/// `[kafka]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct KafkaConfig {
    /// `host:port,…`; none: the local queue.
    pub brokers: Option<String>,
    /// The processors' consumer group.
    pub group: String,
    /// librdkafka settings, for security and tuning. Those that keep the promise cannot be set here.
    pub options: KafkaOptions,
    /// Topic names.
    pub topics: TopicNames,
    /// Chunk size.
    pub chunk: ChunkConfig,
}

impl KafkaConfig {
    /// The product and its address, for messages: none of it is secret.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.brokers {
            Some(brokers) => format!("Kafka at {brokers}"),
            None => "the local queue".into(),
        }
    }
}

/// `[kafka.topics]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicNames {
    /// Chunks and events.
    pub attachments: String,
    /// Reports.
    pub reports: String,
    /// Outcomes.
    pub outcomes: String,
    /// What could not be decoded.
    pub dead_letters: String,
}

/// `[kafka.chunk]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChunkConfig {
    /// The most bytes of a chunk's payload; none: as large as the topic allows.
    pub max_bytes: Option<ByteSize>,
}

/// `[redis]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RedisConfig {
    /// `redis://…`; none: SQLite in `data.dir`.
    pub url: Option<Secret>,
}

impl RedisConfig {
    /// The product and its address, for messages: none of it is secret.
    #[must_use]
    pub fn address(&self) -> String {
        let Some(url) = &self.url else {
            return "SQLite".into();
        };
        let url = Url::parse(url.expose()).ok();
        let place = url.as_ref().map(|url| match url.host_str() {
            Some(host) if !host.is_empty() => {
                format!("{host}:{}", url.port().unwrap_or(REDIS_PORT))
            }
            Some(_) | None => url.path().to_owned(),
        });
        place.map_or("Redis".into(), |place| format!("Redis at {place}"))
    }
}

/// `[limits]`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadLimits {
    /// All of a body, decoded; and encoded.
    pub upload: ByteSize,
    /// One file.
    pub attachment: ByteSize,
    /// Files of one upload.
    pub attachments: u32,
    /// All form fields together.
    pub form: ByteSize,
    /// What compressed bytes may become, as a multiple of them, beyond the first [`INFLATION_FREE_BYTES`] that every body may.
    pub inflation: u32,
}

/// `[dedupe]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DedupeConfig {
    /// The same dump within this time gets the first one's id.
    pub window: Span,
}

/// `[processor]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessorConfig {
    /// Parser processes; none: one for each core.
    pub workers: Option<u32>,
    /// One dump's parsing may take this long.
    pub parse_timeout: Span,
    /// Address space of one parser process.
    pub parse_memory: ByteSize,
    /// How often a dump is tried whose parser dies.
    pub attempts: u32,
    /// Chunks whose event does not come for this long are abandoned.
    pub incomplete_after: Span,
    /// Memory for the chunks of events under way; past it they go to scratch files.
    pub memory: ByteSize,
    /// Scratch files for them; past it partitions are not read for a while. No single event may be larger.
    pub scratch: ByteSize,
}

impl ProcessorConfig {
    /// What cannot work, each with what was expected and what was found.
    fn problems(&self, limits: &UploadLimits) -> Vec<String> {
        let Self {
            workers,
            parse_timeout,
            parse_memory,
            attempts,
            incomplete_after,
            scratch,
            ..
        } = self;
        let (shortest, least, upload) =
            (Duration::from_millis(100), ByteSize::mib(64), limits.upload);
        let expected = [
            (
                *attempts > 0,
                format!("attempts: expected at least 1, found {attempts}"),
            ),
            (
                *workers != Some(0),
                "workers: expected at least 1, found 0".to_owned(),
            ),
            (
                parse_timeout.get() >= Duration::from_millis(1),
                format!("parse_timeout: expected at least 1ms, found {parse_timeout}"),
            ),
            (
                *parse_memory >= least,
                format!("parse_memory: expected at least {least}, found {parse_memory}"),
            ),
            (
                incomplete_after.get() >= shortest,
                format!("incomplete_after: expected at least 100ms, found {incomplete_after}"),
            ),
            (
                *scratch >= upload,
                format!("scratch: expected at least limits.upload ({upload}), found {scratch}"),
            ),
        ];
        let wrong = expected.into_iter().filter(|(holds, _)| !holds);
        wrong
            .map(|(_, problem)| format!("processor.{problem}"))
            .collect()
    }
}

/// `[log]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `text` for people, `json` for collectors.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,relay=debug`.
    pub level: String,
}

/// See [`LogConfig::format`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line an entry.
    Text,
    /// One JSON object an entry.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shutdown_timeout: Span::secs(30),
            relay: RelayConfig::default(),
            admin: AdminConfig::default(),
            data: DataConfig::default(),
            spool: SpoolConfig::default(),
            kafka: KafkaConfig::default(),
            redis: RedisConfig::default(),
            storage: StorageConfig::default(),
            limits: UploadLimits::default(),
            dedupe: DedupeConfig::default(),
            envelope: EnvelopeConfig::default(),
            processor: ProcessorConfig::default(),
            log: LogConfig::default(),
            projects: Vec::new(),
        }
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 3000).into(),
            ack_deadline: Span::secs(20),
            max_inflight_bytes: ByteSize::mib(256),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dir: "./crashferry-data".into(),
        }
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::mib(10 << 10),
            min_free_bytes: ByteSize::mib(1 << 10),
            resumable_max_bytes: None,
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: None,
            group: "crashferry".into(),
            options: KafkaOptions::default(),
            topics: TopicNames::default(),
            chunk: ChunkConfig::default(),
        }
    }
}

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            attachments: "ingest-attachments".into(),
            reports: "crash-reports".into(),
            outcomes: "crash-outcomes".into(),
            dead_letters: "crash-dead-letters".into(),
        }
    }
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            upload: ByteSize::mib(200),
            attachment: ByteSize::mib(200),
            attachments: 30,
            form: ByteSize::mib(1),
            inflation: 200,
        }
    }
}

impl Default for DedupeConfig {
    fn default() -> Self {
        Self {
            window: Span::secs(24 * 3600),
        }
    }
}

impl Default for ProcessorConfig {
    fn default() -> Self {
        Self {
            workers: None,
            parse_timeout: Span::secs(60),
            parse_memory: ByteSize::mib(2 << 10),
            attempts: 3,
            incomplete_after: Span::secs(600),
            memory: ByteSize::mib(256),
            scratch: ByteSize::mib(20 << 10),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".into(),
        }
    }
}

/// Which part of the system a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// All roles in one process.
    Standalone,
    /// HTTP to queue.
    Relay,
    /// Queue to reports.
    Processor,
}

impl Config {
    /// The configuration as TOML, secrets left out.
    ///
    /// # Errors
    /// A value that TOML cannot hold, such as a path that is not text.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Checks the settings against one another and against what `role` needs.
    ///
    /// # Errors
    /// Everything that is wrong, each with the key, what was expected and what was found.
    pub fn check(&self, role: Role) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        if role != Role::Standalone {
            let need = "a relay and a processor in processes of their own meet in";
            expect(
                self.kafka.brokers.is_some(),
                format!("kafka.brokers: expected an address, found none: {need} Kafka"),
            );
            expect(
                self.redis.url.is_some(),
                format!("redis.url: expected an address, found none: {need} Redis"),
            );
            expect(
                self.storage.url.is_some(),
                format!(
                    "storage.url: expected a place that both can reach, found none: {need} a storage"
                ),
            );
        }
        if role == Role::Relay {
            expect(
                !self.projects.is_empty(),
                "projects: expected at least one [[projects]], found none".into(),
            );
        }
        let limits = &self.limits;
        expect(
            limits.attachment <= limits.upload,
            format!(
                "limits.attachment: expected at most limits.upload ({}), found {}",
                limits.upload, limits.attachment
            ),
        );
        expect(
            limits.attachments > 0,
            "limits.attachments: expected at least 1, found 0".into(),
        );
        expect(
            limits.inflation > 0,
            "limits.inflation: expected at least 1, found 0".into(),
        );
        if let Some(resumable) = self.spool.resumable_max_bytes {
            expect(
                resumable <= self.spool.max_bytes,
                format!(
                    "spool.resumable_max_bytes: expected at most spool.max_bytes ({}), found {resumable}",
                    self.spool.max_bytes
                ),
            );
        }
        expect(
            self.spool.max_bytes >= limits.upload,
            format!(
                "spool.max_bytes: expected at least limits.upload ({}), found {}",
                limits.upload, self.spool.max_bytes
            ),
        );
        expect(
            self.relay.max_inflight_bytes >= ByteSize::mib(16),
            format!(
                "relay.max_inflight_bytes: expected at least 16MiB, found {}",
                self.relay.max_inflight_bytes
            ),
        );
        for key in load::PROMISE_OPTIONS {
            expect(
                !self.kafka.options.contains(key),
                format!(
                    "kafka.options: {key:?} keeps the promise that a 200 is durable and cannot be set"
                ),
            );
        }
        problems.extend(self.processor.problems(limits));
        problems.extend(self.admin.problems());
        problems.extend(crate::storage::Place::of(self).err());
        problems.extend(self.storage.keep.problem("storage.keep"));
        problems.extend(project::problems(&self.projects, limits));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }

    /// What can be, and is probably not meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let window = self.dedupe.window;
        let everyone = self.storage.keep.warning("storage.keep", window);
        let projects = self.projects.iter().filter_map(|project| {
            let key = format!("project {}: projects.keep", project.id);
            project.keep?.warning(&key, window)
        });
        everyone.into_iter().chain(projects).collect()
    }
}
