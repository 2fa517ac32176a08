//! A stack before it starts: which services it uses, and its configuration.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Role, Stack};
use crate::kafka::Topics;
use crate::s3::{self, S3};
use crate::settings::Settings;
use crate::{environment, ports, redis};

/// A stack before it starts.
pub struct Plan {
    /// Configuration on top of what the harness needs.
    pub settings: Settings,
    split: Option<Split>,
    /// Variables of the relay's environment, which win over the settings.
    relay_variables: Vec<(String, String)>,
    descriptors: Option<u32>,
    hooked: bool,
    program: Option<PathBuf>,
    two_relays: bool,
    processors: usize,
    /// Where what the stack stores can be looked at as files, when that is not below its own directory.
    storage: Option<PathBuf>,
}

/// The services of a split stack, and what its queue looks like.
struct Split {
    broker: String,
    /// `None`: a database of its own in the shared one.
    redis: Option<String>,
    partitions: i32,
    limit_bytes: Option<u32>,
}

impl Plan {
    /// One process, no Kafka, no Redis.
    pub fn standalone() -> Self {
        Self {
            settings: Settings::new(),
            split: None,
            relay_variables: Vec::new(),
            descriptors: None,
            hooked: false,
            program: None,
            two_relays: false,
            processors: 1,
            storage: None,
        }
    }

    /// Relay and processor, with the shared Kafka and Redis.
    pub fn split() -> Self {
        Self {
            settings: Settings::new(),
            split: Some(Split {
                broker: environment::kafka(),
                redis: None,
                partitions: 2,
                limit_bytes: None,
            }),
            relay_variables: Vec::new(),
            descriptors: None,
            hooked: false,
            program: None,
            two_relays: false,
            processors: 1,
            storage: None,
        }
    }

    /// The attachments topic's own `max.message.bytes`.
    pub fn limit(mut self, bytes: u32) -> Self {
        self.queue().limit_bytes = Some(bytes);
        self
    }

    /// The topics' partitions.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.queue().partitions = partitions;
        self
    }

    /// The most files each role may have open.
    pub fn descriptors(mut self, descriptors: u32) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// Every role runs the program whose parser processes obey hooks in a dump.
    pub fn hooked(mut self) -> Self {
        self.hooked = true;
        self
    }

    /// Every role runs this program.
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// A second relay beside the first, in front of the same services.
    pub fn two_relays(mut self) -> Self {
        self.two_relays = true;
        self
    }

    /// Three processors that share the work.
    pub fn three_processors(mut self) -> Self {
        self.queue();
        self.processors = 3;
        self
    }

    /// Another broker than the shared one.
    pub fn broker(mut self, address: &str) -> Self {
        self.queue().broker = address.to_owned();
        self
    }

    /// Another Redis than the shared one.
    pub fn redis(mut self, address: &str) -> Self {
        self.queue().redis = Some(address.to_owned());
        self
    }

    /// Keeps dumps and reports in the bucket of `server`, which is reached at `address`: its own, or a proxy's.
    pub fn bucket(mut self, server: &S3, address: &str) -> Self {
        self.storage = Some(server.objects());
        let url = format!("s3://{}/{}", s3::BUCKET, s3::PREFIX);
        let endpoint = format!("http://{address}");
        let options = "storage.options";
        self.text("storage", "url", &url)
            .text(options, "aws_endpoint", &endpoint)
            .raw(options, "aws_allow_http", "true")
            .text(options, "aws_access_key_id", s3::ACCESS_KEY)
            .text(options, "aws_secret_access_key", s3::SECRET_KEY)
    }

    /// The relay, and nobody else, comes to the broker at this address: a proxy's.
    pub fn relay_broker(self, address: &str) -> Self {
        self.relay_variable("CRASHFERRY__KAFKA__BROKERS", address)
    }

    /// Sets a variable of the relay's environment.
    pub fn relay_variable(mut self, name: &str, value: &str) -> Self {
        self.relay_variables
            .push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a text, size or time of the configuration.
    pub fn text(mut self, section: &str, key: &str, value: &str) -> Self {
        self.settings.text(section, key, value);
        self
    }

    /// Sets any other value of the configuration.
    pub fn raw(mut self, section: &str, key: &str, value: &str) -> Self {
        self.settings.raw(section, key, value);
        self
    }

    /// Sets what else project 1 has, see [`Settings::project`].
    pub fn project(mut self, toml: &str) -> Self {
        self.settings.project(toml);
        self
    }

    /// Starts every role and waits until each is ready.
    pub fn start(self) -> Stack {
        let mut stack = self.prepare();
        stack.start();
        stack
    }

    /// Makes everything a stack needs, and starts none of its roles.
    pub fn prepare(mut self) -> Stack {
        let dir = tempfile::tempdir().expect("a directory for the stack");
        let relay_port = ports::free();
        let listen = format!("127.0.0.1:{relay_port}");
        self.settings.text("relay", "listen", &listen);
        self.settings.text("log", "format", "json");
        let mut stack = match self.split {
            None => prepare_standalone(&self.settings, dir, listen, self.storage),
            Some(split) => {
                prepare_split(self.settings, split, dir, listen, relay_port, self.storage)
            }
        };
        if self.two_relays {
            stack.add_relay();
        }
        for name in ["processor-2", "processor-3"]
            .into_iter()
            .take(self.processors - 1)
        {
            stack.add_processor(name);
        }
        for (name, value) in self.relay_variables {
            stack.relay().set_variable(&name, &value);
        }
        for role in &mut stack.roles {
            role.descriptors = self.descriptors;
            if let Some(program) = &self.program {
                role.program = program.clone();
            }
            if self.hooked {
                role.program = environment::hooked_binary();
            }
        }
        stack
    }

    fn queue(&mut self) -> &mut Split {
        self.split
            .as_mut()
            .expect("only a split stack has a Kafka queue")
    }
}

fn prepare_standalone(
    settings: &Settings,
    dir: TempDir,
    listen: String,
    storage: Option<PathBuf>,
) -> Stack {
    let config = write_config(&dir, settings);
    let data = dir.path().join("data");
    let mut standalone = Role::new("standalone", "standalone", &config, dir.path());
    standalone.set_data(&data);
    Stack {
        roles: vec![standalone],
        listen,
        second_listen: None,
        config,
        topics: None,
        broker: String::new(),
        storage: storage.unwrap_or_else(|| data.join("storage")),
        database: None,
        dir,
    }
}

fn prepare_split(
    mut settings: Settings,
    split: Split,
    dir: TempDir,
    listen: String,
    database: u16,
    storage: Option<PathBuf>,
) -> Stack {
    let topics = Topics::unique();
    topics.create(&split.broker, split.partitions, split.limit_bytes);
    let storage = storage.unwrap_or_else(|| {
        let storage = dir.path().join("storage");
        fs::create_dir(&storage).expect("a directory for the storage");
        settings.text("storage", "url", &format!("file://{}", storage.display()));
        storage
    });
    settings.text("kafka", "brokers", &split.broker);
    settings.text("kafka", "group", &topics.attachments);
    settings.text("kafka.topics", "attachments", &topics.attachments);
    settings.text("kafka.topics", "reports", &topics.reports);
    settings.text("kafka.topics", "outcomes", &topics.outcomes);
    settings.text("kafka.topics", "dead_letters", &topics.dead_letters);
    let database = split.redis.is_none().then_some(database);
    if let Some(database) = database {
        redis::flush(database);
    }
    let redis = split.redis.unwrap_or_else(environment::redis);
    let redis = format!("redis://{redis}/{}", database.unwrap_or_default());
    settings.text("redis", "url", &redis);
    let config = write_config(&dir, &settings);
    let role = |name| Role::new(name, name, &config, dir.path());
    Stack {
        roles: vec![role("relay"), role("processor")],
        listen,
        second_listen: None,
        config,
        topics: Some(topics),
        broker: split.broker,
        storage,
        database,
        dir,
    }
}

fn write_config(dir: &TempDir, settings: &Settings) -> PathBuf {
    let path = dir.path().join("crashferry.toml");
    fs::write(&path, settings.to_toml()).expect("the configuration can be written");
    path
}
