//! The built binary, running: as one process on its embedded defaults, or as relay and processor with Kafka and Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Request, Response};
use crate::kafka::{self, Isolation, Topics};
use crate::metrics::{Ledger, Metrics};
use crate::multipart::Form;
use crate::process::Process;
use crate::settings::{KEY, Settings};
use crate::{environment, ports, redis, wait};

/// How long a role may take to become ready.
pub const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long an upload may take to get its fate, on a machine with other work to do.
pub const FATE_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(40);

/// One running role.
pub struct Role {
    name: &'static str,
    admin: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    descriptors: Option<u32>,
    log: PathBuf,
    process: Option<Process>,
}

/// A running installation in a directory of its own.
pub struct Stack {
    roles: Vec<Role>,
    listen: String,
    topics: Option<Topics>,
    broker: String,
    storage: PathBuf,
    database: u16,
    /// Holds everything the roles write.
    dir: TempDir,
}

/// A stack before it starts.
pub struct Plan {
    /// Configuration on top of what the harness needs.
    pub settings: Settings,
    split: Option<Split>,
    descriptors: Option<u32>,
}

/// What the queue of a split stack looks like.
struct Split {
    broker: String,
    partitions: i32,
    limit_bytes: Option<u32>,
}

impl Plan {
    /// One process, no Kafka, no Redis.
    pub fn standalone() -> Self {
        Self {
            settings: Settings::new(),
            split: None,
            descriptors: None,
        }
    }

    /// Relay and processor, with the shared Kafka and Redis.
    pub fn split() -> Self {
        Self {
            settings: Settings::new(),
            split: Some(Split {
                broker: environment::kafka(),
                partitions: 2,
                limit_bytes: None,
            }),
            descriptors: None,
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

    /// Another broker than the shared one.
    pub fn broker(mut self, address: &str) -> Self {
        self.queue().broker = address.to_owned();
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

    /// Starts every role and waits until each is ready.
    pub fn start(self) -> Stack {
        let descriptors = self.descriptors;
        let mut stack = self.prepare();
        for role in &mut stack.roles {
            role.descriptors = descriptors;
        }
        stack.start_all();
        stack
    }

    fn queue(&mut self) -> &mut Split {
        self.split
            .as_mut()
            .expect("only a split stack has a Kafka queue")
    }

    fn prepare(mut self) -> Stack {
        let dir = tempfile::tempdir().expect("a directory for the stack");
        let relay_port = ports::free();
        let listen = format!("127.0.0.1:{relay_port}");
        self.settings.text("relay", "listen", &listen);
        self.settings.text("log", "format", "json");
        match self.split {
            None => prepare_standalone(self.settings, dir, listen),
            Some(split) => prepare_split(self.settings, split, dir, listen, relay_port),
        }
    }
}

fn prepare_standalone(mut settings: Settings, dir: TempDir, listen: String) -> Stack {
    let data = dir.path().join("data");
    settings.text("data", "dir", &data.display().to_string());
    let config = write_config(&dir, &settings);
    Stack {
        roles: vec![Role::new("standalone", &config, dir.path(), None)],
        listen,
        topics: None,
        broker: String::new(),
        storage: data.join("storage"),
        database: 0,
        dir,
    }
}

fn prepare_split(
    mut settings: Settings,
    split: Split,
    dir: TempDir,
    listen: String,
    database: u16,
) -> Stack {
    let topics = Topics::unique();
    topics.create(&split.broker, split.partitions, split.limit_bytes);
    redis::flush(database);
    let storage = dir.path().join("storage");
    fs::create_dir(&storage).expect("a directory for the storage");
    settings.text("kafka", "brokers", &split.broker);
    settings.text("kafka", "group", &topics.attachments);
    settings.text("kafka.topics", "attachments", &topics.attachments);
    settings.text("kafka.topics", "reports", &topics.reports);
    settings.text("kafka.topics", "outcomes", &topics.outcomes);
    settings.text("kafka.topics", "dead_letters", &topics.dead_letters);
    let redis = format!("redis://{}/{database}", environment::redis());
    settings.text("redis", "url", &redis);
    settings.text("storage", "url", &format!("file://{}", storage.display()));
    let config = write_config(&dir, &settings);
    let role = |name| {
        let data = dir.path().join(name);
        Role::new(name, &config, dir.path(), Some(&data))
    };
    Stack {
        roles: vec![role("relay"), role("processor")],
        listen,
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

impl Stack {
    /// `host:port` that takes uploads.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// Address of the broker, for a split stack.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Names of the topics, for a split stack.
    pub fn topics(&self) -> &Topics {
        self.topics.as_ref().expect("only a split stack has topics")
    }

    /// Directory of the stack's files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The relay, which alone is all of a standalone stack.
    pub fn relay(&mut self) -> &mut Role {
        &mut self.roles[0]
    }

    /// The processor, which in a standalone stack is the same process.
    pub fn processor(&mut self) -> &mut Role {
        self.roles.last_mut().expect("a stack has a role")
    }

    /// Path of the upload endpoint of project 1, with its key.
    pub fn minidump_path() -> String {
        format!("/api/1/minidump/?sentry_key={KEY}")
    }

    /// The same as a URL, for clients that want one.
    pub fn minidump_url(&self) -> String {
        format!("http://{}{}", self.listen, Self::minidump_path())
    }

    /// Posts a form with this minidump and nothing else.
    pub fn post(&self, dump: &[u8]) -> Response {
        self.post_form(Form::minidump(dump))
    }

    /// Posts a form to project 1.
    pub fn post_form(&self, form: Form) -> Response {
        Request::post(Self::minidump_path(), form.finish())
            .header("Content-Type", &Form::content_type())
            .send(&self.listen)
    }

    /// Uploads a minidump, insists on a 200 and returns the event id.
    pub fn upload(&self, dump: &[u8]) -> String {
        accepted_id(&self.post(dump))
    }

    /// `GET` of an event of project 1.
    pub fn event(&self, id: &str) -> Response {
        Request::get(format!("/api/1/events/{id}/?sentry_key={KEY}")).send(&self.listen)
    }

    /// Waits until the event is `processed`, and returns its report.
    pub fn report(&self, id: &str) -> Value {
        self.report_within(id, FATE_DEADLINE)
    }

    /// As [`Stack::report`], with a deadline of the caller's.
    pub fn report_within(&self, id: &str, deadline: Duration) -> Value {
        let mut event = self.fate(id, "processed", deadline);
        event["report"].take()
    }

    /// Waits until the event has the stated status, and returns the whole answer.
    pub fn fate(&self, id: &str, status: &str, deadline: Duration) -> Value {
        wait::until(&format!("event {id} to be {status}"), deadline, || {
            let response = self.event(id);
            if response.status == 404 {
                return Err(format!("404 {}", response.text()));
            }
            assert_eq!(response.status, 200, "event {id}: {}", response.text());
            let event = response.json();
            if event["status"] == status {
                return Ok(event);
            }
            assert_eq!(
                event["status"],
                "accepted",
                "event {id} was to be {status}: {}",
                response.text()
            );
            Err(response.text())
        })
    }

    /// The minidump as it was stored.
    pub fn stored_dump(&self, id: &str) -> Vec<u8> {
        self.stored(id, "minidump.dmp")
    }

    /// A stored file of an event, by its path below the event's directory.
    pub fn stored(&self, id: &str, path: &str) -> Vec<u8> {
        let file = self.stored_dir(id).join(path);
        fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// Directory of an event in the storage: `{project}/{yyyy-mm-dd}/{event_id}`.
    pub fn stored_dir(&self, id: &str) -> PathBuf {
        let days = fs::read_dir(self.storage.join("1")).expect("project 1 has stored something");
        days.map(|day| day.expect("a day's directory").path().join(id))
            .find(|dir| dir.is_dir())
            .unwrap_or_else(|| panic!("nothing is stored for {id}"))
    }

    /// Insists that the reports and outcomes topics hold exactly one committed record for each of `ids`, and no other.
    pub fn one_report_each<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        let expected: BTreeSet<String> = ids.into_iter().map(str::to_owned).collect();
        for topic in [&self.topics().reports, &self.topics().outcomes] {
            assert_eq!(
                self.events_told_once(topic, &expected),
                expected,
                "in {topic}"
            );
        }
    }

    /// The events a results topic tells about, once it tells about all of `promised`: a status is known a moment before
    /// its transaction ends. Panics when the topic tells about one twice.
    pub fn events_told_once<'p>(
        &self,
        topic: &str,
        promised: impl IntoIterator<Item = &'p String> + Clone,
    ) -> BTreeSet<String> {
        wait::until("every promise to be told", FATE_DEADLINE, || {
            let told = self.told_once(topic);
            match promised.clone().into_iter().find(|id| !told.contains(*id)) {
                None => Ok(told),
                Some(id) => Err(format!("{id} was answered with 200 and has no record")),
            }
        })
    }

    fn told_once(&self, topic: &str) -> BTreeSet<String> {
        let mut seen = BTreeMap::new();
        for record in kafka::read_all(&self.broker, topic, Isolation::Committed) {
            let told = record.json();
            let id = told["event_id"].as_str().expect("an event id").to_owned();
            let place = format!("{}:{}", record.partition, record.offset);
            if let Some(before) = seen.insert(id.clone(), place.clone()) {
                panic!("{topic} tells about {id} twice, at {before} and at {place}: {told}");
            }
        }
        seen.into_keys().collect()
    }

    /// Admin addresses of every role.
    pub fn admins(&self) -> Vec<String> {
        self.roles.iter().map(|role| role.admin.clone()).collect()
    }

    /// Ends the scenario: the ledger shows these totals and nothing in flight, no role complained of a message too
    /// large or panicked, and every role stops in good order.
    pub fn finish(mut self, processed: u64, failed: u64) {
        Ledger::settles(&self.admins(), processed, failed, FATE_DEADLINE);
        for role in &mut self.roles {
            let log = role.log();
            for bad in ["MessageSizeTooLarge", "panicked at", "\"level\":\"ERROR\""] {
                let line = log.lines().find(|line| line.contains(bad));
                assert!(line.is_none(), "{} logged {bad}: {line:?}", role.name);
            }
            role.stop();
        }
    }

    fn start_all(&mut self) {
        for role in &mut self.roles {
            role.start();
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for role in &mut self.roles {
            role.process = None;
        }
        if let Some(topics) = &self.topics {
            topics.delete(&self.broker);
        }
        if self.database != 0 && !std::thread::panicking() {
            redis::flush(self.database);
        }
    }
}

impl Role {
    /// `data` is the role's own data directory, when the configuration does not name it.
    fn new(name: &'static str, config: &Path, dir: &Path, data: Option<&Path>) -> Self {
        let admin = format!("127.0.0.1:{}", ports::free());
        let mut environment = vec![("CRASHFERRY__ADMIN__LISTEN".to_owned(), admin.clone())];
        if let Some(data) = data {
            let data = data.display().to_string();
            environment.push(("CRASHFERRY__DATA__DIR".to_owned(), data));
        }
        Self {
            name,
            admin,
            arguments: vec![
                name.to_owned(),
                "--config".to_owned(),
                config.display().to_string(),
            ],
            environment,
            descriptors: None,
            log: dir.join(format!("{name}.log")),
            process: None,
        }
    }

    /// `host:port` of the admin listener.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// One scrape of the role's metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(&self.admin)
    }

    /// Starts the role and waits until it is ready.
    pub fn start(&mut self) {
        self.launch();
        let admin = self.admin.clone();
        let name = self.name;
        let process = self.running();
        wait::until(&format!("{name} to be ready"), READY_DEADLINE, || {
            if let Some(status) = process.exited() {
                panic!("{name} ended while starting ({status})");
            }
            let response = Request::get("/readyz")
                .try_send(&admin)
                .map_err(|error| error.to_string())?;
            match response.status {
                200 => Ok(()),
                status => Err(format!("{status} {}", response.text())),
            }
        });
    }

    /// Starts the role without waiting.
    pub fn launch(&mut self) {
        let mut program = environment::binary();
        let mut arguments = self.arguments.clone();
        if let Some(descriptors) = self.descriptors {
            let limit = format!("--nofile={descriptors}:{descriptors}");
            let limited = program.display().to_string();
            arguments.splice(..0, [limit, "--".to_owned(), limited]);
            program = PathBuf::from("prlimit");
        }
        self.process = Some(Process::start(
            self.name,
            &program,
            &arguments,
            &self.environment,
            &self.log,
        ));
    }

    /// Kills the role (SIGKILL).
    pub fn kill(&mut self) {
        self.running().kill();
        self.process = None;
    }

    /// Stops the role (SIGTERM) and insists on exit status 0.
    pub fn stop(&mut self) {
        let status = self.running().terminate(STOP_DEADLINE);
        assert!(status.success(), "{} stopped with {status}", self.name);
        self.process = None;
    }

    /// Everything the role has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The largest resident memory of the running process, in bytes.
    pub fn memory_peak_bytes(&mut self) -> u64 {
        self.running().memory_peak_bytes()
    }

    /// The running process.
    pub fn running(&mut self) -> &mut Process {
        let name = self.name;
        self.process
            .as_mut()
            .unwrap_or_else(|| panic!("{name} is not running"))
    }
}

/// The event id of a 200, with the promises design makes about that answer: a hyphenated id as plain text and nothing
/// else, with its length stated.
pub fn accepted_id(response: &Response) -> String {
    let text = response.text();
    assert_eq!(response.status, 200, "not accepted: {text}");
    let id = uuid::Uuid::parse_str(&text)
        .unwrap_or_else(|error| panic!("the body is not an event id ({error}): {text:?}"));
    assert_eq!(id.hyphenated().to_string(), text, "the id's form");
    let length = response.header("content-length");
    assert_eq!(length, Some("36"), "the id's length is stated");
    let content_type = response.header("content-type").unwrap_or_default();
    assert!(
        content_type.starts_with("text/plain"),
        "the id's type: {content_type:?}"
    );
    text
}
