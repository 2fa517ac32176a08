//! What a project does not want to keep is taken out of payloads and reports, and counted. Pure.
//!
//! It is looked for in names and texts: in form fields, annotations, event data and what the dump told. The bytes of
//! attachments, the raw dump among them, are not touched.

mod command_line;
mod home;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use crate::config::{Keep, PrivacyConfig, ProjectConfig};
use crate::id::ProjectId;
use crate::report::{Client, CrashDetails, EventPayload, Processing, RawJson, Report};

/// Under which names a client's address stands, without case: of Sentry's user, of its request, of proxies' headers.
const ADDRESS_NAMES: [&str; 4] = ["ip_address", "remote_addr", "x-forwarded-for", "x-real-ip"];

/// What each project keeps. One that the configuration does not know has the defaults.
#[derive(Clone, Debug, Default)]
pub struct PrivacyRules {
    of: HashMap<ProjectId, PrivacyConfig>,
}

impl PrivacyRules {
    /// The rules of configured projects.
    #[must_use]
    pub fn new(projects: &[ProjectConfig]) -> Self {
        let of = projects.iter().map(|project| (project.id, project.privacy));
        Self { of: of.collect() }
    }

    /// What `project` keeps.
    #[must_use]
    pub fn of(&self, project: ProjectId) -> PrivacyConfig {
        self.of.get(&project).copied().unwrap_or_default()
    }
}

/// Takes out of a payload what is not kept, and says in its warnings how much that was.
pub fn scrub_payload(payload: &mut EventPayload, rules: &PrivacyConfig) {
    let mut scrubber = Scrubber::new(rules);
    let EventPayload {
        platform: _,
        level: _,
        timestamp: _,
        release,
        environment,
        process_type,
        user,
        tags,
        extra,
        contexts,
        breadcrumbs,
        user_reports,
        event,
        client,
        attached_to: _,
        warnings,
    } = payload;
    for map in [tags, extra, contexts, event] {
        scrubber.map(map);
    }
    for value in user.iter_mut().chain(breadcrumbs).chain(user_reports) {
        scrubber.value(value);
    }
    scrubber.client(client);
    for text in [release, environment, process_type].into_iter().flatten() {
        scrubber.text(text);
    }
    warnings.iter_mut().for_each(|text| scrubber.text(text));
    warnings.extend(scrubber.told());
}

/// The same for a report, with what the dump told.
pub fn scrub_report(report: &mut Report, rules: &PrivacyConfig) {
    let mut scrubber = Scrubber::new(rules);
    let Report {
        schema: _,
        event_id: _,
        project_id: _,
        received_at: _,
        remote_addr,
        platform: _,
        level: _,
        timestamp: _,
        release,
        environment,
        user,
        tags,
        extra,
        contexts,
        breadcrumbs,
        user_reports,
        event,
        client,
        crash,
        attachments: _,
        processing,
    } = report;
    if scrubber.drops_addresses() {
        scrubber.addresses += usize::from(remote_addr.take().is_some());
    }
    for map in [tags, extra, contexts, event] {
        scrubber.map(map);
    }
    for value in user.iter_mut().chain(breadcrumbs).chain(user_reports) {
        scrubber.value(value);
    }
    scrubber.client(client);
    for text in [release, environment].into_iter().flatten() {
        scrubber.text(text);
    }
    scrubber.crash(crash);
    let Processing { warnings, .. } = processing;
    warnings.iter_mut().for_each(|text| scrubber.text(text));
    warnings.extend(scrubber.told());
}

/// Takes things out and counts them.
struct Scrubber {
    rules: PrivacyConfig,
    command_lines: usize,
    names: usize,
    addresses: usize,
    unreadable: bool,
}

impl Scrubber {
    fn new(rules: &PrivacyConfig) -> Self {
        Self {
            rules: *rules,
            command_lines: 0,
            names: 0,
            addresses: 0,
            unreadable: false,
        }
    }

    /// How much was taken out; never what.
    fn told(self) -> Vec<String> {
        let Self {
            rules: _,
            command_lines,
            names,
            addresses,
            unreadable,
        } = self;
        let dropped = [
            (command_lines, "command line values", "command_lines"),
            (names, "users' names in paths", "home_paths"),
            (addresses, "client addresses", "client_address"),
        ];
        let mut told = Vec::new();
        for (count, what, key) in dropped {
            if count > 0 {
                told.push(format!("{count} {what} were dropped: privacy.{key}"));
            }
        }
        if unreadable {
            told.push(
                "rust-minidump's JSON was dropped: it cannot be searched for privacy.home_paths"
                    .into(),
            );
        }
        told
    }

    fn drops_names(&self) -> bool {
        match self.rules.home_paths {
            Keep::Keep => false,
            Keep::Drop => true,
        }
    }

    fn drops_addresses(&self) -> bool {
        match self.rules.client_address {
            Keep::Keep => false,
            Keep::Drop => true,
        }
    }

    fn drops(&mut self, name: &str) -> bool {
        let is_address = || {
            ADDRESS_NAMES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        };
        if self.drops_addresses() && is_address() {
            self.addresses += 1;
            return true;
        }
        let dropped = match self.rules.command_lines {
            Keep::Keep => false,
            Keep::Drop => command_line::is_name(name),
        };
        self.command_lines += usize::from(dropped);
        dropped
    }

    fn text(&mut self, text: &mut String) {
        if self.drops_names()
            && let Some((without, names)) = home::without_names(text)
        {
            *text = without;
            self.names += names;
        }
    }

    fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Object(fields) => self.map(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn map(&mut self, map: &mut Map<String, Value>) {
        map.retain(|name, _| !self.drops(name));
        map.values_mut().for_each(|value| self.value(value));
        if !self.drops_names() || !map.keys().any(|name| home::without_names(name).is_some()) {
            return;
        }
        for (mut name, value) in std::mem::take(map) {
            self.text(&mut name);
            // Two names may differ in the user alone.
            while map.contains_key(&name) {
                name.push('~');
            }
            map.insert(name, value);
        }
    }

    fn client(&mut self, client: &mut Client) {
        let Client {
            name,
            version,
            guid,
        } = client;
        for text in [name, version, guid].into_iter().flatten() {
            self.text(text);
        }
    }

    fn crash(&mut self, crash: &mut CrashDetails) {
        let CrashDetails {
            os: _,
            cpu: _,
            process: _,
            crash: _,
            signature,
            threads,
            modules,
            annotations,
            minidump,
        } = crash;
        self.annotations(annotations);
        if !self.drops_names() {
            return;
        }
        signature.iter_mut().for_each(|text| self.text(text));
        modules
            .iter_mut()
            .for_each(|module| self.text(&mut module.name));
        for thread in threads {
            thread.name.iter_mut().for_each(|text| self.text(text));
            for frame in &mut thread.frames {
                frame.file.iter_mut().for_each(|text| self.text(text));
                frame.function.iter_mut().for_each(|text| self.text(text));
            }
        }
        if let Some(json) = minidump.take() {
            *minidump = self.json(json);
        }
    }

    fn annotations(&mut self, annotations: &mut BTreeMap<String, String>) {
        annotations.retain(|name, _| !self.drops(name));
        annotations.values_mut().for_each(|text| self.text(text));
    }

    /// Searches rust-minidump's JSON text by text: in the whole, escapes would hide where a name ends.
    fn json(&mut self, json: RawJson) -> Option<RawJson> {
        let Ok(mut value) = serde_json::from_str::<Value>(json.as_str()) else {
            self.unreadable = true;
            return None;
        };
        let before = self.names;
        self.value(&mut value);
        if self.names == before {
            return Some(json);
        }
        RawJson::new(value.to_string()).ok()
    }
}

#[cfg(test)]
mod tests;
