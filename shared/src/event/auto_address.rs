//! `{{auto}}`, which Sentry's SDKs write where the server is to put the client's address. Pure.

use serde_json::{Map, Value};

use crate::report::EventPayload;

/// Under which names an address stands: of Sentry's user, and of its request's environment.
const ADDRESS_NAMES: [&str; 2] = ["ip_address", "REMOTE_ADDR"];

/// Puts the client's address where an event asks for it. What asks for one that is not known, or is not kept, goes.
pub fn resolve_auto_addresses(payload: &mut EventPayload, client: Option<&str>) {
    let EventPayload {
        platform: _,
        level: _,
        timestamp: _,
        release: _,
        environment: _,
        process_type: _,
        user,
        tags,
        extra,
        contexts,
        breadcrumbs,
        user_reports,
        event,
        client: _,
        attached_to: _,
        warnings: _,
    } = payload;
    let values = user.iter_mut().chain(breadcrumbs).chain(user_reports);
    values.for_each(|value| resolve(value, client));
    for map in [tags, extra, contexts, event] {
        resolve_in(map, client);
    }
}

fn resolve(value: &mut Value, client: Option<&str>) {
    match value {
        Value::Object(fields) => resolve_in(fields, client),
        Value::Array(values) => values.iter_mut().for_each(|value| resolve(value, client)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn resolve_in(fields: &mut Map<String, Value>, client: Option<&str>) {
    fields.retain(|name, value| {
        if !(ADDRESS_NAMES.contains(&name.as_str()) && is_auto(value)) {
            resolve(value, client);
            return true;
        }
        if let Some(address) = client {
            *value = address.into();
        }
        client.is_some()
    });
}

fn is_auto(value: &Value) -> bool {
    let inside = value.as_str().and_then(|text| {
        let text = text.trim().strip_prefix("{{")?;
        text.strip_suffix("}}")
    });
    inside.is_some_and(|inside| inside.trim() == "auto")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::read_payload;

    fn sent() -> EventPayload {
        let event = json!({
            "user": {"id": "u", "ip_address": "{{auto}}"},
            "contexts": {"x": {"user": {"ip_address": " {{ auto }} "}}},
            "extra": {"ip_address": "{{auto}}", "note": "{{auto}}", "user": {"ip_address": "192.0.2.7"}},
            "request": {"env": {"REMOTE_ADDR": "{{auto}}", "SERVER_NAME": "s"}},
            "user_reports": [{"user": {"ip_address": "{{auto}}", "email": "e"}}],
            "breadcrumbs": [{"data": [{"ip_address": "{{auto}}"}]}],
        });
        let Value::Object(fields) = event else {
            panic!("expected an object")
        };
        read_payload(fields)
    }

    #[test]
    fn every_place_that_asks_for_the_clients_address_gets_it() {
        let mut payload = sent();
        resolve_auto_addresses(&mut payload, Some("203.0.113.9"));
        let address = json!("203.0.113.9");
        let user = payload.user.as_ref().expect("a user");
        for found in [
            &user["ip_address"],
            &payload.contexts["x"]["user"]["ip_address"],
            &payload.extra["ip_address"],
            &payload.event["request"]["env"]["REMOTE_ADDR"],
            &payload.user_reports[0]["user"]["ip_address"],
            &payload.breadcrumbs[0]["data"][0]["ip_address"],
        ] {
            assert_eq!(found, &address, "{payload:?}");
        }
        assert_eq!(payload.extra["note"], json!("{{auto}}"));
        assert_eq!(payload.extra["user"]["ip_address"], json!("192.0.2.7"));
    }

    #[test]
    fn without_an_address_the_question_goes_and_the_rest_stays() {
        let mut payload = sent();
        resolve_auto_addresses(&mut payload, None);
        assert_eq!(payload.user, Some(json!({"id": "u"})));
        assert_eq!(payload.event["request"]["env"], json!({"SERVER_NAME": "s"}));
        assert_eq!(payload.user_reports, [json!({"user": {"email": "e"}})]);
        assert_eq!(payload.extra["user"]["ip_address"], json!("192.0.2.7"));
        let written = serde_json::to_string(&payload).expect("encodes");
        assert_eq!(written.matches("auto").count(), 1, "{written}");
    }
}
