//! The tests cannot pass by not running: when Kafka or Redis does not answer, the run fails before it begins, and a
//! test without their addresses fails with a sentence that says what to do.

use std::path::Path;
use std::process::{Command, Output};

use harness::{environment, ports};

#[test]
fn when_kafka_does_not_answer() {
    let output = run(environment::KAFKA);
    refused(&output, environment::KAFKA);
}

#[test]
fn when_redis_does_not_answer() {
    let output = run(environment::REDIS);
    refused(&output, environment::REDIS);
}

#[test]
fn when_a_test_is_started_by_hand() {
    let output = Command::new(std::env::current_exe().expect("a test knows its program"))
        .args(["--exact", "when_a_child_asks_for_kafka", "--nocapture"])
        .env_remove(environment::KAFKA)
        .output()
        .expect("a test can be started");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("run the tests with tests/run"), "{said}");
}

#[test]
fn when_a_child_asks_for_kafka() {
    // In a whole run the address is there; `when_a_test_is_started_by_hand` runs this one without it.
    assert!(!environment::kafka().is_empty());
}

/// `with-services` with an address where nothing listens.
fn run(variable: &str) -> Output {
    let nobody = format!("127.0.0.1:{}", ports::free());
    Command::new(Path::new(env!("CARGO_BIN_EXE_with-services")))
        .arg("true")
        .env(variable, nobody)
        .output()
        .expect("with-services can be started")
}

fn refused(output: &Output, variable: &str) {
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(variable), "{said}");
    assert!(said.contains("nothing answers there"), "{said}");
}
