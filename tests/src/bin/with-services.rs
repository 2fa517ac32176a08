//! Starts the Kafka broker and the Redis server the tests share, runs a command with their addresses in the
//! environment, and stops both. A service already named in the environment is used as it is, and must answer.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use harness::environment;
use harness::kafka::{self, Broker};
use harness::redis::{self, Redis};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: with-services COMMAND [ARGUMENT…]");
        return ExitCode::from(2);
    };
    let broker = match given(environment::KAFKA, kafka::ping) {
        Ok(address) => Service::Given(address),
        Err(Absent::NotSet) => Service::Started(Broker::start(&environment::kafka_libs())),
        Err(Absent::Silent(sentence)) => return refuse(&sentence),
    };
    let redis = match given(environment::REDIS, redis::ping) {
        Ok(address) => Service::Given(address),
        Err(Absent::NotSet) => Service::Started(Redis::start_in_memory()),
        Err(Absent::Silent(sentence)) => return refuse(&sentence),
    };
    let kafka_address = broker.address(Broker::address);
    let redis_address = redis.address(Redis::address);
    println!("kafka at {kafka_address}, redis at {redis_address}");
    let status = Command::new(program)
        .args(words)
        .env(environment::KAFKA, kafka_address)
        .env(environment::REDIS, redis_address)
        .env(environment::BINARY, binary())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => refuse(&format!("the command ended with {status}")),
        Err(error) => refuse(&format!("the command cannot be started: {error}")),
    }
}

/// A service of the run: ours to stop, or somebody else's.
enum Service<T> {
    Given(String),
    Started(T),
}

impl<T> Service<T> {
    fn address(&self, of: impl Fn(&T) -> String) -> String {
        match self {
            Self::Given(address) => address.clone(),
            Self::Started(service) => of(service),
        }
    }
}

enum Absent {
    NotSet,
    Silent(String),
}

fn given(name: &str, ping: impl Fn(&str) -> Result<(), String>) -> Result<String, Absent> {
    let address = std::env::var(name).map_err(|_| Absent::NotSet)?;
    match ping(&address) {
        Ok(()) => Ok(address),
        Err(seen) => Err(Absent::Silent(format!(
            "{name} is {address}, and nothing answers there: {seen}"
        ))),
    }
}

/// The `crashferry` built beside this program, unless one is named.
fn binary() -> PathBuf {
    std::env::var_os(environment::BINARY).map_or_else(
        || {
            let here = std::env::current_exe().expect("a program knows its path");
            here.with_file_name("crashferry")
        },
        PathBuf::from,
    )
}

fn refuse(sentence: &str) -> ExitCode {
    eprintln!("with-services: {sentence}");
    ExitCode::FAILURE
}
