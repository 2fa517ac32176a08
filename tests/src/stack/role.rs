//! One role of a stack: a process that can be started, asked, killed and stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::READY_DEADLINE;
use crate::http::Request;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::{environment, ports, wait};

/// `shutdown_timeout`.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// One running role.
pub struct Role {
    name: &'static str,
    admin: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    data: PathBuf,
    pub(super) descriptors: Option<u32>,
    pub(super) program: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Role {
    /// A role that is not running yet, with its own admin listener and, by its name, its own data directory and log.
    pub(super) fn new(
        name: &'static str,
        command: &'static str,
        config: &Path,
        dir: &Path,
    ) -> Self {
        let admin = format!("127.0.0.1:{}", ports::free());
        let data = dir.join(name);
        Self {
            name,
            arguments: vec![
                command.to_owned(),
                "--config".to_owned(),
                config.display().to_string(),
            ],
            environment: vec![
                ("CRASHFERRY__ADMIN__LISTEN".to_owned(), admin.clone()),
                (
                    "CRASHFERRY__DATA__DIR".to_owned(),
                    data.display().to_string(),
                ),
            ],
            admin,
            data,
            descriptors: None,
            program: environment::binary(),
            log: dir.join(format!("{name}.log")),
            process: None,
        }
    }

    /// Sets a variable of the role's environment from its next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Gives the role, from its next start on, another data directory.
    pub fn set_data(&mut self, data: &Path) {
        self.data = data.to_owned();
        self.set_variable("CRASHFERRY__DATA__DIR", &data.display().to_string());
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The role's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The files in one directory of the role's spool, sorted by name: `incoming`, `ready` or `quarantine`.
    pub fn spool_files(&self, directory: &str) -> Vec<PathBuf> {
        let path = self.data.join("spool").join(directory);
        let entries = fs::read_dir(&path).into_iter().flatten();
        // A file may leave while the directory is being read.
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        files
    }

    /// The answer of `/readyz`: whether the role is ready, and its parts.
    pub fn readiness(&self) -> (bool, Value) {
        let response = Request::get("/readyz").send(&self.admin);
        (response.status == 200, response.json())
    }

    /// What `/readyz` says about one part, in its own words: `ready`, or the state and why.
    pub fn part(&self, name: &str) -> String {
        let (_, answer) = self.readiness();
        let parts = answer["parts"].as_array().cloned().unwrap_or_default();
        let part = parts.iter().find(|part| part["part"] == name);
        let part = part.unwrap_or_else(|| panic!("{} has no part {name}: {answer}", self.name));
        match part["state"].as_str() {
            Some("ready") => "ready".to_owned(),
            _ => part.to_string(),
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
        let mut program = self.program.clone();
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

    /// Runs an operator command with the role's configuration, beside the role.
    pub fn command(&self, words: &[&str]) -> Output {
        let [_, configuration @ ..] = &self.arguments[..] else {
            panic!("a role has arguments")
        };
        Command::new(environment::binary())
            .args(words)
            .args(configuration)
            .envs(self.environment.iter().cloned())
            .output()
            .expect("the binary can be started")
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

    /// The sum of a metric's samples; a metric that is not there is a mistake of the test.
    pub fn metric(&self, name: &str) -> f64 {
        let sum = self.metrics().sum(name, &[]);
        sum.unwrap_or_else(|| panic!("{} has no metric {name}", self.name))
    }

    /// Everything the role has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The resident memory of the running process now, in bytes.
    pub fn memory_bytes(&mut self) -> u64 {
        self.running().memory_bytes()
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
