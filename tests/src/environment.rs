//! Where the tests find the binary and the services: variables that `tests/run` sets, by way of `with-services`.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// Path of the built `crashferry`.
pub const BINARY: &str = "CRASHFERRY_TEST_BINARY";
/// `host:port` of a Kafka broker the tests share.
pub const KAFKA: &str = "CRASHFERRY_TEST_KAFKA";
/// Directory of the jars a Kafka broker runs from, for tests that start and kill their own.
pub const KAFKA_LIBS: &str = "CRASHFERRY_TEST_KAFKA_LIBS";
/// Flags of the JVM that a broker runs in; default: those for a broker that lives for seconds.
pub const KAFKA_JVM: &str = "CRASHFERRY_TEST_KAFKA_JVM";
/// `host:port` of a Redis server the tests share.
pub const REDIS: &str = "CRASHFERRY_TEST_REDIS";

/// Directory with the `node_modules` of `tests/clients`.
pub const CLIENTS: &str = "CRASHFERRY_TEST_CLIENTS";

/// Directory of the clients that npm has installed.
pub fn clients() -> PathBuf {
    PathBuf::from(required(CLIENTS))
}

/// The built binary.
pub fn binary() -> PathBuf {
    PathBuf::from(required(BINARY))
}

/// The same program with parser processes that obey hooks in a dump; see `processor/tests/hooks`.
pub fn hooked_binary() -> PathBuf {
    binary().with_file_name("hooked-crashferry")
}

/// Address of the shared broker.
pub fn kafka() -> String {
    required(KAFKA)
}

/// Directory of the Kafka jars.
pub fn kafka_libs() -> PathBuf {
    PathBuf::from(required(KAFKA_LIBS))
}

/// Flags of a broker's JVM.
pub fn kafka_jvm() -> Vec<String> {
    let flags = std::env::var(KAFKA_JVM);
    let flags = flags.unwrap_or_else(|_| {
        "-Xms128m -Xmx768m -XX:+UseSerialGC -XX:TieredStopAtLevel=1".to_owned()
    });
    flags.split_whitespace().map(str::to_owned).collect()
}

/// Address of the shared Redis.
pub fn redis() -> String {
    required(REDIS)
}

/// Whether something accepts connections at `host:port`.
pub fn answers(address: &str) -> bool {
    address
        .to_socket_addrs()
        .into_iter()
        .flatten()
        .any(|one| TcpStream::connect_timeout(&one, Duration::from_secs(2)).is_ok())
}

fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests with tests/run, which starts Kafka and Redis")
    })
}
