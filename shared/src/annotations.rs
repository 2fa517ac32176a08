//! Crash annotations, wherever a client put them (form fields, Mozilla's JSON, inside the dump), to the report's own
//! words. They fill what a payload lacks and overwrite nothing. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::event::{fill_map, name_client_by_sdk};
use crate::report::{Client, EventPayload};

/// Names and texts.
pub type Annotations = BTreeMap<String, String>;

/// Under which names clients send the product: Crashpad and Breakpad, Mozilla, Breakpad on macOS.
const PRODUCTS: [&str; 3] = ["prod", "ProductName", "product"];
/// The same for its version.
const VERSIONS: [&str; 3] = ["ver", "Version", "version"];
/// What Electron adds about the program built on it, for which `prod` and `ver` say only Electron
/// (`lib/browser/api/crash-reporter.ts`).
const PROGRAM: (&str, &str) = ("_productName", "_version");
/// Crashpad's id of the installation.
const GUID: &str = "guid";
/// The kind of process: Chromium, Electron, Mozilla.
const PROCESS_TYPES: [&str; 3] = ["ptype", "process_type", "ProcessType"];
/// The tag that says it; and how Sentry's Electron SDK names it.
const PROCESS_TYPE_TAGS: [&str; 2] = ["process_type", "event.process"];
/// Mozilla's and Chromium's release channel.
const CHANNELS: [&str; 2] = ["ReleaseChannel", "channel"];
/// What Electron tells of a V8 that gave up: `electron.v8-oom.stack`, `electron.v8-fatal.location`, …
/// (`shell/common/node_bindings.cc`).
const V8: [(&str, &str); 2] = [("electron.v8-oom.", "oom"), ("electron.v8-fatal.", "fatal")];
/// Crashpad's annotations that have no name, one a line (`minidump_to_upload_parameters.cc`).
const LIST: &str = "list_annotations";

/// Fills what `payload` lacks: client, release, environment, process type and its tag, `contexts.v8`, the list of
/// nameless annotations in `extra`.
pub fn fill(payload: &mut EventPayload, annotations: &Annotations) {
    let client = client(annotations);
    if payload.release.is_none() {
        payload.release = release(annotations, &client);
    }
    crate::event::fill_client(&mut payload.client, client);
    name_client_by_sdk(payload);
    if payload.environment.is_none() {
        payload.environment = first(annotations, &CHANNELS);
    }
    if payload.process_type.is_none() {
        payload.process_type =
            first(annotations, &PROCESS_TYPES).or_else(|| tagged_process_type(&payload.tags));
    }
    if let Some(kind) = &payload.process_type
        && !payload.tags.contains_key(PROCESS_TYPE_TAGS[0])
    {
        let kind = Value::String(kind.clone());
        payload.tags.insert(PROCESS_TYPE_TAGS[0].into(), kind);
    }
    fill_map(&mut payload.contexts, v8(annotations));
    if let Some(list) = annotations.get(LIST)
        && !payload.extra.get(LIST).is_some_and(Value::is_array)
    {
        let lines: Vec<&str> = list.lines().collect();
        payload.extra.insert(LIST.into(), json!(lines));
    }
}

fn client(annotations: &Annotations) -> Client {
    let name = first(annotations, &PRODUCTS);
    let (name, version) = match name {
        Some(name) => (Some(name), first(annotations, &VERSIONS)),
        None => {
            let version = first(annotations, &[PROGRAM.1]);
            (
                first(annotations, &[PROGRAM.0]),
                version.or_else(|| first(annotations, &VERSIONS)),
            )
        }
    };
    Client {
        name,
        version,
        guid: first(annotations, &[GUID]),
    }
}

/// `product@version`: of the program where there is one on top of the client.
fn release(annotations: &Annotations, client: &Client) -> Option<String> {
    let program = first(annotations, &[PROGRAM.0]).zip(first(annotations, &[PROGRAM.1]));
    let (name, version) = program.or_else(|| client.name.clone().zip(client.version.clone()))?;
    Some(format!("{name}@{version}"))
}

fn tagged_process_type(tags: &Map<String, Value>) -> Option<String> {
    let mut named = PROCESS_TYPE_TAGS.iter().filter_map(|name| tags.get(*name));
    named.find_map(Value::as_str).map(str::to_owned)
}

fn v8(annotations: &Annotations) -> Map<String, Value> {
    let mut v8 = Map::new();
    for (prefix, name) in V8 {
        let told = annotations
            .range(prefix.to_owned()..)
            .map_while(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
        let told: Map<String, Value> = told
            .map(|(name, value)| (name.to_owned(), Value::String(value.clone())))
            .collect();
        if !told.is_empty() {
            v8.insert(name.into(), told.into());
        }
    }
    if v8.is_empty() {
        return v8;
    }
    Map::from_iter([("v8".to_owned(), v8.into())])
}

/// The first of `names` that says something.
fn first(annotations: &Annotations, names: &[&str]) -> Option<String> {
    let mut values = names.iter().filter_map(|name| annotations.get(*name));
    values
        .find(|value| !value.trim().is_empty())
        .map(|value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(mut payload: EventPayload, annotations: &[(&str, &str)]) -> EventPayload {
        let annotations = annotations
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        fill(&mut payload, &annotations.collect());
        payload
    }

    fn alone(annotations: &[(&str, &str)]) -> EventPayload {
        filled(EventPayload::default(), annotations)
    }

    fn said(payload: &EventPayload) -> [Option<&str>; 5] {
        let EventPayload {
            release,
            environment,
            process_type,
            client,
            ..
        } = payload;
        [
            client.name.as_deref(),
            client.version.as_deref(),
            release.as_deref(),
            environment.as_deref(),
            process_type.as_deref(),
        ]
    }

    #[test]
    fn every_family_of_clients_says_who_crashed() {
        let electron = [
            ("_companyName", "Umbrella"),
            ("_productName", "Zombies"),
            ("_version", "0.1.0"),
            ("prod", "Electron"),
            ("ver", "37.2.1"),
            ("process_type", "renderer"),
            ("ptype", "renderer"),
        ];
        let mozilla = [
            ("ProductName", "Firefox"),
            ("Version", "141.0"),
            ("ReleaseChannel", "release"),
            ("ProcessType", "main"),
        ];
        let breakpad = [("product", "Notes"), ("version", "2"), ("channel", "")];
        assert_eq!(
            said(&alone(&electron)),
            [
                Some("Electron"),
                Some("37.2.1"),
                Some("Zombies@0.1.0"),
                None,
                Some("renderer")
            ]
        );
        assert_eq!(
            said(&alone(&mozilla)),
            [
                Some("Firefox"),
                Some("141.0"),
                Some("Firefox@141.0"),
                Some("release"),
                Some("main")
            ]
        );
        assert_eq!(
            said(&alone(&breakpad)),
            [Some("Notes"), Some("2"), Some("Notes@2"), None, None]
        );
        assert_eq!(alone(&mozilla).tags["process_type"], "main");
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let payload = EventPayload {
            release: Some("mine".into()),
            environment: Some("lab".into()),
            client: Client {
                name: Some("sentry.native".into()),
                ..Client::default()
            },
            tags: Map::from_iter([("event.process".into(), "browser".into())]),
            ..EventPayload::default()
        };
        let filled = filled(
            payload,
            &[
                ("prod", "P"),
                ("ver", "1"),
                ("channel", "beta"),
                ("guid", "g"),
            ],
        );
        assert_eq!(
            said(&filled),
            [
                Some("sentry.native"),
                None,
                Some("mine"),
                Some("lab"),
                Some("browser")
            ]
        );
        assert_eq!(filled.client.guid.as_deref(), Some("g"));
        assert_eq!(filled.tags["process_type"], "browser");
    }

    #[test]
    fn v8s_last_words_and_nameless_annotations_are_readable() {
        let filled = alone(&[
            ("electron.v8-oom.stack", "at main"),
            ("electron.v8-oom.heap.used", "12"),
            ("electron.v8-fatal.location", "here"),
            ("list_annotations", "one\ntwo"),
        ]);
        assert_eq!(
            filled.contexts["v8"],
            json!({"oom": {"stack": "at main", "heap.used": "12"}, "fatal": {"location": "here"}})
        );
        assert_eq!(filled.extra["list_annotations"], json!(["one", "two"]));
    }
}
