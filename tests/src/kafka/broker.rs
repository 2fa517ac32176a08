//! One Kafka broker (KRaft, broker and controller in one process) from the jars that `tests/run` fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::faults::Proxy;
use crate::process::Process;
use crate::{environment, ports, wait};

const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A running broker with its own data directory.
pub struct Broker {
    process: Option<Process>,
    libs: PathBuf,
    port: u16,
    dir: TempDir,
}

/// A broker's second listener, whose clients are sent to a proxy.
#[derive(Clone, Copy)]
struct Proxied {
    port: u16,
    advertised_port: u16,
}

impl Broker {
    /// Formats a data directory, starts a broker from the jars in `libs` and waits until it answers.
    pub fn start(libs: &Path) -> Self {
        Self::start_with(libs, None)
    }

    /// As [`Broker::start`], with a proxy: who comes to the broker by the proxy's address stays behind it, and who comes
    /// by the broker's own is not touched by its faults.
    pub fn start_behind_proxy(libs: &Path) -> (Self, Proxy) {
        let proxied = Proxied {
            port: ports::free(),
            advertised_port: ports::free(),
        };
        let target = format!("127.0.0.1:{}", proxied.port);
        let broker = Self::start_with(libs, Some(proxied));
        (broker, Proxy::start(proxied.advertised_port, &target))
    }

    fn start_with(libs: &Path, proxied: Option<Proxied>) -> Self {
        let mut broker = Self {
            process: None,
            libs: libs.to_owned(),
            port: ports::free(),
            dir: tempfile::tempdir().expect("a directory for Kafka"),
        };
        broker.write_settings(ports::free(), proxied);
        broker.format();
        broker.restart();
        broker
    }

    /// Starts the broker again on the same port, with what it had written.
    pub fn restart(&mut self) {
        let mut arguments = self.java_arguments();
        arguments.push("kafka.Kafka".to_owned());
        arguments.push(self.settings_path().display().to_string());
        self.process = Some(Process::start(
            "kafka",
            Path::new("java"),
            &arguments,
            &[],
            &self.dir.path().join("kafka.log"),
        ));
        let address = self.address();
        wait::until("Kafka to answer", START_DEADLINE, || {
            let process = self.process.as_mut().expect("INVARIANT: just started");
            assert!(
                process.exited().is_none(),
                "the broker ended while starting:\n{}",
                process.log_tail()
            );
            super::ping(&address)
        });
    }

    /// `host:port` of the broker.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the broker (SIGKILL).
    pub fn kill(&mut self) {
        self.running().kill();
        self.process = None;
    }

    /// Stops the broker in good order (SIGTERM).
    pub fn stop(&mut self) {
        self.running().terminate(STOP_DEADLINE);
        self.process = None;
    }

    /// Stops the broker in place (SIGSTOP): connections stay open, nothing is answered.
    pub fn freeze(&mut self) {
        self.running().freeze();
    }

    /// Lets a frozen broker go on.
    pub fn thaw(&mut self) {
        self.running().thaw();
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("the broker is running")
    }

    fn settings_path(&self) -> PathBuf {
        self.dir.path().join("server.properties")
    }

    fn write_settings(&self, controller_port: u16, proxied: Option<Proxied>) {
        let port = self.port;
        let proxied = |port_of: fn(Proxied) -> u16| {
            let port = proxied.map(port_of);
            port.map_or_else(String::new, |port| format!(",PROXIED://127.0.0.1:{port}"))
        };
        let second_listener = proxied(|proxied| proxied.port);
        let second_advertised = proxied(|proxied| proxied.advertised_port);
        let data = self.dir.path().join("data");
        let settings = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
             listeners=PLAINTEXT://127.0.0.1:{port}{second_listener},CONTROLLER://127.0.0.1:{controller_port}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}{second_advertised}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\n\
             num.partitions=1\n\
             offsets.topic.num.partitions=4\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.num.partitions=4\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n",
            data.display()
        );
        fs::write(self.settings_path(), settings).expect("the broker's settings can be written");
        let log4j = "appender.out.type=Console\n\
             appender.out.name=out\n\
             appender.out.layout.type=PatternLayout\n\
             appender.out.layout.pattern=%d %p %c{1} %m%n\n\
             rootLogger.level=WARN\n\
             rootLogger.appenderRef.out.ref=out\n";
        fs::write(self.dir.path().join("log4j2.properties"), log4j)
            .expect("the broker's log settings can be written");
    }

    fn format(&self) {
        let output = Command::new("java")
            .args(self.java_arguments())
            .args(["kafka.tools.StorageTool", "format", "--cluster-id"])
            .arg("Y3Jhc2hmZXJyeS10ZXN0cw")
            .arg("--config")
            .arg(self.settings_path())
            .output()
            .expect("java can be started");
        assert!(
            output.status.success(),
            "Kafka's directory could not be formatted: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn java_arguments(&self) -> Vec<String> {
        let mut arguments = environment::kafka_jvm();
        arguments.extend([
            format!(
                "-Dlog4j2.configurationFile={}",
                self.dir.path().join("log4j2.properties").display()
            ),
            "-cp".to_owned(),
            format!("{}/*", self.libs.display()),
        ]);
        arguments
    }
}
