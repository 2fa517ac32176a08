//! `config check`, `config show` and `topics create`: exit codes, the key at fault, what exists already. And what commands
//! refuse to look for.

use std::path::PathBuf;
use std::process::{Command, Output};

use harness::environment;
use harness::kafka::{self, Topics};
use harness::settings::{KEY, Settings};

/// A configuration file in a directory of its own.
struct Configuration {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Configuration {
    fn new(settings: &Settings) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("crashferry.toml");
        std::fs::write(&path, settings.to_toml()).expect("the configuration can be written");
        Self { path, _dir: dir }
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(environment::binary())
            .args(words)
            .arg("--config")
            .arg(&self.path)
            .output()
            .expect("the binary can be started")
    }
}

#[test]
fn a_good_configuration_is_good() {
    let configuration = Configuration::new(&Settings::new());
    let output = configuration.run(&["config", "check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_mistyped_key_is_refused_with_the_nearest_known_one() {
    let mut settings = Settings::new();
    settings.text("relay", "ack_dedline", "5s");
    let output = Configuration::new(&settings).run(&["config", "check"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output);
    assert!(said.contains("relay.ack_dedline"), "{said}");
    assert!(said.contains("relay.ack_deadline"), "{said}");
}

#[test]
fn the_shown_configuration_has_every_section_and_no_secret() {
    let mut settings = Settings::new();
    settings.text("admin", "token", "correct-horse-battery-staple");
    settings.text("redis", "url", "redis://user:hunter2@127.0.0.1:6379/0");
    settings.text("limits", "upload", "7MiB");
    let output = Configuration::new(&settings).run(&["config", "show"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output);
    for shown in ["[relay]", "ack_deadline", "[kafka.topics]", "7MiB"] {
        assert!(said.contains(shown), "no {shown} in:\n{said}");
    }
    for secret in ["correct-horse", "hunter2"] {
        assert!(!said.contains(secret), "{secret} is shown in:\n{said}");
    }
}

#[test]
fn an_option_of_kafka_is_shown_only_when_it_is_harmless_and_its_refusal_does_not_quote_it() {
    let mut settings = Settings::new();
    settings.text("kafka", "brokers", "127.0.0.1:1");
    settings.text("kafka.options", "\"sasl.password\"", "hunter2");
    settings.text("kafka.options", "\"sasl.mechanism\"", "PLAIN");
    settings.text("kafka.options", "\"security.protocol\"", "xyzzy-plugh");
    let configuration = Configuration::new(&settings);
    let said = text(&configuration.run(&["config", "show"]));
    assert!(said.contains("PLAIN"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");

    settings.text("kafka.options", "\"security.protocol\"", "plaintext");
    settings.text("kafka.options", "\"ssl.key.pem\"", "sesame-swordfish");
    settings.text("kafka.options", "\"of.the.future\"", "mellon");
    let output = Configuration::new(&settings).run(&["topics", "create"]);
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output);
    for secret in ["hunter2", "sesame", "mellon"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn a_mistake_in_the_file_is_named_by_its_place_without_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("crashferry.toml");
    for (file, place) in [
        ("[admin]\ntoken = hunter2\n", "line 2"),
        (
            "[redis]\nurl = [\"redis://:hunter2@h\"]\n",
            "line 2, column 7: redis.url",
        ),
    ] {
        std::fs::write(&path, file).expect("the configuration can be written");
        let output = Command::new(environment::binary())
            .args(["config", "check", "--config"])
            .arg(&path)
            .output()
            .expect("the binary can be started");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = text(&output);
        assert!(said.contains(place) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn topics_are_created_once_and_then_found() {
    let broker = environment::kafka();
    let topics = Topics::unique();
    let mut settings = Settings::new();
    settings.text("kafka", "brokers", &broker);
    for (key, topic) in [
        ("attachments", &topics.attachments),
        ("reports", &topics.reports),
        ("outcomes", &topics.outcomes),
        ("dead_letters", &topics.dead_letters),
    ] {
        settings.text("kafka.topics", key, topic);
    }
    let configuration = Configuration::new(&settings);
    let first = configuration.run(&["topics", "create"]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let limit = kafka::limit(&broker, &topics.attachments);
    let said = text(&first);
    for stated in [
        &topics.attachments,
        &topics.reports,
        &topics.outcomes,
        &topics.dead_letters,
    ] {
        assert!(said.contains(stated.as_str()), "no {stated} in:\n{said}");
    }
    assert!(
        said.contains(&limit.to_string()),
        "no limit {limit} in:\n{said}"
    );

    let second = configuration.run(&["topics", "create"]);
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    let said = text(&second);
    assert!(said.contains("exists"), "{said}");
    assert_eq!(kafka::limit(&broker, &topics.attachments), limit);
    topics.delete(&broker);
}

#[test]
fn a_relay_without_kafka_says_what_it_needs() {
    let output = Configuration::new(&Settings::new()).run(&["relay"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output);
    for key in ["kafka.brokers", "redis.url", "storage.url"] {
        assert!(said.contains(key), "no {key} in:\n{said}");
    }
    assert!(!said.contains(KEY), "a key in:\n{said}");
}

#[test]
fn a_reason_that_nothing_has_is_refused_with_those_that_there_are() {
    let configuration = Configuration::new(&Settings::new());
    let letters = ["not_a_message", "unknown_type", "malformed", "no_crash"];
    let crashes = ["processed", "missing_chunks", "parser_timeout"];
    for (command, known) in [
        (&["dead-letters", "list"][..], &letters[..]),
        (&["dead-letters", "replay"], &letters),
        (&["reprocess"], &crashes),
    ] {
        let output = configuration.run(&[command, &["--reason", "nope"]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = text(&output);
        for word in known.iter().chain(&["nope"]) {
            assert!(said.contains(word), "no {word} in:\n{said}");
        }
    }
}

fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}
