//! Two of a kind made one: the first keeps what it has, the second adds what the first lacks.

use serde_json::{Map, Value};

use crate::report::{Client, EventPayload};

/// Adds to a payload what it lacks: objects leaf by leaf, lists of their own at the end.
pub fn fill(into: &mut EventPayload, from: EventPayload) {
    let EventPayload {
        platform,
        level,
        timestamp,
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
        attached_to,
        warnings,
    } = from;
    into.platform = into.platform.take().or(platform);
    into.level = into.level.take().or(level);
    into.timestamp = into.timestamp.or(timestamp);
    into.release = into.release.take().or(release);
    into.environment = into.environment.take().or(environment);
    into.process_type = into.process_type.take().or(process_type);
    match (&mut into.user, user) {
        (Some(into), Some(user)) => fill_value(into, user),
        (none @ None, user) => *none = user,
        (Some(_), None) => {}
    }
    fill_map(&mut into.tags, tags);
    fill_map(&mut into.extra, extra);
    fill_map(&mut into.contexts, contexts);
    into.breadcrumbs.extend(breadcrumbs);
    into.user_reports.extend(user_reports);
    fill_map(&mut into.event, event);
    fill_client(&mut into.client, client);
    into.attached_to = into.attached_to.or(attached_to);
    into.warnings.extend(warnings);
}

/// Adds to an object what it lacks, at every depth.
pub fn fill_map(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match into.get_mut(&name) {
            Some(has) => fill_value(has, value),
            None => {
                into.insert(name, value);
            }
        }
    }
}

/// Adds to a value what it lacks: to an object what another object has besides, to null anything.
pub fn fill_value(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => fill_map(into, from),
        (into @ Value::Null, from) => *into = from,
        (_, _) => {}
    }
}

/// A version belongs to its name: it is not put beside another one.
pub(crate) fn fill_client(into: &mut Client, from: Client) {
    let Client {
        name,
        version,
        guid,
    } = from;
    if into.name.is_none() || into.name == name {
        into.name = into.name.take().or(name);
        into.version = into.version.take().or(version);
    }
    into.guid = into.guid.take().or(guid);
}
