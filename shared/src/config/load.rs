//! Reading the configuration: TOML, then `CRASHFERRY__SECTION__KEY` from the environment, unknown keys refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::{
    ByteSize, ChunkConfig, Config, KeepConfig, KeyConfig, ProjectConfig, ProjectLimits,
    RedisConfig, Secret, Span, StorageConfig, toml_error,
};
use crate::id::{ProjectId, PublicKey};
use crate::quota::Quotas;

/// What the names of our environment variables start with.
pub const ENVIRONMENT_PREFIX: &str = "CRASHFERRY__";

/// librdkafka settings that are written in code because the promise rests on them.
pub(super) const PROMISE_OPTIONS: &[&str] = &[
    "acks",
    "request.required.acks",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "message.max.bytes",
    "batch.size",
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
];

/// Tables whose keys are another program's.
const OPTIONS: [&str; 2] = ["kafka.options", "storage.options"];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("expected a readable configuration file at {path}: {error}")]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: {problem}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and what, without the line.
        problem: String,
    },
    /// A value is not of its key's kind.
    #[error("{0}")]
    WrongValue(String),
    /// Keys or values that cannot be.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// The configuration from the file at `path`, if any, and from `environment`.
///
/// # Errors
/// [`ConfigError`], one sentence a problem.
pub fn load(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let text = path.map(read_file).transpose()?.unwrap_or_default();
    let mut table: Table = text.parse().map_err(|error| ConfigError::NotToml {
        path: path.unwrap_or(Path::new("")).to_owned(),
        problem: toml_error::not_toml(&error, &text),
    })?;
    let known = known_keys();
    let mut problems = unknown_keys(&table, &known);
    for (name, text) in environment {
        let Some(keys) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
            continue;
        };
        let key = keys.to_ascii_lowercase().replace("__", ".");
        match find(&known, &key) {
            Some(sample) => set(&mut table, &key, value_like(sample, &text)),
            None => problems.push(unknown(
                &format!("environment variable {name}"),
                &key,
                &known,
            )),
        }
    }
    // After the environment, which may set them as a whole.
    problems.extend(unknown_project_keys(&table));
    if !problems.is_empty() {
        return Err(ConfigError::Invalid(problems));
    }
    let config = Config::deserialize(table);
    config.map_err(|error| ConfigError::WrongValue(toml_error::wrong_value(&error, &text)))
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        error,
    })
}

/// A configuration in which every key has a value, so that its TOML shows all keys and their kinds.
fn known_keys() -> Table {
    let mut config = Config {
        redis: RedisConfig {
            url: Some(secret()),
        },
        storage: StorageConfig {
            url: Some(String::new()),
            keep: known_keep(),
            ..StorageConfig::default()
        },
        projects: vec![],
        ..Config::default()
    };
    config.admin.token = Some(secret());
    config.spool.resumable_max_bytes = Some(ByteSize::bytes(0));
    config.kafka.brokers = Some(String::new());
    config.kafka.chunk = ChunkConfig {
        max_bytes: Some(ByteSize::bytes(0)),
    };
    config.processor.workers = Some(1);
    // INVARIANT: the configuration is plain tables of plain values.
    Table::try_from(config).expect("the configuration makes TOML")
}

/// The same for one of the projects.
fn known_project() -> Table {
    let id = ProjectId::new(1);
    let size = ByteSize::bytes(1);
    let key = KeyConfig {
        disabled: true,
        quotas: Quotas {
            uploads_per_minute: Some(1),
            uploads_per_hour: Some(1),
            bytes_per_minute: Some(size),
            bytes_per_hour: Some(size),
        },
        ..KeyConfig::from(PublicKey::random())
    };
    let project = ProjectConfig {
        keys: vec![key],
        limits: ProjectLimits { inflation: Some(1) },
        minidump_max: Some(size),
        hosts: vec![String::new()],
        keep: Some(known_keep()),
        ..ProjectConfig::new(id, [])
    };
    // INVARIANT: a project is plain tables of plain values.
    Table::try_from(project).expect("a project makes TOML")
}

fn known_keep() -> KeepConfig {
    KeepConfig {
        age: Some(Span::secs(1)),
        bytes: Some(ByteSize::bytes(1)),
    }
}

fn secret() -> Secret {
    Secret::new(String::new())
}

fn find<'t>(known: &'t Table, key: &str) -> Option<&'t Value> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    match (known.get(first)?, rest) {
        (value, "") => Some(value),
        (Value::Table(table), rest) => find(table, rest),
        (_, _) => None,
    }
}

fn set(table: &mut Table, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let inner = table
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    if !inner.is_table() {
        *inner = Value::Table(Table::new());
    }
    if let Value::Table(inner) = inner {
        set(inner, rest, value);
    }
}

/// Reads an environment text as the kind of value its key has: a text stays one, the rest is read as TOML.
fn value_like(sample: &Value, text: &str) -> Value {
    if sample.is_str() {
        return Value::String(text.to_owned());
    }
    let written: Result<Table, _> = toml::from_str(&format!("value = {text}"));
    written
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn unknown_keys(table: &Table, known: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    collect_unknown("", table, known, known, &mut problems);
    problems
}

/// The same in each of the projects, which are a list.
fn unknown_project_keys(table: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    let projects = table.get("projects").and_then(Value::as_array);
    let known_project = known_project();
    let known = Table::from_iter([("projects".to_owned(), known_project.clone().into())]);
    for project in projects.into_iter().flatten().filter_map(Value::as_table) {
        collect_unknown("projects", project, &known_project, &known, &mut problems);
    }
    problems
}

fn collect_unknown(
    prefix: &str,
    table: &Table,
    level: &Table,
    known: &Table,
    problems: &mut Vec<String>,
) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match (level.get(name), value) {
            (None, _) => problems.push(unknown("key", &key, known)),
            (Some(_), _) if OPTIONS.contains(&key.as_str()) => {}
            (Some(Value::Table(level)), Value::Table(table)) => {
                collect_unknown(&key, table, level, known, problems)
            }
            (Some(Value::Array(samples)), Value::Array(values)) => {
                let Some(level) = samples.first().and_then(Value::as_table) else {
                    continue;
                };
                for table in values.iter().filter_map(Value::as_table) {
                    collect_unknown(&key, table, level, known, problems);
                }
            }
            (Some(_), _) => {}
        }
    }
}

/// The sentence for a key nobody knows, with the known one that looks most like it.
fn unknown(what: &str, key: &str, known: &Table) -> String {
    let mut names = BTreeSet::new();
    collect_names("", known, &mut names);
    let nearest = names.iter().max_by(|a, b| {
        let likeness = |name: &str| strsim::jaro_winkler(name, key);
        likeness(a).total_cmp(&likeness(b))
    });
    let named = if what == "key" {
        format!("unknown key {key}")
    } else {
        format!("unknown key {key} ({what})")
    };
    match nearest {
        Some(nearest) => format!("{named}; the nearest known one is {nearest}"),
        None => named,
    }
}

fn collect_names(prefix: &str, table: &Table, names: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(inner) if !OPTIONS.contains(&key.as_str()) => {
                collect_names(&key, inner, names)
            }
            Value::Array(samples) if samples.iter().any(Value::is_table) => {
                names.insert(key.clone());
                for sample in samples.iter().filter_map(Value::as_table) {
                    collect_names(&key, sample, names);
                }
            }
            Value::Table(_)
            | Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => {
                names.insert(key);
            }
        }
    }
}

/// librdkafka takes every setting as text; in TOML they may be numbers and booleans too.
pub(super) fn option_texts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let table = Table::deserialize(deserializer)?;
    let text = |value: Value| match &value {
        Value::String(text) => text.clone(),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => value.to_string(),
    };
    Ok(table
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::{Keep, KeepMinidump, LogFormat, Role};

    fn from_text(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(text.as_bytes()).expect("write");
        load(
            Some(file.path()),
            environment
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        )
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
        let config = from_text(
            "[relay]\nlisten = \"127.0.0.1:4000\"\nack_deadline = \"5s\"\n[kafka.options]\n\"linger.ms\" = 1",
            &[
                ("CRASHFERRY__RELAY__ACK_DEADLINE", "7s"),
                ("CRASHFERRY__KAFKA__BROKERS", "127.0.0.1:9092"),
                ("CRASHFERRY__LIMITS__ATTACHMENTS", "3"),
                ("CRASHFERRY__LOG__FORMAT", "json"),
                ("CRASHFERRY__PROJECTS", "[{id = 4, keys = [\"abc\"]}]"),
                ("CRASHFERRY__PROCESSOR__WORKERS", "2"),
                ("CRASHFERRY__ADMIN__TOKEN", "12345"),
                ("PATH", "/bin"),
            ],
        )
        .expect("valid");
        assert_eq!(config.relay.listen.port(), 4000);
        assert_eq!(config.relay.ack_deadline, crate::config::Span::secs(7));
        assert_eq!(config.kafka.brokers.as_deref(), Some("127.0.0.1:9092"));
        assert_eq!(config.kafka.options.get("linger.ms"), Some("1"));
        assert_eq!(config.limits.attachments, 3);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.projects[0].id.get(), 4);
        assert_eq!(config.processor.workers, Some(2));
        assert_eq!(config.admin.token.expect("set").expose(), "12345");
        assert_eq!(config.spool.max_bytes, ByteSize::mib(10240));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let file = from_text("[relay]\nack_dedline = \"5s\"", &[]).expect_err("unknown");
        assert_eq!(
            file.to_string(),
            "unknown key relay.ack_dedline; the nearest known one is relay.ack_deadline"
        );
        let environment =
            from_text("", &[("CRASHFERRY__KAFKA__BROKER", "x")]).expect_err("unknown");
        assert!(
            environment
                .to_string()
                .contains("the nearest known one is kafka.brokers"),
            "{environment}"
        );
        let project = from_text("[[projects]]\nid = 1\nkey = [\"x\"]", &[]).expect_err("unknown");
        assert_eq!(
            project.to_string(),
            "unknown key projects.key; the nearest known one is projects.keys"
        );
        let nested = "[[projects]]\nid = 1\nkeys = [\"x\"]\nprivacy = { home_path = \"drop\" }";
        let whole = "[{id = 1, keys = [], privacy = {home_path = 1}}]";
        let environment = from_text("", &[("CRASHFERRY__PROJECTS", whole)]).expect_err("unknown");
        let nested = from_text(nested, &[]).expect_err("unknown");
        assert_eq!(environment.to_string(), nested.to_string());
        assert_eq!(
            nested.to_string(),
            "unknown key projects.privacy.home_path; the nearest known one is projects.privacy.home_paths"
        );
    }

    #[test]
    fn a_project_keeps_what_its_privacy_table_says_and_the_defaults_else() {
        let text = "[[projects]]\nid = 1\nkeys = [\"x\"]\n[[projects]]\nid = 2\nkeys = [\"y\"]\n\
            [projects.privacy]\ncommand_lines = \"keep\"\nminidump = \"failed\"";
        let config = from_text(text, &[]).expect("valid");
        let (usual, own) = (&config.projects[0].privacy, &config.projects[1].privacy);
        assert_eq!(*usual, crate::config::PrivacyConfig::default());
        assert_eq!(own.command_lines, Keep::Keep);
        assert_eq!(own.minidump, KeepMinidump::Failed);
        assert_eq!(own.home_paths, Keep::Keep);
        let shown = config.to_toml().expect("TOML");
        let again = from_text(&shown, &[]).expect("what is shown can be read");
        assert_eq!(again.projects, config.projects);
        let wrong = text.replace("failed", "sometimes");
        let wrong = from_text(&wrong, &[]).expect_err("refused").to_string();
        assert!(wrong.contains("`always`, `never`"), "{wrong}");
        let key = "[[projects]]\nid = 1\nkeys = [\"x\", { key = \"y\", upload_per_hour = 1 }]";
        let key = from_text(key, &[]).expect_err("unknown");
        assert_eq!(
            key.to_string(),
            "unknown key projects.keys.upload_per_hour; the nearest known one is projects.keys.uploads_per_hour"
        );
    }

    #[test]
    fn a_wrong_value_says_what_was_expected() {
        let error = from_text("[limits]\nupload = \"many\"", &[])
            .expect_err("wrong")
            .to_string();
        assert!(error.contains("expected a size like"), "{error}");
    }

    #[test]
    fn settings_that_keep_the_promise_cannot_be_set() {
        let config = from_text("[kafka.options]\nacks = 1", &[]).expect("reads");
        let error = config
            .check(Role::Standalone)
            .expect_err("refused")
            .to_string();
        assert!(error.contains("\"acks\""), "{error}");
    }

    #[test]
    fn a_relay_of_its_own_needs_kafka_redis_and_a_storage() {
        let error = Config::default()
            .check(Role::Relay)
            .expect_err("refused")
            .to_string();
        for key in ["kafka.brokers", "redis.url", "storage.url", "projects"] {
            assert!(error.contains(key), "{error}");
        }
        Config::default()
            .check(Role::Standalone)
            .expect("the defaults stand alone");
    }
}
