//! `crashferry` without a configuration starts, prints a curl line that works when it is pasted, and within two seconds
//! the crash's page shows what happened; a later start keeps the key.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::http::Request;
use harness::process::Process;
use harness::{dumps, environment, ports, wait};
use serde_json::Value;

const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// The promise: so soon is the report there.
const REPORT_DEADLINE: Duration = Duration::from_secs(2);

/// A first-time user's directory and the ports that stand in for 3000 and 3001, which the machine may be using.
struct Home {
    dir: tempfile::TempDir,
    listen: String,
    admin: String,
}

#[test]
fn the_printed_line_works_and_the_key_is_kept() {
    let home = Home {
        dir: tempfile::tempdir().expect("a directory"),
        listen: format!("127.0.0.1:{}", ports::free()),
        admin: format!("127.0.0.1:{}", ports::free()),
    };
    let mut first = home.start("first.log");
    let printed = home.printed(&first);
    let dsn = word_with(&printed, "DSN", &format!("@{}", home.listen));
    assert!(printed.contains("crashReporter.start"), "{printed}");

    let dump = home.dir.path().join("a crash.dmp");
    std::fs::write(&dump, dumps::small()).expect("a dump can be written");
    let id = paste(&curl_line(&printed), &dump);
    let key = key_of(&dsn);
    let report = home.report(&id, &key);
    dumps::check_report(&report);
    let status = first.terminate(STOP_DEADLINE);
    assert!(status.success(), "stopped with {status}");

    let mut second = home.start("second.log");
    let again = home.printed(&second);
    assert_eq!(word_with(&again, "DSN", &format!("@{}", home.listen)), dsn);
    home.report(&id, &key);
    assert!(second.terminate(STOP_DEADLINE).success());
}

impl Home {
    fn start(&self, log: &str) -> Process {
        // `crashferry` takes its data directory below the current one: a shell changes there first.
        let script = format!(
            "cd '{}' && exec '{}'",
            self.dir.path().display(),
            environment::binary().display()
        );
        let variables = [
            ("CRASHFERRY__RELAY__LISTEN".to_owned(), self.listen.clone()),
            ("CRASHFERRY__ADMIN__LISTEN".to_owned(), self.admin.clone()),
        ];
        let process = Process::start(
            "crashferry",
            Path::new("sh"),
            &["-c".to_owned(), script],
            &variables,
            &self.dir.path().join(log),
        );
        wait::until("crashferry to be ready", START_DEADLINE, || {
            let response = Request::get("/readyz").try_send(&self.admin);
            match response {
                Ok(response) if response.status == 200 => Ok(()),
                Ok(response) => Err(response.text()),
                Err(error) => Err(format!("{error}\n{}", process.log())),
            }
        });
        process
    }

    /// What the start printed, once the curl line is among it.
    fn printed(&self, process: &Process) -> String {
        wait::until("the printed curl line", START_DEADLINE, || {
            let log = process.log();
            if log.contains("curl ") && log.contains("crashReporter.start") {
                Ok(log)
            } else {
                Err(log)
            }
        })
    }

    fn report(&self, id: &str, key: &str) -> Value {
        let path = format!("/api/1/events/{id}/?sentry_key={key}");
        wait::until("the report", REPORT_DEADLINE, || {
            let response = Request::get(path.clone()).send(&self.listen);
            let mut event = match response.status {
                200 => response.json(),
                status => return Err(format!("{status} {}", response.text())),
            };
            match event["status"].as_str() {
                Some("processed") => Ok(event["report"].take()),
                _ => Err(event.to_string()),
            }
        })
    }
}

fn curl_line(printed: &str) -> String {
    let line = printed.lines().find(|line| line.contains("curl -F "));
    let line = line.unwrap_or_else(|| panic!("no curl line in:\n{printed}"));
    let from = line.find("curl -F ").unwrap_or_default();
    line[from..].trim_end().to_owned()
}

/// Runs the line in a shell as a user would, with the dump's path where the placeholder is.
fn paste(line: &str, dump: &Path) -> String {
    let (before, after) = line
        .split_once("upload_file_minidump=@")
        .unwrap_or_else(|| panic!("no place for a dump in {line:?}"));
    let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
    let command = format!("{before}upload_file_minidump=@'{}' {rest}", dump.display());
    let output = Command::new("sh")
        .args(["-c", &command])
        .env("no_proxy", "*")
        .output()
        .expect("a shell can be started");
    assert!(output.status.success(), "{command}: {output:?}");
    let id = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{command}: {output:?}");
    id
}

/// The blank-separated word of a line about `what` that holds `part`.
fn word_with(printed: &str, what: &str, part: &str) -> String {
    let words = printed
        .lines()
        .filter(|line| line.contains(what))
        .flat_map(str::split_whitespace);
    let found = words.into_iter().find(|word| word.contains(part));
    found
        .unwrap_or_else(|| panic!("no {what} with {part} in:\n{printed}"))
        .to_owned()
}

/// `KEY` of `http://KEY@host:port/1`.
fn key_of(dsn: &str) -> String {
    let (_, rest) = dsn.split_once("//").expect("a DSN is a URL");
    let (key, _) = rest.split_once('@').expect("a DSN has a key");
    key.to_owned()
}
