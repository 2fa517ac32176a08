//! The built binary, running: as one process on its embedded defaults, or as relay and processor with Kafka and Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::conservation::Scale;
use crate::http::{Request, Response};
use crate::kafka::{self, Isolation, Topics};
use crate::metrics::Ledger;
use crate::multipart::Form;
use crate::settings::KEY;
use crate::{environment, ports, redis, wait};

mod plan;
mod role;

pub use plan::Plan;
pub use role::Role;

/// How long a role may take to become ready.
pub const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long an upload may take to get its fate, on a machine with other work to do.
pub const FATE_DEADLINE: Duration = Duration::from_secs(60);

/// A running installation in a directory of its own.
pub struct Stack {
    roles: Vec<Role>,
    listen: String,
    /// Of the second relay, when there is one.
    second_listen: Option<String>,
    /// The configuration file.
    config: PathBuf,
    topics: Option<Topics>,
    broker: String,
    storage: PathBuf,
    /// Number of the stack's database in the shared Redis, when it uses one.
    database: Option<u16>,
    /// Holds everything the roles write.
    dir: TempDir,
}

impl Stack {
    /// `host:port` that takes uploads.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// `host:port` of every relay.
    pub fn relays(&self) -> Vec<String> {
        let second = self.second_listen.iter();
        second.chain([&self.listen]).rev().cloned().collect()
    }

    /// What an operator command says that must succeed, run beside the relay.
    pub fn command(&self, words: &[&str]) -> String {
        let output = self.roles[0].command(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Address of the broker, for a split stack.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Whether there are a relay and a processor, with Kafka between them.
    pub fn is_split(&self) -> bool {
        self.topics.is_some()
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

    /// The second relay, of a stack that has two.
    pub fn second_relay(&mut self) -> &mut Role {
        assert!(self.second_listen.is_some(), "there is no second relay");
        &mut self.roles[1]
    }

    /// The processor, which in a standalone stack is the same process.
    pub fn processor(&mut self) -> &mut Role {
        self.roles.last_mut().expect("a stack has a role")
    }

    /// Every processor of a stack that has several.
    pub fn processors(&mut self) -> &mut [Role] {
        let first = self
            .roles
            .iter()
            .position(|role| role.name().starts_with("processor"));
        &mut self.roles[first.expect("a split stack")..]
    }

    /// Insists that no processor, in any of its lives, has processed an event that was finished before.
    pub fn parsed_nothing_again(&mut self, scale: &Scale) {
        let again = |role: &Role| role.log().matches("known as finished already").count();
        let again: usize = self.processors().iter().map(again).sum();
        println!(
            "conservation: {} finished events processed again: {again}",
            scale.scenario()
        );
        assert_eq!(again, 0, "what was finished is not parsed again");
    }

    /// Path of the upload endpoint of project 1, with its key.
    pub fn minidump_path() -> String {
        format!("/api/1/minidump/?sentry_key={KEY}")
    }

    /// Where Sentry's envelopes go, with the key.
    pub fn envelope_path() -> String {
        format!("/api/1/envelope/?sentry_key={KEY}")
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

    /// As [`Stack::post`], to the relay at `address`.
    pub fn post_to(address: &str, dump: &[u8]) -> Response {
        Request::post(Self::minidump_path(), Form::minidump(dump).finish())
            .header("Content-Type", &Form::content_type())
            .send(address)
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
        let days = self.stored_days().into_iter();
        days.map(|day| day.join(id))
            .find(|dir| dir.is_dir())
            .unwrap_or_else(|| panic!("nothing is stored for {id}"))
    }

    /// Where the minidump of every event of project 1 is stored, by event id.
    pub fn stored_dumps(&self) -> BTreeMap<String, PathBuf> {
        let days = self.stored_days().into_iter();
        days.flat_map(|day| fs::read_dir(&day).expect("a day can be listed"))
            .map(|event| event.expect("an event's directory"))
            .map(|event| {
                let id = event.file_name().to_string_lossy().into_owned();
                (id, event.path().join("minidump.dmp"))
            })
            .collect()
    }

    fn add_relay(&mut self) {
        let listen = format!("127.0.0.1:{}", ports::free());
        let mut relay = Role::new("relay-2", "relay", &self.config, self.dir.path());
        relay.set_variable("CRASHFERRY__RELAY__LISTEN", &listen);
        self.roles.insert(1, relay);
        self.second_listen = Some(listen);
    }

    fn add_processor(&mut self, name: &'static str) {
        let processor = Role::new(name, "processor", &self.config, self.dir.path());
        self.roles.push(processor);
    }

    fn stored_days(&self) -> Vec<PathBuf> {
        let days = fs::read_dir(self.storage.join("1")).into_iter().flatten();
        days.map(|day| day.expect("a day's directory").path())
            .collect()
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
        self.roles
            .iter()
            .map(|role| role.admin().to_owned())
            .collect()
    }

    /// Ends the scenario: the ledger shows these totals and nothing in flight, no role complained of a message too
    /// large or panicked, and every role stops in good order.
    pub fn finish(mut self, processed: u64, failed: u64) {
        Ledger::settles(&self.admins(), processed, failed, FATE_DEADLINE);
        for role in &mut self.roles {
            let log = role.log();
            for bad in ["MessageSizeTooLarge", "panicked at", "\"level\":\"ERROR\""] {
                let line = log.lines().find(|line| line.contains(bad));
                assert!(line.is_none(), "{} logged {bad}: {line:?}", role.name());
            }
            role.stop();
        }
    }

    /// Stops every role in good order, and insists that none of them panicked. After a fault, complaints are in order.
    pub fn stop(mut self) {
        for role in &mut self.roles {
            let log = role.log();
            let line = log.lines().find(|line| line.contains("panicked at"));
            assert!(line.is_none(), "{} panicked: {line:?}", role.name());
            role.stop();
        }
    }

    /// Starts every role and waits until each is ready.
    pub fn start(&mut self) {
        for role in &mut self.roles {
            role.start();
        }
    }

    /// Kills every role (SIGKILL).
    pub fn kill(&mut self) {
        for role in &mut self.roles {
            role.kill();
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.roles.clear();
        // What a test started for itself goes away with it; the shared services are left as they were found.
        if let Some(topics) = &self.topics
            && self.broker == environment::kafka()
        {
            topics.delete(&self.broker);
        }
        if let Some(database) = self.database
            && !std::thread::panicking()
        {
            redis::flush(database);
        }
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
